"""Real scans, outside the model's training range: predicted on their own grid, with a warning."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli import predict
from cmb_autoseg.files import read_json

REAL = Path(__file__).parents[3] / "shared" / "data" / "real"
needs_real_scans = pytest.mark.skipif(not REAL.is_dir(), reason="real scans are not beside this checkout")


def run_predict(trained, source, out, *more):
    arguments = ["-i", str(source), "-o", str(out), "-m", str(trained.model), "-f", "0", "-device", "cpu"]
    return predict.main([*arguments, "--operating-point", "0.5", *more])


@needs_real_scans
def test_a_dicom_folder_needs_its_echo_and_is_outside_the_training_range(trained, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_predict(trained, REAL / "dicom_gre", out) == 2
    assert "choose with --echo: 1 (TE" in capsys.readouterr().err
    assert not out.exists()
    assert run_predict(trained, REAL / "dicom_gre", out, "--echo", "2") == 0
    assert nib.load(out / "dicom_gre_mask.nii.gz").shape == (64, 64, 36)
    warnings = read_json(out / "dicom_gre.json")["warnings"]
    assert any("outside the model's training range: voxels of 3.00 x" in text for text in warnings)


@needs_real_scans
def test_multi_echo_crops_keep_their_grid_and_header(trained, tmp_path):
    out = tmp_path / "out"
    assert run_predict(trained, REAL / "gre_crops", out, "--echo", "2") == 0
    for name in ("clearswi_mag", "mriresearchtools_mag"):
        source = nib.load(REAL / "gre_crops" / f"{name}.nii.gz")
        for part in ("prob", "mask"):
            result = nib.load(out / f"{name}_{part}.nii.gz")
            assert result.shape == source.shape[:3]
            for form in ("qform", "sform"):
                (theirs, their_code), (ours, our_code) = (
                    getattr(image.header, f"get_{form}")(coded=True) for image in (source, result)
                )
                assert our_code == their_code
                assert (ours is None) == (theirs is None)
                if ours is not None:
                    assert np.array_equal(ours, theirs)
