"""Every figure against picai_eval, scikit-learn and SciPy on 200 random studies, empty sides included."""

import pytest

EXACT = 1e-12


@pytest.fixture(scope="module")
def rows(parity):
    return {(row.figure, row.against): row for row in parity.largest_differences(n_studies=200)}


def test_every_figure_agrees_and_is_undefined_where_the_other_is(rows):
    assert {key: row.largest for key, row in rows.items() if row.largest > EXACT} == {}


def test_the_studies_try_what_may_go_wrong(rows):
    assert len(rows) >= 26
    assert all(row.n_defined >= 40 for row in rows.values())
    for figure in ("lesion.average_precision", "patient.auc", "severity.kappa_quadratic", "count.spearman"):
        assert any(row.n_undefined > 0 for key, row in rows.items() if key[0] == figure)
