"""From a probability map to the list of its lesions; reference masks take the same way."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions.components import Components, find_components
from cmb_autoseg.records import Lesion, LesionTable, OperatingPoint

__all__ = ["LESION_COLUMNS", "describe", "lesion_components", "lesion_mask", "probabilities_of", "tabulate"]

LESION_COLUMNS = tuple(Lesion.model_fields)
"""Columns of `<case>_lesions.tsv`; tables of several cases have `case` before them."""

VOLUME_TOLERANCE = 1e-6
"""Share of a voxel by which a component may miss the least volume: rounding of the affine."""


def tabulate(case: str, probability: Volume, point: OperatingPoint) -> LesionTable:
    """List the lesions of one case: the 26-connected components at or above the operating point.

    Reference masks pass through here too (as probabilities 0 and 1 with threshold 0.5), so that
    both sides of an evaluation share one definition of a lesion.
    """
    return describe(case, lesion_components(probability, point), probability)


def lesion_mask(probability: Volume, point: OperatingPoint) -> NDArray[np.uint8]:
    """The voxels (i, j, k) of exactly the lesions that `tabulate` lists, as 0 and 1."""
    return (lesion_components(probability, point).labels > 0).astype(np.uint8)


def lesion_components(probability: Volume, point: OperatingPoint) -> Components:
    """The components of probability >= threshold whose volume is at least `min_volume_mm3`."""
    min_voxels = point.min_volume_mm3 / probability.voxel_volume_mm3 - VOLUME_TOLERANCE
    return find_components(probability.data >= point.threshold, min_voxels)


def describe(case: str, components: Components, probability: Volume) -> LesionTable:
    """Give place, size and probability of each component.

    Args:
        case: name of the case.
        components: on the grid of `probability`.
        probability: its values inside a component give `prob_max` and `prob_mean`.
    """
    if not len(components):
        return LesionTable(case=case)
    centres_mm = probability.to_ras_mm(components.centres)
    nearest = np.rint(components.centres).astype(int)
    volumes_mm3 = components.sizes * probability.voxel_volume_mm3
    highest, mean = probabilities_of(components, probability.data)
    return LesionTable(
        case=case,
        lesions=tuple(
            Lesion(
                lesion=index + 1,
                x_mm=float(centres_mm[index, 0]),
                y_mm=float(centres_mm[index, 1]),
                z_mm=float(centres_mm[index, 2]),
                i=int(nearest[index, 0]),
                j=int(nearest[index, 1]),
                k=int(nearest[index, 2]),
                volume_mm3=float(volumes_mm3[index]),
                diameter_mm=float((6 * volumes_mm3[index] / np.pi) ** (1 / 3)),
                prob_max=float(highest[index]),
                prob_mean=float(mean[index]),
            )
            for index in range(len(components))
        ),
    )


def probabilities_of(
    components: Components, probability: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Highest and mean probability of the voxels of each component, (n,) each."""
    if not len(components):
        return np.zeros(0), np.zeros(0)
    inside = components.labels > 0
    numbers = components.labels[inside]
    # Averages over folds overshoot 1 by a rounding error now and then.
    values = np.clip(probability[inside].astype(np.float64), 0.0, 1.0)
    highest = np.asarray(ndimage.maximum(values, numbers, np.arange(1, len(components) + 1)))
    return highest, np.bincount(numbers, weights=values)[1:] / components.sizes
