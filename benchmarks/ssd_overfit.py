"""Whether a reduced detector learns the scans that it sees: lesion F1 on its own training cases, and which anchors fit.

    python benchmarks/ssd_overfit.py --workspace WS -d 501 --recipe reduced.yaml -o OUT

The cases of fold 0 are trained on and judged, all labelled ones with a microbleed up to `--cases`. What is printed: how
many true boxes have an anchor that overlaps them by half or more, with small and with published anchors; then the best
lesion F1 over thresholds under the protocol valdo, and that threshold.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_iou

from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.inference.operating_points import ScoredCase, sweep_thresholds
from cmb_autoseg.networks.ssd import anchor_boxes
from cmb_autoseg.pipeline.stored import brain_of, images_of, read_plan
from cmb_autoseg.raw_dataset import read_raw_dataset
from cmb_autoseg.trainers.boxes.run import train_boxes
from cmb_autoseg.trainers.boxes.task import edges_of
from cmb_autoseg.trainers.fold_cases import FoldCases
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.recipe import read_recipe
from cmb_autoseg.trainers.slices.store import SliceStore
from cmb_autoseg.trainers.train import FoldSettings
from cmb_autoseg.workspace import Workspace

HALF = 0.5


def anchor_fit(cases, size, least_side):
    """By kind of anchors, the share of true boxes with an anchor of at least half overlap, and the worst overlap."""
    boxes = torch.cat([edges_of(case.boxes[:, 1:], least_side) for case in cases])
    fit = {"boxes": len(boxes), "median side, pixels": float((boxes[:, 2:] - boxes[:, :2]).median())}
    for kind in ("small", "published"):
        anchors = anchor_boxes(size, kind)
        best = torch.cat([box_iou(part, anchors).amax(dim=1) for part in boxes.split(16)])
        fit[kind] = {"share": float((best >= HALF).float().mean()), "worst": float(best.min())}
    return fit


def best_f1(ensemble, raw, cases):
    """The highest lesion F1 over thresholds, and where."""
    scored = (
        ScoredCase(
            case.name,
            ensemble.probability(images_of(case, raw, ensemble.channels)),
            read_volume(case.label, dtype="uint8"),
            brain_of(case, raw),
        )
        for case in cases
    )
    rows = sweep_thresholds(scored, PROTOCOLS["valdo"]).rows()
    best = max(rows, key=lambda row: float(row["f1"] or 0))
    return {key: best[key] for key in ("threshold", "f1", "sensitivity", "precision", "fp_per_scan") if key in best}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("-d", required=True)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("-o", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    raw = read_raw_dataset(Workspace.find(args.workspace).dataset(args.d))
    plan, recipe = read_plan(raw.folders, None), read_recipe(args.recipe)
    with_lesion = [case for case in raw.cases if case.labelled and read_volume(case.label, dtype="uint8").data.any()]
    cases = tuple(with_lesion[: args.cases])
    size = recipe.boxes.size
    pictures = SliceStore(raw, plan.channels, (), recipe.boxes.pictures, (size, size)).open(tuple(with_lesion))
    result = {"anchors": anchor_fit(pictures, size, recipe.boxes.least_box_pixels)}
    print(json.dumps(result), flush=True)
    shared = {"recipe": recipe.model_dump(mode="json"), "seed": args.seed, "plan": plan.model_dump(mode="json")}
    model = args.o / plan.dataset / f"CMBTrainer__{recipe.name}__3d"
    settings = replace(FoldSettings("cpu"), seed=args.seed)
    started = time.monotonic()
    train_boxes(FoldRun(raw, plan, recipe, model, 0, FoldCases(cases, cases), settings, shared))
    result["training, seconds"] = round(time.monotonic() - started)
    started = time.monotonic()
    result["lesions"] = best_f1(load_ensemble(model, (0,), "cpu"), raw, cases)
    result["prediction, seconds per case"] = round((time.monotonic() - started) / len(cases), 1)
    result["cases"] = len(cases)
    result["threads"] = int(torch.get_num_threads())
    print(json.dumps(result, indent=1, default=lambda value: np.asarray(value).tolist()))


if __name__ == "__main__":
    main()
