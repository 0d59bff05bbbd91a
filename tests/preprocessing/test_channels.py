import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.preprocessing import prepare_case
from cmb_autoseg.preprocessing.derived import fast_radial_symmetry, local_phase, qsm_sign
from cmb_autoseg.records import Case, ImageSource, PrepSettings, Role

SHAPE, SPACING_MM = (48, 52, 24), (1.0, 1.0, 2.0)
DERIVED = (Role.FRST, Role.LOCAL_PHASE, Role.QSM_SIGN)
AFFINE = np.diag([*SPACING_MM, 1.0])
PLACES = np.stack(np.indices(SHAPE)) * np.reshape(SPACING_MM, (3, 1, 1, 1))
BRAIN = (
    np.linalg.norm((PLACES - np.reshape((24, 26, 24), (3, 1, 1, 1))) / np.reshape((21, 23, 20), (3, 1, 1, 1)), axis=0)
    < 1
)


def sphere(centre_mm, radius_mm):
    return np.linalg.norm(PLACES - np.reshape(centre_mm, (3, 1, 1, 1)), axis=0) <= radius_mm


def field(centre_mm, radius_mm, chi_ppm):
    apart = PLACES - np.reshape(centre_mm, (3, 1, 1, 1))
    r = np.maximum(np.linalg.norm(apart, axis=0), 1e-6)
    return np.where(r > radius_mm, chi_ppm / 3 * (radius_mm / r) ** 3 * (3 * (apart[2] / r) ** 2 - 1), 0)


VEINS = [tuple(place) for place in np.random.default_rng(3).uniform((12, 14, 14), (36, 38, 34), (40, 3))]
BLEED = (20.0, 30.0, 24.0)


@pytest.fixture
def scans():
    """SWI, phase as Siemens stores it and QSM (ppb) of one head, stripped."""
    rng = np.random.default_rng(0)
    swi = np.where(sphere(BLEED, 2.0), 20, 100) + rng.normal(0, 2, SHAPE)
    turns = 8.0 * (field(BLEED, 2.0, 0.6) + sum(field(vein, 1.2, 0.4) for vein in VEINS))
    wrapped = np.angle(np.exp(1j * (turns + 0.4 * PLACES[0] + rng.normal(0, 0.02, SHAPE))))
    air = rng.uniform(-np.pi, np.pi, SHAPE)
    phase = np.rint(np.where(BRAIN, wrapped, air) * 2048 / np.pi) * 2
    qsm = 1000 * np.where(sphere(BLEED, 2.0), 0.6, rng.normal(0, 0.02, SHAPE))
    return {Role.SWI: swi * BRAIN, Role.GRE_PHASE: phase, Role.QSM: qsm * BRAIN}


def prepare(folder, scans, derived=DERIVED):
    for role, data in scans.items():
        write_volume(folder / f"{role.value}.nii.gz", Volume(data.astype(np.float32), AFFINE), np.float32)
    images = {role: ImageSource(path=str(folder / f"{role.value}.nii.gz")) for role in scans}
    prep = PrepSettings(derived=derived, frst_radii_mm=(1.5, 2.5))
    return prepare_case(Case(name="sub-1", cohort="a", subject="1", images=images, prep=prep))


def decisions(prepared):
    return {step.step.removeprefix("channel "): step.decision for step in prepared.steps if "channel" in step.step}


def test_channels_are_made_of_their_sequences_and_the_record_says_how(tmp_path, scans):
    prepared = prepare(tmp_path, scans)

    inside = prepared.brain.data > 0
    volumes = {role: Volume(data.astype(np.float32), AFFINE) for role, data in scans.items()}
    expected = {
        Role.FRST: fast_radial_symmetry(volumes[Role.SWI], (1.5, 2.5), inside),
        Role.LOCAL_PHASE: local_phase(volumes[Role.GRE_PHASE], inside),
        Role.QSM_SIGN: qsm_sign(volumes[Role.QSM], inside),
    }
    for role, data in expected.items():
        np.testing.assert_allclose(prepared.volumes[role].data, data, atol=2e-5 * np.abs(data).max(), err_msg=role)
    assert decisions(prepared) == {
        "frst": "made of swi",
        "local_phase": "made of gre_phase: phase in steps of pi/4096 (Siemens); by the brain's sources it grows with "
        "the field",
        "qsm_sign": "made of qsm",
    }


def test_phase_of_the_other_sign_is_turned_round(tmp_path, scans):
    first = prepare(tmp_path, scans)
    second = prepare(tmp_path, {**scans, Role.GRE_PHASE: -scans[Role.GRE_PHASE]})
    one, other = (prepared.volumes[Role.LOCAL_PHASE].data for prepared in (first, second))
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert "it falls with the field and was turned round" in decisions(second)["local_phase"]


def test_a_channel_without_its_sequence_is_not_made_and_that_is_said(tmp_path, scans):
    prepared = prepare(tmp_path, {Role.SWI: scans[Role.SWI]})
    assert set(prepared.volumes) == {Role.SWI, Role.FRST}
    assert decisions(prepared)["local_phase"] == "not made: the case has no gre_phase"
    assert decisions(prepared)["qsm_sign"] == "not made: the case has no qsm"


def test_a_map_of_susceptibility_alone_is_searched_for_bright_dots(tmp_path, scans):
    prepared = prepare(tmp_path, {Role.QSM: scans[Role.QSM]}, (Role.FRST,))
    symmetry = prepared.volumes[Role.FRST].data
    place = np.unravel_index(symmetry.argmax(), SHAPE) * np.array(SPACING_MM)
    assert np.linalg.norm(place - BLEED) <= 1.5


def test_a_magnitude_named_phase_is_refused_for_local_phase(tmp_path, scans):
    with pytest.raises(InputError, match=r"gre_phase.nii.gz: values .* are no wrapped phase"):
        prepare(tmp_path, {**scans, Role.GRE_PHASE: scans[Role.SWI] + 5}, (Role.LOCAL_PHASE,))
