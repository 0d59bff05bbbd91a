"""Matching and candidates against direct definitions, `iou` against picai_eval, on 200 random small cases each."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
N_CASES = 200
ROUNDED_TO_A_NANOMETRE = 5.1e-7
SINGLE_PRECISION = 1e-6
"""picai_eval's curve is float32."""


@pytest.fixture(scope="module")
def rows():
    pytest.importorskip("picai_eval")
    sys.path.insert(0, str(BENCHMARKS))
    try:
        compared = importlib.import_module("matching_parity")
    finally:
        sys.path.remove(str(BENCHMARKS))
    return {row.figure: row for row in compared.largest_differences(N_CASES, seed=1)}


@pytest.mark.parametrize("name", ["valdo", "overlap", "overlap40", "points", "iou"])
def test_pairs_and_ignored_are_those_of_the_definition(rows, name):
    row = rows[f"pairs, {name}"]

    assert row.largest == 0
    assert row.n_defined + row.n_undefined == N_CASES
    assert row.n_undefined > 10  # a side is empty
    assert 0 < rows[f"distance and shares of pairs, {name}"].largest < ROUNDED_TO_A_NANOMETRE


def test_candidates_are_those_of_the_definition(rows):
    row = rows["candidates of a map"]

    assert (row.largest, row.n_defined + row.n_undefined) == (0, N_CASES)
    assert row.n_undefined > 0


def test_figures_from_detection_maps_are_those_of_picai_eval(rows):
    of_picai = {name.removeprefix("iou, end to end: "): row for name, row in rows.items() if "end to end" in name}

    assert of_picai["confidences of right and false candidates"].largest == 0
    assert max(of_picai[name].largest for name in ("average precision", "AUROC of people")) < 1e-12
    assert max(row.largest for name, row in of_picai.items() if name.startswith("FROC")) < SINGLE_PRECISION
    assert all(row.n_defined > 100 and row.n_undefined > 0 for row in list(of_picai.values())[1:])
