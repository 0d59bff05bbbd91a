"""Headers of DICOM images: one record a frame, be it a classic file or a frame of an enhanced multi-frame one.

Pixels are never read here. What tells who was scanned is read only where a card names the tag.
"""

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cmb_autoseg.errors import InputError

__all__ = ["Frame", "Vector", "is_dicom", "read_frames", "tag_number"]

MAGIC_OFFSET = 128
MR_IMAGES = "1.2.840.10008.5.1.4.1.1.4"
GE_RAW_DATA_TYPE = 0x0043102F
PARTS_OF_GE = {0: "magnitude", 1: "phase", 2: "real", 3: "imaginary"}
PARTS_OF_LETTER = {"M": "magnitude", "P": "phase", "R": "real", "I": "imaginary"}
PART_OF_TYPE = re.compile(
    r"(?P<letter>[MPRI])(?:_[A-Z0-9]+)?|(?P<word>MAGNITUDE|PHASE|REAL|IMAGINARY)[ _]?(?:MAP|IMAGE)?"
)
"""Siemens and Philips: M, P, M_FFE, PHASE MAP."""
KEYWORDS = (
    *(
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "ImageType",
        "Modality",
        "Manufacturer",
    ),
    *("SeriesNumber", "SeriesDescription", "ProtocolName", "InstanceNumber", "AcquisitionNumber", "EchoNumbers"),
    *("EchoTime", "EffectiveEchoTime", "TemporalPositionIdentifier", "TemporalPositionIndex", "MRAcquisitionType"),
    *("ScanningSequence", "EchoPulseSequence", "EchoPlanarPulseSequence", "ComplexImageComponent", "FrameType"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "SamplesPerPixel"),
    *("StudyDate", "SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime"),
    *("BurnedInAnnotation", "ConversionType", "NumberOfFrames"),
)
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
PLAIN_TEXT = {"AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"}
"""Value representations of letters that are the same in all character sets."""
STAND_INS = {"EchoTime": "EffectiveEchoTime", "ImageType": "FrameType", "ScanningSequence": "EchoPulseSequence"}
"""Enhanced MR has other names for some of what rules ask."""

Vector = tuple[float, ...]


@dataclass(slots=True)
class Frame:
    """One image of a DICOM series, without its pixels."""

    file: str
    index: int | None
    """Of an enhanced file: which frame, from 0; None for a classic one."""
    sop_class: str
    instance_uid: str
    study_uid: str
    series_uid: str
    modality: str
    series_number: int
    description: str
    protocol: str
    image_type: tuple[str, ...]
    part: str | None
    """magnitude, phase, real, imaginary; None where nothing says it."""
    echo_time_ms: float | None
    echo_number: int | None
    order: tuple[int, ...]
    """Sorts frames at one place: temporal position, acquisition, instance."""
    position_mm: Vector | None
    """Middle of the first pixel, LPS."""
    orientation: Vector | None
    """Directions in which columns and rows count up, LPS."""
    spacing_mm: Vector | None
    """Between rows, between columns."""
    rows: int
    columns: int
    colours: int
    acquisition: str
    """2D or 3D; '' where nothing says it."""
    scanning_sequence: str
    acquired: str
    """Date and time, to sort by; never written."""
    may_show_text: bool
    is_capture: bool
    """A secondary capture: a picture of a screen or a scanned page."""
    tags: Mapping[int, str] = field(default_factory=dict)
    """What was asked for, several values joined by a backslash."""


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM, whatever its name."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(MAGIC_OFFSET + 4)[MAGIC_OFFSET:] == b"DICM"
    except OSError:
        return False


@cache
def _number(keyword: str) -> int:
    number = tag_number(keyword)
    assert number is not None
    return number


def tag_number(tag: str) -> int | None:
    """The number of a tag given by keyword or as (gggg,eeee); None for a keyword that DICOM does not know."""
    from pydicom.datadict import tag_for_keyword

    digits = re.fullmatch(r"\(?([0-9A-Fa-f]{4}),\s?([0-9A-Fa-f]{4})\)?", tag)
    return int(digits[1] + digits[2], 16) if digits else tag_for_keyword(tag)


def read_frames(path: Path, wanted: Iterable[int] = ()) -> list[Frame]:
    """The frames of one file, from its header; none where it is no DICOM image.

    Args:
        path: any file.
        wanted: numbers of further tags to read.

    Raises:
        InputError: the file is DICOM, but its header is damaged.
    """
    if not is_dicom(path):
        return []
    from pydicom import dcmread

    asked = tuple(wanted)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = dcmread(path, stop_before_pixels=True, specific_tags=_tags_to_read(asked))
            return _frames_of(str(path), header, asked)
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror or 'damaged'}); copy the file again") from None
    except Exception as error:  # pydicom meets damaged files with errors of many kinds; their texts may hold values
        raise InputError(f"{path}: damaged DICOM header ({type(error).__name__}); copy the file again") from None


@cache
def _tags_to_read(asked: tuple[int, ...]) -> list[int]:
    from pydicom.datadict import keyword_for_tag, tag_for_keyword

    words = [*KEYWORDS, *GROUPS, *(STAND_INS.get(keyword_for_tag(tag), "EchoTime") for tag in asked)]
    return sorted({GE_RAW_DATA_TYPE, *asked, *(tag for word in words if (tag := tag_for_keyword(word)))})


def _frames_of(file: str, header: Any, asked: Sequence[int]) -> list[Frame]:
    top = _Values([header])
    if "Rows" not in header:
        if str(header.file_meta.get("MediaStorageSOPClassUID", "")).startswith(MR_IMAGES):
            raise EOFError
        return []
    if GROUPS[1] not in header:
        return [_frame(file, None, top, asked)]
    shared = list(_macros(header.get(GROUPS[0], ())[:1]))
    per_frame = header[GROUPS[1]].value
    return [_frame(file, n, _Values([*_macros([group]), *shared, header]), asked) for n, group in enumerate(per_frame)]


def _macros(groups: Iterable[Any]) -> Iterator[Any]:
    """The datasets inside a functional group."""
    for group in groups:
        for element in group:
            if element.VR == "SQ" and element.value:
                yield element.value[0]


def _values_of(dataset: Any, number: int) -> list[Any]:
    """The values of an element; plain text and whole numbers without pydicom's checks, which take most of the time."""
    from pydicom.dataelem import RawDataElement

    element = dataset.get_item(number)
    if isinstance(element, RawDataElement) and element.value is not None:
        kind = element.VR or _kind(number)
        if kind in PLAIN_TEXT:
            parts = [part.strip(" \0") for part in element.value.decode("latin-1").split("\\")]
            return parts if any(parts) else []
        if kind == "US" and len(element.value) == 2:
            return [int.from_bytes(element.value, "little" if element.is_little_endian else "big")]
    element = dataset[number]
    value = element.value
    if element.VR == "SQ" or value is None or value == "":
        return []
    return list(value) if hasattr(value, "__iter__") and not isinstance(value, str | bytes) else [value]


@cache
def _kind(number: int) -> str:
    """The value representation of a tag, where the file does not say it."""
    from pydicom.datadict import dictionary_VR

    try:
        return dictionary_VR(number)
    except KeyError:  # private
        return ""


class _Values:
    """Values by keyword or number, of the first dataset that has one; what cannot be parsed counts as absent."""

    def __init__(self, datasets: Sequence[Any]) -> None:
        self._datasets = datasets

    def values(self, tag: str | int) -> list[Any]:
        number = tag if isinstance(tag, int) else _number(tag)
        for dataset in self._datasets:
            if number in dataset.keys():  # noqa: SIM118 - pydicom looks longer without
                try:
                    found = _values_of(dataset, number)
                except Exception:
                    continue
                if found:
                    return found
        return []

    def text(self, tag: str | int) -> str:
        return "\\".join(map(_as_text, self.values(tag)))

    def numbers(self, tag: str | int, count: int) -> Vector | None:
        try:
            found = tuple(float(value) for value in self.values(tag))
        except (TypeError, ValueError):
            return None
        return found if len(found) == count and all(map(math.isfinite, found)) else None

    def number(self, tag: str | int) -> float | None:
        found = self.numbers(tag, 1)
        return None if found is None else found[0]

    def whole(self, tag: str | int, default: int = 0) -> int:
        found = self.number(tag)
        return default if found is None else int(found)


def _as_text(value: Any) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return text.replace("\0", "").strip()


def _frame(file: str, index: int | None, header: _Values, asked: Sequence[int]) -> Frame:
    image_type = tuple(map(str.upper, map(_as_text, header.values("FrameType") or header.values("ImageType"))))
    echo_time = header.number("EchoTime")
    sop_class = header.text("SOPClassUID")
    is_capture = ".1.1.7" in sop_class or bool(header.text("ConversionType"))
    return Frame(
        file=file,
        index=index,
        sop_class=sop_class,
        instance_uid=header.text("SOPInstanceUID"),
        study_uid=header.text("StudyInstanceUID"),
        series_uid=header.text("SeriesInstanceUID"),
        modality=header.text("Modality"),
        series_number=header.whole("SeriesNumber"),
        description=header.text("SeriesDescription"),
        protocol=header.text("ProtocolName"),
        image_type=image_type,
        part=_part(header, image_type),
        echo_time_ms=header.number("EffectiveEchoTime") if echo_time is None else echo_time,
        echo_number=header.whole("EchoNumbers") or None,
        order=(
            header.whole("TemporalPositionIdentifier") or header.whole("TemporalPositionIndex"),
            header.whole("AcquisitionNumber"),
            header.whole("InstanceNumber"),
            index or 0,
        ),
        position_mm=header.numbers("ImagePositionPatient", 3),
        orientation=header.numbers("ImageOrientationPatient", 6),
        spacing_mm=header.numbers("PixelSpacing", 2),
        rows=header.whole("Rows"),
        columns=header.whole("Columns"),
        colours=header.whole("SamplesPerPixel", 1),
        acquisition=header.text("MRAcquisitionType").upper(),
        scanning_sequence=_scanning_sequence(header),
        acquired=_acquired(header),
        may_show_text=is_capture or header.text("BurnedInAnnotation").upper() == "YES",
        is_capture=is_capture,
        tags=_tag_texts(header, asked),
    )


def _tag_texts(header: Any, asked: Iterable[int]) -> dict[int, str]:
    """The texts of tags, those of enhanced MR under their classic names; tags that are absent are left out."""
    from pydicom.datadict import keyword_for_tag

    found = {tag: header.text(tag) or header.text(STAND_INS.get(keyword_for_tag(tag), tag)) for tag in asked}
    return {tag: text for tag, text in found.items() if text}


def _part(header: _Values, image_type: Sequence[str]) -> str | None:
    component = header.text("ComplexImageComponent").lower()
    if component in PARTS_OF_LETTER.values():
        return component
    if header.text("Manufacturer").upper().startswith("GE"):
        raw = header.values(GE_RAW_DATA_TYPE)[:1]
        kind = (
            int.from_bytes(raw[0][:2], "little")
            if raw and isinstance(raw[0], bytes)
            else header.whole(GE_RAW_DATA_TYPE, -1)
        )
        if kind in PARTS_OF_GE:
            return PARTS_OF_GE[kind]
    for value in image_type[2:]:
        found = PART_OF_TYPE.fullmatch(value)
        if found:
            return found["word"].lower() if found["word"] else PARTS_OF_LETTER[found["letter"]]
    return None


def _scanning_sequence(header: _Values) -> str:
    """As classic MR says it: EP for echo-planar, GR for gradient and SE for spin echo."""
    classic = header.text("ScanningSequence").upper()
    if classic:
        return classic
    pulse = header.text("EchoPulseSequence").upper()
    kinds = ["EP"] if header.text("EchoPlanarPulseSequence").upper() == "YES" else []
    kinds += ["GR"] if pulse in ("GRADIENT", "BOTH") else []
    kinds += ["SE"] if pulse in ("SPIN", "BOTH") else []
    return "\\".join(kinds)


def _acquired(header: _Values) -> str:
    whole = header.text("AcquisitionDateTime")
    date = header.text("AcquisitionDate") or header.text("SeriesDate") or header.text("StudyDate")
    return whole or f"{date}{header.text('AcquisitionTime') or header.text('SeriesTime')}"
