"""Single scans, and folders of scans with names of their own."""

import glob
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import grids_agree, nifti_stem
from cmb_autoseg.inference.dicom import role_in_name, without_role
from cmb_autoseg.inference.inputs.channels import CHANNEL_NAME, channel_role
from cmb_autoseg.inference.inputs.common import (
    InputFailure,
    InputSettings,
    assumed_role,
    echo_of,
    listed,
    named_case,
    overruled,
    susceptibility,
    with_unused_echo,
)
from cmb_autoseg.progress import log
from cmb_autoseg.readers.dicom_kinds import PROJECTION
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Case, ImageSource, Role

__all__ = ["case_of_file", "cases_of_files"]


def case_of_file(path: Path, settings: InputSettings) -> Case:
    """One scan as a case, named like its file.

    Raises:
        InputError: its name speaks of a sequence that alone does not show microbleeds, or of a projection.
    """
    stem = nifti_stem(path)
    match = CHANNEL_NAME.fullmatch(stem)
    name = match["case"] if match else stem
    image = ImageSource(path=str(path), echo=settings.echo)
    if settings.role is not None:
        return named_case(
            name, {settings.role: image}, overruled(role_in_name(stem), settings.role, f"{path.name}: its name")
        )
    if PROJECTION.search(stem):
        raise InputError(
            f"{path.name}: its name says that it is a projection of several slices; give the scan itself, or say with "
            "--role what it is"
        )
    if match:
        role = channel_role(path, int(match["channel"]), settings.roles)
        if role not in SUSCEPTIBILITY_ROLES:
            raise InputError(
                f"{path}: channel {match['channel']} is {role}; a model needs a susceptibility sequence "
                f"({listed(susceptibility(settings.roles))}); give the folder that holds it too"
            )
        return named_case(name, {role: image}, _siblings_left_out(path, match["case"], role))
    role, notes = assumed_role(role_in_name(stem), settings.roles, f"{path.name}: its name")
    return named_case(name, {role: image}, notes)


def _siblings_left_out(path: Path, case: str, role: Role) -> dict[Role, str]:
    """A warning where further channels of the case lie beside the one file that was given."""
    others = sorted(
        other.name
        for other in path.parent.glob(f"{glob.escape(case)}_*.nii*")
        if other != path and (match := CHANNEL_NAME.fullmatch(nifti_stem(other))) and match["case"] == case
    )
    if not others:
        return {}
    return {role: f"{path.name} alone is looked at, not {', '.join(others)} beside it; give their folder to use all"}


def cases_of_files(images: Sequence[Path], settings: InputSettings) -> tuple[list[Case], list[InputFailure]]:
    """Cases of files whose names are alike but for the word that says the sequence; else a case a file.

    Projections, phase images that the model does not use, and sequences that it does not know beside one that it
    knows, are left out.
    """
    if settings.role is None:
        images = _without("projections", images, lambda name: PROJECTION.search(name) is not None)
        if Role.GRE_PHASE not in settings.roles:
            images = _without("phase images", images, lambda name: role_in_name(name) is Role.GRE_PHASE)
    cases: dict[str, Case] = {}
    failures: list[InputFailure] = []
    for scan in _scans(images, settings):
        name = nifti_stem(scan.reference)
        try:
            case = _case_of_scan(scan, settings)
        except InputError as error:
            failures.append(InputFailure(name, str(error)))
            continue
        if case.name in cases:
            cure = "rename or remove one" if settings.role is None else f"leave out --role {settings.role}"
            reason = f"{scan.reference}: a second file of case {case.name}; {cure}"
            failures.append(InputFailure(scan.reference.name, reason))
        else:
            cases[case.name] = case
    return list(cases.values()), failures


@dataclass(frozen=True)
class _Scan:
    """The file that a case is named after, and other sequences of the same scan."""

    reference: Path
    companions: dict[Role, Path]


def _without(what: str, images: Sequence[Path], is_one: Callable[[str], bool]) -> Sequence[Path]:
    """The files whose names do not say that they are of a kind that is left out."""
    out = [path for path in images if is_one(nifti_stem(path))]
    if out:
        log(f"{len(out)} {what} left out, by their names: {_names(out)}")
    return [path for path in images if path not in out]


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _scans(images: Sequence[Path], settings: InputSettings) -> Iterator[_Scan]:
    """Group files by their names without the sequence's word; a role that comes twice keeps its group apart."""
    groups: defaultdict[str, list[tuple[Role | None, Path]]] = defaultdict(list)
    for path in images:
        stem = nifti_stem(path)
        role = role_in_name(stem) if settings.role is None else None
        groups[stem if role is None else without_role(stem)].append((role, path))
    unknown: list[Path] = []
    for members in groups.values():
        by_role = {role: path for role, path in members if role is not None}
        reference = next((role for role in SUSCEPTIBILITY_ROLES if role in by_role and role in settings.roles), None)
        if reference is None or len(by_role) < len(members):
            yield from (_Scan(path, {}) for _, path in members)
            continue
        others = {role: path for role, path in by_role.items() if role is not reference}
        unknown += [path for role, path in others.items() if role not in settings.roles]
        yield _Scan(by_role[reference], {role: path for role, path in others.items() if role in settings.roles})
        yield from (
            _Scan(path, {})
            for role, path in others.items()
            if role in susceptibility(settings.roles) and not _agree(path, by_role[reference])
        )
    if unknown:
        log(f"warning: left out, since the model knows only {listed(settings.roles)}: {_names(unknown)}")


def _case_of_scan(scan: _Scan, settings: InputSettings) -> Case:
    case = case_of_file(scan.reference, settings)
    if not scan.companions:
        return case
    images = {
        role: ImageSource(path=i.path, echo=echo_of(Path(i.path), settings.echo)) for role, i in case.images.items()
    }
    notes = dict(case.notes)
    for role, path in scan.companions.items():
        if _agree(path, scan.reference):
            images[role] = ImageSource(path=str(path), echo=echo_of(path, settings.echo))
        elif role in SUSCEPTIBILITY_ROLES:
            notes[role] = f"{role} is not used here: {path.name} is on another grid and a case of its own"
        else:
            images[role] = ImageSource(path=str(path), echo=echo_of(path, settings.echo))
    case = named_case(case.name, images, notes)
    if any(image.echo is not None for image in images.values()):
        return case
    return with_unused_echo(case, settings.echo, (Path(image.path).name for image in images.values()))


def _agree(one: Path, other: Path) -> bool:
    """Whether two files share a grid; of one that cannot be read the reader will say so."""
    try:
        return grids_agree(one, other)
    except InputError:
        return True
