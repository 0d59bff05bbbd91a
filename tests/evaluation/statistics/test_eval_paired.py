"""Paired differences: by hand, against scipy, and in tables of several systems."""

import numpy as np
import pytest
from scipy.stats import bootstrap, wilcoxon

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.metrics.figure import mean_of_defined, share
from cmb_autoseg.evaluation.statistics.intervals import Resampling
from cmb_autoseg.evaluation.statistics.multiple import benjamini_hochberg, holm
from cmb_autoseg.evaluation.statistics.paired import System, compare, comparison_rows, wilcoxon_p

SUBJECTS = [f"sub-{number:02d}" for number in range(40)]


def two_systems():
    """Values of subjects who differ much, by two systems that differ a little."""
    rng = np.random.default_rng(1)
    easy = rng.gamma(2, size=40)
    return easy + 0.3 + rng.normal(0, 0.3, 40), easy + rng.normal(0, 0.3, 40)


def test_the_difference_is_scipys_and_pairing_matters():
    first, second = two_systems()
    found = compare(mean_of_defined(first, "no case"), mean_of_defined(second, "no case"), SUBJECTS, Resampling(20_000))
    theirs = bootstrap((first - second,), np.mean, n_resamples=20_000, method="BCa", rng=2).confidence_interval
    assert found.value == pytest.approx((first - second).mean())
    assert found.ci == pytest.approx((theirs.low, theirs.high), abs=0.005)
    assert found.n_subjects == 40
    # Each system's own interval is wider than that of the difference.
    assert found.ci[1] - found.ci[0] < 0.5 * 4 * first.std() / np.sqrt(40)
    assert found.p < 0.01


def test_p_and_interval_agree_and_swap():
    first, second = (mean_of_defined(values, "no case") for values in two_systems())
    there, back = compare(first, second, SUBJECTS), compare(second, first, SUBJECTS)
    assert (there.value, there.p) == (pytest.approx(-back.value), back.p)
    assert there.ci_percentile == pytest.approx((-back.ci_percentile[1], -back.ci_percentile[0]))
    same = compare(first, first, SUBJECTS)
    assert (same.value, same.ci, same.p) == (0, None, None)


def test_few_subjects_or_no_interval_give_no_p():
    """Each time every subject has one false positive more; draws cannot tell how likely that is by chance."""
    for n in (3, 10):
        alike = compare(mean_of_defined([2.0] * n, "no"), mean_of_defined([1.0] * n, "no"), SUBJECTS[:n])
        assert (alike.value, alike.ci_percentile, alike.p) == (1.0, None, None)
    gains = np.array([1.0, 1.2, 0.9, 1.1, 0.8, 1.3])
    for n, is_tested in ((5, False), (6, True)):
        found = compare(mean_of_defined(gains[:n], "no"), mean_of_defined(np.zeros(n), "no"), SUBJECTS[:n])
        assert found.ci_percentile is not None
        assert (found.p is not None) == is_tested
    # Of 40 people, five or six have lesions.
    for n, is_tested in ((5, False), (6, True)):
        lesions = np.where(np.arange(40) < n, 3, 0)
        found = compare(
            share(np.minimum(lesions, np.arange(40)), lesions, "no lesion"),
            share(lesions > 0, lesions, "no lesion"),
            SUBJECTS,
        )
        assert found.ci_percentile is not None
        assert (found.p is not None) == is_tested


def test_an_undefined_difference_says_why():
    defined, nothing = share([1, 1], [1, 2], "no lesion"), share([0, 0], [0, 0], "nothing predicted")
    found = compare(defined, nothing, ["a", "b"])
    assert (found.value, found.ci, found.p, found.why) == (None, None, None, "nothing predicted")
    with pytest.raises(InputError, match="2 and 3 cases"):
        compare(defined, share([1, 1, 1], [1, 1, 1], "no lesion"), ["a", "b"])


def test_wilcoxon():
    """By hand: ranks 1 to 6, all positive; twice one in 64 sign patterns."""
    assert wilcoxon_p([1, 2, 3, 4, 5, 6], [0] * 6) == pytest.approx(2 / 64)
    first, second = two_systems()
    first[:5] = second[:5]
    assert wilcoxon_p(first, second) == pytest.approx(wilcoxon(first - second, zero_method="pratt").pvalue)
    # Undefined values leave a subject out; without a difference, or with few subjects, there is no test.
    assert wilcoxon_p([1, 2, 3, 4, 5, 6, np.nan], [0] * 7) == pytest.approx(2 / 64)
    assert wilcoxon_p([1, 2, 3, 4, 5, np.nan], [0] * 6) is None
    assert wilcoxon_p([1] * 6, [1] * 6) is None


def systems():
    rng = np.random.default_rng(3)
    n_lesions, easy = rng.poisson(2, 40), rng.uniform(0.3, 0.9, 40)
    made = []
    for name, gain in (("A", 0.0), ("B", 0.1), ("C", 0.01)):
        hits = rng.binomial(n_lesions, np.clip(easy + gain, 0, 1))
        made.append(
            System(
                name,
                {
                    "sensitivity": share(hits, n_lesions, "no lesion"),
                    "fp_per_scan": mean_of_defined(rng.poisson(1 + 5 * gain, 40), "no case"),
                },
            )
        )
    return made


def test_rows_against_a_reference():
    rows = comparison_rows(systems(), SUBJECTS, reference="A", settings=Resampling(500))
    assert [(row["figure"], row["system"], row["against"]) for row in rows] == [
        ("sensitivity", "B", "A"),
        ("sensitivity", "C", "A"),
        ("fp_per_scan", "B", "A"),
        ("fp_per_scan", "C", "A"),
    ]
    for pair in (rows[:2], rows[2:]):
        p = [row["p"] for row in pair]
        assert [row["p_holm"] for row in pair] == holm(p)
        assert [row["p_bh"] for row in pair] == benjamini_hochberg(p)
        assert [row["p_wilcoxon_holm"] for row in pair] == holm([row["p_wilcoxon"] for row in pair])
    assert rows[0]["difference"].value == pytest.approx(rows[0]["value"] - rows[0]["against_value"])
    # Subjects without a lesion have no sensitivity of their own.
    assert rows[0]["n_wilcoxon"] < rows[2]["n_wilcoxon"] == 40


def test_rows_of_all_pairs_and_of_one_family():
    rows = comparison_rows(systems(), SUBJECTS, settings=Resampling(500), family="table")
    assert [(row["system"], row["against"]) for row in rows[:3]] == [("B", "A"), ("C", "A"), ("C", "B")]
    assert [row["p_holm"] for row in rows] == holm([row["p"] for row in rows])


def test_systems_that_cannot_be_compared():
    first, second, _ = systems()
    with pytest.raises(InputError, match="no such system; there are A, B"):
        comparison_rows([first, second], SUBJECTS, reference="S")
    with pytest.raises(InputError, match="two or more"):
        comparison_rows([first], SUBJECTS)
    with pytest.raises(InputError, match="each name once"):
        comparison_rows([first, first], SUBJECTS)
    with pytest.raises(InputError, match="system B: other figures than A"):
        comparison_rows([first, System("B", {"sensitivity": second.statistics["sensitivity"]})], SUBJECTS)
