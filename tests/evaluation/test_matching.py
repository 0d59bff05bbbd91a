import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.matching.match import match as match_lesions
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions.components import find_components

VALDO, OVERLAP, OVERLAP40, POINTS, IOU = (
    PROTOCOLS[name] for name in ("valdo", "overlap", "overlap40", "points", "iou")
)


class Matched:
    """Lesions of two masks and their matching."""

    def __init__(self, predicted, reference, protocol):
        self.predicted, self.reference = (
            LesionSet.of_components(find_components(volume.data > 0), volume) for volume in (predicted, reference)
        )
        self.matching = match_lesions(self.predicted, self.reference, protocol)
        self.pairs = self.matching.pairs


def match(predicted, reference, protocol):
    return Matched(predicted, reference, protocol)


def counts(matched):
    """Hits, misses, false positives."""
    found, right = len(matched.matching.found), len(matched.matching.right)
    return found, len(matched.reference) - found, len(matched.predicted) - right - len(matched.matching.ignored)


def test_two_predictions_on_one_lesion_are_one_hit_and_one_false_positive(phantom):
    reference = phantom(np.s_[8:10, 8, 8])
    predicted = phantom(np.s_[8, 8, 7], np.s_[8, 8, 10])

    matches = match(predicted, reference, VALDO)

    assert counts(matches) == (1, 0, 1)
    (pair,) = matches.pairs
    assert matches.predicted.centres_mm[pair.predicted - 1][2] == 7


def test_one_prediction_between_two_lesions_finds_the_nearer_one(phantom):
    reference = phantom(np.s_[5, 5, 5], np.s_[5, 5, 12])
    predicted = phantom(np.s_[5, 5, 9])

    matches = match(predicted, reference, VALDO)

    assert counts(matches) == (1, 1, 0)
    assert matches.reference.centres_mm[matches.pairs[0].reference - 1][2] == 12


def test_a_duplicate_is_not_passed_on_to_the_next_lesion(phantom):
    reference = phantom(np.s_[5, 5, 2], np.s_[5, 5, 7])
    predicted = phantom(np.s_[5, 5, 2], np.s_[5, 5, 4])  # the second is 2 mm from the first lesion, 3 mm from the other

    assert counts(match(predicted, reference, VALDO)) == (1, 1, 1)


@pytest.mark.parametrize(("slice_mm", "expected"), [(5.0, (1, 0, 0)), (5.001, (0, 1, 1))])
def test_five_millimetres_is_near_enough_and_more_is_not(phantom, slice_mm, expected):
    affine = np.diag([0.5, 0.5, slice_mm, 1.0])

    assert (
        counts(match(phantom(np.s_[5, 5, 5], affine=affine), phantom(np.s_[5, 5, 6], affine=affine), VALDO)) == expected
    )


def test_distance_is_in_millimetres_on_an_oblique_anisotropic_grid(phantom):
    angle = np.deg2rad(35)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.5, 0.5, 4.0])

    # Nine voxels in-plane are 4.5 mm, two slices are 8 mm.
    reference = phantom(np.s_[3, 3, 3], np.s_[3, 15, 10], affine=affine)
    predicted = phantom(np.s_[12, 3, 3], np.s_[3, 15, 12], affine=affine)

    matches = match(predicted, reference, VALDO)

    assert counts(matches) == (1, 1, 1)
    assert matches.pairs[0].distance_mm == pytest.approx(4.5)


def test_a_tie_goes_to_the_lower_number_and_makes_one_hit_only(phantom):
    reference = phantom(np.s_[5, 5, 5])
    predicted = phantom(np.s_[5, 5, 3], np.s_[5, 5, 7])

    matches = match(predicted, reference, VALDO)

    assert counts(matches) == (1, 0, 1)
    assert matches.pairs[0].predicted == 1


def test_empty_sides(phantom):
    one, none = phantom(np.s_[5, 5, 5]), phantom()

    assert counts(match(none, none, VALDO)) == (0, 0, 0)
    assert counts(match(none, one, VALDO)) == (0, 1, 0)
    assert counts(match(one, none, VALDO)) == (0, 0, 1)


def test_overlap_needs_more_than_two_fifths_of_the_lesion(phantom):
    reference = phantom(np.s_[2:7, 5, 5])  # five voxels

    assert counts(match(phantom(np.s_[0:4, 5, 5]), reference, OVERLAP40)) == (0, 1, 1)  # two of five
    assert counts(match(phantom(np.s_[0:5, 5, 5]), reference, OVERLAP40)) == (1, 0, 0)  # three of five


def test_one_prediction_may_cover_two_lesions(phantom):
    reference = phantom(np.s_[2:4, 5, 5], np.s_[6:8, 5, 5])
    predicted = phantom(np.s_[2:8, 5, 5])

    matches = match(predicted, reference, OVERLAP40)

    assert counts(matches) == (2, 0, 0)
    assert len(matches.matching.right) == 1
    assert counts(match(predicted, reference, VALDO)) == (1, 1, 0)


def test_two_predictions_that_each_cover_enough_of_one_lesion_are_both_right(phantom):
    reference = phantom(np.s_[0:11, 5, 5])
    predicted = phantom(np.s_[0:5, 5, 5], np.s_[6:11, 5, 5])  # five of eleven each

    matches = match(predicted, reference, OVERLAP40)

    assert counts(matches) == (1, 0, 0)
    assert len(matches.matching.right) == 2


def test_share_and_dice_of_a_pair(phantom):
    matches = match(phantom(np.s_[2:8, 5, 5]), phantom(np.s_[2:6, 5, 5]), VALDO)

    (pair,) = matches.pairs
    assert (pair.overlap, pair.dice, pair.distance_mm) == (1.0, pytest.approx(0.8), pytest.approx(1.0))


def brute_force_valdo(predicted, reference, spacing_mm):
    """Loops over every component, as the challenge's code does."""
    structure = np.ones((3, 3, 3))
    places = []
    for mask in (predicted, reference):
        labels, n = ndimage.label(mask, structure)
        places.append([np.array(ndimage.center_of_mass(labels == m + 1)) * spacing_mm for m in range(n)])
    claims = {}
    for place in places[0]:
        distances = [np.linalg.norm(place - other) for other in places[1]]
        if distances and min(distances) <= 5.0:
            claims.setdefault(int(np.argmin(distances)), []).append(min(distances))
    return len(claims), len(places[1]) - len(claims), len(places[0]) - len(claims)


def brute_force_overlap40(predicted, reference):
    structure = np.ones((3, 3, 3))
    (found, n_found), (true, n_true) = ndimage.label(predicted, structure), ndimage.label(reference, structure)
    enough = np.zeros((n_found, n_true), dtype=bool)
    for p in range(n_found):
        for r in range(n_true):
            lesion = true == r + 1
            enough[p, r] = np.count_nonzero((found == p + 1) & lesion) / np.count_nonzero(lesion) > 0.4
    hits = int(enough.any(axis=0).sum())
    return hits, n_true - hits, n_found - int(enough.any(axis=1).sum())


@pytest.mark.parametrize("seed", range(8))
def test_random_volumes_match_as_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    spacing_mm = np.array([0.83, 0.91, 2.17])
    smooth = ndimage.gaussian_filter(rng.standard_normal((2, 24, 24, 12)), (0, 0.8, 0.8, 0.5))
    reference = smooth[0] > 1.9 * smooth[0].std()
    predicted = (smooth[0] + 0.5 * smooth[1]) > 1.9 * smooth[0].std()
    affine = np.diag([*spacing_mm, 1.0])
    volumes = Volume(predicted.astype(np.uint8), affine), Volume(reference.astype(np.uint8), affine)

    valdo, overlap = match(*volumes, VALDO), match(*volumes, OVERLAP40)

    assert min(counts(valdo)) > 0
    assert counts(valdo) == brute_force_valdo(predicted, reference, spacing_mm)
    assert counts(overlap) == brute_force_overlap40(predicted, reference)
