"""What `cmb_predict -i` may be, and the cases in it."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import is_nifti, nifti_stem, read_grid
from cmb_autoseg.inference.dicom import DicomVolume, convert_dicom, holds_dicom, pick_volume, role_in_name
from cmb_autoseg.progress import log
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Case, ImageSource, Role

__all__ = ["INPUT_NOTE", "InputFailure", "cases_of_card", "find_cases"]

INPUT_NOTE = "input_note"
"""Key of `Case.meta` under which stands what was assumed of an input; a warning for the user."""

CHANNEL_NAME = re.compile(r"(?P<case>.+)_(?P<channel>0\d{3})")
"""nnU-Net's file names; numbers from 1000 on are years or subjects."""
COHORT = "input"
WHAT_IN_MAY_BE = (
    "-i takes a .nii or .nii.gz file, a folder of them (CASE_0000.nii.gz or any names), a BIDS folder, "
    "a DICOM folder, or a card (FILE.yaml, NAME=FOLDER)"
)


@dataclass(frozen=True)
class InputFailure:
    """A case that cannot be predicted, and why."""

    case: str
    reason: str


def find_cases(
    source: Path,
    roles: tuple[Role, ...],
    echo: int | None = None,
    role: Role | None = None,
    scratch: Path | None = None,
) -> tuple[list[Case], list[InputFailure]]:
    """Find what is to be predicted.

    Args:
        source: NIfTI file, folder of NIfTI files, BIDS root, DICOM folder, or card.
        roles: the model's channels in their order.
        echo: which volume of multi-echo files and series, from 1.
        role: what single files are, where their names do not say it.
        scratch: a folder for volumes converted from DICOM; needed only for those.

    Returns:
        The cases by name, and the inputs that are none. What had to be assumed of a case stands
        in its `meta["input_note"]`.

    Raises:
        InputError: no such input, nothing in it, or a single input that cannot be used.
    """
    _check_roles(roles, role)
    if source.is_dir():
        cases, failures = _cases_of_folder(source, roles, echo, role, scratch)
    elif source.is_file() and is_nifti(source):
        cases, failures = [_case_of_file(source, roles, echo, role)], []
    elif _may_be_card(source):
        cases, failures = _cases_of_card(str(source), roles, echo)
    else:
        found = "a file of another kind" if source.exists() else "no such file or folder"
        raise InputError(f"-i {source}: {found}; {WHAT_IN_MAY_BE}")
    return sorted(cases, key=lambda case: case.name), sorted(failures, key=lambda failure: failure.case)


def _check_roles(roles: tuple[Role, ...], role: Role | None) -> None:
    usable = _susceptibility(roles)
    if not usable:
        raise InputError(f"the model knows no susceptibility sequence (it has {_listed(roles)}); train it on one")
    if role is not None and role not in usable:
        raise InputError(f"role {role}: the model cannot use it alone; choose one of {_listed(usable)}")


def _listed(roles: Iterable[Role]) -> str:
    return ", ".join(roles)


def _susceptibility(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    return tuple(role for role in roles if role in SUSCEPTIBILITY_ROLES)


def _case(name: str, images: dict[Role, ImageSource], notes: Sequence[str] = ()) -> Case:
    meta = {INPUT_NOTE: "; ".join(notes)} if notes else {}
    return Case(name=name, cohort=COHORT, subject=name, images=images, meta=meta)


# Single files


def _case_of_file(path: Path, roles: tuple[Role, ...], echo: int | None, role: Role | None) -> Case:
    stem = nifti_stem(path)
    match = CHANNEL_NAME.fullmatch(stem)
    name = match["case"] if match else stem
    if role is not None:
        return _case(name, {role: ImageSource(path=str(path), echo=echo)})
    if match:
        role = _channel_role(path, int(match["channel"]), roles)
        if role not in SUSCEPTIBILITY_ROLES:
            raise InputError(
                f"{path}: channel {match['channel']} is {role}; a model needs a susceptibility sequence "
                f"({_listed(_susceptibility(roles))}); give the folder that holds it too"
            )
        return _case(name, {role: ImageSource(path=str(path), echo=echo)})
    role, notes = _assumed_role(role_in_name(stem), roles, f"{path}: its name")
    return _case(name, {role: ImageSource(path=str(path), echo=echo)}, notes)


def _assumed_role(spoken: Role | None, roles: tuple[Role, ...], where: str) -> tuple[Role, tuple[str, ...]]:
    """The role that a name speaks of if the model knows it, else the model's first susceptibility sequence.

    Raises:
        InputError: the name speaks of a sequence that does not show microbleeds.
    """
    usable = _susceptibility(roles)
    if spoken is None:
        return usable[0], (f"{where} does not say which sequence it is; taken as {usable[0]} (--role says otherwise)",)
    if spoken not in SUSCEPTIBILITY_ROLES:
        raise InputError(
            f"{where} says {spoken}, which alone does not show microbleeds; "
            f"if it is {' or '.join(usable)} all the same, say so with --role"
        )
    if spoken not in usable:
        return usable[0], (f"{where} says {spoken}, which the model does not know; taken as {usable[0]}",)
    return spoken, ()


def _channel_role(path: Path, channel: int, roles: tuple[Role, ...]) -> Role:
    if channel >= len(roles):
        legal = ", ".join(f"_{index:04d} {role}" for index, role in enumerate(roles))
        raise InputError(f"{path}: channel {channel:04d} is unknown to the model; rename it to one of {legal}")
    return roles[channel]


# Folders


def _cases_of_folder(
    folder: Path, roles: tuple[Role, ...], echo: int | None, role: Role | None, scratch: Path | None
) -> tuple[list[Case], list[InputFailure]]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    images = [path for path in files if is_nifti(path)]
    if any(CHANNEL_NAME.fullmatch(nifti_stem(path)) for path in images) and role is None:
        return _cases_of_channels(images, roles, echo)
    if images:
        cases, failures = _cases_of_files(images, roles, echo, role)
        if cases or failures:
            return cases, failures
    if _is_bids(folder):
        return _cases_of_card(f"bids={folder}", roles, echo)
    if holds_dicom(folder):
        return [_case_of_dicom(folder, roles, echo, role, scratch)], []
    raise InputError(
        f"-i {folder}: nothing to predict in it; expected CASE_0000.nii.gz or other .nii and .nii.gz files, "
        f"sub-*/ folders of a BIDS dataset, or DICOM files"
    )


def _is_bids(folder: Path) -> bool:
    subjects = [path for path in folder.glob("sub-*") if path.is_dir()]
    sessions = [session for subject in subjects for session in (subject, *subject.glob("ses-*"))]
    return (folder / "dataset_description.json").is_file() or any(
        (session / part).is_dir() for session in sessions for part in ("anat", "swi")
    )


def _cases_of_channels(
    images: Sequence[Path], roles: tuple[Role, ...], echo: int | None
) -> tuple[list[Case], list[InputFailure]]:
    """Files with nnU-Net's names; a file without a channel number among them is a failure of its own."""
    by_case: defaultdict[str, list[tuple[Path, int]]] = defaultdict(list)
    failures: list[InputFailure] = []
    for path in images:
        match = CHANNEL_NAME.fullmatch(nifti_stem(path))
        if match:
            by_case[match["case"]].append((path, int(match["channel"])))
        else:
            reason = f"{path}: no channel number among files that have one; name it CASE_0000.nii.gz or move it away"
            failures.append(InputFailure(nifti_stem(path), reason))
    cases: list[Case] = []
    for name, channels in by_case.items():
        try:
            cases.append(_case_of_channels(name, channels, roles, echo))
        except InputError as error:
            failures.append(InputFailure(name, str(error)))
    return cases, failures


def _case_of_channels(
    name: str, channels: Sequence[tuple[Path, int]], roles: tuple[Role, ...], echo: int | None
) -> Case:
    images: dict[Role, ImageSource] = {}
    for path, channel in channels:
        role = _channel_role(path, channel, roles)
        if role in images:
            raise InputError(f"{path}: a second file of channel {channel:04d} beside {images[role].path}; remove one")
        images[role] = ImageSource(path=str(path), echo=_echo_of(path, echo) if len(channels) > 1 else echo)
    return _with_susceptibility(_case(name, images), roles)


def _echo_of(path: Path, echo: int | None) -> int | None:
    """The chosen echo for a 4D file; sequences beside it that have no echoes are left alone."""
    if echo is None:
        return None
    try:
        shape, _ = read_grid(path)
    except InputError:
        return echo  # Reading the volume will say what is wrong with the file.
    return echo if len(shape) > 3 and shape[3] > 1 else None


def _with_susceptibility(case: Case, roles: tuple[Role, ...]) -> Case:
    if not any(role in _susceptibility(roles) for role in case.images):
        raise InputError(
            f"{case.name}: no susceptibility sequence (found {_listed(case.images) or 'none'}); "
            f"the model needs one of {_listed(_susceptibility(roles))}"
        )
    return case


def _cases_of_files(
    images: Sequence[Path], roles: tuple[Role, ...], echo: int | None, role: Role | None
) -> tuple[list[Case], list[InputFailure]]:
    """Each file is a case of its own; phase images beside them are none."""
    phases = [path for path in images if role is None and role_in_name(nifti_stem(path)) is Role.GRE_PHASE]
    if phases:
        log(f"{len(phases)} phase images left out, by their names: {', '.join(path.name for path in phases)}")
    cases: dict[str, Case] = {}
    failures: list[InputFailure] = []
    for path in (path for path in images if path not in phases):
        try:
            case = _case_of_file(path, roles, echo, role)
        except InputError as error:
            failures.append(InputFailure(nifti_stem(path), str(error)))
            continue
        if case.name in cases:
            failures.append(InputFailure(path.name, f"{path}: a second file of case {case.name}; rename or remove one"))
        else:
            cases[case.name] = case
    return list(cases.values()), failures


# DICOM


def _case_of_dicom(
    folder: Path, roles: tuple[Role, ...], echo: int | None, role: Role | None, scratch: Path | None
) -> Case:
    """One case of all series in a folder, named after the folder."""
    if scratch is None:
        raise InputError(f"-i {folder}: DICOM files need a scratch folder for their conversion; pass one")
    by_role: defaultdict[Role, list[DicomVolume]] = defaultdict(list)
    for volume in convert_dicom(folder, scratch):
        by_role[volume.role].append(volume)
    there = tuple(known for known in SUSCEPTIBILITY_ROLES if known in by_role)
    if not there:
        found = _listed(by_role) or "nothing but localizers and projections"
        raise InputError(f"-i {folder}: no magnitude, SWI or QSM series in it (found {found}); give the folder of one")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-.") or "dicom"
    usable = tuple(known for known in there if known in roles and role in (None, known))
    if not usable:
        only = pick_volume(by_role[there[0]], echo, folder)
        taken, notes = (role, ()) if role else _assumed_role(only.role, roles, f"series {only.series}")
        return _case(name, {taken: ImageSource(path=str(only.path))}, notes)
    picked = {known: pick_volume(by_role[known], echo, folder) for known in usable}
    companions = tuple(known for known in roles if known in by_role and known not in SUSCEPTIBILITY_ROLES)
    notes = ()
    for known in companions if role is None else ():
        fitting = [volume for volume in by_role[known] if _same_grid(volume.path, picked[usable[0]].path)]
        if fitting:
            picked[known] = pick_volume(fitting, echo, folder)
        else:
            notes += (f"{known} is on another grid than {usable[0]} and was left out; register them first to use it",)
    return _case(name, {known: ImageSource(path=str(volume.path)) for known, volume in picked.items()}, notes)


def _same_grid(one: Path, other: Path) -> bool:
    shape, affine = read_grid(one)
    other_shape, other_affine = read_grid(other)
    return shape == other_shape and bool(np.allclose(affine, other_affine, atol=1e-3))


# Cards


def _may_be_card(source: Path) -> bool:
    text = str(source)
    if source.suffix in (".yaml", ".yml") or "=" in text:
        return True
    from cmb_autoseg.dataset_conversion.card import shipped_cards

    return text in shipped_cards()


def cases_of_card(argument: str) -> tuple[list[Case], list[InputFailure]]:
    """The cases that a card describes, and those that it or its files leave out.

    Args:
        argument: a card's file or the name of a shipped one, perhaps with `=ROOT`.

    Raises:
        CardError: a mistake in the card, or it does not fit the files.
    """
    from cmb_autoseg.dataset_conversion.resolver import read_card

    cohort = read_card(argument, labels=False)
    failures = [InputFailure(exclusion.case, exclusion.reason) for exclusion in cohort.exclusions]
    return list(cohort.cases), failures


def _cases_of_card(argument: str, roles: tuple[Role, ...], echo: int | None) -> tuple[list[Case], list[InputFailure]]:
    """The card's cases with the sequences that the model knows; an echo that the card names goes first."""
    described, failures = cases_of_card(argument)
    cases: list[Case] = []
    for case in described:
        images = {role: _with_echo(image, echo) for role, image in _known_images(case, roles).items()}
        try:
            cases.append(_with_susceptibility(case.model_copy(update={"images": images}), roles))
        except InputError as error:
            failures.append(InputFailure(case.name, str(error)))
    return cases, failures


def _known_images(case: Case, roles: tuple[Role, ...]) -> dict[Role, ImageSource]:
    """The sequences that the model knows, and those that lend them their geometry."""
    givers = {image.copy_geometry_from for role, image in case.images.items() if role in roles}
    return {role: image for role, image in case.images.items() if role in roles or role in givers}


def _with_echo(image: ImageSource, echo: int | None) -> ImageSource:
    if echo is None or image.echo is not None:
        return image
    return image.model_copy(update={"echo": _echo_of(Path(image.path), echo)})
