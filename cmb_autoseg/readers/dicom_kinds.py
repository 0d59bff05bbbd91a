"""What kind of image a series holds: anatomy, or a localizer, a projection, a picture of a screen."""

import re
from dataclasses import dataclass

from cmb_autoseg.readers.dicom_frames import Frame

__all__ = ["NO_ANATOMY", "PROJECTION", "Oddity", "oddity_of"]

LOCALIZER = re.compile(r"locali[sz]er|scout|survey", re.IGNORECASE)
NO_ANATOMY = re.compile(rf"{LOCALIZER.pattern}|(?<![a-z])tof(?![a-z])|angio", re.IGNORECASE)
PROJECTION = re.compile(r"(?<![a-z])m(?:in)?[ _-]?ip(?![a-z])|mnip|projection image", re.IGNORECASE)
"""Intensity projections over several slices: derived, and thicker than the scan."""
SCREEN = re.compile(r"screen ?(?:save|shot|capture)|secondary capture", re.IGNORECASE)


@dataclass(frozen=True)
class Oddity:
    """Why a series is not taken unless a card asks for it."""

    kind: str
    tags: tuple[str, ...]
    """Keywords of the tags that say it."""
    words: re.Pattern[str] | None
    """What in their values says it; None where they say it as a whole."""


def oddity_of(frame: Frame) -> Oddity | None:
    """What is odd about a series by one of its frames; None where it may be a scan."""
    if frame.modality not in ("MR", ""):
        return Oddity("of no MR scanner", ("Modality", "SOPClassUID"), None)
    if frame.is_capture:
        return Oddity("a secondary capture", ("SOPClassUID", "ConversionType"), None)
    texts = ("\\".join(frame.image_type), frame.description)
    for kind, words in (("a localizer", LOCALIZER), ("a projection", PROJECTION), ("a picture of a screen", SCREEN)):
        if any(map(words.search, texts)):
            return Oddity(kind, ("ImageType", "SeriesDescription", "ProtocolName"), words)
    return None
