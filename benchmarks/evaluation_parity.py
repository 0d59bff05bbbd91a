"""The largest difference of everything in `cmb_evaluate` that something else computes, too, in one table.

python benchmarks/evaluation_parity.py [--cases 240] [--seed 0] [--out benchmarks/evaluation_parity.md]

Matching and candidates as in `matching_parity.py`, figures as in `metrics_parity.py`; here also DeLong's covariances,
the intraclass correlation and the surface distances.
"""

import argparse
from itertools import product
from pathlib import Path

import matching_parity
import metrics_parity
import numpy as np
import pandas as pd
from metrics_parity import Parity
from scipy import ndimage
from scipy.spatial.distance import cdist
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from cmb_autoseg.evaluation.metrics.count import icc_agreement
from cmb_autoseg.evaluation.metrics.surface import surface_distances
from cmb_autoseg.evaluation.statistics.delong import delong_covariance
from cmb_autoseg.files import write_text

SURFACE_SPACING_MM = (0.5, 0.5, 0.5)


def compare_delong(n_studies: int, seed: int) -> list[Parity]:
    """Areas and covariances beside equations 3 to 6 of DeLong 1988, pair by pair."""
    rng, of_areas, of_covariances = np.random.default_rng(seed), [], []
    for _ in range(n_studies):
        truth = np.arange(int(rng.integers(4, 30))) % 4 < 2
        scores = np.round(rng.normal(size=(2, len(truth))) + truth, int(rng.integers(0, 3)))
        areas, covariance = delong_covariance(scores, truth)
        wins = [np.sign(own[truth][:, None] - own[~truth][None]) / 2 + 0.5 for own in scores]
        ones = [np.stack([own.mean(axis=axis) for own in wins]) for axis in (1, 0)]
        direct = sum(np.cov(own) / own.shape[1] for own in ones)
        of_areas.append(float(np.abs(areas - [own.mean() for own in wins]).max()))
        of_covariances.append(float(np.abs(covariance - direct).max()))
    return [
        Parity("DeLong, areas", "direct definition", n_studies, 0, max(of_areas)),
        Parity("DeLong, covariances", "direct definition", n_studies, 0, max(of_covariances)),
    ]


def compare_icc(n_studies: int, seed: int) -> Parity:
    """ICC(2,1) beside the mean squares of an analysis of variance of statsmodels."""
    rng, gaps = np.random.default_rng(seed), []
    for _ in range(n_studies):
        true = rng.poisson(4, int(rng.integers(4, 15)))
        table = np.stack([true, np.maximum(0, true + rng.integers(-2, 4, len(true)))], axis=1).astype(float)
        rows = [(case, rater, table[case, rater]) for case, rater in product(range(len(table)), range(2))]
        frame = pd.DataFrame(rows, columns=["case", "rater", "count"])
        fit = ols("count ~ C(case) + C(rater)", data=frame).fit()
        squares = anova_lm(fit)["mean_sq"]
        cases, raters, rest = squares["C(case)"], squares["C(rater)"], squares["Residual"]
        theirs = (cases - rest) / (cases + rest + 2 * (raters - rest) / len(table))
        gaps.append(abs(float(icc_agreement(table).value()) - theirs))
    return Parity("count.icc", "statsmodels", n_studies, 0, max(gaps))


def compare_surfaces(n_pairs: int, seed: int) -> list[Parity]:
    """Distances in mm beside those of all border voxels' centres to one another, which are not weighted by area.

    Two definitions: they differ by parts of a voxel, and a mistake in the spacing or the pairing by more.
    """
    rng, gaps = np.random.default_rng(seed), {"assd_mm": [], "hd95_mm": []}
    for _ in range(n_pairs):
        axes = np.ogrid[:24, :24, :24]
        masks = []
        for _ in range(2):
            centre, radii = rng.uniform(10.5, 12.5, 3), rng.uniform(5, 8, 3)
            masks.append(sum(((x - c) / r) ** 2 for x, c, r in zip(axes, centre, radii, strict=True)) <= 1)
        borders = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) * SURFACE_SPACING_MM for mask in masks]
        apart = cdist(*borders)
        each_way = [apart.min(axis=1), apart.min(axis=0)]
        found = surface_distances(1, masks[0], masks[1], SURFACE_SPACING_MM)
        gaps["assd_mm"].append(abs(found.assd_mm - np.concatenate(each_way).mean()))
        gaps["hd95_mm"].append(abs(found.hd95_mm - max(np.quantile(own, 0.95) for own in each_way)))
    return [
        Parity(f"surface.{name}, another definition", "border voxels of 0.5 mm", n_pairs, 0, max(own))
        for name, own in gaps.items()
    ]


def largest_differences(n_cases: int = 240, seed: int = 0) -> list[Parity]:
    """All comparisons, on as many random cases or studies each."""
    return [
        *matching_parity.largest_differences(n_cases, seed),
        *metrics_parity.largest_differences(n_cases, seed),
        *compare_delong(n_cases, seed),
        compare_icc(n_cases, seed),
        *compare_surfaces(n_cases, seed),
    ]


def as_markdown(rows: list[Parity], n_cases: int, seed: int) -> str:
    """The page with the table."""
    lines = [
        "# Figures of cmb_evaluate beside other implementations",
        "",
        f"`python benchmarks/evaluation_parity.py --cases {n_cases} --seed {seed}`: {n_cases} random small cases or "
        "studies a row, empty references and predictions among them. *Differences* of pairs and candidates are how "
        "many of one case are here and not there, or there and not here. *Without* counts cases in which both sides "
        "say that there is no value, for pairs those with an empty side; a value on one side alone would be an "
        "infinite difference. FROC points of picai_eval are single precision; distances of pairs are rounded to a "
        "nanometre.",
        "",
        "| figure | against | with a value | without | largest difference |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.figure} | {row.against} | {row.n_defined} | {row.n_undefined} | {_shown(row.largest)} |"
        for row in rows
    ]
    return "\n".join([*lines, ""])


def _shown(largest: float) -> str:
    return "0" if largest == 0 else f"{largest:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="page to write, .md")
    args = parser.parse_args()
    page = as_markdown(largest_differences(args.cases, args.seed), args.cases, args.seed)
    print(page)
    if args.out:
        write_text(args.out, page)


if __name__ == "__main__":
    main()
