"""What one case contributes to an evaluation: its matched lesions and its voxel counts."""

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.matching import Matches, match
from cmb_autoseg.evaluation.protocols import Protocol
from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import Record

__all__ = ["CaseScore", "VoxelCounts", "score_case"]

MASK_TOLERANCE = 1e-3
"""A header's slope may turn a stored 1 into 0.9999."""


class VoxelCounts(Record):
    """Voxels of the whole image by prediction and reference."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    def __add__(self, other: "VoxelCounts") -> "VoxelCounts":
        return VoxelCounts(
            true_positive=self.true_positive + other.true_positive,
            false_positive=self.false_positive + other.false_positive,
            false_negative=self.false_negative + other.false_negative,
            true_negative=self.true_negative + other.true_negative,
        )


NO_VOXELS = VoxelCounts(true_positive=0, false_positive=0, false_negative=0, true_negative=0)


class CaseScore(Record):
    """One scored case; every figure of a report follows from these alone."""

    matches: Matches
    voxels: VoxelCounts
    probability_known: bool
    """False where the prediction is a plain mask: the lesions' probabilities then say nothing."""

    @property
    def case(self) -> str:
        return self.matches.case

    @property
    def n_reference(self) -> int:
        return len(self.matches.reference.lesions)

    @property
    def n_predicted(self) -> int:
        return len(self.matches.predicted.lesions)


def score_case(
    case: str, predicted: Volume, reference: Volume, protocol: Protocol, probability: Volume | None = None
) -> CaseScore:
    """Match the lesions and count the voxels of one case; arguments as in `match`.

    Raises:
        GeometryError: the volumes are not on one grid.
        InputError: the reference holds other values than 0 and 1, or the prediction leaves 0..1.
    """
    marked = reference.with_data(_binary(case, reference))
    for volume in (predicted, probability):
        if volume is not None:
            _check_unit_range(case, volume)
    return CaseScore(
        matches=match(predicted, marked, protocol, case, probability),
        voxels=_count_voxels(predicted.data >= protocol.threshold, marked.data > 0),
        probability_known=probability is not None or bool(np.any((predicted.data > 0) & (predicted.data < 1))),
    )


def _binary(case: str, reference: Volume) -> NDArray[np.uint8]:
    nearest = np.rint(reference.data)
    legal = (np.abs(reference.data - nearest) <= MASK_TOLERANCE) & ((nearest == 0) | (nearest == 1))
    if not legal.all():
        values = np.unique(reference.data[~legal])
        listed = ", ".join(f"{value:g}" for value in values[:5]) + (", ..." if len(values) > 5 else "")
        raise InputError(
            f"{case}: reference {reference.name} holds {listed}, but only 0 and 1 are legal; "
            "write a mask with 1 for microbleeds and 0 elsewhere"
        )
    mask: NDArray[np.uint8] = nearest.astype(np.uint8)
    return mask


def _check_unit_range(case: str, volume: Volume) -> None:
    low, high = float(volume.data.min()), float(volume.data.max())
    if not (low >= 0 and high <= 1 + MASK_TOLERANCE):  # written so that NaN fails too
        raise InputError(
            f"{case}: prediction {volume.name} holds values from {low:g} to {high:g}, but a mask (0 and 1) or "
            "probabilities (0 to 1) are needed; name the mask's file or rescale it"
        )


def _count_voxels(predicted: NDArray[np.bool_], reference: NDArray[np.bool_]) -> VoxelCounts:
    both = int(np.count_nonzero(predicted & reference))
    n_predicted, n_reference = int(np.count_nonzero(predicted)), int(np.count_nonzero(reference))
    return VoxelCounts(
        true_positive=both,
        false_positive=n_predicted - both,
        false_negative=n_reference - both,
        true_negative=reference.size - n_predicted - n_reference + both,
    )
