"""Which scans lie outside of what a model has seen."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.training_range import field_strength, range_warnings
from cmb_autoseg.preprocessing import PreparedCase
from cmb_autoseg.preprocessing.settings import as_trained
from cmb_autoseg.quality_control.sequence_measures import signal_to_noise
from cmb_autoseg.records import Case, ImageSource, PrepSettings, Role, TrainingRange

SEEN = TrainingRange(
    sequences=(Role.SWI, Role.GRE_MAG, Role.QSM),
    spacing_mm_min=(1.0, 0.5, 0.5),
    spacing_mm_max=(4.0, 1.0, 1.0),
    brain_volume_ml=(5.0, 10.0),
    field_strength_t=(1.5, 3.0),
    snr=(10.0, 50.0),
    sequence_sets=((Role.SWI,), (Role.GRE_MAG, Role.QSM)),
)
CHANNELS = SEEN.sequences


def prepared(tmp_path, roles=(Role.SWI,), spacing=(0.8, 0.8, 2.0), shape=(24, 24, 12), noise=0.04, meta=None):
    """A block of brain with white noise; its volume is 8.8 ml by default."""
    rng = np.random.default_rng(0)
    affine = np.diag([*spacing, 1.0])
    data = rng.normal(1.0, noise, shape).astype(np.float32)
    volumes = {role: Volume(data, affine) for role in roles}
    images = {role: ImageSource(path=str(tmp_path / f"a_{role}.nii.gz")) for role in roles}
    case = Case(name="a", cohort="C", subject="a", images=images, meta=meta or {})
    brain = Volume(np.ones(shape, np.uint8), affine)
    return PreparedCase(case, volumes, brain, None, volumes[roles[0]], ())


def test_noise_is_told_from_signal(tmp_path):
    for noise in (0.02, 0.1):
        case = prepared(tmp_path, noise=noise, shape=(60, 60, 20))
        found = signal_to_noise(case.volumes[Role.SWI], case.brain.data > 0)
        assert found == pytest.approx(1 / noise, rel=0.03)


def test_a_scan_like_those_of_training_gets_no_warning(tmp_path):
    assert range_warnings(prepared(tmp_path), SEEN, CHANNELS) == ()


@pytest.mark.parametrize(
    ("different", "words"),
    [
        (
            {"spacing": (0.8, 0.8, 6.0), "shape": (24, 24, 4)},
            "voxels of 0.80 x 0.80 x 6.00 mm (x, y, z), trained on 0.50-1.00 x 0.50-1.00 x 1.00-4.00 mm",
        ),
        ({"shape": (48, 48, 12)}, "a brain mask of 35 ml, trained on 5-10 ml"),
        ({"noise": 0.2}, "swi has a signal-to-noise ratio of 4.8, trained on 10.0-50.0"),
        ({"meta": {"field_strength_t": "7"}}, "field strength is 7 T, trained on 1.5, 3 T"),
        ({"roles": (Role.GRE_MAG,)}, "missing sequences: swi, qsm"),
    ],
)
def test_what_differs_is_told_with_the_range(tmp_path, different, words):
    (warning,) = range_warnings(prepared(tmp_path, **different), SEEN, CHANNELS)
    assert words in warning


def test_sequences_that_it_has_learned_to_do_without_are_not_missed(tmp_path):
    assert range_warnings(prepared(tmp_path, (Role.GRE_MAG, Role.QSM)), SEEN, CHANNELS) == ()
    unheard_of = SEEN.model_copy(update={"sequence_sets": ()})
    (warning,) = range_warnings(prepared(tmp_path, (Role.GRE_MAG, Role.QSM)), unheard_of, CHANNELS)
    assert "missing sequences: swi;" in warning
    (warning,) = range_warnings(prepared(tmp_path, CHANNELS), SEEN, CHANNELS)
    assert "swi, gre_mag, qsm were never seen all together" in warning
    assert range_warnings(prepared(tmp_path, CHANNELS), unheard_of, CHANNELS) == ()


@pytest.mark.parametrize(
    ("content", "tesla"),
    [
        ('{"MagneticFieldStrength": 2.89}', 2.89),
        ('{"MagneticFieldStrength": "3"}', 3.0),
        ('{"MagneticFieldStrength": "three"}', None),
        ('{"MagneticFieldStrength": -3}', None),
        ("[1]", None),
        ("{", None),
    ],
)
def test_the_field_strength_comes_from_the_file_beside_the_scan(tmp_path, content, tesla):
    case = prepared(tmp_path).case
    assert field_strength(case) is None
    (tmp_path / "a_swi.json").write_text(content)
    assert field_strength(case) == tesla


def test_2_89_tesla_are_called_3(tmp_path):
    (tmp_path / "a_swi.json").write_text(json.dumps({"MagneticFieldStrength": 2.89}))
    assert range_warnings(prepared(tmp_path), SEEN, CHANNELS) == ()


def test_a_brain_without_its_skull_is_told_of_where_whole_heads_are_expected(tmp_path):
    alone = replace(prepared(tmp_path), brain_alone=True)
    assert range_warnings(alone, SEEN, CHANNELS) == ()
    expecting = as_trained(alone.case, PrepSettings(skull="on"), CHANNELS)
    (warning,) = range_warnings(replace(alone, case=expecting), SEEN, CHANNELS)
    assert "the skull is off" in warning
    assert range_warnings(replace(alone, case=expecting, brain_alone=False), SEEN, CHANNELS) == ()
    of_qsm = expecting.model_copy(update={"images": {Role.QSM: next(iter(expecting.images.values()))}})
    assert range_warnings(replace(alone, case=of_qsm), SEEN, CHANNELS) == ()


def test_what_is_expected_of_the_skull_leaves_digests_as_they_were():
    assert "skull" not in PrepSettings().model_dump()
    assert PrepSettings.model_validate(PrepSettings(skull="on").model_dump()).skull == "on"
