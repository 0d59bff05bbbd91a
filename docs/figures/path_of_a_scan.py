"""The path of a scan: what each stage hands to the next, for training and for a new scan."""

import itertools

import style
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

STAGE, FILES = style.BLUE, style.ORANGE
# name: column, row, title, where, kind
BOXES = {
    "card": (0, 0, "card.yaml", "describes a cohort", FILES),
    "convert": (0, 1, "find_cases, convert", "dataset_conversion", STAGE),
    "prepare": (0, 2, "prepare_case", "preprocessing.chain", STAGE),
    "raw": (0, 3, "raw/Dataset501_NAME", "imagesTr, labelsTr, cases.tsv", FILES),
    "fingerprint": (0, 4, "fingerprint", "planners.fingerprint", STAGE),
    "plan": (0, 5, "plan_dataset, split_folds", "planners", STAGE),
    "input": (0, 6, "network_input", "preprocessing.network_input", STAGE),
    "train": (0, 7, "train_fold, five times", "trainers.train, with a recipe", STAGE),
    "finalize": (0, 8, "finalize", "pipeline", STAGE),
    "model": (0, 9, "results/.../CMBTrainer__RECIPE__3d", "folds, model.json, operating points", FILES),
    "scan": (1, 0, "new scan", "NIfTI, folder, DICOM, BIDS, card", FILES),
    "inputs": (1, 1, "find_cases", "inference.inputs", STAGE),
    "prepare2": (1, 2, "prepare_case", "the same function", STAGE),
    "input2": (1, 3, "network_input", "the same function", STAGE),
    "ensemble": (1, 4, "Ensemble.probability", "inference.ensemble", STAGE),
    "back": (1, 5, "from_canonical", "geometry: the scan's own grid", STAGE),
    "tabulate": (1, 6, "tabulate", "lesions.table", STAGE),
    "out": (1, 7, "CASE_prob, CASE_mask, CASE_lesions.tsv", "with pictures and CASE.json", FILES),
    "evaluate": (1, 8, "evaluate_folder", "evaluation, with reference masks", STAGE),
    "report": (1, 9, "metrics.json, report.html", "every figure with its definition", FILES),
}
HANDED_ON = {
    "prepare": "Case",
    "raw": "PreparedCase",
    "fingerprint": "RawDataset",
    "plan": "Fingerprint",
    "input": "Plan, five folds",
    "train": "CASE.b2nd",
    "finalize": "FoldModel",
    "model": "Model",
    "prepare2": "Case",
    "input2": "PreparedCase",
    "ensemble": "channels on the planned grid",
    "back": "probability map",
    "tabulate": "on the scan's own axes",
    "out": "LesionTable",
    "report": "EvaluationReport",
}
COLUMN, ROW, WIDTH, HEIGHT = 5.2, 1.15, 3.7, 0.74


def draw():
    figure = style.new_figure(8.0, 9.6)
    axes = figure.add_subplot()
    axes.set_xlim(-2.1, COLUMN + 2.1)
    axes.set_ylim(-9.6 * ROW, 1.1)
    axes.axis("off")
    names = list(BOXES)
    for above, below in itertools.pairwise(names):
        if BOXES[above][0] == BOXES[below][0]:
            _arrow(axes, _bottom(above), _top(below), HANDED_ON.get(below, ""))
    _arrow(axes, (WIDTH / 2, -9 * ROW), (COLUMN - WIDTH / 2, -4 * ROW), "")
    axes.text(COLUMN / 2 + 0.2, -5.2 * ROW, "the model", ha="right", size=7.5, style="italic", color=style.GRAY)
    for name in names:
        _box(axes, name)
    axes.text(0, 0.85, "training", ha="center", weight="bold", size=11)
    axes.text(COLUMN, 0.85, "a new scan", ha="center", weight="bold", size=11)
    return figure


def _box(axes, name):
    column, row, title, where, color = BOXES[name]
    x, y = column * COLUMN, -row * ROW
    corner = (x - WIDTH / 2, y - HEIGHT / 2)
    shape = "round,pad=0,rounding_size=0.12" if color == STAGE else "square,pad=0"
    axes.add_patch(FancyBboxPatch(corner, WIDTH, HEIGHT, boxstyle=shape, fc=f"{color}22", ec=color, lw=1.4))
    axes.text(x, y + 0.13, title, ha="center", va="center", size=9, weight="bold")
    axes.text(x, y - 0.18, where, ha="center", va="center", size=8, color=style.GRAY)


def _arrow(axes, start, end, text):
    arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=11, color=style.GRAY)
    axes.add_patch(arrow)
    if text:
        x, y = start[0] + 0.1, (start[1] + end[1]) / 2
        axes.text(x, y, text, ha="left", va="center", size=7.5, style="italic", color=style.GRAY)


def _bottom(name):
    column, row, *_ = BOXES[name]
    return column * COLUMN, -row * ROW - HEIGHT / 2


def _top(name):
    column, row, *_ = BOXES[name]
    return column * COLUMN, -row * ROW + HEIGHT / 2


if __name__ == "__main__":
    print(style.save(draw(), "path-of-a-scan"))
