"""What can go wrong, said so that the user can mend it.

Every message is one line that names the file, field or case, what was found and the cure.
A command prints it and leaves with exit code 2.
"""

__all__ = ["CMBError", "CardError", "GeometryError", "InputError", "LeakageError", "OutputError"]


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
