"""What can go wrong, said so that the user can mend it.

Every message is one line that names the file, field or case, what was found and the cure.
A command prints it and leaves with exit code 2.
"""

__all__ = [
    "CASE_FAULTS",
    "CMBError",
    "CardError",
    "GeometryError",
    "InUseError",
    "InputError",
    "LeakageError",
    "OutputError",
    "OwnFaultError",
    "fault_reason",
]


class CMBError(Exception):
    """Base of all errors that a user can mend."""


class InputError(CMBError, ValueError):
    """A file, folder or argument cannot be used as it is."""


class CardError(InputError):
    """A cohort card breaks the schema or does not match the files that it describes."""


class GeometryError(InputError):
    """Volumes that must share one grid differ in shape or affine."""


class LeakageError(CMBError, ValueError):
    """A subject stands on both sides of a split."""


class OutputError(CMBError, OSError):
    """A result cannot be written where the user asked for it."""


class InUseError(OutputError):
    """Another process owns the folder to be written to."""


class OwnFaultError(CMBError):
    """What a process other than the first met while it learned, which the first one need not have met."""


CASE_FAULTS = (CMBError, OSError, RuntimeError, MemoryError, ValueError, ArithmeticError, LookupError, EOFError)
"""What one case of a cohort may fail with while the others go on.

Wider than what a file is known to raise: readers and numeric libraries meet odd content with errors of
their own, and one such file must not cost a night's work. An OutputError is to be raised all the same,
since no other case would fare better.
"""


def fault_reason(error: Exception) -> str:
    """Why a case failed, in one line; what nobody foresaw is told with the kind of the error."""
    message = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in message or "can't allocate" in message:
        return "needs more memory than there is; close other programs, or use a machine with more"
    if isinstance(error, CMBError):
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
