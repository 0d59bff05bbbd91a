"""How well numbers agree: probabilities with what is found, counted lesions with the reference."""

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from statsmodels.stats.proportion import proportion_confint

from cmb_autoseg.evaluation.metrics.calibration import Reliability
from cmb_autoseg.evaluation.metrics.figure import Figure
from cmb_autoseg.reporting.pictures import COLORS, Picture, as_png, canvas
from cmb_autoseg.reporting.tables import shown

__all__ = ["draw_bland_altman", "draw_counts", "draw_reliability"]

FIRST, SECOND = COLORS[:2]


def draw_reliability(found: Reliability, ece: Figure | None = None) -> Picture:
    """Share of right candidates by their confidence with its Wilson interval, and the number of candidates below.

    Args:
        found: bins of confidence.
        ece: expected calibration error.
    """
    border, x, y, n = found.edges, found.mean_confidence, found.share_right, found.n
    figure = canvas(5.0, 5.6)
    axes, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    axes.plot((0, 1), (0, 1), color="#999999", linestyle=":", linewidth=1)
    filled = np.flatnonzero(n)
    low, high = proportion_confint(np.rint(y[filled] * n[filled]), n[filled], method="wilson")
    axes.vlines(x[filled], low, high, color=FIRST, linewidth=1.5)
    axes.plot(x[filled], y[filled], marker="o", color=FIRST, linewidth=1.5, markersize=6, clip_on=False)
    axes.set_ylim(-0.02, 1.02)
    _style(axes, "", "share that are microbleeds")
    below.bar(border[:-1], n, width=np.diff(border), align="edge", color=FIRST, alpha=0.6, edgecolor="white")
    below.set_xlim(0, 1)
    _whole_numbers(below.yaxis)
    _style(below, "confidence of the candidate", "candidates")
    error = f" Expected calibration error {shown(ece)}." if ece is not None and ece.value is not None else ""
    caption = (
        "Reliability: of candidates with about the same confidence, the share that belongs to a reference lesion, with "
        "Wilson's 95 % interval, as if lesions were independent; on the dotted line confidences are right. Below: how "
        f"many candidates there are.{error}"
    )
    alt = f"Reliability diagram of {int(n.sum())} candidates in {len(filled)} bins of confidence.{error}"
    return Picture("reliability", "Calibration of confidences", caption, alt, as_png(figure))


def draw_bland_altman(predicted: ArrayLike, reference: ArrayLike, bias: Figure, limits: tuple[float, float]) -> Picture:
    """Difference of the counts against their mean, case by case.

    Args:
        predicted: (n_cases,), lesions of each case.
        reference: (n_cases,).
        bias: mean of predicted minus reference.
        limits: of agreement: where 95 % of differences are expected.
    """
    ours, theirs = np.asarray(predicted, np.float64), np.asarray(reference, np.float64)
    figure = canvas(5.2, 4.2)
    axes = figure.subplots()
    _bubbles(axes, (ours + theirs) / 2, ours - theirs)
    axes.axhline(0, color="#999999", linewidth=1, linestyle=":")
    for value, text in ((limits[0], "lower limit"), (bias.value, "bias"), (limits[1], "upper limit")):
        if value is None or not np.isfinite(value):
            continue
        axes.axhline(value, color=SECOND, linewidth=1.5, linestyle="-" if text == "bias" else "--")
        axes.annotate(
            f"{text} {value:+.2f}",
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(-3, 3),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color="#8a3c00",
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1},
            zorder=4,
        )
    _style(axes, "mean of predicted and reference lesions of a case", "predicted minus reference")
    axes.margins(y=0.12)
    caption = (
        "Bland-Altman plot of lesions per case: solid the bias (mean difference), dashed the limits of agreement (bias "
        "plus and minus 1.96 standard deviations). The larger a circle, the more cases it stands for."
    )
    reach = f"{limits[0]:.2f} to {limits[1]:.2f} lesions" if np.isfinite(limits).all() else "undefined"
    alt = f"Bland-Altman plot of {len(ours)} cases: bias {shown(bias)}, limits of agreement {reach}."
    return Picture("bland_altman", "Agreement of counts", caption, alt, as_png(figure))


def draw_counts(predicted: ArrayLike, reference: ArrayLike, spearman: Figure | None = None) -> Picture:
    """Predicted against reference lesions, case by case."""
    ours, theirs = np.asarray(predicted, np.float64), np.asarray(reference, np.float64)
    figure = canvas(5.0, 5.0)
    axes = figure.subplots()
    _bubbles(axes, theirs, ours)
    top = max(1.0, float(max(ours.max(initial=0), theirs.max(initial=0)))) * 1.06
    axes.plot((0, top), (0, top), color="#999999", linewidth=1, linestyle=":")
    axes.set_xlim(-0.04 * top, top)
    axes.set_ylim(-0.04 * top, top)
    axes.set_aspect("equal")
    _whole_numbers(axes.xaxis)
    _whole_numbers(axes.yaxis)
    _style(axes, "reference lesions of a case", "predicted lesions of a case")
    rank = f" Spearman's rank correlation {shown(spearman)}." if spearman and spearman.value is not None else ""
    caption = (
        f"Lesions of each case; on the dotted line both sides have the same number.{rank} Larger circles: more cases."
    )
    alt = f"Scatter plot of predicted by reference lesions of {len(ours)} cases.{rank}"
    return Picture("counts", "Predicted and reference counts", caption, alt, as_png(figure))


def _bubbles(axes: Any, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Points that coincide as one circle of the summed area."""
    places = Counter(zip(x.tolist(), y.tolist(), strict=True))
    if not places:
        return
    across, up = zip(*places, strict=True)
    sizes = [30 * count for count in places.values()]
    axes.scatter(across, up, s=sizes, color=FIRST, alpha=0.55, edgecolors=FIRST, zorder=3)


def _whole_numbers(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(5, integer=True))


def _style(axes: Any, across: str, up: str) -> None:
    axes.set_xlabel(across, fontsize=11)
    axes.set_ylabel(up, fontsize=11)
    axes.tick_params(labelsize=10)
    axes.grid(alpha=0.3)
