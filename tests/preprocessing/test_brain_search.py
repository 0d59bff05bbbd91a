"""The order in which ways to find the brain are tried, and what is said of each."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.errors import GeometryError, InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing import brain_search
from cmb_autoseg.preprocessing.brain_search import search_brain
from cmb_autoseg.records import BrainMaskSource, Case, ImageSource, PrepSettings, Role

SHAPE = (48, 56, 40)
GRID = np.diag([4.0, 4.0, 4.0, 1.0])


def ball(radius: float) -> np.ndarray:
    steps = [(np.arange(n) - (n - 1) / 2) for n in SHAPE]
    return sum(step**2 for step in np.meshgrid(*steps, indexing="ij")) < radius**2


def head(seed: int = 0) -> Volume:
    """Brain, dark skull and scalp in noisy air."""
    rng = np.random.default_rng(seed)
    data = rng.uniform(0, 4, SHAPE)
    data[ball(19)] = 80
    data[ball(17)] = 10
    data[ball(15)] = 100
    return Volume((data + rng.uniform(0, 5, SHAPE)).astype(np.float32), GRID, None, f"head {seed}")


def stripped() -> Volume:
    return Volume(np.where(ball(15), head().data, 0).astype(np.float32), GRID)


def case_of(images: dict[Role, Volume], mask: BrainMaskSource | None = None, **prep) -> Case:
    return Case(
        name="sub-01", cohort="c", subject="s", prep=PrepSettings(**prep), brain_mask=mask,
        images={role: ImageSource(path=f"{role}.nii") for role in images},
    )  # fmt: skip


@pytest.fixture
def network(monkeypatch):
    """A network that finds a ball of 15 voxels, and lists what it was shown."""
    shown = []

    class Network:
        size = 15

        def mask(self, volume: Volume) -> np.ndarray:
            shown.append(volume.name)
            return ball(self.size)

    monkeypatch.setattr(brain_search, "_network", lambda settings: Network)
    monkeypatch.setattr(Network, "mask", classmethod(Network.mask))
    return Network, shown


WEIGHTS = {"folder": "/weights", "sha256": "sha256:0123456789abcdef"}


def test_a_given_mask_comes_first(tmp_path: Path):
    nib.save(nib.Nifti1Image(ball(10).astype(np.uint8)[::-1], GRID @ _flipped()), tmp_path / "mask.nii.gz")
    images = {Role.SWI: stripped(), Role.T1: head()}
    mask = BrainMaskSource(source=ImageSource(path=str(tmp_path / "mask.nii.gz")), grid=Role.T1)

    found = search_brain(case_of(images, mask), images)

    np.testing.assert_array_equal(found.mask.data > 0, ball(10))
    assert (found.role, found.decision, found.warnings) == (Role.T1, "the mask that came with t1", ())


def _flipped() -> np.ndarray:
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = SHAPE[0] - 1
    return flip


def test_a_given_mask_that_is_missing_empty_or_elsewhere_is_refused(tmp_path: Path):
    images = {Role.SWI: head()}
    with pytest.raises(InputError, match=r"sub-01: prep\.brain is given, but the case has no mask"):
        search_brain(case_of(images, brain="given"), images)
    mask = BrainMaskSource(source=ImageSource(path=str(tmp_path / "mask.nii")))
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), GRID), tmp_path / "mask.nii")
    with pytest.raises(InputError, match=r"mask.nii: the brain mask is empty"):
        search_brain(case_of(images, mask), images)
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), GRID), tmp_path / "mask.nii")
    with pytest.raises(GeometryError, match=r"mask.nii: shape .* brain_mask.grid"):
        search_brain(case_of(images, mask), images)


def test_a_stripped_scan_needs_no_network(network):
    images = {Role.SWI: stripped()}
    found = search_brain(case_of(images, hd_bet=WEIGHTS), images)
    assert found.decision == "swi is skull-stripped: its own background"
    assert network[1] == []


def test_the_network_looks_at_t1_where_there_is_one(network):
    images = {Role.SWI: head(), Role.T1: head(1)}
    found = search_brain(case_of(images, hd_bet=WEIGHTS), images)
    assert network[1] == ["head 1"]
    assert (found.role, found.warnings) == (Role.T1, ())
    assert found.decision == "HD-BET's network (weights 0123456789ab) on t1"


def test_the_network_on_what_it_was_not_trained_on_is_warned_of(network):
    images = {Role.SWI: head()}
    found = search_brain(case_of(images, hd_bet=WEIGHTS), images)
    assert found.warnings == ("brain mask: HD-BET was not trained on swi; look at the mask",)


def test_a_network_that_finds_no_brain_gives_way_to_thresholds(network):
    network[0].size = 2
    images = {Role.SWI: head()}
    found = search_brain(case_of(images, hd_bet=WEIGHTS), images)
    assert found.decision.startswith("classical mask of swi")
    assert "network found 2 cm3 in swi, which is no brain" in found.warnings[0]


def test_without_weights_the_warning_says_how_to_name_them():
    images = {Role.SWI: head()}
    found = search_brain(case_of(images), images)
    assert "classical mask used" in found.warnings[0]
    assert "--brain-weights DIR or prep.hd_bet.folder" in found.warnings[0]
    assert search_brain(case_of(images, brain="classical"), images).warnings == ()


def test_susceptibility_maps_alone_keep_the_whole_volume():
    images = {Role.QSM: Volume(head().data - 40, GRID)}
    found = search_brain(case_of(images), images)
    assert found.mask.data.all()
    assert "none found in qsm; the whole volume is used" in found.warnings[0]


def test_where_whole_heads_are_expected_the_classical_mask_is_not_warned_of(network):
    images = {Role.SWI: head()}
    assert search_brain(case_of(images, skull="on"), images).warnings == ()
    assert not search_brain(case_of(images), images).alone
    assert search_brain(case_of({Role.SWI: stripped()}), {Role.SWI: stripped()}).alone
    assert search_brain(case_of(images, hd_bet=WEIGHTS), images).alone


def test_a_volume_in_which_no_head_is_found_is_warned_of_even_so():
    noise = np.random.default_rng(0).uniform(90, 110, SHAPE)
    flat = Volume(noise.astype(np.float32), GRID)
    (told,) = search_brain(case_of({Role.SWI: flat}, skull="on"), {Role.SWI: flat}).warnings
    assert "classical mask used (whole volume)" in told
