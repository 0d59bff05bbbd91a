from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.preprocessing import brain_search
from cmb_autoseg.preprocessing.brain_mask import classical_mask
from cmb_autoseg.preprocessing.brain_search import search_brain
from cmb_autoseg.records import BrainMaskSource, BrainNetworkSettings, Case, ImageSource, PrepSettings, Role

SPACING_MM = 4.0
SHAPE = (60, 66, 48)
WEIGHTS = BrainNetworkSettings(folder="/weights", sha256="sha256:" + "ab" * 32)


def depth_mm():
    """Distance below the surface of a centred ellipsoid, negative outside."""
    i, j, k = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * SPACING_MM for n in SHAPE], indexing="ij")
    inside = (i / 85) ** 2 + (j / 105) ** 2 + (k / 80) ** 2 < 1
    inward = ndimage.distance_transform_edt(inside, sampling=SPACING_MM)
    return np.where(inside, inward, -ndimage.distance_transform_edt(~inside, sampling=SPACING_MM))


DEPTH = depth_mm()
BRAIN = DEPTH > 13
HEAD = np.select([BRAIN, DEPTH > 6, DEPTH > 0], [100.0, 6.0, 70.0]) + np.abs(
    np.random.default_rng(0).normal(0, 4, SHAPE)
)


def volume(data, shift_mm=0.0):
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    affine[:3, 3] = shift_mm
    return Volume(np.asarray(data, dtype=np.float32), affine)


SKULL, STRIPPED = volume(HEAD), volume(HEAD * BRAIN)
QSM = volume(np.random.default_rng(1).normal(0, 0.1, SHAPE))


def case(volumes, how="auto", weights=None, given=None):
    return Case(
        name="sub-1",
        cohort="a",
        subject="1",
        images={role: ImageSource(path=f"{role}.nii.gz") for role in volumes},
        brain_mask=given,
        prep=PrepSettings(brain=how, hd_bet=weights),
    )


def search(volumes, how="auto", weights=None, given=None):
    return search_brain(case(volumes, how, weights, given), volumes)


@pytest.fixture
def network(monkeypatch):
    """A network that finds the brain, and a record of the volumes that it was shown."""
    shown = []
    told = SimpleNamespace(answer=BRAIN, shown=shown)

    def mask(scan):
        shown.append(scan)
        return told.answer

    monkeypatch.setattr(brain_search, "_network", lambda settings: SimpleNamespace(mask=mask))
    return told


def test_a_stripped_t1_beside_a_head_is_not_shown_to_the_network_either(network):
    found = search({Role.SWI: SKULL, Role.T1: STRIPPED}, weights=WEIGHTS)
    np.testing.assert_array_equal(found.mask.data > 0, BRAIN)
    assert (found.role, network.shown) == (Role.T1, [])


@pytest.mark.parametrize(
    ("roles", "chosen"),
    [
        ((Role.SWI, Role.T1, Role.FLAIR, Role.T2), Role.T1),
        ((Role.SWI, Role.T2, Role.FLAIR), Role.FLAIR),
        ((Role.SWI, Role.T2), Role.T2),
        ((Role.QSM, Role.T1), Role.T1),
    ],
)
def test_the_network_sees_what_it_was_trained_on_in_this_order(network, roles, chosen):
    volumes = {role: QSM if role is Role.QSM else volume(HEAD, shift_mm=n) for n, role in enumerate(roles)}
    found = search(volumes, weights=WEIGHTS)
    assert (found.role, found.warnings) == (chosen, ())
    assert network.shown == [volumes[chosen]]
    np.testing.assert_array_equal(found.mask.affine, volumes[chosen].affine)
    assert "HD-BET's network (weights abababababab)" in found.decision


@pytest.mark.parametrize("how", ["auto", "hd_bet"])
def test_without_weights_the_classical_mask_is_taken_and_the_reason_said(network, how):
    found = search({Role.SWI: SKULL, Role.T1: SKULL}, how)
    np.testing.assert_array_equal(found.mask.data > 0, classical_mask(SKULL))
    assert network.shown == []
    assert len(found.warnings) == 1
    assert "swi is not skull-stripped; classical mask used" in found.warnings[0]
    assert "no weights of HD-BET are named (--brain-weights DIR or prep.hd_bet.folder)" in found.warnings[0]


ABSURD = {
    "nothing": np.zeros(SHAPE, dtype=bool),
    "a speck": DEPTH > 78,
    "the whole volume": np.ones(SHAPE, dtype=bool),
    "the head and the air around it": DEPTH > -12,
}


@pytest.mark.parametrize("kind", ABSURD)
def test_an_absurd_mask_of_the_network_gives_way_to_the_classical_one(network, kind):
    network.answer = ABSURD[kind]
    found = search({Role.SWI: SKULL, Role.T1: SKULL}, weights=WEIGHTS)
    np.testing.assert_array_equal(found.mask.data > 0, classical_mask(SKULL))
    assert "HD-BET's network found" in found.warnings[0]
    assert "in t1, which is no brain" in found.warnings[0]


def test_the_whole_of_a_slab_is_no_brain_however_small_it_is(network):
    slab = volume(HEAD[:, :, 20:24])
    network.answer = np.ones(slab.shape, dtype=bool)
    assert slab.data.size * SPACING_MM**3 / 1000 < 2500
    assert "which is no brain" in search({Role.SWI: slab}, weights=WEIGHTS).warnings[0]


def test_classical_asked_for_is_no_warning(network):
    found = search({Role.SWI: SKULL}, "classical", WEIGHTS)
    assert (found.warnings, network.shown) == ((), [])
    np.testing.assert_array_equal(found.mask.data > 0, classical_mask(SKULL))


def test_a_map_without_a_magnitude_beside_it_is_used_whole_and_one_with_takes_its_mask():
    alone = search({Role.QSM: QSM})
    assert alone.mask.data.all()
    assert "none found in qsm" in alone.warnings[0]
    beside = search({Role.QSM: QSM, Role.T1: SKULL})
    assert beside.role is Role.T1
    np.testing.assert_array_equal(beside.mask.data > 0, classical_mask(SKULL))


def test_none_keeps_the_whole_volume_and_already_masked_its_support():
    assert search({Role.SWI: STRIPPED}, "none").mask.data.all()
    head = search({Role.SWI: volume(np.where(DEPTH > 0, HEAD, 0))}, "already_masked")
    np.testing.assert_array_equal(head.mask.data > 0, DEPTH > 0)
    assert head.warnings == ()


@pytest.mark.parametrize("how", ["auto", "already_masked", "classical", "none", "hd_bet"])
def test_the_mask_is_never_empty(how):
    speck = np.zeros((20, 20, 20))
    speck[10, 10, 10] = 1
    assert search({Role.SWI: volume(speck)}, how).mask.data.any()


def given_file(folder: Path, mask: Volume) -> BrainMaskSource:
    path = folder / "brain.nii.gz"
    write_volume(path, mask, np.float32)
    return BrainMaskSource(source=ImageSource(path=str(path)))


def test_a_given_mask_comes_before_everything_else_however_it_is_stored(tmp_path, network):
    lopsided = BRAIN & (np.arange(SHAPE[0]) > 25)[:, None, None]
    flipped = np.diag([-SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    flipped[0, 3] = SPACING_MM * (SHAPE[0] - 1)
    source = given_file(tmp_path, Volume(lopsided[::-1].astype(np.float32), flipped))

    found = search({Role.SWI: STRIPPED, Role.T1: SKULL}, weights=WEIGHTS, given=source)

    np.testing.assert_array_equal(found.mask.data > 0, lopsided)
    assert (found.role, found.warnings, network.shown) == (Role.SWI, (), [])
