"""Corrections of several tests, by hand."""

import pytest

from cmb_autoseg.evaluation.statistics.multiple import benjamini_hochberg, holm


def test_holm_by_hand():
    """Holm 1979: the smallest times 3, the next times 2, never falling, never over 1; a gap does not count."""
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([None]) == [None]


def test_benjamini_hochberg_by_hand():
    """The greatest of 4 as it is, the next times 4 / 3, and so on, never rising towards the smallest."""
    assert benjamini_hochberg([0.01, 0.04, None, 0.03, 0.005]) == [
        pytest.approx(0.02),
        pytest.approx(0.04),
        None,
        pytest.approx(0.04),
        pytest.approx(0.02),
    ]
