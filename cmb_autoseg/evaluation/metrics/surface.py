"""Distances between the surfaces of larger reference lesions and the predictions on them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from surface_distance import (
    compute_robust_hausdorff,
    compute_surface_dice_at_tolerance,
    compute_surface_distances,
)

from cmb_autoseg.evaluation.case_score import CaseScore, SurfaceDistances
from cmb_autoseg.evaluation.metrics.figure import Statistic, share

__all__ = ["MIN_DIAMETER_MM", "TOLERANCE_MM", "surface_distances", "surface_statistics"]

MIN_DIAMETER_MM = 5.0
"""Of the reference lesion; a smaller one has so few voxels that its surface is mostly their corners."""
TOLERANCE_MM = 1.0
NO_PAIR = f"no matched pair of masks whose reference lesion is {MIN_DIAMETER_MM:g} mm across or more"


def surface_distances(
    number: int,
    predicted: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
) -> SurfaceDistances:
    """Distances between the surfaces of two lesions, each piece of surface weighing as much as its area.

    Nikolov et al. 2018, arXiv:1809.04430, and its library `surface_distance`.

    Args:
        number: of the reference lesion.
        predicted: (i, j, k), any window that holds both lesions whole.
        reference: likewise, of the same shape.
        spacing_mm: of the voxels.

    Raises:
        ValueError: one of the two is empty.
    """
    if not (predicted.any() and reference.any()):
        raise ValueError("surface distances need a voxel on both sides")
    found = compute_surface_distances(reference, predicted, spacing_mm)
    distances = np.concatenate([found["distances_gt_to_pred"], found["distances_pred_to_gt"]])
    areas = np.concatenate([found["surfel_areas_gt"], found["surfel_areas_pred"]])
    return SurfaceDistances(
        reference=number,
        hd95_mm=float(compute_robust_hausdorff(found, 95)),
        assd_mm=float(np.average(distances, weights=areas)),
        surface_dice_1mm=float(compute_surface_dice_at_tolerance(found, TOLERANCE_MM)),
    )


def surface_statistics(cases: Sequence[CaseScore]) -> dict[str, Statistic]:
    """Means over all pairs that have surface distances, each pair weighing the same."""
    n_pairs = [len(case.surfaces) for case in cases]

    def mean_of(name: str) -> Statistic:
        return share([sum(getattr(own, name) for own in case.surfaces) for case in cases], n_pairs, NO_PAIR)

    return {name: mean_of(name) for name in ("hd95_mm", "assd_mm", "surface_dice_1mm")}
