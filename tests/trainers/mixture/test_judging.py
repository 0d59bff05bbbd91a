"""Members made by hand: pure noise, two that complete each other, and one that is calibrated otherwise."""

import numpy as np
import pytest

from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.trainers.mixture.judging import JudgedCase, draws_of_cases, judge, least_seen, member_threshold
from cmb_autoseg.trainers.mixture.mixing import Mixing, aligned
from cmb_autoseg.trainers.mixture.search import equal_weights, search_weights

SHAPE = (40, 40, 12)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def ball(place):
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    return ((grid - np.array(place)) ** 2).sum(axis=-1) <= 2


def places(rng, n):
    """So far apart that no two touch and each is nearest to itself."""
    cells = rng.permutation(16)[:n]
    return [(5 + 10 * (cell % 4), 5 + 10 * (cell // 4), int(rng.integers(3, 9))) for cell in cells]


def phantom(seed, *members):
    """Reference and one map a member, `(sees, invents)`: shares of the lesions, and number of false ones."""
    rng = np.random.default_rng(seed)
    chosen = places(rng, 12)
    lesions, free = chosen[:4], chosen[4:]
    reference = np.zeros(SHAPE, dtype=np.uint8)
    for place in lesions:
        reference[ball(place)] = 1
    maps = []
    for sees, invents in members:
        own = np.zeros(SHAPE, dtype=np.float32)
        for place in lesions:
            own[ball(place)] = rng.uniform(0.5, 0.9) if rng.random() < sees else rng.uniform(0.1, 0.4)
        for place in free[:invents]:
            own[ball(place)] = rng.uniform(0.4, 0.8)
        free = free[invents:]
        maps.append(own)
    return reference, maps


def judged(reference, maps):
    return JudgedCase.of([Volume(own, AFFINE) for own in maps], Volume(reference, AFFINE), range(len(maps)), 0.1)


def judged_once(cases, mixing):
    return judge(cases, mixing, np.ones((1, len(cases))))[0]


def mixture(weights, combine="mean"):
    return Mixing(combine, ("a", "b"), tuple(weights), (0.5, 0.5), 0.5)


def figure(cases, weights, combine="mean"):
    return judged_once(cases, mixture(weights, combine))


def search(cases, combine):
    draws = draws_of_cases([str(number) for number in range(len(cases))], (0, 0))
    return search_weights(lambda weights: judge(cases, mixture(weights, combine), draws), 2)


@pytest.mark.parametrize("combine", ["mean", "vote"])
def test_noise_gets_no_weight(combine):
    rng = np.random.default_rng(0)
    cases = []
    for seed in range(6):
        reference, (good,) = phantom(seed, (1.0, 1))
        cases.append(judged(reference, [good, rng.random(SHAPE, dtype=np.float32)]))
    found = search(cases, combine)
    assert found.chosen[1] <= (0.125 if combine == "mean" else 0.4)
    assert found.figures[found.chosen][0] > found.figures[equal_weights(2)][0]


@pytest.mark.parametrize("combine", ["mean", "vote"])
def test_two_that_complete_each_other_beat_both(combine):
    cases = [judged(*phantom(seed, (0.9, 3), (0.9, 3))) for seed in range(6)]
    found = search(cases, combine)
    alone = max(figure(cases, (1, 0)), figure(cases, (0, 1)))
    assert found.figures[found.chosen][0] > alone + 0.1
    others = [judged(*phantom(seed, (0.9, 3), (0.9, 3))) for seed in range(100, 106)]
    assert figure(others, found.chosen, combine) > max(figure(others, (1, 0)), figure(others, (0, 1))) + 0.05


def test_the_figure_by_hand():
    # Lesions found at 0.9 and 0.5, an invented one at 0.7: precision 1 at the first hit, 2/3 at the second.
    reference, own = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.float32)
    for place, value in {(5, 5, 4): 0.9, (15, 5, 4): 0.5, (25, 5, 4): 0.7}.items():
        own[ball(place)] = value
        reference[ball(place)] = value != 0.7
    reference[ball((35, 35, 8))] = 1  # missed
    assert judged_once([judged(reference, [own])], Mixing("mean", ("a",), (1.0,), (0.5,), 0.5)) == pytest.approx(
        (1 + 2 / 3) / 3
    )


def test_cases_without_lesions_count_only_by_what_is_invented():
    empty = np.zeros(SHAPE, np.uint8)
    reference, (own,) = phantom(0, (1.0, 0))
    quiet = judged(empty, [np.zeros(SHAPE, np.float32)])
    loud_map = np.zeros(SHAPE, np.float32)
    loud_map[ball((5, 5, 4))] = 0.99
    mixing = Mixing("mean", ("a",), (1.0,), (0.5,), 0.5)
    case = judged(reference, [own])
    assert judged_once([quiet], mixing) == 0
    assert judged_once([case, quiet], mixing) == 1
    assert judged_once([case, judged(empty, [loud_map])], mixing) < 1


def test_keeping_the_seen_voxels_alone_changes_no_figure():
    reference, maps = phantom(3, (0.9, 3), (0.9, 3))
    haze = np.full(SHAPE, 0.05, np.float32)
    cases = [judged(reference, maps), judged(reference, [np.maximum(own, haze) for own in maps])]
    assert len(cases[0].places) < reference.size / 20
    assert figure(cases[:1], (0.5, 0.5)) == figure(cases[1:], (0.5, 0.5))


def test_of_a_map_of_many_spots_the_surest_voxels_are_kept(monkeypatch):
    rng = np.random.default_rng(0)
    reference, (own,) = phantom(0, (1.0, 0))
    spots = np.where(rng.random(SHAPE) < 0.05, rng.uniform(0.1, 0.2, SHAPE), 0).astype(np.float32)
    mixing = Mixing("mean", ("a",), (1.0,), (0.5,), 0.5)
    before = judged(reference, [np.maximum(own, spots)])
    monkeypatch.setattr("cmb_autoseg.trainers.mixture.judging.MOST_VOXELS", 200)
    after = judged(reference, [np.maximum(own, spots)])
    assert 200 <= len(after.places) < len(before.places) / 2
    found = [sorted(case.candidates(mixing).confidence) for case in (before, after)]
    assert found[0][-4:] == found[1][-4:]
    assert judged_once([after], mixing) == 1


def test_a_member_that_is_calibrated_otherwise_is_brought_in_line(tmp_path):
    reference, (own,) = phantom(1, (1.0, 2))
    files = []
    for name, values in (("plain", own), ("low", aligned(own, 0.95, 0.5))):
        write_volume(tmp_path / f"{name}.nii.gz", Volume(values, AFFINE), "float32")
        write_volume(tmp_path / "reference.nii.gz", Volume(reference, AFFINE), "uint8")
        files.append([(tmp_path / f"{name}.nii.gz", tmp_path / "reference.nii.gz")])
    plain, low = (member_threshold(one, "digest") for one in files)
    assert low < 0.2 < plain
    assert aligned(aligned(own, 0.95, 0.5), low, 0.5) == pytest.approx(aligned(own, plain, 0.5), abs=0.2)


def test_without_a_lesion_thresholds_are_one_half(tmp_path):
    write_volume(tmp_path / "own.nii.gz", Volume(np.full(SHAPE, 0.3, np.float32), AFFINE), "float32")
    write_volume(tmp_path / "reference.nii.gz", Volume(np.zeros(SHAPE, np.uint8), AFFINE), "uint8")
    assert member_threshold([(tmp_path / "own.nii.gz", tmp_path / "reference.nii.gz")], "digest") == 0.5


def test_the_search_sees_every_candidate_that_votes_lift_into_view():
    """Lesions begin at 0.2, so that a mean of 0.06 where nobody has one becomes 0.15, over the floor of candidates."""
    own = np.zeros(SHAPE, dtype=np.float32)
    own[ball((10, 10, 5))], own[ball((25, 25, 5))] = 0.6, 0.06
    mixing = Mixing("vote", ("a", "b"), (0.5, 0.5), (0.2, 0.2), 0.2)
    maps = [Volume(own, AFFINE), Volume(own.copy(), AFFINE)]
    case = JudgedCase.of(maps, Volume(np.zeros(SHAPE, np.uint8), AFFINE), (0, 1), least_seen(mixing))
    deployed = mixing.map_of([own, own])
    assert deployed[25, 25, 5] == pytest.approx(0.15)
    assert sorted(case.candidates(mixing).confidence) == pytest.approx([0.15, float(deployed[10, 10, 5])])


def test_people_are_drawn_with_all_their_scans():
    draws = draws_of_cases(["x/1", "x/2", "x/1", "y/1"], (3, 1))
    assert draws.shape == (201, 4)
    assert (draws[0] == 1).all()
    assert np.array_equal(draws[:, 0], draws[:, 2])
    assert (draws[1:, [0, 1, 3]].sum(axis=1) == 3).all()  # three people
    assert draws[1:].std() > 0.5


def test_thresholds_are_those_of_the_maps_as_they_are_now(tmp_path):
    reference, (own,) = phantom(1, (1.0, 2))
    files = [(tmp_path / "map.nii.gz", tmp_path / "reference.nii.gz")]
    write_volume(files[0][1], Volume(reference, AFFINE), "uint8")
    found = []
    for values in (own, aligned(own, 0.95, 0.5)):
        write_volume(files[0][0], Volume(values, AFFINE), "float32")
        found.append(member_threshold(files, "digest"))
    assert found[1] < 0.2 < found[0]
