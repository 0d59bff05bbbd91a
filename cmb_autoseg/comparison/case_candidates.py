"""What a curve over all thresholds needs of a case: every candidate, how sure the model is of it, and what it hits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.matching.candidates import CANDIDATE_FLOOR, find_candidates, surest_from
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.matching.match import match_candidates
from cmb_autoseg.evaluation.matching.protocols import LesionRule, Protocol
from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions.components import find_components

__all__ = ["FOUND", "MOST_VOXELS", "CaseCandidates"]

MOST_VOXELS = 200_000
"""Of a map that are looked at, the surest. A map that is high everywhere would take a minute, and the candidates of its
other voxels come after thousands that it is surer of."""
FOUND = f"peaks from {CANDIDATE_FLOOR:g} among the surest {MOST_VOXELS} voxels; valdo"
"""How; what was found otherwise is not ranked with these."""


@dataclass(frozen=True)
class CaseCandidates:
    """The candidates of one map, matched."""

    confidence: NDArray[np.float32]
    """(n,): the probability of the peak."""
    lesion: NDArray[np.int32]
    """(n,): index of the reference lesion that is found, each by one candidate; -1 of false positives, among which are
    further candidates on a lesion."""

    @classmethod
    def of(cls, probability: Volume, reference: Volume, protocol: Protocol) -> "CaseCandidates":
        """Find and match candidates as `cmb_evaluate` does, but for the bound on voxels.

        Args:
            probability: 0..1.
            reference: mask of the lesions, on the same grid.
            protocol: whose matches are one to one, and which ignores nothing.
        """
        floor = surest_from(probability.data, MOST_VOXELS)
        found = find_candidates(probability, LesionRule(), floor)
        assert found.confidence is not None
        marked = LesionSet.of_components(find_components(reference.data > 0), reference)
        matching = match_candidates(found, marked, {protocol.name: protocol})[protocol.name]
        lesion = np.full(len(found), -1, dtype=np.int32)
        for pair in matching.pairs:
            lesion[pair.predicted - 1] = pair.reference - 1
        return cls(found.confidence.astype(np.float32), lesion)
