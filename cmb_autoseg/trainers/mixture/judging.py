"""How well a mixture finds the lesions of cases that its members have not learned from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.matching.candidates import CANDIDATE_FLOOR, find_candidates
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.matching.match import match_candidates
from cmb_autoseg.evaluation.matching.protocols import DEFAULT_PROTOCOL, PROTOCOLS, LesionRule
from cmb_autoseg.evaluation.metrics.ranking import average_precision, rank
from cmb_autoseg.geometry import Volume, mask_box, read_volume
from cmb_autoseg.inference.operating_points import (
    NO_CASES,
    SWEEP_THRESHOLDS,
    ScoredCase,
    Sweep,
    count_case,
    counting_threshold,
)
from cmb_autoseg.lesions import find_components
from cmb_autoseg.trainers.members import read_map
from cmb_autoseg.trainers.mixture.mixing import Mixing, aligned
from cmb_autoseg.trainers.mixture.votes import UNVOTED_SHARE

__all__ = ["JudgedCase", "aligned_volume", "draws_of_cases", "judge", "least_seen", "member_threshold"]

PROTOCOL = PROTOCOLS[DEFAULT_PROTOCOL]
N_DRAWS = 200
"""For the standard error by which learned weights must beat equal ones."""
MOST_VOXELS = 50_000
"""Of a case and a member that are kept, the surest; a member that sees microbleeds everywhere would take gigabytes and
minutes a case, and what it says of the other voxels is worth nothing."""


_State = tuple[int, int] | None
"""When a file was written, in ns, and its bytes."""


def member_threshold(files: Iterable[tuple[Path, Path]], checkpoint: str) -> float:
    """Probability at which a member counts best: the operating point `counting` of these cases.

    Args:
        files: out-of-fold probability and reference mask of each case.
        checkpoint: what the maps were made by; names them beside their paths and states.

    Returns:
        0.5 where no lesion is there or found.
    """
    swept = sum((_counts(*paths, checkpoint, (_state(paths[0]), _state(paths[1]))) for paths in files), NO_CASES)
    return SWEEP_THRESHOLDS[counting_threshold(swept)]


def _state(path: Path) -> _State:
    """Changes with what a file holds; None of one that is not there, so that who reads it can say so."""
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None


@lru_cache(maxsize=4096)
def _counts(probability: Path, reference: Path, _checkpoint: str, _states: tuple[_State, _State]) -> Sweep:
    """Of one case; folds that are trained one after the other share most of their training cases."""
    return count_case(ScoredCase("", read_map(probability), read_volume(reference, dtype="uint8")), PROTOCOL)


@dataclass(frozen=True)
class JudgedCase:
    """One case as the search for weights sees it: the voxels where a member sees anything, and the true lesions."""

    members: tuple[int, ...]
    """Indices of those that have a map of it."""
    grid: Volume
    """Box around the voxels; its values do not matter."""
    places: NDArray[np.intp]
    """(n,), flat indices in the box."""
    values: NDArray[np.float32]
    """(members, n), aligned."""
    lesions: LesionSet
    """True ones, on the same grid."""

    @classmethod
    def of(cls, maps: Sequence[Volume], reference: Volume, members: Sequence[int], least: float) -> "JudgedCase":
        """Keep what matters of aligned maps.

        Args:
            maps: of the members, aligned, on the grid of the reference.
            reference: mask of the lesions.
            members: indices of those whose maps they are.
            least: value of a member that is kept; see `least_seen`.
        """
        seen = reference.data > 0
        for own in maps:
            seen |= _seen(own.data, least)
        box = _box(seen)
        # The box keeps the affine: both sides are shifted alike, and only distances matter.
        grid = Volume(seen[box], reference.affine)
        places = np.flatnonzero(seen[box])
        values = np.stack([own.data[box].reshape(-1)[places] for own in maps])
        lesions = LesionSet.of_components(find_components(reference.data[box] > 0), grid)
        return cls(tuple(members), grid, places, values, lesions)

    def candidates(self, mixing: Mixing) -> LesionSet:
        """What a mixture of these members finds."""
        dense = [np.zeros(self.grid.shape, dtype=np.float32) for _ in self.members]
        for own, values in zip(dense, self.values, strict=True):
            own.reshape(-1)[self.places] = values
        return find_candidates(self.grid.with_data(mixing.of(self.members).map_of_aligned(dense)), LesionRule())


def aligned_volume(path: Path, threshold: float, common: float) -> Volume:
    """A member's map of a case, its threshold brought to the common one."""
    own = read_map(path)
    return own.with_data(aligned(own.data, threshold, common))


def draws_of_cases(subjects: Sequence[str], seed: Sequence[int]) -> NDArray[np.float64]:
    """How often each case counts: once, then as bootstrap draws of people have it, each with all scans.

    Args:
        subjects: of each case; scans of one person are no independent cases.
        seed: of the draws.

    Returns:
        (1 + N_DRAWS, cases).
    """
    number = {subject: index for index, subject in enumerate(dict.fromkeys(subjects))}
    n_people = len(number)
    drawn = np.random.default_rng(seed).multinomial(n_people, np.full(n_people, 1 / n_people), size=N_DRAWS)
    own = [number[subject] for subject in subjects]
    return np.concatenate([np.ones((1, len(own))), drawn[:, own]])


def judge(cases: Sequence[JudgedCase], mixing: Mixing, draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average precision of the candidates of all cases, pooled; 0 where there is no true lesion.

    Args:
        cases: with their maps and lesions.
        mixing: of their members.
        draws: (n_draws, cases), how often each case counts.

    Returns:
        (n_draws,).
    """
    right, false = [], []
    for case in cases:
        found = case.candidates(mixing)
        matching = match_candidates(found, case.lesions, {PROTOCOL.name: PROTOCOL})[PROTOCOL.name]
        confidence = found.confidence if found.confidence is not None else np.empty(0)
        is_right = np.zeros(len(found), dtype=bool)
        is_right[[number - 1 for number in matching.right]] = True
        right.append(confidence[is_right])
        false.append(confidence[~is_right])
    n_lesions = draws @ np.array([float(len(case.lesions)) for case in cases])
    return np.nan_to_num(average_precision(*rank(right, false).counts(draws), n_lesions))


def least_seen(mixing: Mixing) -> float:
    """Value of an aligned map from which a member can make a candidate: votes lift what nobody has a lesion at."""
    return CANDIDATE_FLOOR * min(1.0, mixing.common / UNVOTED_SHARE) if mixing.combine == "vote" else CANDIDATE_FLOOR


def _seen(own: NDArray[np.float32], least: float) -> NDArray[np.bool_]:
    """(i, j, k), the voxels of an aligned map that are kept."""
    values = own[own >= least]
    crowded = len(values) > MOST_VOXELS
    lowest = float(np.partition(values, -MOST_VOXELS)[-MOST_VOXELS]) if crowded else least
    return np.asarray(own >= lowest)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box around a mask (i, j, k); one voxel where it is empty."""
    return mask_box(mask) or (slice(1),) * 3
