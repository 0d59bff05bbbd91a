"""At which threshold a subject is judged in the matrix of sequences, by hand."""

import numpy as np

from cmb_autoseg.comparison.cells import Cell
from cmb_autoseg.comparison.judging import Group, Judge, just
from cmb_autoseg.inference.operating_points import SWEEP_THRESHOLDS
from cmb_autoseg.records import Role

LOW = 5


def test_a_subject_without_the_trained_sequence_is_judged_where_the_others_are(make_view):
    """Trained on swi, which `c` lacks; all lesions are found at one low threshold alone, nothing at 0.5."""
    cell = Cell(recipe="plain", seed=0, budget=1, fold=0, trained_on=Role.SWI)
    hits = np.zeros(len(SWEEP_THRESHOLDS), np.int64)
    hits[LOW] = 2
    views = [make_view(name, hits, 0, 2, sequences="swi", view=view) for name in "ab" for view in ("swi", "qsm")]
    views.append(make_view("c", hits, 0, 2, sequences="swi", view="qsm"))
    judge = Judge([cell], {}, lambda name: views, 0, 10)
    (measured,) = judge.measured(Group("plain", 1.0, Role.SWI), just("qsm"))
    assert measured.cases == ("a", "b", "c")
    assert measured.counts["hits"].tolist() == [2, 2, 2]
    assert measured.value("f1") == 1
