"""Where a scan lies outside what a model has seen in training."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cmb_autoseg.geometry import nifti_stem
from cmb_autoseg.preprocessing import PreparedCase
from cmb_autoseg.quality_control.sequence_measures import signal_to_noise
from cmb_autoseg.records import SUSCEPTIBILITY_MAGNITUDES, Case, Role, TrainingRange

__all__ = ["BRAIN_TOLERANCE", "brain_ml", "picture_note", "range_warnings", "spans"]

SPACING_TOLERANCE = 1.2
BRAIN_TOLERANCE = 1.5
NOISE_TOLERANCE = 1.2
FIELD_TOLERANCE = 0.2
"""A scan is outside the training range when its spacing, brain volume or noise leaves it by more than this factor, or
its field strength lies farther than this share from every one of it: 2.89 T is called 3 T."""
OUTSIDE = "outside the model's training range"


def range_warnings(prepared: PreparedCase, seen: TrainingRange, channels: tuple[Role, ...]) -> tuple[str, ...]:
    """Say where a scan lies outside what the model has seen.

    Args:
        prepared: the scan.
        seen: by the model.
        channels: sequences that the model has learned from.
    """
    return (
        *_spacing(prepared, seen),
        *_brain(prepared, seen),
        *_field(prepared.case, seen),
        *_noise(prepared, seen),
        *_sequences(prepared, seen, channels),
        *_skull(prepared),
    )


def picture_note(intended_use: str, doubts: Iterable[str]) -> str:
    """What stands below a picture: what the model is for, and why its result is doubtful."""
    return " ".join((intended_use, *(f"Warning: {text}." for text in doubts)))


def brain_ml(prepared: PreparedCase) -> float:
    """Volume of the brain mask."""
    return float(np.count_nonzero(prepared.brain.data)) * prepared.brain.voxel_volume_mm3 / 1000


def _spacing(prepared: PreparedCase, seen: TrainingRange) -> Iterator[str]:
    sizes = prepared.brain.spacing_mm
    ranges = list(zip(seen.spacing_mm_min[::-1], seen.spacing_mm_max[::-1], strict=True))
    fits = (
        low / SPACING_TOLERANCE <= size <= high * SPACING_TOLERANCE
        for size, (low, high) in zip(sizes, ranges, strict=True)
    )
    if not all(fits):
        found = " x ".join(f"{size:.2f}" for size in sizes)
        yield f"{OUTSIDE}: voxels of {found} mm (x, y, z), trained on {spans(ranges)} mm"


def spans(ranges: Iterable[Sequence[float]]) -> str:
    """Ranges of voxel sizes in words, in the order given."""
    told = (f"{low:.2f}" if high - low < 0.005 else f"{low:.2f}-{high:.2f}" for low, high in ranges)
    return " x ".join(told)


def _brain(prepared: PreparedCase, seen: TrainingRange) -> Iterator[str]:
    volume_ml, (low, high) = brain_ml(prepared), seen.brain_volume_ml
    if not low / BRAIN_TOLERANCE <= volume_ml <= high * BRAIN_TOLERANCE:
        yield f"{OUTSIDE}: a brain mask of {volume_ml:.0f} ml, trained on {low:.0f}-{high:.0f} ml"


def _field(case: Case, seen: TrainingRange) -> Iterator[str]:
    tesla = field_strength(case)
    if tesla is None or not seen.field_strength_t:
        return
    if all(abs(tesla - known) > FIELD_TOLERANCE * known for known in seen.field_strength_t):
        known = ", ".join(f"{known:g}" for known in seen.field_strength_t)
        yield f"{OUTSIDE}: field strength is {tesla:g} T, trained on {known} T"


def field_strength(case: Case) -> float | None:
    """In tesla: what the card says, else the JSON file beside the reference sequence; None where nobody says it."""
    said = case.meta.get("field_strength_t")
    if said is None:
        image = Path(case.images[case.reference_role].path)
        sidecar = image.with_name(f"{nifti_stem(image)}.json")
        try:
            content = json.loads(sidecar.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # it is only looked into for a warning
            return None
        said = content.get("MagneticFieldStrength") if isinstance(content, dict) else None
    try:
        tesla = float(said)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return tesla if 0 < tesla < 50 else None


def _noise(prepared: PreparedCase, seen: TrainingRange) -> Iterator[str]:
    """A scan with less noise than any in training is no harder."""
    role = next((role for role in SUSCEPTIBILITY_MAGNITUDES if role in prepared.volumes), None)
    if seen.snr is None or role is None:
        return
    low, high = seen.snr
    found = signal_to_noise(prepared.volumes[role], prepared.brain.data > 0)
    if found < low / NOISE_TOLERANCE:
        yield f"{OUTSIDE}: {role} has a signal-to-noise ratio of {found:.1f}, trained on {low:.1f}-{high:.1f}"


def _skull(prepared: PreparedCase) -> Iterator[str]:
    has_skull = prepared.case.reference_role is not Role.QSM  # a map is made of the brain alone
    if has_skull and prepared.brain_alone and prepared.case.prep.skull == "on":
        yield "the skull is off, and the model expects it: it finds less in brains alone; give the scan as it came"


def _sequences(prepared: PreparedCase, seen: TrainingRange, channels: tuple[Role, ...]) -> Iterator[str]:
    """Which sequences are missing, or never seen together, unless the model has learned from just these."""
    there = {role for role in channels if role in prepared.volumes}
    missing = [role for role in channels if role not in there]
    if any(set(known) == there for known in seen.sequence_sets):
        return
    if missing:
        yield f"missing sequences: {', '.join(missing)}; the model was trained with {', '.join(channels)}"
    elif seen.sequence_sets:
        yield f"{OUTSIDE}: {', '.join(channels)} were never seen all together"
