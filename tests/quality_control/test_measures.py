"""Measures against phantoms counted by hand."""

import json
import time

import numpy as np
import pytest

from cmb_autoseg.geometry import Volume, to_canonical
from cmb_autoseg.quality_control.brain_measures import measure_brain
from cmb_autoseg.quality_control.fingerprints import (
    TURNS,
    decode_thumbnail,
    standardized,
    thumbnail,
    turned,
    turned_back,
    value_digest,
)
from cmb_autoseg.quality_control.label_measures import measure_label
from cmb_autoseg.quality_control.measures import measure_quality
from cmb_autoseg.quality_control.thumbnails import draw_case
from cmb_autoseg.records import Role

from .heads import make_head

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def ball(shape=(80, 80, 80), radius_mm=60.0):
    """A ball of 60 mm on voxels of 2 mm."""
    grid = (np.indices(shape).T - (np.array(shape) - 1) / 2).T * 2.0
    return np.linalg.norm(grid, axis=0) <= radius_mm


def brain_of(mask):
    return Volume(mask.astype(np.uint8), AFFINE)


def test_a_whole_ball_is_covered_and_has_its_volume():
    quality = measure_brain(brain_of(ball()))

    assert quality.coverage > 0.97
    assert quality.volume_ml == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.01)
    assert quality.extent_mm == (120, 120, 120)


@pytest.mark.parametrize(("axis", "side"), [(0, "left"), (1, "back"), (2, "bottom")])
def test_half_a_ball_is_cut_at_its_radius(axis, side):
    mask = np.take(ball(), range(40, 80), axis)

    quality = measure_brain(brain_of(mask))

    assert quality.cut_mm[side] == pytest.approx(60, abs=6)
    assert quality.coverage == pytest.approx(0.5, abs=0.04)


def test_a_mask_of_the_whole_volume_says_nothing_of_the_brain():
    assert measure_brain(brain_of(np.ones((8, 8, 8)))) is None


def test_digest_is_that_of_copies_with_other_axes_type_and_scale():
    data = np.random.default_rng(0).integers(0, 1000, (12, 14, 10)).astype(np.float32)
    volume = Volume(data, AFFINE)
    flipped = AFFINE @ np.diag([1, -1, 1, 1.0])
    flipped[1, 3] = 2.0 * 13
    copies = [
        Volume(data[:, ::-1].copy(), flipped),
        Volume(data.astype(np.int16), AFFINE),
        Volume(data * 2.5 - 7, AFFINE),
    ]

    assert {value_digest(copy) for copy in copies} == {value_digest(volume)}
    changed = data.copy()
    changed[3, 3, 3] += 100
    assert value_digest(Volume(changed, AFFINE)) != value_digest(volume)


def test_thumbnail_of_a_flipped_head_is_the_flipped_thumbnail():
    volume = to_canonical(make_head(1).volumes[Role.SWI])
    mirrored = volume.with_data(np.ascontiguousarray(volume.data[:, ::-1]))

    ours, other = (decode_thumbnail(thumbnail(v, signed=False)) for v in (volume, mirrored))

    assert standardized(ours[:, ::-1]) @ standardized(other) > 0.999


def test_turning_back_undoes_a_turn():
    picture = np.random.default_rng(1).normal(size=(16, 16, 16)).astype(np.float32)

    for turn in TURNS:
        np.testing.assert_array_equal(turned_back(turned(picture, turn).ravel(), turn), picture.ravel())


def lesion_phantom():
    """A lesion of 3 x 3 x 3 voxels, 5 noise deviations darker than its surroundings of 100 +- 10."""
    rng = np.random.default_rng(2)
    data = rng.normal(100, 10, (40, 40, 40)).astype(np.float32)
    label = np.zeros(data.shape, np.uint8)
    label[9:12, 19:22, 19:22] = 1
    data[label > 0] = 50
    return Volume(data, AFFINE), Volume(label, AFFINE)


def test_contrast_is_in_robust_deviations_of_the_surroundings():
    volume, label = lesion_phantom()

    quality = measure_label({Role.SWI: volume}, Role.SWI, np.ones(volume.shape, bool), label)

    assert len(quality.lesions) == 1
    assert quality.lesions[0].volume_mm3 == 27 * 8
    assert quality.lesions[0].diameter_mm == pytest.approx((6 * 216 / np.pi) ** (1 / 3), abs=1e-3)
    assert quality.lesions[0].contrast[Role.SWI] == pytest.approx(5, abs=1.5)
    assert quality.outside_brain == 0


def test_contrast_of_a_bright_lesion_is_negative_but_positive_on_qsm():
    volume, label = lesion_phantom()
    bright = volume.with_data(200 - volume.data)

    quality = measure_label({Role.SWI: bright, Role.QSM: bright}, Role.SWI, np.ones(volume.shape, bool), label)

    assert quality.lesions[0].contrast[Role.SWI] < -3
    assert quality.lesions[0].contrast[Role.QSM] > 3


def test_a_mirrored_label_has_its_contrast_where_it_belongs():
    volume, label = lesion_phantom()
    mirrored = label.with_data(label.data[::-1].copy())

    quality = measure_label({Role.SWI: volume}, Role.SWI, np.ones(volume.shape, bool), mirrored)

    assert quality.contrast < 2
    assert quality.contrast_elsewhere["left-right"] == pytest.approx(5, abs=1.5)
    assert quality.contrast_elsewhere["top-bottom"] < 2


def test_voxels_outside_the_brain_are_counted():
    volume, label = lesion_phantom()
    brain = np.ones(volume.shape, bool)
    brain[:10] = False

    assert measure_label({Role.SWI: volume}, Role.SWI, brain, label).outside_brain == pytest.approx(1 / 3, abs=1e-4)


def test_an_empty_label_has_no_lesions():
    volume, label = lesion_phantom()

    quality = measure_label(
        {Role.SWI: volume}, Role.SWI, np.ones(volume.shape, bool), label.with_data(label.data * np.uint8(0))
    )

    assert quality.lesions == ()
    assert quality.contrast is None


def test_noise_in_brain_and_air_is_what_was_added():
    """A ball of 1000 with Rician noise of 40: SNR 25, in the brain and in the air."""
    rng = np.random.default_rng(3)
    inside = ball((96, 96, 60), 55.0)
    noise = rng.normal(0, 40, (2, *inside.shape))
    data = np.hypot(1000.0 * inside + noise[0], noise[1]).astype(np.float32)

    found = measure_quality({Role.SWI: Volume(data, AFFINE)}, brain_of(inside)).sequences[Role.SWI]

    assert found.snr == pytest.approx(25, rel=0.1)
    assert found.snr_air == pytest.approx(25, rel=0.1)
    assert found.ghost == pytest.approx(0, abs=0.003)
    assert found.nonfinite == 0
    assert found.clipped_low < 1e-4
    assert found.empty_slices == found.repeated_slices == 0


def test_a_ghost_beside_the_head_has_its_share():
    rng = np.random.default_rng(4)
    inside = ball((96, 96, 60), 40.0)
    data = np.hypot(1000.0 * inside + rng.normal(0, 10, inside.shape), rng.normal(0, 10, inside.shape))
    data[:, :20] += 50 * inside.any(axis=1, keepdims=True)

    found = measure_quality({Role.SWI: Volume(data.astype(np.float32), AFFINE)}, brain_of(inside))

    assert found.sequences[Role.SWI].ghost > 0.008


def test_air_of_a_stripped_scan_is_not_judged():
    head = make_head(2)
    stripped = head.volumes[Role.SWI].with_data(head.volumes[Role.SWI].data * head.brain.data)

    found = measure_quality({Role.SWI: to_canonical(stripped)}, to_canonical(head.brain)).sequences[Role.SWI]

    assert found.snr_air is None
    assert found.ghost is None
    assert found.snr > 5


def test_slices_and_values_are_counted():
    head = make_head(3)
    volume = to_canonical(head.volumes[Role.SWI])
    data = volume.data.copy()
    data[:, :, 15] = 7.0
    data[:, :, 20] = data[:, :, 21]
    stored = data.copy()
    stored[0, 0, 0] = np.nan

    found = measure_quality(
        {Role.SWI: volume.with_data(data)}, to_canonical(head.brain), stored={Role.SWI: volume.with_data(stored)}
    ).sequences[Role.SWI]

    assert found.empty_slices == 1
    assert found.repeated_slices == 1
    assert found.nonfinite == pytest.approx(1 / data.size, rel=1e-4)
    assert found.slice_jump > 0.5


def test_stored_geometry_is_reported_as_stored():
    head = make_head(4, "thick")

    quality = measure_quality(
        {role: to_canonical(volume) for role, volume in head.volumes.items()},
        to_canonical(head.brain),
        stored=head.volumes,
    )

    assert quality.sequences[Role.T1].orientation == "LPS"
    assert quality.sequences[Role.T1].shape == (78, 88, 28)
    assert quality.sequences[Role.T1].spacing_mm == pytest.approx((2.7, 2.7, 6.0))


def test_edges_of_one_head_match_and_those_of_two_do_not():
    head, other = make_head(5), make_head(6)
    brain = to_canonical(head.brain)
    swi, t1, foreign = (
        to_canonical(v) for v in (head.volumes[Role.SWI], head.volumes[Role.T1], other.volumes[Role.T1])
    )

    own = measure_quality({Role.SWI: swi, Role.T1: t1}, brain).pairs[Role.T1]
    strange = measure_quality({Role.SWI: swi, Role.T1: foreign}, brain).pairs[Role.T1]

    assert own.match > 1.2 > strange.match
    assert own.information > strange.information


def test_measures_are_the_same_twice_and_come_back_from_json(tmp_path):
    head = make_head(7)
    volumes = {role: to_canonical(volume) for role, volume in head.volumes.items()}

    one, two = (measure_quality(volumes, to_canonical(head.brain), to_canonical(head.label)) for _ in range(2))
    one.write(tmp_path / "quality.json")

    assert one == two == type(one).read(tmp_path / "quality.json")


def test_a_clinical_scan_is_measured_in_a_second():
    rng = np.random.default_rng(8)
    shape = (256, 256, 64)
    grid = (np.indices(shape, dtype=np.float32).T - np.array(shape) / 2).T * np.array([0.9, 0.9, 2.0]).reshape(
        3, 1, 1, 1
    )
    inside = (np.abs(grid) / np.array([70, 85, 60]).reshape(3, 1, 1, 1) ** 1.0).max(axis=0) < 0.75
    data = (inside * 800 + rng.normal(0, 30, shape)).astype(np.float32)
    affine = np.diag([0.9, 0.9, 2.0, 1.0])
    volume, brain = Volume(np.abs(data), affine), Volume(inside.astype(np.uint8), affine)

    start = time.process_time()
    measure_quality({Role.SWI: volume}, brain)

    assert time.process_time() - start < 4  # 1 s on an idle core


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 4), (32, 32, 1), (24, 20, 6)])
@pytest.mark.parametrize("kind", ["noise", "constant", "zero", "huge"])
@pytest.mark.parametrize("masked", ["all", "none", "one voxel"])
def test_odd_volumes_are_measured_and_drawn_all_the_same(shape, kind, masked):
    data = np.random.default_rng(9).normal(100, 10, shape).astype(np.float32)
    data = {"noise": data, "constant": 0 * data + 5, "zero": 0 * data, "huge": data * 1e12}[kind].astype(np.float32)
    volumes = {Role.SWI: Volume(data, AFFINE), Role.QSM: Volume(data - 100, AFFINE)}
    brain = np.full(shape, masked == "all", np.uint8)
    brain[0, 0, 0] = masked != "none"
    label = np.zeros(shape, np.uint8)
    label[-1, -1, -1] = 1

    quality = measure_quality(volumes, brain_of(brain), Volume(label, AFFINE))

    json.dumps(quality.model_dump(mode="json"), allow_nan=False)
    assert draw_case(volumes, brain_of(brain), Volume(label, AFFINE))
