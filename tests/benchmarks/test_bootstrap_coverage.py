"""What the benchmark of intervals counts, on made-up intervals and tiny studies."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).parents[2] / "benchmarks" / "bootstrap_coverage.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_coverage", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_coverage_by_hand(script):
    found = script.coverage([(0.0, 1.0), (0.6, 1.0), None, (0.1, 0.2), (0.4, 0.5)], 0.5)
    assert (found.covered, found.above, found.below, found.n_without) == (0.5, 0.25, 0.25, 1)
    assert found.width == pytest.approx(0.25)


def test_a_scan_has_what_its_person_has(script):
    rng = np.random.default_rng(1)
    surely = script.Person(n_lesions=5, detection=1.0, shift=50.0, fp_rate=0.0)
    case = script.scan(surely, "1-0", "1", rng)
    assert case.counts("valdo") == (5, 5, 0)
    never = script.Person(n_lesions=5, detection=0.0, shift=50.0, fp_rate=3.0)
    found, right, false = script.scan(never, "1-0", "1", rng).counts("valdo")
    assert (found, right) == (0, 0)
    assert false > 0
    unsure = script.Person(n_lesions=5, detection=1.0, shift=-50.0, fp_rate=3.0)
    assert script.scan(unsure, "1-0", "1", rng).counts("valdo") == (0, 0, 0)


def test_small_studies(script):
    cohort = script.Cohort(15, scans=(2, 3))
    assert 30 <= len(script.study(cohort, np.random.default_rng(2))) <= 45
    true = script.true_values(script.Cohort(1), 300, np.random.default_rng(3))
    assert set(true) == set(script.FIGURES)
    found = script.measured(cohort, true, 2, 50, 4, script.BY_PERSON | script.BY_SCAN)
    assert list(found) == ["by person", "by scan"]
    text = script.table(found, true)
    assert text.count("\n") == 1 + 2 * len(script.FIGURES)
    assert script.measured(cohort, true, 2, 50, 4)["by person"] == found["by person"]
