"""One person through the whole chain: phantom head, tiny scan, few vessels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from cmb_autoseg.errors import InputError
from cmb_autoseg.simulation.anatomy.head import build_head
from cmb_autoseg.simulation.anatomy.person import Person
from cmb_autoseg.simulation.person import scan_head, simulate_head, simulate_person
from cmb_autoseg.simulation.scan import IMAGES

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def head(phantom_template, tiny):
    from ..simulation.conftest import draw_few_vessels

    with pytest.MonkeyPatch.context() as patch:
        draw_few_vessels(patch)
        return simulate_head(phantom_template, tiny, np.random.default_rng(3), False, CPU)


@pytest.fixture(scope="module")
def scan(head, tiny):
    return scan_head(head, tiny, np.random.default_rng(0))


def test_a_scan_holds_every_image_on_one_grid(scan, tiny):
    assert tuple(scan.images) == IMAGES
    for name, image in scan.images.items():
        assert image.dtype == np.float32
        assert image.shape == (*tiny.matrix, 1) if name in ("mag", "phase") else image.shape == tiny.matrix
        assert np.isfinite(image).all()


def test_microbleeds_are_dark_on_magnitude_and_bright_on_qsm(scan):
    assert scan.mask.sum() > 10
    rest = scan.brain & (scan.mask == 0)
    inside = scan.mask > 0
    assert np.median(scan.images["mag"][..., -1][inside]) < 0.75 * np.median(scan.images["mag"][..., -1][rest])
    mapped = scan.images["qsm"] != 0  # background removal leaves the brain's rim out
    assert scan.images["qsm"][inside & mapped].mean() > scan.images["qsm"][rest & mapped].mean() + 0.05


def test_only_wanted_images_are_made_and_they_are_the_same(head, scan, tiny):
    few = scan_head(head, tiny, np.random.default_rng(0), ("minip", "mag"))

    assert tuple(few.images) == ("minip", "mag")
    for name, image in few.images.items():
        np.testing.assert_array_equal(image, scan.images[name])


def test_noise_has_the_standard_deviation_that_the_scan_tells(head, scan, tiny):
    quiet = scan_head(head, replace(tiny, snr=1e6), np.random.default_rng(0), ("mag",))
    inside = scan.brain & (scan.mask == 0)
    difference = (scan.images["mag"] - quiet.images["mag"])[..., 0][inside]
    assert difference.std() == pytest.approx(scan.noise_sd, rel=0.05)


def test_a_longer_echo_makes_lesions_look_larger(head, tiny):
    volumes = []
    for echo_time_ms in (12.0, 24.0):
        protocol = replace(tiny, echo_times_ms=(echo_time_ms,), snr=200.0)
        scan = scan_head(head, protocol, np.random.default_rng(0), ())
        volumes.append(sum(len(mark.all_voxels) for mark in scan.marks))
    assert volumes[1] > 1.3 * volumes[0] > 0


def test_a_misaligned_t1w_is_the_aligned_one_moved(head, scan, tiny):
    moved = scan_head(head, tiny, np.random.default_rng(0), ("t1w",), misalign=True)

    np.testing.assert_array_equal(scan.t1w_shift, np.eye(4))
    rotation = moved.t1w_shift[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert 0 < np.abs(moved.t1w_shift[:3, 3]).max() <= 4.0

    back = np.linalg.inv(moved.t1w_shift @ scan.affine) @ scan.affine
    aligned = scan.images["t1w"]
    carried = ndimage.affine_transform(aligned, back, order=1)
    back_to_front = ndimage.affine_transform(aligned, np.linalg.inv(back), order=1)
    inner = np.s_[8:-8, 8:-8, 4:-4]
    likeness = [
        np.corrcoef(moved.images["t1w"][inner].ravel(), image[inner].ravel())[0, 1]
        for image in (carried, aligned, back_to_front)
    ]
    assert likeness[0] > 0.95
    assert likeness[0] > likeness[1] > likeness[2]


def test_an_oblique_slab_turns_the_axes_and_not_the_head(phantom_template, tiny):
    angle = np.deg2rad(20.0)
    oblique = replace(tiny, tilt_deg=(20.0, 0.0))
    upwards = []
    for protocol in (tiny, oblique):
        head = build_head(phantom_template, Person(60, "F"), protocol, CPU, spacing_mm=2.0)
        i, j, k = (n // 2 for n in head.grid.shape)
        slopes = [
            float(step[2, 1, 1, 1])
            for step in torch.gradient(
                head.mni_mm[:, i - 1 : i + 2, j - 1 : j + 2, k - 1 : k + 2], spacing=2.0, dim=(1, 2, 3)
            )
        ]
        upwards.append(np.array(protocol.to_scanner) @ slopes)

    np.testing.assert_allclose(oblique.b0_direction, (0.0, np.sin(angle), np.cos(angle)), atol=1e-12)
    np.testing.assert_allclose(upwards[0], upwards[1], atol=0.02)


def test_the_same_seed_is_the_same_scan_and_another_is_not(phantom_template, tiny, few_vessels):
    one, again, other = (
        simulate_person(phantom_template, tiny, seed, 1, False, CPU, images=("mag",)).images["mag"]
        for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).mean() > 10


def test_a_scan_beside_the_head_is_refused(phantom_template, tiny, few_vessels):
    beside = replace(tiny, centre_mm=(0.0, 0.0, 300.0))
    with pytest.raises(InputError, match="protocol tiny: it holds no brain tissue"):
        simulate_person(phantom_template, beside, 0, 0, False, CPU)
