"""What the operating points mean: threshold sweep and FROC of the tutorial's simulated cohort.

`thresholds.tsv` is `crossvalidation/thresholds.tsv` of the tutorial's model (16 simulated people).
"""

from pathlib import Path

import numpy as np
import style

from cmb_autoseg.files import read_json, read_tsv

SWEEP = Path(__file__).with_name("thresholds.tsv")
POINTS = Path(__file__).with_name("operating_points.json")
MARKS = {"counting": ("o", style.VERMILION), "screening": ("s", style.BLUE), "youden": ("^", style.GREEN)}


def draw():
    rows = read_tsv(SWEEP)
    sweep = {name: np.array([float(row[name].replace("n/a", "nan")) for row in rows]) for name in rows[0]}
    points = {point["name"]: point for point in read_json(POINTS)}
    figure = style.new_figure(9.4, 4.0)
    left, right = figure.subplots(1, 2)
    for name, color, dashes in (
        ("sensitivity", style.BLUE, "-"),
        ("precision", style.ORANGE, "--"),
        ("f1", "black", "-."),
    ):
        left.plot(sweep["threshold"], sweep[name], dashes, color=color, label={"f1": "F1"}.get(name, name))
    right.plot(sweep["fp_per_scan"], sweep["sensitivity"], "-", color=style.GRAY, lw=1.2)
    for name, (marker, color) in MARKS.items():
        point = points[name]
        left.axvline(point["threshold"], color=color, lw=0.8, ls=":")
        left.plot(point["threshold"], point["f1"], marker, color=color, ms=8)
        label = f"{name}: threshold {point['threshold']:.2f}"
        right.plot(point["fp_per_scan"], point["sensitivity"], marker, color=color, ms=9, label=label)
    left.set(xlabel="threshold on the probability", ylabel="of lesions", xlim=(0, 1), ylim=(0, 1.02))
    left.set_title("One sweep over the thresholds", size=10)
    left.legend(loc=(0.06, 0.5), fontsize=8)
    right.set(xlabel="false positives per scan", ylabel="lesion sensitivity", ylim=(0, 1.02))
    right.set_title("The same sweep as FROC curve", size=10)
    right.legend(loc="lower right", fontsize=8)
    return figure


if __name__ == "__main__":
    print(style.save(draw(), "operating-points"))
