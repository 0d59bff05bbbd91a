"""What it costs to drop any one sequence at prediction, with channel dropout in training and without.

    cmb_compare -d 601 -r supervised supervised_no_dropout -o OUT --subsets
    python benchmarks/missing_sequences.py OUT [--with-dropout supervised] [--without-dropout supervised_no_dropout]

Reads the scores that `cmb_compare` left in OUT/scores. Cost: pooled lesion F1 from all sequences of a scan minus that
from all but one, on the same scans, at the threshold that the other people chose on all sequences; mean over seeds.
Does channel dropout at least halve the cost? Tested is cost with it - 0.5 * cost without it: below 0 where it does.
Intervals: 95 %, draws of people with all their scans, the same draws for both recipes; p: two-sided, from these draws.
Wilcoxon: signed ranks of the same difference of every person with lesions. The ratio of the two costs has no interval:
with a cost near 0 below the line it is anything.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from cmb_autoseg.comparison.case_scores import read_scores, read_views
from cmb_autoseg.comparison.cells import Comparison, read_comparison
from cmb_autoseg.comparison.judging import Group, Judge, Side
from cmb_autoseg.comparison.sequence_tables import with_sequence, without_sequence
from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.statistics.bootstrap import percentile_interval, two_sided_p
from cmb_autoseg.files import write_text
from cmb_autoseg.records import Role

MIN_PEOPLE = 6
ANY = "any one (mean)"
SHARE = 0.5
"""Of the cost without channel dropout, that the cost with it is held against."""


@dataclass(frozen=True)
class Cost:
    """Of dropping one sequence, for one recipe."""

    whole: Side
    less: Side

    @property
    def scans(self) -> tuple[str, ...]:
        return self.whole[0].cases

    def draws(self, judge: Judge) -> NDArray[np.float64]:
        """The cost of the scans as they are, then in each draw of people."""
        n = len(self.scans)
        weights = np.vstack([np.ones((1, n)), judge.weights(self.whole[0].subjects)])
        return _mean_f1(self.whole, weights) - _mean_f1(self.less, weights)

    def by_person(self) -> dict[str, float]:
        whole, less = _people(self.whole), _people(self.less)
        return {name: whole[name] - less[name] for name in whole.keys() & less.keys()}


def _mean_f1(side: Side, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.mean([measured.draws("f1", weights) for measured in side], axis=0)


def _people(side: Side) -> dict[str, float]:
    seeds = [measured.f1_of_subjects() for measured in side]
    return {name: float(np.mean([seed[name] for seed in seeds])) for name in seeds[0]}


def cost(judge: Judge, group: Group, role: Role) -> Cost | None:
    """None where no scan has the sequence and another that shows microbleeds."""
    whole, less = judge.measured(group, with_sequence(role)), judge.measured(group, without_sequence(role))
    if not whole or not less:
        return None
    assert {m.cases for m in whole} == {m.cases for m in less}
    return Cost(whole, less)


def told(draws: NDArray[np.float64]) -> str:
    interval = percentile_interval(draws[1:])
    low, high = interval or (float("nan"), float("nan"))
    return f"{draws[0]:.3f} ({low:.3f} to {high:.3f})"


def ranks(ours: Sequence[Cost], theirs: Sequence[Cost]) -> str:
    """Wilcoxon's p of the people's differences, averaged over the sequences."""

    def mean(costs: Sequence[Cost]) -> dict[str, float]:
        each = [one.by_person() for one in costs]
        shared = set.intersection(*map(set, each))
        return {name: float(np.mean([one[name] for one in each])) for name in shared}

    first, second = mean(ours), mean(theirs)
    differences = np.array([first[name] - SHARE * second[name] for name in sorted(first.keys() & second.keys())])
    if len(differences) < MIN_PEOPLE or not differences.any():
        return "n/a"
    return f"{float(wilcoxon(differences, zero_method='pratt').pvalue):.3g} ({len(differences)} people)"


def row(name: str, judge: Judge, ours: Sequence[Cost], theirs: Sequence[Cost]) -> str:
    """Several sequences are averaged within each draw, which has the same people for all of them."""
    with_draws = np.mean([one.draws(judge) for one in ours], axis=0)
    without_draws = np.mean([one.draws(judge) for one in theirs], axis=0)
    less_half = with_draws - SHARE * without_draws
    p = two_sided_p(less_half[1:])
    scans = len(set().union(*(one.scans for one in ours)))
    cells = [
        name,
        str(scans),
        told(with_draws),
        told(without_draws),
        told(less_half),
        "n/a" if p is None else f"{p:.3g}",
        f"{with_draws[0] / without_draws[0]:.2f}" if without_draws[0] else "n/a",
        ranks(ours, theirs),
    ]
    return " | ".join(cells)


def table(judge: Judge, comparison: Comparison, with_dropout: str, without_dropout: str) -> str:
    budget = max(cell.budget for cell in comparison.cells)
    groups = [Group(name, budget) for name in (with_dropout, without_dropout)]
    for group in groups:
        state = judge.state(group)
        if state is not None:
            raise InputError(f"{group.recipe}: {state}; run cmb_compare --subsets with both recipes to its end")
    pairs = {}
    for role in comparison.channels:
        ours, theirs = (cost(judge, group, role) for group in groups)
        if ours is None or theirs is None:
            continue
        if ours.scans != theirs.scans:
            raise InputError(f"{role}: the recipes are not judged on the same scans")
        pairs[role] = (ours, theirs)
    if not pairs:
        raise InputError("no scan was judged without one of its sequences; run cmb_compare with --subsets")
    head = f"dropped | scans | cost with dropout | cost without | with - {SHARE:g} * without | p | ratio | Wilcoxon p"
    lines = [head, " | ".join(["---"] * 8)]
    lines += [row(role.value, judge, [ours], [theirs]) for role, (ours, theirs) in pairs.items()]
    # Averaged in one set of draws only where all sequences are dropped from the same scans.
    if len({ours.scans for ours, _ in pairs.values()}) == 1:
        lines.append(row(ANY, judge, [pair[0] for pair in pairs.values()], [pair[1] for pair in pairs.values()]))
    return "\n".join(f"| {line} |" for line in lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("compared", type=Path, help="the OUT of cmb_compare")
    parser.add_argument("--with-dropout", default="supervised", metavar="RECIPE")
    parser.add_argument("--without-dropout", default="supervised_no_dropout", metavar="RECIPE")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args(argv)
    comparison = read_comparison(args.compared)
    if comparison is None:
        raise InputError(f"{args.compared}: holds no comparison.json; run cmb_compare first")
    paths = {cell.name: args.compared / "scores" / f"{cell.name}.json" for cell in comparison.cells}
    scores = {name: read_scores(path) for name, path in paths.items() if path.is_file()}
    judge = Judge(comparison.cells, scores, lambda name: read_views(paths[name]))
    names = args.with_dropout, args.without_dropout
    seeds = sorted({cell.seed for cell in comparison.cells if cell.recipe in names})
    folds = sorted({cell.fold for cell in comparison.cells if cell.recipe in names})
    data = f", {comparison.data} data" if comparison.data else ""
    text = (
        f"# One sequence missing{data}\n\n"
        f"`python benchmarks/missing_sequences.py` on `{comparison.dataset}`: `{names[0]}` (channel dropout) against "
        f"`{names[1]}` (none), {comparison.steps[names[0]]} steps each, seeds {', '.join(map(str, seeds))}, folds "
        f"{', '.join(map(str, folds))}. Cost: lesion F1 from all sequences minus lesion F1 without one, on the same "
        "scans; in brackets 95 % intervals over people. Tested is the cost with channel dropout less half of the cost "
        "without: below 0 where channel dropout more than halves it. Ratio: of the two costs.\n\n"
        f"{table(judge, comparison, *names)}\n"
    )
    write_text(args.out, text)
    print(text)


if __name__ == "__main__":
    main()
