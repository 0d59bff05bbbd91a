"""Shipped cards read simulated cohorts, whose layouts are those of the real ones."""

import pytest

from cmb_autoseg.cli import cohort
from cmb_autoseg.cli.simulate import main as simulate
from cmb_autoseg.dataset_conversion import read_card
from cmb_autoseg.records import Role

SWI, GRE, PHASE, QSM, T1 = Role.SWI, Role.GRE_MAG, Role.GRE_PHASE, Role.QSM, Role.T1
FOUND = {
    "valdo": ("valdo", {GRE, T1}, {"mask"}),
    "bids": ("bids", {SWI, GRE, QSM, T1}, {"mask"}),
    "ukb": ("uk_biobank", {SWI, GRE, PHASE, T1}, {"mask"}),
    "dicom": ("dicom", {SWI, GRE, PHASE, T1}, {None}),
    "dou": ("dou2016", {SWI}, {"points"}),
    "csiro": ("momeni_csiro", {SWI}, {"points", "reviewed"}),
    "boxes2d": ("slices_boxes", {SWI}, {"boxes"}),
}
"""Layout to shipped card, sequences and kinds of labels."""


@pytest.mark.parametrize("layout", FOUND)
def test_shipped_card_reads_the_simulated_layout(layout, made_up, tmp_path, capsys):
    card, roles, labels = FOUND[layout]
    out = tmp_path / layout
    people = 1 if layout == "dicom" else 3  # thousands of files otherwise
    options = ["-n", str(people), "--n-test", "0", "--lesion-free-share", "0.34", "--protocol", "flat"]
    assert simulate(["-o", str(out), *options, "--layout", layout]) == 0
    found = read_card(f"{card}={out}")
    assert len(found.cases) == people
    assert {frozenset(case.images) for case in found.cases} == {frozenset(roles)}
    assert {case.label.kind if case.label else None for case in found.cases} == labels
    capsys.readouterr()
    assert cohort.main(["check", f"{card}={out}", "--count-lesions"]) == 0
    own = capsys.readouterr().out.partition("  lesions: ")[2].splitlines()[1:]
    if labels != {None}:
        # Two of three people have the two microbleeds of the made-up scan that a reader can see.
        assert sorted(int(line.rpartition(": ")[2]) for line in own) == [0, 2, 2]
