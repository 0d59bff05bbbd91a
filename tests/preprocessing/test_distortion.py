from importlib.metadata import EntryPoint

import numpy as np
import pytest

from cmb_autoseg.errors import GeometryError, InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing import distortion
from cmb_autoseg.preprocessing.distortion import DISTORTION_GROUP, correct_distortion
from cmb_autoseg.records import Case, ImageSource, Role

CASE = Case(name="sub-001", cohort="C", subject="001", images={Role.SWI: ImageSource(path="/data/swi.nii.gz")})


def scans():
    data = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    return {Role.SWI: Volume(data, np.eye(4), name="swi"), Role.T1: Volume(data + 1, np.eye(4), name="t1")}


def doubled(volumes, case):
    return {role: volume.with_data(volume.data * 2) for role, volume in volumes.items()}


def without_t1(volumes, case):
    return {Role.SWI: volumes[Role.SWI]}


def shifted(volumes, case):
    return {role: Volume(volume.data, volume.affine + 0.5) for role, volume in volumes.items()}


def with_nan(volumes, case):
    return {role: volume.with_data(np.full(volume.shape, np.nan)) for role, volume in volumes.items()}


def failing(volumes, case):
    raise RuntimeError(f"no field map of {case.name}")


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    names = ["doubled", "without_t1", "shifted", "with_nan", "failing", "CASE", "not_there"]
    points = [EntryPoint(name, f"{__name__}:{name}", DISTORTION_GROUP) for name in names]
    monkeypatch.setattr(distortion, "entry_points", lambda group: [p for p in points if p.group == group])
    monkeypatch.setattr(EntryPoint, "load", lambda point: globals()[point.name])


def test_the_named_correction_is_applied():
    corrected = correct_distortion("doubled", scans(), CASE)
    assert np.array_equal(corrected[Role.T1].data, scans()[Role.T1].data * 2)
    assert corrected[Role.SWI].data.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("unheard_of", InputError, "no installed package offers 'unheard_of'; installed: CASE, doubled, failing,"),
        ("os:system", InputError, "no installed package offers 'os:system'"),
        ("without_t1", InputError, "sub-001: prep.distortion without_t1 gave back swi, expected the sequences swi, t1"),
        ("shifted", GeometryError, "sub-001: prep.distortion shifted: swi: affine is .* mm off swi"),
        ("with_nan", InputError, "with_nan: swi has values that are not finite"),
        ("failing", InputError, "sub-001: prep.distortion failing failed: RuntimeError: no field map of sub-001"),
        ("CASE", InputError, "CASE .* is no function"),
        ("not_there", InputError, "not_there .* cannot be imported"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(name, error, message):
    with pytest.raises(error, match=message) as caught:
        correct_distortion(name, scans(), CASE)
    assert "\n" not in str(caught.value)
