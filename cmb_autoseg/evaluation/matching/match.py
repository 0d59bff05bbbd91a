"""Which predicted lesion belongs to which reference lesion."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.case_score import Matching, Pair
from cmb_autoseg.evaluation.matching.extents import Shared, shared_extents
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.matching.protocols import Protocol, Rule
from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions.components import Components

__all__ = ["fits", "match", "match_candidates", "match_components", "match_under"]

DISTANCE_DECIMALS = 6
"""Distances are rounded to a nanometre, so that an oblique affine's rounding decides no tie and no limit."""
ROUNDING = 1e-9
"""Share of a lesion by which a common extent may miss a limit that is no binary fraction."""
Distances = NDArray[np.float64]
"""(predicted, reference), millimetres."""
Chosen = tuple[list[tuple[int, int]], list[int]]
"""Indices (predicted, reference) that belong together, and indices of predictions that are neither right nor wrong."""


def match(predicted: LesionSet, reference: LesionSet, protocol: Protocol) -> Matching:
    """Match the lesions of one case; masks of both sides lie on one grid, and boxes in its voxel indices.

    Raises:
        InputError: the protocol compares extents, and a side has none.
    """
    return match_under(predicted, reference, {protocol.name: protocol})[protocol.name]


def match_under(predicted: LesionSet, reference: LesionSet, protocols: Mapping[str, Protocol]) -> dict[str, Matching]:
    """Match the lesions of one case under several protocols, by their names; see `match`."""
    return _match_in_order(predicted, reference, protocols, np.zeros(len(predicted)))


def match_candidates(
    candidates: LesionSet, reference: LesionSet, protocols: Mapping[str, Protocol]
) -> dict[str, Matching]:
    """Match candidates for curves over all thresholds: where distances decide, the surest one has the first choice.

    So a faint candidate never takes a lesion from a sure one that is there at higher thresholds, too: under `nearest` a
    lesion is found from its surest claimant on and every other claimant is false, which is just what matching anew at
    each threshold counts.

    Args:
        candidates: with their confidence.
        reference: as for `match`.
        protocols: by their names.
    """
    assert candidates.confidence is not None
    return _match_in_order(candidates, reference, protocols, -candidates.confidence)


def _match_in_order(
    predicted: LesionSet, reference: LesionSet, protocols: Mapping[str, Protocol], order: NDArray[np.float64]
) -> dict[str, Matching]:
    """Of predictions that lay claim to a lesion, the one with the lowest `order` is asked first, then the nearest."""
    for protocol in protocols.values():
        _refuse_points(predicted, reference, protocol)
    if not len(predicted) or not len(reference):
        return {name: Matching() for name in protocols}
    distances_mm = np.round(cdist(predicted.centres_mm, reference.centres_mm), DISTANCE_DECIMALS)
    shared = shared_extents(predicted, reference)
    return {name: _matching(distances_mm, shared, protocol, order) for name, protocol in protocols.items()}


def _refuse_points(predicted: LesionSet, reference: LesionSet, protocol: Protocol) -> None:
    if not fits(predicted, reference, protocol):
        side = "prediction" if predicted.kind == "points" else "reference"
        raise InputError(
            f"protocol {protocol.name}: the {side} is a list of points, which have no extent; take valdo, points or "
            "overlap (a point inside a lesion finds it)"
        )


def _matching(distances_mm: Distances, shared: Shared, protocol: Protocol, order: NDArray[np.float64]) -> Matching:
    chosen, ignored = RULES[protocol.rule](distances_mm, shared, protocol, order)
    pairs = (_pair(p, r, distances_mm, shared) for p, r in chosen)
    return Matching(pairs=tuple(sorted(pairs, key=_best_first)), ignored=tuple(sorted(p + 1 for p in ignored)))


def match_components(predicted: Components, reference: Components, grid: Volume, protocol: Protocol) -> Matching:
    """Match components that lie on the grid of `grid`."""
    found, marked = (LesionSet.of_components(components, grid) for components in (predicted, reference))
    return match(found, marked, protocol)


def fits(predicted: LesionSet, reference: LesionSet, protocol: Protocol) -> bool:
    """Whether a protocol can be applied: shares of an extent need one on both sides, and `overlap` on one."""
    kinds = (predicted.kind, reference.kind)
    if protocol.rule in ("nearest", "radius") or "points" not in kinds:
        return True
    return protocol.rule == "overlap" and protocol.limit == 0 and kinds != ("points", "points")


def _pair(p: int, r: int, distances_mm: Distances, shared: Shared) -> Pair:
    both = shared.common.get((p, r), 0.0)
    sizes = None if shared.sizes is None else (float(shared.sizes[0][p]), float(shared.sizes[1][r]))
    return Pair(
        reference=r + 1,
        predicted=p + 1,
        distance_mm=float(distances_mm[p, r]),
        overlap=None if sizes is None else both / sizes[1],
        iou=None if sizes is None else both / (sum(sizes) - both),
        dice=None if sizes is None else 2 * both / sum(sizes),
    )


def _best_first(pair: Pair) -> tuple[float, ...]:
    return (pair.reference, -(pair.overlap or 0.0), pair.distance_mm, pair.predicted)


def _nearest(distances_mm: Distances, _shared: Shared, protocol: Protocol, order: NDArray[np.float64]) -> Chosen:
    """Every prediction claims its nearest reference; every reference keeps its nearest claimant.

    Ties go to the lower number, that is, to the larger lesion. A prediction whose claim fails is
    not offered the next reference: it is a duplicate (`assign_tp_fp_distance` of the challenge's code).
    """
    claimed = distances_mm.argmin(axis=1)
    claim_mm = distances_mm[np.arange(len(claimed)), claimed]
    keeper: dict[int, int] = {}
    for p in np.lexsort((claim_mm, order)):
        if claim_mm[p] <= protocol.limit:
            keeper.setdefault(int(claimed[p]), int(p))
    return [(p, r) for r, p in keeper.items()], []


def _radius(distances_mm: Distances, _shared: Shared, protocol: Protocol, order: NDArray[np.float64]) -> Chosen:
    """Pairs from the nearest on, one to one; what else lies within reach of a reference is set aside."""
    near = np.argwhere(distances_mm <= protocol.limit)
    in_turn = np.lexsort((distances_mm[tuple(near.T)], order[near[:, 0]]))
    of_prediction: dict[int, int] = {}
    taken: set[int] = set()
    for p, r in near[in_turn]:
        if int(p) not in of_prediction and int(r) not in taken:
            of_prediction[int(p)] = int(r)
            taken.add(int(r))
    return list(of_prediction.items()), [int(p) for p in np.unique(near[:, 0]) if int(p) not in of_prediction]


def _overlap(_distances_mm: Distances, shared: Shared, protocol: Protocol, _order: NDArray[np.float64]) -> Chosen:
    if shared.sizes is None:  # a point that lies inside, whatever the size
        return list(shared.common), []
    shares = {pair: common / shared.sizes[1][pair[1]] for pair, common in shared.common.items()}
    return [pair for pair, share in shares.items() if share > protocol.limit + ROUNDING * bool(protocol.limit)], []


def _iou(distances_mm: Distances, shared: Shared, protocol: Protocol, _order: NDArray[np.float64]) -> Chosen:
    """One to one with the greatest sum of 1 + intersection over union, as picai_eval pairs them."""
    from scipy.optimize import linear_sum_assignment  # takes a quarter of a second, which every command would pay

    assert shared.sizes is not None
    worth = np.zeros(distances_mm.shape)
    for (p, r), common in shared.common.items():
        iou = common / (shared.sizes[0][p] + shared.sizes[1][r] - common)
        worth[p, r] = 1 + iou if iou >= protocol.limit else 0
    assigned = zip(*linear_sum_assignment(worth, maximize=True), strict=True)
    return [(int(p), int(r)) for p, r in assigned if worth[p, r] > 0], []


RULES: Mapping[Rule, Callable[[Distances, Shared, Protocol, NDArray[np.float64]], Chosen]] = {
    "nearest": _nearest,
    "radius": _radius,
    "overlap": _overlap,
    "iou": _iou,
}
