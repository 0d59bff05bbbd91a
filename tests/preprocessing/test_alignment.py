"""Which sequences are registered, by whom, and what becomes of those that cannot be; `register` itself is replaced."""

import numpy as np
import pytest

from cmb_autoseg.errors import GeometryError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing import alignment
from cmb_autoseg.preprocessing.alignment import Alignment
from cmb_autoseg.preprocessing.channels import derive_channels
from cmb_autoseg.preprocessing.registration import Registration
from cmb_autoseg.records import Case, ImageSource, PrepSettings, Role

SHAPE = (12, 12, 8)
HERE = np.diag([1.0, 1.0, 2.0, 1.0])
THERE = HERE.copy()
THERE[:3, 3] = (3.0, 0.0, 0.0)
TO_MOVING = np.eye(4)
TO_MOVING[:3, 3] = (3.0, 0.0, 0.0)


def volume(affine: np.ndarray, seed: int = 0) -> Volume:
    data = np.random.default_rng(seed).uniform(1, 100, SHAPE).astype(np.float32)
    return Volume(data, affine, None, f"scan {seed}")


def aligned(volumes: dict[Role, Volume], **prep) -> Alignment:
    case = Case(
        name="sub-01", cohort="c", subject="s", prep=PrepSettings(**prep),
        images={role: ImageSource(path=f"{role}.nii") for role in volumes},
    )  # fmt: skip
    return Alignment(case, volumes)


@pytest.fixture
def registered(monkeypatch):
    """Replace the registration by a displacement of 3 mm; lists who was registered how."""
    calls = []

    def register(fixed, moving, mask, method):
        calls.append((moving.name, mask is not None, method))
        return Registration(TO_MOVING, 0.9, 0.2, 0.8, 0.4, 3.0, 0.0, 1.0)

    monkeypatch.setattr(alignment, "register", register)
    return calls


def test_sequences_on_the_references_grid_stay_as_they_are(registered):
    volumes = {Role.SWI: volume(HERE), Role.T1: volume(HERE, 1), Role.QSM: volume(HERE, 2)}
    found = aligned(volumes)
    assert [found.image(role) is volumes[role] for role in volumes] == [True] * 3
    assert registered == []
    assert found.steps == []


def test_sequences_of_one_grid_move_together_by_the_best_contrast(registered):
    volumes = {Role.SWI: volume(HERE), Role.GRE_PHASE: volume(THERE, 1), Role.GRE_MAG: volume(THERE, 2)}
    found = aligned(volumes)
    found.brain = np.ones(SHAPE, bool)
    moved = {role: found.image(role) for role in (Role.GRE_PHASE, Role.GRE_MAG)}
    assert registered == [("scan 2", True, "affine")]
    for role, image in moved.items():
        np.testing.assert_allclose(image.data, volumes[role].data, rtol=1e-5)
        np.testing.assert_array_equal(image.affine, HERE)
    assert "registered to swi by gre_mag" in found.steps[0].decision
    assert set(found.figures) == {Role.GRE_MAG, Role.GRE_PHASE}


def test_always_registers_what_shares_the_grid_but_for_what_is_made_of_the_reference(registered):
    found = aligned(
        {Role.SWI: volume(HERE), Role.T1: volume(HERE, 1), Role.QSM: volume(HERE, 2)},
        coregister="rigid", coregister_when="always",
    )  # fmt: skip
    assert found.is_at_rest(Role.QSM)
    found.image(Role.T1)
    assert registered == [("scan 1", False, "rigid")]


def test_headers_alone_place_phase_and_whatever_the_card_says(registered):
    phase = aligned({Role.SWI: volume(HERE), Role.GRE_PHASE: volume(THERE, 1)})
    assert phase.matrix(Role.GRE_PHASE) is None
    told = aligned({Role.SWI: volume(HERE), Role.T1: volume(THERE, 1)}, coregister="header")
    np.testing.assert_allclose(told.image(Role.T1).data[3:], told.volumes[Role.T1].data[:-3], rtol=1e-6)
    assert not told.image(Role.T1).data[:3].any()
    assert registered == []


def test_a_broken_bound_is_refused_by_case_and_role(registered):
    found = aligned({Role.SWI: volume(HERE), Role.T1: volume(THERE, 1)}, registration={"max_translation_mm": 2})
    with pytest.raises(GeometryError, match=r"^sub-01: t1 does not register to swi: moved by 3\.0 mm, at most 2"):
        found.image(Role.T1)


def test_the_reference_is_the_cards_if_the_case_has_it():
    volumes = {Role.SWI: volume(HERE), Role.T1: volume(THERE, 1)}
    assert aligned(volumes, reference="t1").reference is volumes[Role.T1]
    assert aligned({Role.SWI: volumes[Role.SWI]}, reference="t1").reference is volumes[Role.SWI]


def test_masks_are_carried_from_where_they_were_found(registered):
    found = aligned({Role.SWI: volume(HERE), Role.T1: volume(THERE, 1)})
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:8, 4:8, 2:5] = 1
    np.testing.assert_array_equal(found.mask(Volume(mask, THERE), Role.T1).data, mask)


def test_a_failed_registration_is_tried_again_only_once_the_brain_is_known(registered):
    found = aligned({Role.SWI: volume(HERE), Role.T1: volume(THERE, 1)}, registration={"max_translation_mm": 2})
    for known in (False, True):
        found.brain = np.ones(SHAPE, bool) if known else None
        for _ in range(2):
            with pytest.raises(GeometryError, match=r"t1 does not register"):
                found.image(Role.T1)
    assert registered == [("scan 1", False, "affine"), ("scan 1", True, "affine")]


def test_a_channel_whose_source_is_left_out_is_not_made(registered):
    volumes = {Role.SWI: volume(HERE), Role.GRE_MAG: volume(THERE, 1), Role.GRE_PHASE: volume(THERE, 2)}
    brain = Volume(np.ones(SHAPE, np.uint8), HERE)
    for on_failure in ("leave_out", "refuse"):
        found = aligned(volumes, registration={"max_translation_mm": 2, "on_failure": on_failure})
        if on_failure == "refuse":
            with pytest.raises(GeometryError, match=r"gre_mag does not register"):
                derive_channels([Role.LOCAL_PHASE], found, brain, (1.0,))
            continue
        made, (step,) = derive_channels([Role.LOCAL_PHASE], found, brain, (1.0,))
        assert made == {}
        assert step.decision.startswith("not made: sub-01: gre_mag does not register")
