"""How often 95 % intervals of an evaluation hold the true value, in studies simulated one after the other.

    python benchmarks/bootstrap_coverage.py [--studies 500] [--subjects 90 200] [--seed 2026] [--quick]

A study is a cohort of people of whom a third have no microbleed and few have dozens (negative binomial numbers). How
well a detector finds lesions, how sure it is, and how many false positives it has differ from person to person. Every
figure comes from the same code as in `cmb_evaluate`: `ci`, which is BCa from 1,000 draws of subjects (of shares of
people with one scan each, here the patient sensitivity of the first table, Wilson's interval), and percentile intervals
of the same draws. True values are those of one study of 30,000 people. Then the same with two to four scans of each
person, drawn by person and, wrongly, scan by scan.

Prints Markdown tables: coverage in percent, where 500 studies have a standard error of 1.0, and shares of studies whose
whole interval lies above and below the true value.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from cmb_autoseg.evaluation.case_score import CaseScore, Matching, Pair
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.metrics.count import count_statistics
from cmb_autoseg.evaluation.metrics.figure import Figure, Statistic
from cmb_autoseg.evaluation.metrics.lesion import lesion_statistics
from cmb_autoseg.evaluation.metrics.patient import patient_statistics
from cmb_autoseg.evaluation.statistics.intervals import Resampling, figures

PROTOCOL = "valdo"
THRESHOLD = 0.5
FIGURES = {
    "sensitivity": "lesion sensitivity",
    "precision": "lesion precision",
    "f1": "lesion F1",
    "fp_per_scan": "false positives per scan",
    "average_precision": "average precision",
    "patient_auc": "patient AUC",
    "patient_sensitivity": "patient sensitivity",
    "count_bias": "count bias",
}
SLOW = ("average_precision",)
"""Left out where scans are repeated."""
BY_PERSON: dict[str, Callable[[CaseScore], str]] = {"by person": lambda case: case.subject}
BY_SCAN: dict[str, Callable[[CaseScore], str]] = {"by scan": lambda case: case.case}
METHODS: Mapping[str, Callable[[Figure], tuple[float, float] | None]] = {
    "ci": lambda figure: figure.ci,
    "percentile": lambda figure: figure.ci_percentile,
}


@dataclass(frozen=True)
class Cohort:
    """Who is studied."""

    n_subjects: int
    scans: tuple[int, int] = (1, 1)
    """Least and most of one person, all numbers equally likely."""
    lesion_free: float = 1 / 3
    mean_lesions: float = 4.0
    """Beyond the first one, of those who have any."""
    lesion_shape: float = 0.8
    """Of the gamma distribution of expected numbers: below 1, few people have most lesions."""
    most_lesions: int = 40


@dataclass(frozen=True)
class Person:
    n_lesions: int
    detection: float
    """Chance that a lesion is a candidate."""
    shift: float
    """Added to the logit of every confidence."""
    fp_rate: float
    """False candidates expected in a scan."""


def people(cohort: Cohort, rng: np.random.Generator) -> list[Person]:
    n = cohort.n_subjects
    rate = rng.gamma(cohort.lesion_shape, cohort.mean_lesions / cohort.lesion_shape, n)
    n_lesions = np.minimum(1 + rng.poisson(rate), cohort.most_lesions) * (rng.random(n) >= cohort.lesion_free)
    detection, shift = expit(rng.normal(2.0, 1.0, n)), rng.normal(0.0, 0.5, n)
    fp_rate = rng.gamma(1.5, 3.0 / 1.5, n)
    return [
        Person(int(a), float(b), float(c), float(d))
        for a, b, c, d in zip(n_lesions, detection, shift, fp_rate, strict=True)
    ]


def scan(person: Person, case: str, subject: str, rng: np.random.Generator) -> CaseScore:
    """One scan of one person: candidates found first, in the order of their lesions, then false ones."""
    found = np.flatnonzero(rng.random(person.n_lesions) < person.detection)
    n_false = rng.poisson(person.fp_rate)
    logits = np.concatenate([rng.normal(1.5, 1.2, len(found)), rng.normal(-1.2, 1.2, n_false)])
    confidence = expit(logits + person.shift)
    kept = confidence >= THRESHOLD
    numbers = np.cumsum(kept)
    right = [(int(lesion), index) for index, lesion in enumerate(found)]
    at_threshold = [(lesion, int(numbers[index]) - 1) for lesion, index in right if kept[index]]
    return CaseScore(
        case=case,
        subject=subject,
        reference=lesions(person.n_lesions),
        predicted=lesions(int(kept.sum()), confidence[kept]),
        matchings={PROTOCOL: matching(at_threshold)},
        candidates=lesions(len(confidence), confidence),
        candidate_matchings={PROTOCOL: matching(right)},
    )


def lesions(n: int, confidence: NDArray[np.float64] | None = None) -> LesionSet:
    return LesionSet("points", np.zeros((n, 3)), np.full(n, np.nan), ("unknown",) * n, confidence, confidence)


def matching(pairs: Sequence[tuple[int, int]]) -> Matching:
    return Matching(pairs=tuple(Pair(reference=r + 1, predicted=p + 1, distance_mm=0.0) for r, p in pairs))


def study(cohort: Cohort, rng: np.random.Generator) -> list[CaseScore]:
    low, high = cohort.scans
    return [
        scan(person, f"{number}-{again}", str(number), rng)
        for number, person in enumerate(people(cohort, rng))
        for again in range(rng.integers(low, high, endpoint=True))
    ]


def statistics(cases: Sequence[CaseScore]) -> dict[str, Statistic]:
    """Those of `FIGURES`."""
    patient, count = patient_statistics(cases), count_statistics(cases)
    every = {
        **lesion_statistics(cases, PROTOCOL),
        "patient_auc": patient["auc"],
        "patient_sensitivity": patient["sensitivity"],
        "count_bias": count["bias"],
    }
    return {name: every[name] for name in FIGURES}


def true_values(cohort: Cohort, n_subjects: int, rng: np.random.Generator) -> dict[str, float]:
    """Of one scan a person: how many scans a person has does not depend on anything else."""
    cases = study(replace(cohort, n_subjects=n_subjects, scans=(1, 1)), rng)
    return {name: statistic.value() for name, statistic in statistics(cases).items()}


@dataclass(frozen=True)
class Coverage:
    """Of one figure and method over all studies."""

    covered: float
    above: float
    """Share of studies whose whole interval is above the true value."""
    below: float
    width: float
    """Median of the intervals' widths."""
    n_without: int
    """Studies without an interval; in none of the shares."""


def coverage(intervals: Sequence[tuple[float, float] | None], true: float) -> Coverage:
    ends = np.array([interval for interval in intervals if interval is not None]).reshape(-1, 2)
    above, below = ends[:, 0] > true, ends[:, 1] < true
    return Coverage(
        float(np.mean(~above & ~below)),
        float(above.mean()),
        float(below.mean()),
        float(np.median(np.diff(ends, axis=1))),
        len(intervals) - len(ends),
    )


def measured(
    cohort: Cohort,
    true: Mapping[str, float],
    n_studies: int,
    n_resamples: int,
    seed: int,
    draw_by: Mapping[str, Callable[[CaseScore], str]] = BY_PERSON,
) -> dict[str, dict[tuple[str, str], Coverage]]:
    """By way of drawing, then by figure and method; every way sees the same studies.

    Args:
        cohort: of each study.
        true: values, of the figures to be measured.
        n_studies: number of studies.
        n_resamples: draws in each.
        seed: of studies and draws.
        draw_by: what is drawn together.
    """
    intervals: dict[str, dict[tuple[str, str], list[tuple[float, float] | None]]] = {
        way: {(name, method): [] for name in true for method in METHODS} for way in draw_by
    }
    for number in range(n_studies):
        cases = study(cohort, np.random.default_rng([seed, number]))
        of_study = {name: statistic for name, statistic in statistics(cases).items() if name in true}
        for way, unit in draw_by.items():
            found = figures(of_study, [unit(case) for case in cases], Resampling(n_resamples, seed=number))
            for (name, method), collected in intervals[way].items():
                collected.append(METHODS[method](found[name]))
    return {
        way: {key: coverage(collected, true[key[0]]) for key, collected in of_way.items()}
        for way, of_way in intervals.items()
    }


def table(columns: Mapping[str, Mapping[tuple[str, str], Coverage]], true: Mapping[str, float]) -> str:
    """Markdown: one row a figure and method, one column a kind of study."""
    lines = [
        f"| figure | true value | interval | {' | '.join(columns)} |",
        "| --- | --- | --- |" + " --- |" * len(columns),
    ]
    for name, value in true.items():
        for method in METHODS:
            cells = [told(found[name, method]) for found in columns.values()]
            lines.append(f"| {FIGURES[name]} | {value:.3f} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def told(found: Coverage) -> str:
    without = f"; {found.n_without} without" if found.n_without else ""
    ends = f"{100 * found.above:.1f} above, {100 * found.below:.1f} below"
    return f"{100 * found.covered:.1f} ({ends}; width {found.width:.3g}{without})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--subjects", type=int, nargs="+", default=[90, 200], help="people of a study")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--true-subjects", type=int, default=30_000, help="people whose figures are taken as true")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument(
        "--quick", action="store_true", help="20 studies of 40 people, 200 draws: tries the script only"
    )
    args = parser.parse_args()
    if args.quick:
        args.studies, args.subjects, args.resamples, args.true_subjects = 20, [40], 200, 2000
    true = true_values(Cohort(1), args.true_subjects, np.random.default_rng(args.seed))
    print(f"{args.studies} studies, {args.resamples} draws each. One scan a person, by number of people:\n")
    by_size = [measured(Cohort(n), true, args.studies, args.resamples, args.seed) for n in args.subjects]
    columns = {f"{n} people": found["by person"] for n, found in zip(args.subjects, by_size, strict=True)}
    print(table(columns, true))
    n, shown = args.subjects[0], {name: value for name, value in true.items() if name not in SLOW}
    print(f"\n{n} people with two to four scans each:\n")
    repeated = measured(Cohort(n, (2, 4)), shown, args.studies, args.resamples, args.seed, BY_PERSON | BY_SCAN)
    print(table({f"drawn {way}": found for way, found in repeated.items()}, shown))


if __name__ == "__main__":
    main()
