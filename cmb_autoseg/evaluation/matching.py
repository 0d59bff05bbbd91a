"""Which predicted lesion belongs to which reference lesion."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from cmb_autoseg.evaluation.protocols import PROTOCOLS, Protocol
from cmb_autoseg.geometry import Volume, check_same_grid
from cmb_autoseg.lesions.components import Components
from cmb_autoseg.lesions.table import describe, lesion_components
from cmb_autoseg.records import LesionTable, OperatingPoint, Record

__all__ = ["PROTOCOLS", "Matches", "Pair", "Protocol", "match", "match_components"]

DISTANCE_DECIMALS = 6
"""Distances are rounded to a nanometre, so that an oblique affine's rounding decides no tie and no limit."""


class Pair(Record):
    """A reference lesion and a predicted lesion that belong together."""

    reference: int
    predicted: int
    distance_mm: float
    """Between the centres of mass."""
    overlap: float
    """Share of the reference lesion's voxels that the predicted lesion covers."""
    dice: float
    """Of the two lesions."""


class Matches(Record):
    """The lesions of one case on both sides, and which belong together."""

    case: str
    predicted: LesionTable
    reference: LesionTable
    pairs: tuple[Pair, ...]
    """By reference lesion, the best one first."""

    @property
    def hits(self) -> int:
        """Reference lesions that were found."""
        return len({pair.reference for pair in self.pairs})

    @property
    def misses(self) -> int:
        """Reference lesions that were not found."""
        return len(self.reference.lesions) - self.hits

    @property
    def matched_predictions(self) -> int:
        """Predicted lesions that belong to a reference lesion; equals `hits` where the rule is one-to-one."""
        return len({pair.predicted for pair in self.pairs})

    @property
    def false_positives(self) -> int:
        """Predicted lesions that belong to no reference lesion."""
        return len(self.predicted.lesions) - self.matched_predictions


def match(
    predicted: Volume,
    reference: Volume,
    protocol: Protocol,
    case: str = "case",
    probability: Volume | None = None,
) -> Matches:
    """Match the lesions of one case.

    Args:
        predicted: mask of 0 and 1, or a probability map, which is cut at the protocol's threshold.
        reference: mask of 0 and 1 on the same grid.
        protocol: one of `PROTOCOLS`.
        case: name of the case.
        probability: gives the predicted lesions their probabilities; None: `predicted` does.

    Raises:
        GeometryError: the volumes are not on one grid.
    """
    cure = "evaluate the prediction on the grid of its reference"
    check_same_grid(predicted, reference, cure)
    if probability is not None:
        check_same_grid(probability, reference, cure)
    point = OperatingPoint(name=protocol.name, threshold=protocol.threshold, rule="the evaluation protocol's threshold")
    found, marked = lesion_components(predicted, point), lesion_components(reference, point)
    return Matches(
        case=case,
        predicted=describe(case, found, predicted if probability is None else probability),
        reference=describe(case, marked, reference),
        pairs=match_components(found, marked, reference, protocol),
    )


def match_components(
    predicted: Components, reference: Components, grid: Volume, protocol: Protocol
) -> tuple[Pair, ...]:
    """Pair components that lie on the grid of `grid`; pairs come by reference lesion, the best one first."""
    if not len(predicted) or not len(reference):
        return ()
    # (predicted, reference)
    distances_mm = np.round(
        cdist(grid.to_ras_mm(predicted.centres), grid.to_ras_mm(reference.centres)), DISTANCE_DECIMALS
    )
    shared = _shared_voxels(predicted, reference)
    if protocol.rule == "centre":
        chosen = _nearest_claims(distances_mm, protocol.max_distance_mm)
    else:
        chosen = [pair for pair, n in shared.items() if n > protocol.min_overlap * reference.sizes[pair[1]]]
    pairs = [
        Pair(
            reference=r + 1,
            predicted=p + 1,
            distance_mm=float(distances_mm[p, r]),
            overlap=float(shared.get((p, r), 0) / reference.sizes[r]),
            dice=float(2 * shared.get((p, r), 0) / (predicted.sizes[p] + reference.sizes[r])),
        )
        for p, r in chosen
    ]
    return tuple(sorted(pairs, key=lambda pair: (pair.reference, -pair.overlap, pair.distance_mm, pair.predicted)))


def _nearest_claims(distances_mm: NDArray[np.float64], max_distance_mm: float) -> list[tuple[int, int]]:
    """Every prediction claims its nearest reference; every reference keeps its nearest claimant.

    Ties go to the lower number, that is, to the larger lesion. A prediction whose claim fails is
    not offered the next reference: it is a duplicate (`assign_tp_fp_distance` of the challenge's code).

    Args:
        distances_mm: (predicted, reference).
        max_distance_mm: claims farther than this are void.
    """
    claimed = distances_mm.argmin(axis=1)
    claim_mm = distances_mm[np.arange(len(claimed)), claimed]
    keeper: dict[int, int] = {}
    for p in np.argsort(claim_mm, kind="stable"):
        if claim_mm[p] <= max_distance_mm:
            keeper.setdefault(int(claimed[p]), int(p))
    return [(p, r) for r, p in keeper.items()]


def _shared_voxels(predicted: Components, reference: Components) -> dict[tuple[int, int], int]:
    """Number of voxels in common, by (predicted, reference) index, where there are any."""
    both = (predicted.labels > 0) & (reference.labels > 0)
    codes, counts = np.unique(
        (predicted.labels[both].astype(np.int64) - 1) * len(reference) + reference.labels[both] - 1, return_counts=True
    )
    return {divmod(int(code), len(reference)): int(n) for code, n in zip(codes, counts, strict=True)}
