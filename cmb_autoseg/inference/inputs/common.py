"""What every kind of input shares: roles that a model can use, cases, failures."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import has_echoes
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Case, ImageSource, PrepSettings, RegistrationBounds, Role
from cmb_autoseg.workspace import Workspace

__all__ = [
    "InputFailure",
    "InputSettings",
    "assumed_role",
    "echo_of",
    "listed",
    "named_case",
    "safe_folder_name",
    "susceptibility",
    "with_susceptibility",
    "with_unused_echo",
]

COHORT = "input"
WITHOUT_CARD = PrepSettings(registration=RegistrationBounds(on_failure="leave_out"))
"""A sequence beside the one that shows microbleeds is welcome, not needed."""


@dataclass(frozen=True)
class InputFailure:
    """A case that cannot be predicted, and why."""

    case: str
    reason: str


@dataclass(frozen=True)
class InputSettings:
    """What the model knows and what the user says of the input."""

    roles: tuple[Role, ...]
    """The model's channels in their order."""
    echo: int | None = None
    """Which volume of multi-echo files and series, and which of separate echoes, from 1."""
    role: Role | None = None
    """What single files are, where their names do not say it."""
    prefer: tuple[str, ...] = ()
    """Of several acquisitions or runs, those with this in their names: `acq-hires`, `run-2`."""
    scratch: Path | None = None
    """A folder for volumes converted from DICOM; needed only for those."""
    workspace: Workspace | None = None
    """Whose secret makes the pseudonyms of people; needed only for cards with `privacy.hash_ids`."""


def listed(roles: Iterable[Role]) -> str:
    return ", ".join(roles)


def susceptibility(roles: Iterable[Role]) -> tuple[Role, ...]:
    """Those of the roles in which microbleeds are visible."""
    return tuple(role for role in roles if role in SUSCEPTIBILITY_ROLES)


def named_case(name: str, images: dict[Role, ImageSource], notes: Mapping[Role, str] | None = None) -> Case:
    """A case of which nothing but its name and files is known."""
    return Case(name=name, cohort=COHORT, subject=name, images=images, prep=WITHOUT_CARD, notes=dict(notes or {}))


def assumed_role(spoken: Role | None, roles: tuple[Role, ...], where: str) -> tuple[Role, dict[Role, str]]:
    """The role that a name speaks of if the model knows it, else the model's first susceptibility sequence.

    Returns:
        The role, and what was assumed, by role.

    Raises:
        InputError: the name speaks of a sequence that does not show microbleeds.
    """
    usable = susceptibility(roles)
    first = usable[0]
    if spoken is None:
        return first, {first: f"{where} does not say which sequence it is; taken as {first} (--role says otherwise)"}
    if spoken not in SUSCEPTIBILITY_ROLES:
        raise InputError(
            f"{where} says {spoken}, which alone does not show microbleeds; "
            f"if it is {' or '.join(usable)} all the same, say so with --role"
        )
    if spoken not in usable:
        return first, {first: f"{where} says {spoken}, which the model does not know; taken as {first}"}
    return spoken, {}


def overruled(spoken: Role | None, role: Role, where: str) -> dict[Role, str]:
    """A note, by role, where `--role` says otherwise than a name or a series."""
    return {} if spoken in (None, role) else {role: f"{where} says {spoken}; read as {role}, as --role says"}


def echo_of(path: Path, echo: int | None) -> int | None:
    """The chosen echo for a 4D file; sequences beside it that have no echoes are left alone."""
    try:
        return echo if echo is not None and has_echoes(path) else None
    except InputError:
        return echo  # Reading the volume will say what is wrong with the file.


def with_unused_echo(case: Case, echo: int | None, scans: Iterable[str]) -> Case:
    """The case with a note that the chosen echo is in none of its scans, which have one echo each."""
    if echo is None or echo == 1:
        return case
    from cmb_autoseg.dataset_conversion.sorting.choice import unused_echo

    role = case.reference_role
    notes = (case.notes.get(role, ""), unused_echo(echo, (f"{scan} has one echo" for scan in scans)))
    return case.model_copy(update={"notes": {**case.notes, role: "; ".join(filter(None, notes))}})


def with_susceptibility(case: Case, roles: tuple[Role, ...]) -> Case:
    """The case itself.

    Raises:
        InputError: it has no susceptibility sequence that the model knows.
    """
    if not any(role in susceptibility(roles) for role in case.images):
        raise InputError(
            f"{case.name}: no susceptibility sequence (found {listed(case.images) or 'none'}); "
            f"the model needs one of {listed(susceptibility(roles))}"
        )
    return case


def safe_folder_name(folder: Path, default: str) -> str:
    """A folder's name with other characters than letters, digits, `_`, `.` and `-` replaced by `-`."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-.") or default
