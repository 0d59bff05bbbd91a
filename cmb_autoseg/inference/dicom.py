"""A folder of DICOM files as NIfTI volumes whose role and echo are known.

dcm2niix does the conversion. Nothing that tells who was scanned is asked of it: no name, number,
date or identifier enters a file name, a record or a message.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json
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

MAGIC_OFFSET = 128
PHASE_TYPES = {"P", "PHASE", "PHASE MAP", "PHASE_MAP", "PHASEMAP"}
OTHER_PARTS = {"REAL", "IMAGINARY", "R", "I"}
NO_ANATOMY = re.compile(r"localizer|localiser|scout|survey|(?<![a-z])tof(?![a-z])|angio", re.IGNORECASE)
PROJECTION = re.compile(r"(?<![a-z])m(?:in)?[ _-]?ip(?![a-z])|mnip", re.IGNORECASE)
"""Minimum intensity projections over several slices: derived, and thicker than the scan."""


@dataclass(frozen=True)
class DicomVolume:
    """One volume that dcm2niix made."""

    path: Path
    series_number: int
    description: str
    role: Role
    echo: int
    """EchoNumber, from 1."""
    echo_time_ms: float | None

    @property
    def series(self) -> str:
        """What messages call its series."""
        return f"{self.series_number} ({self.description})" if self.description else str(self.series_number)


def holds_dicom(folder: Path) -> bool:
    """Whether some file in the folder or below is DICOM, whatever its name."""
    return any(_is_dicom(path) for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))


def _is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(MAGIC_OFFSET + 4)[MAGIC_OFFSET:] == b"DICM"


def convert_dicom(folder: Path, scratch: Path) -> list[DicomVolume]:
    """Convert every series in the folder and below; leave out what no sequence is made of.

    Left out are localizers, angiographies, minimum intensity projections, and real and imaginary parts.

    Args:
        folder: DICOM files, nested or not; of one person.
        scratch: where the NIfTI files go; a subfolder `dicom` is made.

    Raises:
        InputError: dcm2niix cannot make a volume of them.
    """
    import dcm2niix

    target = scratch / "dicom"
    target.mkdir(parents=True, exist_ok=True)
    # No comment (-c), no name, date or number of a person (-ba y); the user's defaults file is not read (-g i).
    options = ["-b", "y", "-ba", "y", "-c", "", "-g", "i", "-z", "n", "-d", "9", "-w", "2", "-f", "s%s_e%e"]
    done = subprocess.run(
        [dcm2niix.bin, *options, "-o", str(target), str(folder)], capture_output=True, text=True, check=False
    )
    volumes = [_describe(path) for path in sorted(target.glob("*.nii"))]
    if not volumes:
        raise InputError(
            f"{folder}: dcm2niix made no volume of its DICOM files (exit code {done.returncode}); "
            "copy the series again, whole, or convert it to NIfTI yourself"
        )
    return [volume for volume in volumes if volume is not None]


def _describe(path: Path) -> DicomVolume | None:
    sidecar = path.with_suffix(".json")
    tags: dict[str, Any] = read_json(sidecar) if sidecar.exists() else {}
    role = role_of_series(tags)
    if role is None:
        return None
    echo_time_s = tags.get("EchoTime")
    return DicomVolume(
        path=path,
        series_number=int(tags.get("SeriesNumber", 0)),
        description=str(tags.get("SeriesDescription", "")),
        role=role,
        echo=int(tags.get("EchoNumber", 1)),
        echo_time_ms=None if echo_time_s is None else 1000 * float(echo_time_s),
    )


def role_of_series(tags: dict[str, Any]) -> Role | None:
    """What a series is, from its dcm2niix sidecar; None for what no sequence is made of.

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
    (Role.GRE_PHASE, r"pha|phase"),
    (Role.GRE_MAG, r"mag|magnitude|t2[ _-]?starw?|t2\*|t2\*w|t2s|me-?gre|gre|hemo"),
    (Role.SWI, r"swi(?:[23]d)?|swan"),
    (Role.FLAIR, r"flair"),
    (Role.T1, r"t1w?|mp2?rage|bravo"),
    (Role.T2, r"t2w?"),
)


def role_in_name(name: str) -> Role | None:
    """The role that a file's or series' name speaks of, as a word of its own; None if none does.

    The last word counts: `sub-101_space-T2S_T1` is a T1, `SWI_mag` a magnitude.
    """
    word = _last_word(name)
    return word[0] if word else None


def without_role(name: str) -> str:
    """The name without the word that says its role: `sub1` for `sub1_swi` and `sub1_T2star`."""
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
