"""The images and lists of one case, turned into all that it contributes to an evaluation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.evaluation.case_score import CaseScore, Matching, SurfaceDistances, VoxelCounts
from cmb_autoseg.evaluation.inputs.loading import LoadedCase
from cmb_autoseg.evaluation.inputs.regions import lesion_regions
from cmb_autoseg.evaluation.matching.candidates import CANDIDATE_FLOOR, find_candidates
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.matching.match import fits, match_candidates, match_under
from cmb_autoseg.evaluation.matching.protocols import DEFAULT_PROTOCOL, PROTOCOLS, LesionRule, Protocol
from cmb_autoseg.evaluation.metrics.surface import MIN_DIAMETER_MM, surface_distances
from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions.components import find_components

__all__ = ["CaseFacts", "ScoringSettings", "probability_of", "score_case"]

THRESHOLD = 0.5
"""Of masks, and of probability maps where nothing else is said; the value itself belongs to the lesion."""


@dataclass(frozen=True)
class ScoringSettings:
    """What counts as a lesion, and when one is found."""

    protocol: str = DEFAULT_PROTOCOL
    """Name of the protocol that all figures are worked out under."""
    protocols: Mapping[str, Protocol] = field(default_factory=lambda: dict(PROTOCOLS))
    """All that cases are matched under, by name."""
    rule: LesionRule = field(default_factory=LesionRule)
    threshold: float | None = None
    """Probability or score from which on a prediction counts. None: masks and lists are taken as they are, probability
    maps without a mask are cut at 0.5."""


@dataclass(frozen=True)
class CaseFacts:
    """What is known of a case beside its images."""

    subject: str
    columns: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None


def score_case(case: LoadedCase, facts: CaseFacts, settings: ScoringSettings) -> CaseScore:
    """Find the lesions of both sides, match them, and count voxels where both sides have some.

    Raises:
        InputError: the protocol in force compares extents, and a side is a list of points.
    """
    reference = _with_regions(_reference(case, settings), case)
    predicted = _with_regions(_predicted(case, settings), case)
    candidates = _candidates(case, settings)
    if candidates is not None:
        candidates = _with_regions(candidates, case)
    matchings = match_under(predicted, reference, _fitting(predicted, reference, settings))
    score = CaseScore(
        case=case.name,
        subject=facts.subject,
        reference=reference.slim(),
        predicted=predicted.slim(),
        matchings=matchings,
        candidates=None if candidates is None else candidates.slim(),
        candidate_matchings={}
        if candidates is None
        else match_candidates(candidates, reference, _fitting(candidates, reference, settings)),
        seconds=facts.seconds,
        columns=facts.columns,
    )
    if predicted.components is None or reference.components is None:
        return score
    assert case.reference.volume is not None
    return replace(
        score,
        voxels=_count_voxels(predicted.components.labels > 0, reference.components.labels > 0),
        voxel_volume_mm3=case.reference.volume.voxel_volume_mm3,
        surfaces=tuple(_surfaces(predicted, reference, matchings[settings.protocol], case.reference.volume)),
    )


def probability_of(case: LoadedCase, settings: ScoringSettings) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """Probabilities and reference voxels (i, j, k) of a case, for figures over all voxels; None without either.

    The reference voxels are those that `CaseScore.voxels` counts: without lesions that the rule leaves out.
    """
    if case.probability is None or case.reference.volume is None:
        return None
    marked = case.reference.volume.data > 0
    if settings.rule.min_volume_mm3 > 0 or settings.rule.diameter_mm is not None:
        kept = _of_mask(case.reference.volume, marked, settings.rule, None).components
        assert kept is not None
        marked = kept.labels > 0
    return case.probability.data, marked


def _reference(case: LoadedCase, settings: ScoringSettings) -> LesionSet:
    if case.reference.volume is None:
        assert case.reference.lesions is not None
        return _of_legal_size(case.reference.lesions, settings.rule)
    return _of_mask(case.reference.volume, case.reference.volume.data > 0, settings.rule, None)


def _predicted(case: LoadedCase, settings: ScoringSettings) -> LesionSet:
    if case.predicted.volume is None:
        assert case.predicted.lesions is not None
        lesions = _of_legal_size(case.predicted.lesions, settings.rule)
        if settings.threshold is None or lesions.confidence is None:
            return lesions
        return lesions.take(np.flatnonzero(lesions.confidence >= settings.threshold))
    volume, threshold = case.predicted.volume, THRESHOLD
    if settings.threshold is not None and case.probability is not None:
        volume, threshold = case.probability, settings.threshold
    # In a map's own type, so that 0.98 here is the 0.98 that a mask was cut at; a mask of integers has no halves.
    is_map = np.issubdtype(volume.data.dtype, np.floating)
    above = volume.data >= (volume.data.dtype.type(threshold) if is_map else threshold)
    return _of_mask(volume, above, settings.rule, case.probability)


def _of_mask(grid: Volume, mask: NDArray[np.bool_], rule: LesionRule, probability: Volume | None) -> LesionSet:
    components = find_components(mask, connectivity=rule.connectivity)
    lesions = LesionSet.of_components(components, grid, None if probability is None else probability.data)
    return _of_legal_size(lesions, rule)


def _of_legal_size(lesions: LesionSet, rule: LesionRule) -> LesionSet:
    """Without lesions that the rule leaves out; points, which have no size, all stay."""
    low, high = rule.diameter_mm or (0.0, np.inf)
    tolerance = 1e-6
    too_small = (lesions.volumes_mm3 < rule.min_volume_mm3 * (1 - tolerance)) | (
        lesions.diameters_mm < low * (1 - tolerance)
    )
    too_large = lesions.diameters_mm > high * (1 + tolerance)
    if not np.any(too_small | too_large):
        return lesions
    return lesions.take(np.flatnonzero(~(too_small | too_large)))


def _candidates(case: LoadedCase, settings: ScoringSettings) -> LesionSet | None:
    if case.predicted.lesions is not None:
        known = case.predicted.lesions.confidence is not None
        return _of_legal_size(case.predicted.lesions, settings.rule) if known else None
    if case.probability is None:
        return None
    # Their extent is that of half of their height, not of the lesion at a threshold, so the rule's sizes do not apply.
    floor = CANDIDATE_FLOOR if settings.threshold is None else min(CANDIDATE_FLOOR, settings.threshold)
    return find_candidates(case.probability, settings.rule, floor)


def _with_regions(lesions: LesionSet, case: LoadedCase) -> LesionSet:
    return lesions if case.regions is None else lesions.with_regions(lesion_regions(lesions, case.regions))


def _fitting(predicted: LesionSet, reference: LesionSet, settings: ScoringSettings) -> dict[str, Protocol]:
    """Every protocol that fits what the sides are, and the one in force in any case."""
    return {
        name: protocol
        for name, protocol in settings.protocols.items()
        if name == settings.protocol or fits(predicted, reference, protocol)
    }


def _count_voxels(predicted: NDArray[np.bool_], reference: NDArray[np.bool_]) -> VoxelCounts:
    both = int(np.count_nonzero(predicted & reference))
    n_predicted, n_reference = int(np.count_nonzero(predicted)), int(np.count_nonzero(reference))
    return VoxelCounts(
        true_positive=both,
        false_positive=n_predicted - both,
        false_negative=n_reference - both,
        true_negative=reference.size - n_predicted - n_reference + both,
    )


def _surfaces(
    predicted: LesionSet, reference: LesionSet, matching: Matching, grid: Volume
) -> Iterator[SurfaceDistances]:
    """Of each larger reference lesion and the best prediction on it."""
    assert predicted.components is not None
    assert reference.components is not None
    large = np.flatnonzero(reference.diameters_mm >= MIN_DIAMETER_MM) + 1
    best = {pair.reference: pair.predicted for pair in reversed(matching.pairs) if pair.reference in large}
    if not best:
        return
    found, marked = predicted.components.labels, reference.components.labels
    boxes_found, boxes_marked = ndimage.find_objects(found), ndimage.find_objects(marked)
    for number, prediction in sorted(best.items()):
        window = tuple(
            slice(min(a.start, b.start), max(a.stop, b.stop))
            for a, b in zip(boxes_found[prediction - 1], boxes_marked[number - 1], strict=True)
        )
        yield surface_distances(number, found[window] == prediction, marked[window] == number, grid.spacing_mm)
