"""What a linear probe learns from features, and its table: see linear_probe.py, which is run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cmb_autoseg.evaluation.statistics.bootstrap import N_RESAMPLES, percentile_interval, subject_weights, two_sided_p
from cmb_autoseg.records import Role

LESION, MIMICS = "lesion", ("vein", "calcification", "background")
N_PARTS = 5
RANDOM = "random"


@dataclass(frozen=True)
class Probe:
    """Scores of all patches by a regression that has seen neither the person nor, mostly, the sequence."""

    subjects: NDArray[np.int64]
    kinds: NDArray[np.str_]
    scores: Mapping[tuple[Role, Role], NDArray[np.float64]]
    """By sequence of training and of test; NaN where a person lacks the sequence."""


class Known(Protocol):
    """What is known of a patch: whose it is, and what lies in it."""

    @property
    def subject(self) -> str: ...

    @property
    def kind(self) -> str: ...


def probe(
    of_role: Mapping[Role, NDArray[np.float32]],
    has: Mapping[Role, NDArray[np.bool_]],
    places: Sequence[Known],
    rng: np.random.Generator,
) -> Probe:
    """Train on one sequence, test on every sequence, on other people."""
    subjects = np.unique([place.subject for place in places], return_inverse=True)[1]
    kinds = np.array([place.kind for place in places])
    n_subjects = int(subjects.max()) + 1
    part = (rng.permutation(n_subjects) % N_PARTS)[subjects]
    scores = {pair: np.full(len(places), np.nan) for pair in product(of_role, repeat=2)}
    for trained, number in product(of_role, range(N_PARTS)):
        learn = (part != number) & has[trained]
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000, random_state=0)
        )
        model.fit(of_role[trained][learn], kinds[learn] == LESION)
        for tested in of_role:
            judged = (part == number) & has[tested]
            scores[trained, tested][judged] = model.decision_function(of_role[tested][judged])
    return Probe(subjects, kinds, scores)


def auc_draws(found: Probe, pairs: Sequence[tuple[Role, Role]], against: str | None, weights: NDArray) -> NDArray:
    """Mean over pairs of sequences of the AUC, in each draw (row of `weights`, one column a subject)."""
    return np.mean([_auc(found, found.scores[pair], against, weights) for pair in pairs], axis=0)


def _auc(found: Probe, scores: NDArray, against: str | None, weights: NDArray) -> NDArray:
    n = weights.shape[1]
    known = ~np.isnan(scores)
    lesion = known & (found.kinds == LESION)
    other = known & (found.kinds != LESION if against is None else found.kinds == against)
    above = np.sign(scores[lesion][:, None] - scores[other][None]) / 2 + 0.5
    wins = np.zeros((n, n))
    np.add.at(wins, (found.subjects[lesion][:, None], found.subjects[other][None]), above)
    n_lesion = np.bincount(found.subjects[lesion], minlength=n)
    n_other = np.bincount(found.subjects[other], minlength=n)
    return ((weights @ wins) * weights).sum(axis=1) / ((weights @ n_lesion) * (weights @ n_other))


def figure(values: NDArray, draws: NDArray) -> str:
    low, high = percentile_interval(draws) or (float("nan"), float("nan"))
    return f"{float(values):.3f} ({low:.3f} to {high:.3f})"


@dataclass(frozen=True)
class Asked:
    """One column of the table."""

    title: str
    same_sequence: bool
    against: str | None


COLUMNS = (
    Asked("same sequence", True, None),
    Asked("other sequence", False, None),
    *(Asked(f"other sequence, against {kind}", False, kind) for kind in MIMICS),
)


def mean_over_seeds(seeds: Sequence[Probe], asked: Asked, weights: NDArray) -> NDArray:
    pairs = [pair for pair in seeds[0].scores if (pair[0] == pair[1]) == asked.same_sequence]
    return np.mean([auc_draws(found, pairs, asked.against, weights) for found in seeds], axis=0)


def table(probes: Mapping[tuple[str, int], Sequence[Probe]], n_subjects: int) -> str:
    """Markdown: a row an encoder and level; AUC, and the difference from the random encoder at the same level."""
    weights = subject_weights(range(n_subjects), N_RESAMPLES, np.random.default_rng(0)).astype(np.float64)
    one = np.ones((1, n_subjects))
    head = ["encoder", "level", *(asked.title for asked in COLUMNS), "other sequence, less random", "p"]
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    for (name, level), seeds in sorted(probes.items(), key=lambda item: item[0][1]):
        cells = [name, str(level)]
        for asked in COLUMNS:
            cells.append(figure(mean_over_seeds(seeds, asked, one)[0], mean_over_seeds(seeds, asked, weights)))
        if name == RANDOM:
            cells += ["", ""]
        else:
            ours, theirs = (
                [mean_over_seeds(each, COLUMNS[1], w) for w in (one, weights)]
                for each in (seeds, probes[RANDOM, level])
            )
            p = two_sided_p(ours[1] - theirs[1])
            cells += [figure((ours[0] - theirs[0])[0], ours[1] - theirs[1]), "n/a" if p is None else f"{p:.3g}"]
        lines.append(" | ".join(cells))
    return "\n".join(f"| {line} |" for line in lines)
