"""A folder of DICOM files as NIfTI volumes whose role and echo are known.

Nothing that tells who was scanned enters a file name, a record or a message.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmb_autoseg.errors import InputError
from cmb_autoseg.readers.dicom import convert_stack
from cmb_autoseg.readers.dicom_frames import Frame, is_dicom, read_frames
from cmb_autoseg.readers.dicom_kinds import NO_ANATOMY, PROJECTION, oddity_of
from cmb_autoseg.readers.dicom_stacks import Stack, find_stacks
from cmb_autoseg.records import Role

__all__ = [
    "DicomVolume",
    "convert_dicom",
    "holds_dicom",
    "pick_volume",
    "role_in_name",
    "role_of_series",
    "without_role",
]

PATIENT_ID = 0x00100020
"""Read to see whether there is more than one, and to keep files without one apart; never shown."""
PHASE_TYPES = {"P", "PHASE", "PHASE MAP", "PHASE_MAP", "PHASEMAP"}
OTHER_PARTS = {"REAL", "IMAGINARY", "R", "I"}


@dataclass(frozen=True)
class DicomVolume:
    """One volume of a DICOM folder."""

    path: Path
    """NIfTI; not there where the volume has a fault."""
    series_number: int
    description: str
    role: Role
    echo: int
    """From 1."""
    echo_time_ms: float | None
    fault: str = ""
    """Why it cannot be used."""

    @property
    def series(self) -> str:
        """What messages call its series."""
        return f"{self.series_number} ({self.description})" if self.description else str(self.series_number)


def holds_dicom(folder: Path) -> bool:
    """Whether some file in the folder or below is DICOM, whatever its name."""
    return any(is_dicom(path) for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))


def convert_dicom(folder: Path, scratch: Path) -> list[DicomVolume]:
    """Convert every series in the folder and below; leave out what no sequence is made of.

    Left out are localizers, angiographies, minimum intensity projections, and real and imaginary parts.

    Args:
        folder: DICOM files, nested or not; of one person.
        scratch: where the NIfTI files go; a subfolder `dicom` is made.

    Raises:
        InputError: there are several people's, or none of the files can be read.
    """
    stacks = find_stacks(_frames(folder), [PATIENT_ID])
    stacks.sort(key=lambda stack: (stack.first.series_number, stack.echo, stack.files))
    return [
        _volume(stack, role, f"{folder}: {stack.title}", scratch / "dicom" / str(number))
        for number, stack in enumerate(stacks)
        if (role := _role_of_stack(stack)) is not None
    ]


def _frames(folder: Path) -> list[Frame]:
    frames: list[Frame] = []
    damaged: list[InputError] = []
    for path in _files(folder):
        try:
            frames += read_frames(path, [PATIENT_ID])
        except InputError as error:
            damaged.append(error)
    if damaged and not frames:
        raise damaged[0]
    people = {frame.tags[PATIENT_ID] for frame in frames if PATIENT_ID in frame.tags}
    if len(people) > 1:
        raise InputError(
            f"{folder}: scans of {len(people)} people; give the folder of one, or a card with source: dicom"
        )
    return frames


def _role_of_stack(stack: Stack) -> Role | None:
    first = stack.first
    if oddity_of(first) is not None or first.part in ("real", "imaginary"):
        return None
    tags = {
        "ImageType": first.image_type,
        "SeriesDescription": first.description,
        "ProtocolName": first.protocol,
        "ScanningSequence": first.scanning_sequence or "GR",
    }
    role = role_of_series(tags)
    return Role.GRE_PHASE if role is not None and first.part == "phase" else role


def _volume(stack: Stack, role: Role, where: str, scratch: Path) -> DicomVolume:
    first, path, fault = stack.first, scratch, stack.fault
    if not fault:
        try:
            path = convert_stack(stack, scratch, where)
        except InputError as error:
            fault = str(error).removeprefix(f"{where}: ")
    return DicomVolume(
        path=path,
        series_number=first.series_number,
        description=first.description,
        role=role,
        echo=stack.echo,
        echo_time_ms=first.echo_time_ms,
        fault=fault,
    )


def role_of_series(tags: dict[str, Any]) -> Role | None:
    """What a series is, from its tags; None for what no sequence is made of.

    ImageType says magnitude or phase and often SWI; the series' description says the rest. The
    protocol's name comes last: Siemens gives magnitude, phase, SWI and mIP of one scan the same.
    """
    types = {str(part).upper() for part in tags.get("ImageType", ())}
    description = str(tags.get("SeriesDescription", ""))
    if NO_ANATOMY.search(description) or "LOCALIZER" in types:
        return None
    if PROJECTION.search(description) or any(PROJECTION.search(part) for part in types):
        return None
    if types & PHASE_TYPES:
        return Role.GRE_PHASE
    if types & OTHER_PARTS:
        return None
    if "SWI" in types:
        return Role.SWI
    spoken = role_in_name(description) or role_in_name(str(tags.get("ProtocolName", "")))
    return spoken or (Role.GRE_MAG if _is_gradient_echo(tags) else None)


ROLE_PATTERNS = (
    (Role.QSM, r"qsm|chi-?map"),
    (Role.GRE_PHASE, r"(?:gre[ _-]?)?(?:pha|phase)"),
    (Role.GRE_MAG, r"(?:gre[ _-]?)?(?:mag|magnitude)|t2[ _-]?starw?|t2\*|t2\*w|t2s|me-?gre|gre|hemo"),
    (Role.SWI, r"swi(?:[23]d)?|swan"),
    (Role.FLAIR, r"flair"),
    (Role.T1, r"t1w?|mp2?rage|bravo"),
    (Role.T2, r"t2w?"),
)


ENTITIES = ((Role.GRE_PHASE, "part-phase"), (Role.GRE_MAG, "part-mag"), (Role.SWI, "acq-swi"))
"""Of BIDS: `sub-01_acq-swi_T2starw` is an SWI, `sub-01_part-phase_T2starw` none of the two."""


def role_in_name(name: str) -> Role | None:
    """The role that a file's or series' name speaks of, as a word of its own; None if none does.

    BIDS entities go first, then the last word: `sub-101_space-T2S_T1` is a T1, `SWI_mag` a magnitude.
    """
    for role, entity in ENTITIES:
        if re.search(rf"_{entity}_", name, re.IGNORECASE):
            return role
    word = _last_word(name)
    return word[0] if word else None


def without_role(name: str) -> str:
    """The name without the words that say its role: `sub1` for `sub1_swi`, `sub1_T2star` and `sub1_part-mag_swi`."""
    for _, entity in ENTITIES:
        name = re.sub(rf"_{entity}(?=_)", "", name, flags=re.IGNORECASE)
    word = _last_word(name)
    if word is None:
        return name
    _, match = word
    return name[: match.start()].rstrip("_-. ") + name[match.end() :]


def _last_word(name: str) -> tuple[Role, re.Match[str]] | None:
    words = [
        (role, match)
        for role, words in ROLE_PATTERNS
        for match in re.finditer(rf"(?<![a-z0-9])(?:{words})(?![a-z0-9])", name, re.IGNORECASE)
    ]
    # Of roles whose words end at one place the first in the table counts.
    return max(words, key=lambda word: word[1].end(), default=None)


def _is_gradient_echo(tags: dict[str, Any]) -> bool:
    """Plain gradient echo, or unknown: no echo-planar, inversion or spin-echo sequence."""
    sequence = str(tags.get("ScanningSequence", "GR")).upper()
    return "GR" in sequence and "EP" not in sequence and "IR" not in sequence


def pick_volume(volumes: Sequence[DicomVolume], echo: int | None, where: Path) -> DicomVolume:
    """Choose the one volume of a role, by its echo where there are several.

    Raises:
        InputError: several series, or several echoes without `--echo`; lists them.
    """
    series = sorted({volume.series for volume in volumes})
    if len(series) > 1 or len({volume.echo for volume in volumes}) < len(volumes):
        found = ", ".join(series) if len(series) > 1 else f"{len(volumes)} volumes of series {series[0]}"
        raise InputError(
            f"{where}: several {volumes[0].role} series: {found}; point -i at a folder that holds one of them"
        )
    if echo is None and len(volumes) == 1:
        return volumes[0]
    chosen = [volume for volume in volumes if volume.echo == echo]
    # A sequence combined from all echoes (SWI, QSM) or of another kind has no echo to choose.
    if not chosen and len(volumes) == 1 and (echo == 1 or volumes[0].role not in (Role.GRE_MAG, Role.GRE_PHASE)):
        return volumes[0]
    if not chosen:
        asked = "several echoes" if echo is None else f"no echo {echo}"
        raise InputError(f"{where}: series {series[0]}: {asked}; choose with --echo: {_listed(volumes)}")
    return chosen[0]


def _listed(volumes: Iterable[DicomVolume]) -> str:
    return ", ".join(
        f"{volume.echo}" + (f" (TE {volume.echo_time_ms:g} ms)" if volume.echo_time_ms is not None else "")
        for volume in sorted(volumes, key=lambda volume: volume.echo)
    )
