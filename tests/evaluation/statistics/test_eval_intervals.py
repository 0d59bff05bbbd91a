"""Figures with intervals: by hand, against scipy, at the edges, and how long they take."""

import time

import numpy as np
import pytest
from scipy.stats import bootstrap
from statsmodels.stats.proportion import proportion_confint

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.metrics.figure import Figure, Statistic, mean_of_defined, proportion, share
from cmb_autoseg.evaluation.statistics.intervals import Resampler, Resampling, figures


def people(n):
    return [f"sub-{number:03d}" for number in range(n)]


def rank_area(scores, positive):
    """Area under the ROC curve by all pairs, as a function of weights."""
    wins = (scores[positive][:, None] > scores[~positive]) + (scores[positive][:, None] == scores[~positive]) / 2

    def of(weights):
        above = np.einsum("bi,ij,bj->b", weights[:, positive], wins, weights[:, ~positive])
        pairs = weights[:, positive].sum(axis=1) * weights[:, ~positive].sum(axis=1)
        return np.divide(above, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)

    return Statistic(of, "all cases are alike", len(scores))


def test_the_interval_of_a_ratio_is_scipys():
    rng = np.random.default_rng(1)
    n_lesions = rng.poisson(3, 40) + 1
    hits = rng.binomial(n_lesions, 0.8)
    found = figures({"sensitivity": share(hits, n_lesions, "no lesion")}, people(40), Resampling(20_000))
    for method, ours in (("BCa", found["sensitivity"].ci), ("percentile", found["sensitivity"].ci_percentile)):
        theirs = bootstrap(
            (hits, n_lesions),
            lambda above, below, axis: above.sum(axis=axis) / below.sum(axis=axis),
            paired=True,
            vectorized=True,
            n_resamples=20_000,
            method=method,
            rng=2,
        ).confidence_interval
        assert ours == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert found["sensitivity"].value == hits.sum() / n_lesions.sum()


def test_the_interval_of_an_area_under_the_curve():
    """No subject alone defines an area, yet it has an interval; it hangs on nobody."""
    rng = np.random.default_rng(3)
    positive = np.arange(40) < 15
    scores = rng.normal(positive * 1.2)
    found = figures({"auc": rank_area(scores, positive)}, people(40))["auc"]
    low, high = found.ci
    assert low < found.value < high
    assert 0.1 < high - low < 0.4


def test_no_interval_where_one_subject_decides():
    statistics = {
        "one": share([1, 0, 0], [2, 0, 0], "no lesion"),
        "two": share([1, 1, 0], [2, 1, 0], "no lesion"),
    }
    found = figures(statistics, people(3))
    assert found["one"].ci is None
    assert found["one"].ci_percentile is None
    assert found["two"].ci is not None
    # Two thirds of the draws have the one positive case, and the area varies among them.
    auc = rank_area(np.array([2.5, 0, 1, 2, 3, 4]), np.arange(6) == 0)
    assert figures({"auc": auc}, people(6))["auc"] == Figure(value=0.6)
    # Two scans of one subject are one subject.
    assert figures({"two": statistics["two"]}, ["a", "a", "b"])["two"].ci is None


def test_no_interval_where_all_draws_are_alike():
    """That every scan has one false positive does not bound their mean."""
    found = figures({"fp_per_scan": share([1, 1, 1], [1, 1, 1], "no scan")}, people(3))["fp_per_scan"]
    assert (found.value, found.ci, found.ci_percentile) == (1.0, None, None)


def test_draws_that_differ_by_rounding_alone_are_alike():
    """12 cases of 0.7, whose means differ in the last digit with the order of additions; and near 0, and large."""
    for level in (0.7, 1e-3, 1e5):
        found = figures({"dice": mean_of_defined([level] * 12, "no case")}, people(12))["dice"]
        assert (found.value, found.ci, found.ci_percentile) == (pytest.approx(level), None, None)
    barely = figures({"dice": mean_of_defined([0.7] * 11 + [0.7 + 1e-9], "no case")}, people(12))["dice"]
    assert barely.ci is not None


def test_who_bears_on_a_figure():
    """Two of four have lesions, one a scan without any; an area has no value of one alone."""
    resampler = Resampler(tuple(people(4)))
    sensitivity = share([1, 2, 0, 0], [2, 2, 0, 0], "no lesion")
    assert resampler.n_bearing(sensitivity) == 2
    assert resampler.n_bearing(sensitivity, share([0, 0, 0, 1], [0, 0, 0, 1], "no scan")) == 3
    # Whose own value is the mean bears on it, too.
    assert resampler.n_bearing(share([1, 1, 1, 1], [1, 1, 1, 1], "no scan")) == 4
    assert resampler.n_bearing(rank_area(np.array([2.0, 1, 1.5, 0]), np.arange(4) < 2)) == 4


def test_the_interval_of_a_share_of_all_or_none():
    theirs = proportion_confint(20, 20, method="wilson")
    shares = {"all": proportion([1] * 20 + [0], [1] * 20 + [0], "no"), "none": proportion([0] * 20, [1] * 20, "no")}
    every = figures({"all": shares["all"]}, people(21))["all"]
    assert every.ci == pytest.approx(theirs)
    assert every.ci_percentile is None
    assert figures({"none": shares["none"]}, people(20))["none"].ci == pytest.approx((0, 1 - theirs[0]))
    # Ten people with two scans each are ten trials, and Clopper and Pearson's interval is the cautious one.
    twice = [name for name in people(10) for _ in range(2)]
    grouped = figures({"none": shares["none"]}, twice)["none"].ci
    assert grouped == pytest.approx(proportion_confint(0, 10, method="beta"))
    assert figures({"all": shares["all"]}, people(21), Resampling(0))["all"].ci is None
    assert figures({"all": proportion([3, 0], [3, 0], "no")}, people(2))["all"].ci is None


def test_an_undefined_figure_says_why():
    found = figures({"sensitivity": share([0, 0], [0, 0], "no reference lesion")}, people(2))["sensitivity"]
    assert (found.value, found.ci, found.why) == (None, None, "no reference lesion")


def test_figures_of_no_case():
    nothing = {"sensitivity": share([], [], "no reference lesion"), "mean": mean_of_defined([], "no case")}
    found = figures(nothing, [])
    assert {name: figure.why for name, figure in found.items()} == {
        "sensitivity": "no reference lesion",
        "mean": "no case",
    }


def test_figures_without_draws():
    found = figures({"mean": mean_of_defined([1.0, np.nan, 2.0], "no case")}, people(3), Resampling(0))["mean"]
    assert (found.value, found.ci) == (1.5, None)


def test_the_same_seed_gives_the_same_figures_whatever_is_beside_them():
    values = np.random.default_rng(4).gamma(1, size=30)
    one, other = mean_of_defined(values, "no case"), mean_of_defined(values**2, "no case")
    alone = figures({"one": one}, people(30), Resampling(200, seed=5))["one"]
    beside = figures({"other": other, "one": one}, people(30), Resampling(200, seed=5))["one"]
    assert alone == beside
    assert alone != figures({"one": one}, people(30), Resampling(200, seed=6))["one"]


def test_draws_come_in_blocks_and_are_the_same(monkeypatch):
    values = np.random.default_rng(7).gamma(1, size=30)
    seen = []

    def of(weights):
        seen.append(weights.shape)
        return weights @ values / 30

    whole = figures({"mean": Statistic(of, "no case", 30)}, people(30), Resampling(500))
    monkeypatch.setattr("cmb_autoseg.evaluation.statistics.intervals.CELLS_IN_BLOCK", 30 * 64)
    seen.clear()
    assert figures({"mean": Statistic(of, "no case", 30)}, people(30), Resampling(500)) == whole
    assert max(shape[0] for shape in seen) == 64
    assert sum(shape[0] for shape in seen) == 1 + 30 + 500


def test_scans_of_one_subject_make_a_wider_interval():
    """Each of 30 values four times: as the same people's scans the interval is about twice as wide."""
    values = np.repeat(np.random.default_rng(8).gamma(1, size=30), 4)
    mean = {"mean": mean_of_defined(values, "no case")}
    apart = figures(mean, people(120))["mean"].ci
    together = figures(mean, np.repeat(people(30), 4).tolist())["mean"].ci
    assert together[1] - together[0] == pytest.approx(2 * (apart[1] - apart[0]), rel=0.2)


def test_subjects_taken_alone():
    resampler = Resampler(("a", "b", "a", "c"))
    own = resampler.of_subjects({"sensitivity": share([1, 1, 2, 0], [2, 1, 2, 0], "no lesion")})
    assert own["sensitivity"] == pytest.approx([0.75, 1.0, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"n_resamples": -1}, "ask for 0"), ({"level": 95}, "95 is no level of confidence"), ({"level": 0}, "0.95")],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(InputError, match=message):
        Resampling(**wrong)


def test_a_report_of_150_figures_takes_seconds():
    rng = np.random.default_rng(9)
    statistics = {f"f{n}": mean_of_defined(rng.gamma(1, size=200), "no case") for n in range(150)}
    started = time.process_time()
    figures(statistics, people(200))
    assert time.process_time() - started < 10


def test_shares_of_people_have_wilsons_interval_and_those_of_lesions_bca():
    of_people = proportion([1, 1, 1, 1, 0], [1, 1, 1, 1, 1], "no one")
    of_lesions = proportion([1, 2, 0, 3, 0], [2, 2, 1, 3, 1], "no lesion")

    found = figures({"people": of_people, "lesions": of_lesions}, list("abcde"))

    wilson = proportion_confint(4, 5, method="wilson")
    assert found["people"].ci == pytest.approx(wilson)
    assert found["people"].ci_percentile is not None
    assert found["lesions"].ci != pytest.approx(proportion_confint(round(6 / 9 * 5), 5, method="wilson"), abs=1e-6)
    # Two scans of each person are no trials of their own.
    assert figures({"people": of_people}, list("aabbc"))["people"].ci != pytest.approx(wilson)
