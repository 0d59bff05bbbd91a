"""What one case contributes to an evaluation; every figure of a report follows from these alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.records import Record

__all__ = ["CaseScore", "Matching", "Pair", "SurfaceDistances", "VoxelCounts"]


class Pair(Record):
    """A reference lesion and a predicted lesion that belong together."""

    reference: int
    """Number from 1."""
    predicted: int
    distance_mm: float
    """Between the centres."""
    overlap: float | None = None
    """Share of the reference lesion that the predicted lesion covers; None where a side has no extent."""
    iou: float | None = None
    dice: float | None = None
    """Of the two lesions."""


class Matching(Record):
    """Which lesions of a case belong together under one protocol."""

    pairs: tuple[Pair, ...] = ()
    """By reference lesion, the best one first."""
    ignored: tuple[int, ...] = ()
    """Predicted lesions that are neither right nor wrong."""

    @property
    def found(self) -> frozenset[int]:
        """Numbers of the reference lesions that were found."""
        return frozenset(pair.reference for pair in self.pairs)

    @property
    def right(self) -> frozenset[int]:
        """Numbers of the predicted lesions that belong to a reference lesion."""
        return frozenset(pair.predicted for pair in self.pairs)


class VoxelCounts(Record):
    """Voxels of the whole image by prediction and reference."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int


class SurfaceDistances(Record):
    """Between the surfaces of a larger reference lesion and the prediction on it."""

    reference: int
    hd95_mm: float
    """95th percentile of the distances in both directions (robust Hausdorff distance)."""
    assd_mm: float
    """Mean of the distances in both directions."""
    surface_dice_1mm: float
    """Share of both surfaces that lies within 1 mm of the other one."""


@dataclass(frozen=True)
class CaseScore:
    """One scored case, without any image."""

    case: str
    subject: str
    """Cases of one subject are drawn together."""
    reference: LesionSet
    predicted: LesionSet
    """At the threshold in force."""
    matchings: Mapping[str, Matching]
    """By the protocol's name: predicted against reference lesions."""
    candidates: LesionSet | None = None
    """Everything that the prediction gives any confidence to, for curves; None where it has no confidence."""
    candidate_matchings: Mapping[str, Matching] = field(default_factory=dict)
    voxels: VoxelCounts | None = None
    """None where a side has no voxels: points, boxes."""
    voxel_volume_mm3: float | None = None
    surfaces: tuple[SurfaceDistances, ...] = ()
    seconds: float | None = None
    """That the prediction took, where its run says so."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Of the table of cases, for subgroups; `n/a` is left out."""

    def counts(self, protocol: str) -> tuple[int, int, int]:
        """Reference lesions found, right predicted lesions, false positives."""
        matching = self.matchings[protocol]
        n_right = len(matching.right)
        return len(matching.found), n_right, len(self.predicted) - n_right - len(matching.ignored)

    def candidate_confidences(self, protocol: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """What curves are drawn from; None where the prediction has no confidence.

        Returns:
            (n_reference,): of each reference lesion the highest confidence of a candidate that belongs to it, NaN for
            one that none finds; (n_false,): of the candidates that are false positives.
        """
        if self.candidates is None or self.candidates.confidence is None:
            return None
        matching, confidence = self.candidate_matchings[protocol], self.candidates.confidence
        found = np.full(len(self.reference), np.nan)
        for pair in matching.pairs:
            found[pair.reference - 1] = np.fmax(found[pair.reference - 1], confidence[pair.predicted - 1])
        false = np.ones(len(confidence), dtype=bool)
        false[[number - 1 for number in matching.right | set(matching.ignored)]] = False
        return found, confidence[false]
