"""The grid that all cases are brought to: spacing, order of axes, and whether every lesion survives it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.lesions import resample_lesions
from cmb_autoseg.records import CaseFingerprint, Reason, Triple

__all__ = ["Grids", "LesionCheck", "choose_spacing", "count_lesions", "growth_warnings", "mm", "refined", "thickest"]

VOXELS_PER_LESION = 3
REFINEMENT = 0.8
SAME_SPACING = 1.01
"""An axis is the one of slices when its voxels are longer than this factor times the next."""
MAX_GROWTH = 20.0
"""A case whose voxels multiply by more than this is warned of."""
THIN_SHARE, THIN_FACTOR = 0.1, 0.67
"""Thin slices of at most this share of cases, thinner than this factor times the median, are warned of."""

SLICE_RULE = "slices stay as thin as the thinnest: never coarser than any labelled case's own (docs/decisions/0007)"
IN_PLANE_RULE = (
    f"a third of the 10th percentile of lesion diameters, so that {VOXELS_PER_LESION} voxels span nine lesions of ten; "
    "not finer than the finest native voxels, since nothing is there to be seen, nor coarser than the median ones"
)


class Grids:
    """The grids of some cases in canonical axes (z, y, x), cropped to the brain as nnU-Net crops."""

    def __init__(self, cases: Sequence[CaseFingerprint]) -> None:
        self.cases = tuple(cases)
        # In the precision of NIfTI headers, so that shapes are rounded as in preprocessing.
        stored = np.array([case.spacing_mm for case in cases], dtype=np.float32)
        self.spacing_mm = stored.astype(np.float64)
        self.box_shape = np.array([np.subtract(case.box_stop, case.box_start) for case in cases])
        self.diameters_mm = np.array([lesion.diameter_mm for case in cases for lesion in case.lesions])
        self.slice_axis = _slice_axes(self.spacing_mm)
        """(case,), the axis along which each case was sliced."""

    def shapes_at(self, spacing: Triple[float]) -> NDArray[np.int64]:
        """Shapes (case, 3) after resampling; rounds as nnU-Net does."""
        return np.array(
            [
                [round(old / new * n) for old, new, n in zip(case_spacing, spacing, shape, strict=True)]
                for case_spacing, shape in zip(self.spacing_mm, self.box_shape, strict=True)
            ]
        )

    def median_shape(self, spacing: Triple[float]) -> Triple[int]:
        z, y, x = (int(n) for n in np.median(self.shapes_at(spacing), axis=0))
        return z, y, x

    def slices_mm(self) -> NDArray[np.float64]:
        """(case,), each case's own slice spacing."""
        return np.asarray(np.take_along_axis(self.spacing_mm, self.slice_axis[:, None], axis=1)[:, 0])

    def in_plane_mm(self) -> NDArray[np.float64]:
        """(case, 2), each case's own in-plane voxel sizes."""
        return np.asarray(self.spacing_mm[np.arange(3) != self.slice_axis[:, None]].reshape(-1, 2))


def _slice_axes(spacing_mm: NDArray[np.float64]) -> NDArray[np.int64]:
    """Each case's axis of slices; cases without one take the most common one, else the first axis."""
    ordered = np.sort(spacing_mm, axis=1)
    sliced = ordered[:, 2] > SAME_SPACING * ordered[:, 1]
    axes = spacing_mm.argmax(axis=1)
    common = Counter(axes[sliced].tolist()).most_common(1)
    return np.where(sliced, axes, common[0][0] if common else 0)


def choose_spacing(grids: Grids) -> tuple[Triple[float], list[Reason], list[str]]:
    """Spacing (z, y, x) in canonical axes from native grids and lesion sizes, with reasons and warnings."""
    slices, in_plane = grids.slices_mm(), grids.in_plane_mm()
    finest, median = float(in_plane.min()), float(np.median(in_plane))
    if grids.diameters_mm.size:
        p10 = float(np.percentile(grids.diameters_mm, 10))
        wanted = p10 / VOXELS_PER_LESION
        target = min(median, max(finest, wanted))
        lesions = f"a tenth of the lesions is smaller than {p10:.1f} mm, which asks for {wanted:.2f} mm"
    else:
        target, lesions = median, "no lesion is labelled, so the median counts"
    z, y, x = (_axis_spacing(grids, axis, target) for axis in range(3))
    spacing = (z, y, x)
    common = Counter(np.round(slices, 2).tolist()).most_common(4)
    thicknesses = ", ".join(f"{size:g} mm in {count}" for size, count in sorted(common))
    reasons = [
        Reason(
            topic="grid",
            text=f"in-plane {target:.4g} mm: {lesions}; native in-plane voxels are {finest:.4g} mm at the finest and "
            f"{median:.4g} mm at the median",
            rule=IN_PLANE_RULE,
        ),
        Reason(
            topic="grid",
            text=f"slices {float(slices.min()):.4g} mm: native slices are {thicknesses} of {len(slices)} cases",
            rule=SLICE_RULE,
        ),
    ]
    if len(set(grids.slice_axis.tolist())) > 1:
        reasons.append(
            Reason(
                topic="grid",
                text=f"cases are sliced along different axes, so the grid is {mm(spacing)} (feet to head, back to "
                "front, left to right)",
                rule="an axis is as fine as the thinnest slices along it, and as the in-plane size of the other cases",
            )
        )
    return spacing, reasons, _thin_slice_warning(grids, slices)


def _axis_spacing(grids: Grids, axis: int, in_plane_mm: float) -> float:
    along = grids.slice_axis == axis
    limits = [float(grids.spacing_mm[along, axis].min())] if along.any() else []
    if not along.all():
        limits.append(in_plane_mm)
    return round(min(limits), 4)


def _thin_slice_warning(grids: Grids, slices_mm: NDArray[np.float64]) -> list[str]:
    thin = np.flatnonzero(slices_mm < THIN_FACTOR * np.median(slices_mm))
    if not 0 < len(thin) <= max(1, THIN_SHARE * len(slices_mm)) or len(slices_mm) == 1:
        return []
    rest = np.delete(slices_mm, thin).min()
    times = rest / slices_mm.min()
    names = ", ".join(grids.cases[index].case for index in thin[:4]) + (", ..." if len(thin) > 4 else "")
    return [
        f"{len(thin)} of {len(slices_mm)} cases ({names}) have slices of {slices_mm.min():.4g} mm, the others "
        f"{rest:.4g} mm or more: every case becomes {times:.1f} times as large for their sake; if that is too much, "
        "leave them out of the card or convert them into a dataset of their own"
    ]


def growth_warnings(grids: Grids, spacing: Triple[float]) -> list[str]:
    """Name the cases whose number of voxels the planned grid multiplies by more than `MAX_GROWTH`.

    Raises:
        InputError: a case so thin that it has no voxel left on this grid.
    """
    shapes = grids.shapes_at(spacing)
    for case, shape in zip(grids.cases, shapes, strict=True):
        if not shape.all():
            raise InputError(
                f"{case.case}: its brain box of {_box_mm(case)} has no voxel left at {mm(spacing)}; "
                "leave the case out of the card"
            )
    growth = shapes.prod(axis=1) / grids.box_shape.prod(axis=1)
    large = np.flatnonzero(growth > MAX_GROWTH)
    if not len(large):
        return []
    worst = int(growth.argmax())
    return [
        f"{len(large)} of {len(growth)} cases get more than {MAX_GROWTH:.0f} times as many voxels at {mm(spacing)} "
        f"(worst: {grids.cases[worst].case}, {growth[worst]:.0f} times, {shapes[worst].prod() / 1e6:.0f} million): "
        "disk and prediction time grow alike; plan cohorts of so different grids as datasets of their own"
    ]


def _box_mm(case: CaseFingerprint) -> str:
    return mm(np.multiply(case.spacing_mm, np.subtract(case.box_stop, case.box_start)))


@dataclass(frozen=True)
class LesionCheck:
    """Lesions of all cases before resampling, and those that vanish or merge, as (case, number)."""

    before: int
    lost: tuple[tuple[CaseFingerprint, int], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{case.case}#{number}" for case, number in self.lost)


def count_lesions(
    grids: Grids, read_lesions: Callable[[str], NDArray[np.integer]], spacing: Triple[float], preserve: bool
) -> LesionCheck:
    """Resample every case's lesions to `spacing` and see which are still lesions of their own."""
    before, lost, order = 0, [], list(thickest(spacing))
    for case, shape in zip(grids.cases, grids.shapes_at(spacing), strict=True):
        if case.lesions:
            box = tuple(slice(start, stop) for start, stop in zip(case.box_start, case.box_stop, strict=True))
            # In the order of axes that preprocessing uses: ties between voxels fall alike.
            labels = read_lesions(case.case)[box].transpose(order)
            moved = resample_lesions(labels, len(case.lesions), tuple(shape[order]), preserve)
            before += len(case.lesions)
            lost += [(case, number) for number in moved.lost]
    return LesionCheck(before, tuple(lost))


def refined(spacing: Triple[float], check: LesionCheck) -> Triple[float] | None:
    """A finer grid for the cases that lose lesions; None where no axis is coarser than theirs.

    Where no axis gets coarser, no lesion vanishes or merges, so this ends.
    """
    finest = np.array([case.spacing_mm for case, _ in check.lost]).min(axis=0)
    z, y, x = (
        round(max(REFINEMENT * size, float(native)), 4) if size > native else size
        for size, native in zip(spacing, finest, strict=True)
    )
    return None if (z, y, x) == spacing else (z, y, x)


def thickest(spacing: Triple[float]) -> Triple[int]:
    """The order of axes that puts the coarsest first; the first of equal ones."""
    first = int(np.argmax(spacing))
    z, y, x = (first, *(axis for axis in range(3) if axis != first))
    return z, y, x


def mm(lengths: Sequence[float] | NDArray[np.float64]) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths) + " mm"
