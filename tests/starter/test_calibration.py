"""Logits that tell how often a find is right."""

from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

from cmb_autoseg.geometry import read_volume, to_canonical
from cmb_autoseg.starter.calibration import Calibration, calibrate, find_peaks, fit
from cmb_autoseg.starter.settings import LearningSettings


def test_the_finest_head_is_scaled_and_shifted():
    network = LearningSettings(features=(4, 8, 8, 8)).network().eval()
    image = torch.rand(1, 4, 16, 64, 64)
    with torch.no_grad():
        before = network(image)
        weights = dict(network.state_dict())
        calibrate(weights, Calibration(0.25, -3.0))
        network.load_state_dict(weights)
        after = network(image)
    logit_before, logit_after = (levels[0][:, 1] - levels[0][:, 0] for levels in (before, after))
    torch.testing.assert_close(logit_after, 0.25 * logit_before - 3.0)
    for coarse_before, coarse_after in zip(before[1:], after[1:], strict=True):
        torch.testing.assert_close(coarse_before, coarse_after)


def test_one_after_the_other_is_both():
    both = Calibration(0.5, -2.0).then(Calibration(3.0, 1.0))
    assert both.scale * 4.0 + both.shift == 3.0 * (0.5 * 4.0 - 2.0) + 1.0


def test_a_fit_finds_how_often_finds_are_right():
    rng = np.random.default_rng(0)
    logits = rng.uniform(-4, 20, 20_000)
    right = rng.random(len(logits)) < 1 / (1 + np.exp(-(0.4 * logits - 5.0)))
    found = fit(logits, right)
    assert found.scale == pytest.approx(0.4, rel=0.05)
    assert found.shift == pytest.approx(-5.0, rel=0.05)
    with pytest.raises(ValueError, match="both kinds are needed"):
        fit(logits, np.zeros(len(logits), dtype=bool))


class DarkIsSure:
    """A model to which a dark voxel is one of probability 0.9, or 0.3 where it is grey."""

    def probability(self, volumes):
        (volume,) = volumes.values()
        return volume.with_data(np.select([volume.data < 20, volume.data < 50], [0.9, 0.3], 0.001).astype(np.float32))


def test_peaks_at_microbleeds_are_right(tmp_path, monkeypatch):
    """The scan is stored upside down, so that places have to be found on the grid that the model sees."""
    monkeypatch.setattr("cmb_autoseg.starter.calibration.prepare_for", prepare_alone)
    image = np.full((24, 24, 12), 100, dtype=np.float32)
    image[5, 6, 3] = image[15, 15, 8] = 10
    image[10, 18, 4] = 30
    label = np.zeros(image.shape, dtype=np.uint8)
    label[5, 6, 3] = 1
    for name, values in (("images/p0_swi", image), ("labels/p0", label)):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir()
        nib.Nifti1Image(values, np.diag([1.0, -1.0, 1.0, 1.0])).to_filename(path)
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "p0.json").write_text("{}")
    logits, right = find_peaks(DarkIsSure(), [tmp_path])
    order = np.lexsort((right, logits))
    np.testing.assert_allclose(logits[order], np.log([0.3 / 0.7, 9, 9]), rtol=1e-5)
    assert right[order].tolist() == [False, False, True]


def prepare_alone(case, model):
    ((role, source),) = case.images.items()
    return SimpleNamespace(volumes={role: to_canonical(read_volume(Path(source.path)))})


def test_few_finds_that_are_told_apart_make_nobody_sure():
    found = fit(np.array([-1.0, 0.0, 9.0, 10.0]), np.array([False, False, True, True]))
    assert 0.5 < 1 / (1 + np.exp(-(found.scale * 10.0 + found.shift))) < 0.9


def test_finds_stay_in_their_order():
    assert fit(np.arange(40.0), np.arange(40) < 20).scale > 0
