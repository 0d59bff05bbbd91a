"""How much of the brain a scan holds, told from how abruptly the mask ends."""

import math

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.geometry import Volume
from cmb_autoseg.quality_control._blocks import brain_box
from cmb_autoseg.quality_control.case_quality import BrainQuality, Side

__all__ = ["measure_brain"]

SIDES: tuple[tuple[Side, Side], ...] = (("left", "right"), ("back", "front"), ("bottom", "top"))
END_MM = 4.0
"""The end of the brain is looked at in this depth."""


def measure_brain(brain: Volume) -> BrainQuality | None:
    """Volume, extent and coverage of a canonical brain mask; None where it is the whole volume.

    A brain ends in a cap. How large its last cross section is, compared with the largest one of a
    ball, says how much is missing beyond: a cut through the middle leaves a full disc.
    """
    mask = brain.data > 0
    if mask.all() or not mask.any():
        return None
    box = brain_box(mask)
    inside = mask[box]
    extents = [count * mm for count, mm in zip(inside.shape, brain.spacing_mm, strict=True)]
    cut: dict[Side, float] = {}
    coverages = []
    for axis, (low, high) in enumerate(SIDES):
        cut[low], cut[high] = _missing_mm(inside, axis, brain.spacing_mm)
        coverages.append(extents[axis] / (extents[axis] + cut[low] + cut[high]))
    return BrainQuality(
        volume_ml=round(float(np.count_nonzero(inside)) * brain.voxel_volume_mm3 / 1000, 1),
        extent_mm=(round(extents[0], 1), round(extents[1], 1), round(extents[2], 1)),
        cut_mm=cut,
        coverage=round(min(coverages), 3),
    )


def _missing_mm(inside: NDArray[np.bool_], axis: int, spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
    """Millimetres missing at the low and the high end of one axis, if the brain were a ball."""
    others = [other for other in range(3) if other != axis]
    pixel_mm2 = spacing_mm[others[0]] * spacing_mm[others[1]]
    areas_mm2 = np.count_nonzero(inside, axis=(others[0], others[1])) * pixel_mm2
    largest = float(areas_mm2.max())
    radius_mm = math.sqrt(largest / math.pi)
    depth = min(max(1, round(END_MM / spacing_mm[axis])), len(areas_mm2))
    missing = []
    for end in (areas_mm2[:depth], areas_mm2[::-1][:depth]):
        share = min(float(end.mean()) / largest, 1.0)
        beyond_mm = radius_mm * (1 - math.sqrt(1 - share)) - depth * spacing_mm[axis] / 2
        missing.append(round(max(beyond_mm, 0.0), 1))
    return missing[0], missing[1]
