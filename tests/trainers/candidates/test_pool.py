"""What is learned from on a hand-made case: right, false, missed and random places."""

from types import SimpleNamespace

import numpy as np
import pytest

from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.raw_dataset import RawCase
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.candidates.pool import case_places, gather
from cmb_autoseg.trainers.candidates.true_lesions import TrueLesions
from cmb_autoseg.trainers.recipe import TwoStageSettings

SETTINGS = TwoStageSettings(window_mm=12, window_pixels=16, slices=3, features=(4, 8), random_places=5)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


@pytest.fixture
def case():
    """Found lesion at (10, 10, 5), missed one at (20, 10, 5) beside it, false candidate at (10, 22, 8)."""
    rng = np.random.default_rng(1)
    image = np.zeros((32, 32, 12), dtype=np.float32)
    image[2:30, 2:30, 1:11] = rng.normal(100, 5, (28, 28, 10))
    mask = np.zeros(image.shape, dtype=np.uint8)
    mask[9:12, 9:12, 5] = 1
    mask[14:16, 10, 5] = 1
    probability = np.zeros(image.shape, dtype=np.float32)
    probability[10, 10, 5], probability[10, 22, 8] = 0.9, 0.4
    return {Role.SWI: Volume(image, AFFINE)}, Volume(probability, AFFINE), Volume(mask, AFFINE)


def test_candidates_know_whether_they_are_right_and_see_all_lesions_of_their_window(case):
    volumes, probability, mask = case
    places, missed = case_places(volumes, (Role.SWI,), probability, TrueLesions.of(mask), SETTINGS, None)
    assert missed == 1
    assert [place.is_right for place in places] == [True, False]
    assert [place.first for place in places] == pytest.approx([0.9, 0.4])
    # 12 mm about i 10 reach to 16: the missed lesion at 14 and 15 is in the window of the found one.
    assert len(places[0].boxes) == 2
    middle = (places[0].boxes[0, :2] + places[0].boxes[0, 2:]) / 2
    assert middle.tolist() == pytest.approx([7.5, 7.5])
    assert len(places[1].boxes) == 0


def test_training_adds_what_was_missed_and_random_places_of_the_brain(case):
    volumes, probability, mask = case
    rng = np.random.default_rng(0)
    fine = SETTINGS.model_copy(update={"window_pixels": 32})  # so that voxels are kept
    places, missed = case_places(volumes, (Role.SWI,), probability, TrueLesions.of(mask), fine, rng)
    assert missed == 1
    assert len(places) == 2 + 1 + 5
    assert places[2].is_right
    assert places[2].first == 0.0
    for place in places[3:]:
        assert place.kept.shape[2] % 2
        middle = place.kept[place.kept.shape[0] // 2, 0, place.kept.shape[2] // 2, place.kept.shape[3] // 2]
        assert middle != 0  # in the brain, whose voxels are never exactly 0


def test_random_places_hang_on_the_generator_alone(case):
    volumes, probability, mask = case
    twice = [
        case_places(volumes, (Role.SWI,), probability, TrueLesions.of(mask), SETTINGS, np.random.default_rng(3))[0]
        for _ in range(2)
    ]
    for one, other in zip(*twice, strict=True):
        assert (one.kept == other.kept).all()


def test_a_scan_without_lesions_gives_false_places(case):
    volumes, probability, mask = case
    empty = TrueLesions.of(mask.with_data(np.zeros_like(mask.data)))
    places, missed = case_places(volumes, (Role.SWI,), probability, empty, SETTINGS, np.random.default_rng(0))
    assert missed == 0
    assert len(places) == 2 + 5
    assert not any(place.is_right for place in places)


def test_the_candidates_of_a_case_come_from_its_own_map(case, tmp_path):
    """Three cases alike but for their maps, of which one has none: peaks of 0.9 and 0.4, then of 0.3 alone."""
    volumes, probability, mask = case
    own = np.zeros_like(probability.data)
    own[10, 10, 5] = 0.3
    cases, maps = [], {}
    for name, values in (("p1", probability.data), ("p2", None), ("p3", own)):
        cases.append(RawCase(name, "x", name, (Role.SWI,), "train", True, 3.0, tmp_path))
        write_volume(cases[-1].image(0), volumes[Role.SWI], "float32")
        write_volume(cases[-1].label, mask, "uint8")
        if values is not None:
            maps[name] = tmp_path / f"{name}_prob.nii.gz"
            write_volume(maps[name], probability.with_data(values), "float32")
    recipe = SimpleNamespace(name="again", sequences=None)
    run = SimpleNamespace(
        **{"fold": 0, "raw": SimpleNamespace(roles=(Role.SWI,)), "plan": SimpleNamespace(channels=(Role.SWI,))},
        **{"recipe": recipe, "members": (SimpleNamespace(recipe="before", maps=maps),)},
    )
    pool = gather(run, SETTINGS, cases, for_training=False)
    assert [place.first for place in pool.places] == pytest.approx([0.9, 0.4, 0.3])
    assert [place.is_right for place in pool.places] == [True, False, True]
    assert (pool.n_cases, pool.n_missed) == (2, 1 + 1)
