"""Brain masks that come with a cohort, on the grid of a sequence that need not be there or be wanted."""

import numpy as np
import pytest

from cmb_autoseg.cli.cohort import main
from cmb_autoseg.dataset_conversion import read_card
from cmb_autoseg.dataset_conversion.sorting.choice import Wanted
from cmb_autoseg.inference.inputs import InputSettings
from cmb_autoseg.inference.inputs.cards import cases_of_card
from cmb_autoseg.preprocessing import prepare_case
from cmb_autoseg.records import Role

from .conftest import affine_of, save, scan

CARD = """schema: 1
name: x
images:
  swi: {role: swi, path: "{sub}_swi.nii.gz"}
  t1: {role: t1, optional: true, path: "{sub}_t1.nii.gz"}
brain_mask: {path: "{sub}_brain.nii.gz", grid: t1}
prep: {coregister: header}
"""
T1 = affine_of((1.0, 1.0, 2.1))


@pytest.fixture
def people(tmp_path):
    """1 and 2 with a mask on the T1's grid; 2 without the T1 itself."""
    for number in (1, 2):
        save(tmp_path / f"{number}_swi.nii.gz", scan(number))
        save(tmp_path / f"{number}_brain.nii.gz", (scan(number) > 0).astype(np.uint8), T1)
    save(tmp_path / "1_t1.nii.gz", scan(7), T1)
    return tmp_path


@pytest.mark.parametrize("roles", [None, (Role.SWI,)])
def test_the_sequence_of_the_mask_is_there_whatever_is_wanted(roles, people, write_card):
    one, two = read_card(write_card(CARD), labels=False, wanted=Wanted(roles)).cases
    assert (set(one.images), one.brain_mask.grid) == ({Role.SWI, Role.T1}, Role.T1)
    assert prepare_case(one).brain.shape == scan(1).shape
    assert (set(two.images), two.brain_mask) == ({Role.SWI}, None)
    assert "brain mask 2_brain.nii.gz not used: it is on the grid of t1, which is not there" in two.notes[Role.SWI]
    prepare_case(two)


def test_prediction_keeps_the_mask_of_a_card(people, write_card):
    cases, failures = cases_of_card(write_card(CARD), InputSettings((Role.SWI,)))
    assert failures == []
    assert cases[0].brain_mask.source.path == str(people / "1_brain.nii.gz")
    decisions = {step.step: step.decision for step in prepare_case(cases[0], keep=(Role.SWI,)).steps}
    assert decisions["brain"] == "the mask that came with t1"


def test_a_mask_on_the_reference_grid_serves_without_its_sequence(people, write_card):
    save(people / "2_brain.nii.gz", (scan(2) > 0).astype(np.uint8))
    two = read_card(write_card(CARD)).cases[1]
    assert (two.brain_mask.grid, two.notes) == (Role.SWI, {})
    prepare_case(two)


@pytest.mark.parametrize("affine", [affine_of(), T1])
def test_a_mask_of_a_sequence_that_the_model_does_not_know_does_not_make_it_the_reference(affine, people, write_card):
    save(people / "1_gre.nii.gz", scan(3), affine)
    save(people / "1_brain.nii.gz", (scan(1) > 0).astype(np.uint8))
    card = CARD.replace("role: t1", "role: gre_mag").replace("_t1.", "_gre.").replace(", grid: t1", "")
    (case,), failures = cases_of_card(write_card(card), InputSettings((Role.GRE_MAG,)))
    assert [failure.case for failure in failures] == ["2"]
    assert case.reference_role is Role.GRE_MAG
    if affine is T1:
        assert case.brain_mask is None
        assert "not used: it is on the grid of swi, which is not there" in case.notes[Role.GRE_MAG]
    else:
        assert case.brain_mask.grid is Role.GRE_MAG
    prepare_case(case)


def test_check_reads_masks_and_compares_their_grids(people, write_card, capsys):
    card = write_card(CARD)
    save(people / "1_brain.nii.gz", np.zeros(scan(1).shape, np.uint8), T1)
    assert main(["check", card]) == 0
    capsys.readouterr()
    assert main(["check", card, "--count-lesions"]) == 2
    assert "1_brain.nii.gz: the brain mask is empty; correct it or leave it out" in capsys.readouterr().out
    save(people / "1_brain.nii.gz", np.ones(scan(1).shape, np.uint8))
    capsys.readouterr()
    assert main(["check", card]) == 2
    assert "1_brain.nii.gz: on another grid than" in capsys.readouterr().out
    unused = CARD.replace("coregister: header", "coregister: header, brain: classical")
    assert main(["check", write_card(unused), "--count-lesions"]) == 0
