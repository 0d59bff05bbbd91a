"""Do 95 % intervals hold the true value in about 95 % of simulated studies, and does grouping by subject matter?"""

import numpy as np
import pytest

from cmb_autoseg.evaluation.metrics.figure import mean_of_defined, share
from cmb_autoseg.evaluation.statistics.intervals import Resampling, figures

N_PEOPLE = 60
TRUE = {"sensitivity": 0.75, "fp_per_scan": 1.0}


def study(rng, n_scans):
    """People with microbleeds and false positives of their own, over-dispersed; every scan of one is like the other."""
    person = np.repeat(np.arange(N_PEOPLE), n_scans)
    n_lesions = (1 + rng.negative_binomial(1, 0.25, N_PEOPLE))[person]
    hits = rng.binomial(n_lesions, rng.beta(1.5, 0.5, N_PEOPLE)[person])
    false = rng.poisson(rng.gamma(1, 1, N_PEOPLE)[person])
    statistics = {
        "sensitivity": share(hits, n_lesions, "no lesion"),
        "fp_per_scan": mean_of_defined(false, "no scan"),
    }
    return statistics, person


def shares_covered(n_studies, n_scans, grouped):
    covered = {(name, method): 0 for name in TRUE for method in ("ci", "ci_percentile")}
    for number in range(n_studies):
        statistics, person = study(np.random.default_rng([1, number]), n_scans)
        subjects = [str(index) for index in (person if grouped else range(len(person)))]
        found = figures(statistics, subjects, Resampling(400, seed=number))
        for name, method in covered:
            low, high = getattr(found[name], method)
            covered[name, method] += low <= TRUE[name] <= high
    return {key: count / n_studies for key, count in covered.items()}


@pytest.fixture(scope="module")
def of_repeated_scans():
    return {grouped: shares_covered(120, 5, grouped) for grouped in (True, False)}


def test_intervals_cover():
    """300 studies of 60 people: the standard error of a share is 1.3 %."""
    for key, covered in shares_covered(300, 1, True).items():
        assert covered == pytest.approx(0.94, abs=0.04), key


def test_intervals_of_repeated_scans_cover_where_people_are_drawn(of_repeated_scans):
    for key, covered in of_repeated_scans[True].items():
        assert covered == pytest.approx(0.94, abs=0.06), key


def test_intervals_of_repeated_scans_are_too_narrow_where_scans_are_drawn(of_repeated_scans):
    for key, covered in of_repeated_scans[False].items():
        assert covered < 0.85, key
