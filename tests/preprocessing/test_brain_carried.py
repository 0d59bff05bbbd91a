import numpy as np
import pytest

from cmb_autoseg.errors import GeometryError
from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.preprocessing import alignment, prepare_case
from cmb_autoseg.records import Case, ImageSource, PrepSettings, RegistrationBounds, Role


@pytest.fixture
def make_case(tmp_path, monkeypatch):
    """SWI with its skull, and a stripped T1 of another grid that cannot be registered."""

    def refuse(*args, **kwargs):
        raise GeometryError("sub-1: t1: moved by 99 mm")

    monkeypatch.setattr(alignment, "register", refuse)
    rng = np.random.default_rng(0)
    for name, shape, mm in (("swi", (56, 56, 40), 4.0), ("t1", (44, 44, 32), 5.0)):
        places = (np.stack(np.indices(shape)) - (np.reshape(shape, (3, 1, 1, 1)) - 1) / 2) * mm
        inside = np.linalg.norm(places / np.reshape((80, 90, 65), (3, 1, 1, 1)), axis=0) < 1
        air = np.abs(rng.normal(0, 3, shape)) if name == "swi" else 0
        affine = np.diag([mm, mm, mm, 1.0])
        affine[:3, 3] = -(np.array(shape) - 1) / 2 * mm
        data = np.where(inside, rng.normal(100, 5, shape), air).astype(np.float32)
        write_volume(tmp_path / f"{name}.nii.gz", Volume(data, affine), np.float32)

    def make(on_failure):
        images = {role: ImageSource(path=str(tmp_path / f"{role.value}.nii.gz")) for role in (Role.SWI, Role.T1)}
        prep = PrepSettings(registration=RegistrationBounds(on_failure=on_failure))
        return Case(name="sub-1", cohort="a", subject="1", images=images, prep=prep)

    return make


def test_a_mask_that_cannot_be_carried_over_is_left_out_with_its_sequence_where_the_card_allows_it(make_case):
    prepared = prepare_case(make_case("leave_out"))

    assert set(prepared.volumes) == {Role.SWI}
    assert 0.15 < prepared.brain.data.mean() < 0.5
    told = " | ".join(prepared.warnings)
    assert "brain mask of t1 not used: sub-1: t1: moved by 99 mm" in told
    assert "swi is not skull-stripped; classical mask used" in told
    assert "t1 left out: sub-1: t1: moved by 99 mm" in told


def test_it_refuses_the_case_where_the_card_does_not(make_case):
    with pytest.raises(GeometryError, match="moved by 99 mm"):
        prepare_case(make_case("refuse"))
