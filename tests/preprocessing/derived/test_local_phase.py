from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing.derived.local_phase import local_phase, paramagnetic_sign, phase_scale, qsm_sign

RAD_PER_PPM = 2 * np.pi * 42.577 * 3.0 * 0.010
"""Phase of 1 ppm of the field after 10 ms at 3 T."""
CROPS = Path(__file__).parents[4] / "shared/data/real/gre_crops"


def turned_affine(spacing_mm, degrees=0.0):
    turn = np.deg2rad(degrees)
    rotation = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(spacing_mm)
    return affine


def positions_mm(shape, affine):
    """Scanner positions of shape (3, i, j, k), from the middle of the volume."""
    indices = np.stack(np.indices(shape)) - (np.reshape(shape, (3, 1, 1, 1)) - 1) / 2
    return np.tensordot(affine[:3, :3], indices, axes=1)


def dipole_ppm(places, centre_mm, radius_mm, chi_ppm):
    """Field of a sphere along z: chi/3 (a/r)^3 (3 cos^2 - 1) outside, 0 inside."""
    apart = places - np.reshape(centre_mm, (3, 1, 1, 1))
    r = np.maximum(np.linalg.norm(apart, axis=0), 1e-6)
    return np.where(r > radius_mm, chi_ppm / 3 * (radius_mm / r) ** 3 * (3 * (apart[2] / r) ** 2 - 1), 0)


def wrap(phase):
    return np.angle(np.exp(1j * phase))


def scene(chi_ppm, spacing_mm=(1.0, 1.0, 1.0), shape=(64, 64, 40), degrees=0.0, noise=0.03, seed=0):
    """Wrapped phase of one source in a round brain, a sinus below it, and air; the brain; its own field."""
    affine = turned_affine(spacing_mm, degrees)
    places = positions_mm(shape, affine)
    brain = np.linalg.norm(places / np.reshape((28, 28, 18), (3, 1, 1, 1)), axis=0) < 1
    local = dipole_ppm(places, (4, -3, 2), 2.0, chi_ppm) * RAD_PER_PPM
    outside = dipole_ppm(places, (0, 30, -24), 9.0, 9.0) * RAD_PER_PPM
    rng = np.random.default_rng(seed)
    measured = local + outside + 0.05 * places[0] + rng.normal(0, noise, shape)
    stored = np.where(brain, wrap(measured), rng.uniform(-np.pi, np.pi, shape))
    return Volume(stored.astype(np.float32), affine), brain, local, places


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.7, 0.7, 1.5)])
@pytest.mark.parametrize("degrees", [0.0, 25.0])
def test_bleed_and_calcification_of_one_size_have_opposite_local_phase(spacing_mm, degrees):
    shape = tuple(int(n / mm) for n, mm in zip((64, 64, 40), spacing_mm, strict=True))
    along, around = [], []
    for chi in (0.5, -0.5):
        phase, brain, local, places = scene(chi, spacing_mm, shape, degrees)
        found = local_phase(phase, brain, phase_sign=1)
        apart = places - np.reshape((4, -3, 2), (3, 1, 1, 1))
        r, cosine = np.linalg.norm(apart, axis=0), apart[2] / np.linalg.norm(apart, axis=0)
        shell = (r > 2.2) & (r < 4.5)
        along.append(found[shell & (np.abs(cosine) > 0.85)].mean())
        around.append(found[shell & (np.abs(cosine) < 0.3)].mean())
        near = r < 8
        assert np.corrcoef(found[near], local[near])[0, 1] > 0.8
    assert along[0] > 0.2 > -0.2 > along[1]
    assert around[0] < -0.1 < 0.1 < around[1]


def test_the_field_of_the_sinus_is_gone_and_that_of_the_bleed_is_kept():
    phase, brain, local, places = scene(0.5)
    found = local_phase(phase, brain, phase_sign=1)
    inner = ndimage.binary_erosion(brain, iterations=2)
    far = inner & (np.linalg.norm(places - np.reshape((4, -3, 2), (3, 1, 1, 1)), axis=0) > 12)
    assert np.ptp(phase.data[inner]) > 6  # it wraps
    assert np.abs(found[far]).mean() < 0.06
    near = np.linalg.norm(places - np.reshape((4, -3, 2), (3, 1, 1, 1)), axis=0) < 5
    assert (found * local)[near].sum() / (local**2)[near].sum() == pytest.approx(1, abs=0.2)
    assert not found[~brain].any()
    assert found.dtype == np.float32


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.5, 0.8, 3.0)])
def test_smooth_phase_comes_back_without_its_wraps_and_its_gaussian_mean(spacing_mm):
    shape = (40, 36, 20)
    places = positions_mm(shape, turned_affine(spacing_mm))
    waves = 6 * np.sin(places[0] / 7) * np.cos(places[1] / 9) + 4 * np.sin(places[2] / 11)
    assert max(np.abs(np.diff(waves, axis=axis)).max() for axis in range(3)) < np.pi  # no two neighbours farther apart
    whole = np.ones(shape, dtype=bool)

    found = local_phase(
        Volume(wrap(waves).astype(np.float32), turned_affine(spacing_mm)), whole, phase_sign=1, kernel_mm=4
    )

    sigma = [4 / mm for mm in spacing_mm]
    weight = ndimage.gaussian_filter(whole.astype(float), sigma, truncate=3.0)
    mean = ndimage.gaussian_filter(waves, sigma, truncate=3.0) / weight
    np.testing.assert_allclose(found, waves - mean, atol=2e-3)


@pytest.mark.parametrize("turn", [0.7, np.pi, -2.5])
def test_where_the_phase_wraps_does_not_matter(turn):
    phase, brain, _, _ = scene(0.4)
    moved = phase.with_data(wrap(phase.data + turn).astype(np.float32))
    np.testing.assert_allclose(local_phase(moved, brain), local_phase(phase, brain), atol=2e-3)


def test_noise_outside_the_brain_does_not_matter():
    (one, brain, *_), (other, *_) = scene(0.4, noise=0.0, seed=1), scene(0.4, noise=0.0, seed=2)
    assert not np.array_equal(one.data, other.data)
    first, second = (local_phase(phase, brain, phase_sign=1) for phase in (one, other))
    np.testing.assert_allclose(first, second, atol=5e-3)


def test_a_mask_with_skull_and_air_in_it_gives_what_the_brains_own_gives():
    phase, brain, _, _ = scene(0.4)
    wide = ndimage.binary_dilation(brain, iterations=6)
    exact, found = (local_phase(phase, mask, phase_sign=1) for mask in (brain, wide))
    inner = ndimage.binary_erosion(brain, iterations=3)
    np.testing.assert_allclose(found[inner], exact[inner], atol=0.1)
    assert np.count_nonzero(found[~brain]) < 0.05 * brain.sum()
    assert np.abs(found).max() < 1.5 * np.abs(exact).max()


SCALES = {
    "Siemens": (4096 / np.pi, 0.0, True, "steps of pi/4096"),
    "from 0": (2048 / np.pi, 2048.0, True, "4096 steps from 0"),
    "around 0": (2048 / np.pi, 0.0, True, "4096 steps around 0"),
    "0 to 2 pi": (1.0, np.pi, False, "0 to 2 pi"),
    "milliradians": (1000.0, 0.0, True, "milliradians"),
    "degrees": (180 / np.pi, 0.0, False, "degrees, -180 to 180"),
    "small": (0.003674 / np.pi, 0.0, False, "unknown unit: -0.003674 to 0.003674 taken for one turn"),
}


@pytest.mark.parametrize("how", SCALES)
def test_every_vendors_numbers_give_the_same_local_phase(how):
    factor, offset, rounded, name = SCALES[how]
    phase, brain, _, _ = scene(0.4)
    numbers = phase.data * factor + offset
    stored = phase.with_data((np.rint(numbers) if rounded else numbers).astype(np.float32))

    assert name in phase_scale(stored)[1]
    expected = local_phase(phase, brain, phase_sign=1)
    apart = np.abs(local_phase(stored, brain, phase_sign=1) - expected)
    assert np.mean(apart > 0.02) < 1e-3  # rounding decides over a few voxels at the edge of noise
    assert np.median(apart[brain]) < 1e-3


def test_radians_that_do_not_wrap_are_taken_as_they_are():
    _, brain, local, places = scene(0.4, noise=0)
    quiet = Volume(np.where(brain, local, 0).astype(np.float32), np.eye(4))
    scale, note = phase_scale(quiet)
    assert scale == 1
    assert note.startswith("phase in radians without wraps")
    found = local_phase(quiet, brain, phase_sign=1)
    near = np.linalg.norm(places - np.reshape((4, -3, 2), (3, 1, 1, 1)), axis=0) < 5
    assert np.corrcoef(found[near], local[near])[0, 1] > 0.95


def magnitude(shape=(40, 40, 20)):
    rng = np.random.default_rng(0)
    places = positions_mm(shape, np.eye(4))
    inside = np.linalg.norm(places / np.reshape((16, 16, 9), (3, 1, 1, 1)), axis=0) < 1
    return np.abs(np.where(inside, rng.normal(800, 60, shape), rng.normal(0, 15, shape)))


NO_PHASE = {
    "a magnitude": magnitude(),
    "a magnitude that fills 0..4095": magnitude() * 4095 / magnitude().max(),
    "a saturated magnitude": np.clip(magnitude() * 6, 0, 4095),
    "a stripped, saturated magnitude": np.where(magnitude() > 400, 4095, 0) - 5.0 * (magnitude() > 900),
    "field in Hz that does not wrap": np.linspace(-60, 90, 32000).reshape(40, 40, 20),
    "one value": np.full((40, 40, 20), 3.0),
    "values far too small for radians": np.linspace(-1e-3, 2e-3, 32000).reshape(40, 40, 20),
}


@pytest.mark.parametrize("kind", NO_PHASE)
def test_what_cannot_be_phase_is_refused_in_one_line(kind):
    volume = Volume(NO_PHASE[kind].astype(np.float32), np.eye(4), None, "sub-1_phase.nii.gz")
    with pytest.raises(InputError, match=r"sub-1_phase.nii.gz: values .* are no wrapped phase; expected") as caught:
        local_phase(volume, np.ones(volume.shape, dtype=bool))
    assert "\n" not in str(caught.value)


def test_an_echo_time_scales_to_twenty_milliseconds():
    phase, brain, _, _ = scene(0.4)
    plain = local_phase(phase, brain)
    np.testing.assert_allclose(local_phase(phase, brain, echo_time_ms=10.0), 2 * plain, rtol=1e-5)
    with pytest.raises(InputError, match=r"echo time 0 ms; expected milliseconds above 0"):
        local_phase(phase, brain, echo_time_ms=0)


@pytest.mark.parametrize("degrees", [0.0, 25.0])
def test_the_vendors_sign_is_told_by_the_veins(degrees):
    rng = np.random.default_rng(4)
    affine = turned_affine((1.0, 1.0, 1.0), degrees)
    places = positions_mm((48, 48, 32), affine)
    brain = np.linalg.norm(places / np.reshape((22, 22, 15), (3, 1, 1, 1)), axis=0) < 1
    veins = sum(dipole_ppm(places, rng.uniform(-11, 11, 3), 1.5, 0.4) for _ in range(60)) * RAD_PER_PPM
    calcified = dipole_ppm(places, (5, 5, 5), 2.5, -1.0) * RAD_PER_PPM
    phase = Volume(wrap(veins + calcified + rng.normal(0, 0.02, brain.shape)).astype(np.float32), affine)
    other = phase.with_data(-phase.data)

    as_it_is, turned = local_phase(phase, brain, phase_sign=1), local_phase(other, brain, phase_sign=1)

    assert paramagnetic_sign(phase.with_data(as_it_is), brain) == 1
    assert paramagnetic_sign(phase.with_data(turned), brain) == -1
    np.testing.assert_allclose(local_phase(other, brain), local_phase(phase, brain), atol=1e-5)
    np.testing.assert_allclose(local_phase(phase, brain, phase_sign=-1), -as_it_is, atol=1e-5)


def test_without_any_source_the_sign_stays():
    flat = Volume(np.zeros((12, 12, 12), dtype=np.float32), np.eye(4))
    assert paramagnetic_sign(flat, np.ones(flat.shape, dtype=bool)) == 1
    assert paramagnetic_sign(flat, np.zeros(flat.shape, dtype=bool)) == 1


@pytest.mark.skipif(not CROPS.is_dir(), reason=f"no real scans in {CROPS}")
@pytest.mark.parametrize("name", ["clearswi", "mriresearchtools"])
def test_echoes_of_a_real_brain_agree_in_local_phase_and_in_its_sign(name):
    image = nib.load(CROPS / f"{name}_phase.nii.gz")
    stored = np.asarray(image.dataobj, dtype=np.float32)
    echoes = [Volume(stored[..., echo], image.affine) for echo in (1, 2)]
    brain = np.ones(stored.shape[:3], dtype=bool)

    for echo in echoes:
        assert "taken for one turn" in phase_scale(echo)[1]
    early, late = (local_phase(echo, brain) for echo in echoes)

    inner = tuple(slice(5, -5) for _ in range(3))
    wrapped = np.corrcoef(echoes[0].data[inner].ravel(), echoes[1].data[inner].ravel())[0, 1]
    assert np.corrcoef(early[inner].ravel(), late[inner].ravel())[0, 1] > 0.9 > wrapped


@pytest.mark.skipif(not CROPS.is_dir(), reason=f"no real scans in {CROPS}")
def test_an_echo_too_early_to_wrap_in_an_unknown_unit_is_refused():
    image = nib.load(CROPS / "clearswi_phase.nii.gz")
    first = Volume(np.asarray(image.dataobj, dtype=np.float32)[..., 0], image.affine)
    with pytest.raises(InputError, match="are no wrapped phase"):
        phase_scale(first)


@pytest.mark.parametrize("factor", [1.0, 1000.0])
@pytest.mark.parametrize("offset", [0.0, 0.04])
def test_the_sign_of_a_qsm_tells_bleed_from_calcification_in_any_unit(factor, offset):
    rng = np.random.default_rng(0)
    chi = rng.normal(0, 0.02, (30, 30, 20)) + offset
    chi[5:8, 5:8, 5:8] = 0.6
    chi[20:23, 20:23, 10:13] = -0.4
    brain = np.ones(chi.shape, dtype=bool)
    brain[:2] = False

    sign = qsm_sign(Volume((chi * factor).astype(np.float32), np.eye(4)), brain)

    assert sign.dtype == np.float32
    assert (sign[5:8, 5:8, 5:8] == 1).all()
    assert (sign[20:23, 20:23, 10:13] == -1).all()
    assert np.abs(np.median(sign[brain])) < 0.01
    assert sign.min() >= -1
    assert sign.max() <= 1
    assert not sign[~brain].any()


def test_the_sign_of_a_map_with_little_in_it_is_finite():
    brain = np.ones((8, 8, 8), dtype=bool)
    assert not qsm_sign(Volume(np.full((8, 8, 8), 0.3, dtype=np.float32), np.eye(4)), brain).any()
    lone = np.zeros((8, 8, 8), dtype=np.float32)
    lone[4, 4, 4] = -2
    assert qsm_sign(Volume(lone, np.eye(4)), brain)[4, 4, 4] == -1
    assert not qsm_sign(Volume(lone, np.eye(4)), ~brain).any()
