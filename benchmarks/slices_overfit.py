"""Whether reduced networks of slices learn the scans that they see, and what the weight of microbleeds does to it.

    python benchmarks/slices_overfit.py --workspace WS -d 601 -o OUT --network unet2d --positive-weight 20

The first labelled cases with at least two microbleeds are trained on and judged: voxel Dice after each epoch, and
lesion F1 at probability 0.5, where a lesion counts as found when any of its voxels is, and at the best threshold under
the protocol valdo.
"""

import argparse
import json
import time
from pathlib import Path

from ssd_overfit import best_f1

from cmb_autoseg.geometry import read_volume
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.lesions import find_components
from cmb_autoseg.pipeline.stored import images_of, read_plan
from cmb_autoseg.raw_dataset import read_raw_dataset
from cmb_autoseg.trainers.fold_cases import FoldCases
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.fold_settings import FoldSettings
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.trainers.slices.run import train_slices
from cmb_autoseg.workspace import Workspace

SLICES = {
    "residual25d": {
        "features": [8, 12, 16],
        "pictures": {"size": [168, 168], "fit": "crop", "normalization": "white_matter_peak", "neighbors": 1},
    },
    "unet2d": {
        "features": [8, 16, 32, 64],
        "pictures": {"size": [168, 168], "fit": "crop", "normalization": "min_max"},
    },
}
LEARNING_RATE = 3e-3


def recipe_of(network, positive_weight, steps, falls_at):
    """Ten epochs without augmentation; the weights of the best one are judged."""
    decay = {"decay": "steps", "falls_at": falls_at} if falls_at else {}
    own = {"positive_share": 0.75, "positive_weight": positive_weight, "augmentation": {"channel_dropout": 0.0}}
    return Recipe.model_validate(
        {
            **{"name": f"{network}_overfit", "description": "reduced, for a few scans"},
            **{"epochs": 10, "steps_per_epoch": steps // 10, "validation_steps": 100, "batch_size": 4},
            "optimizer": {"learning_rate": LEARNING_RATE, "weight_decay": 0.0},
            "schedule": {"keep": "best", **decay},
            "slices": {"network": network, **SLICES[network], **own},
        }
    )


def lesion_counts(predicted, truth):
    """Of two masks: true lesions that are found, all true ones, predicted ones that are right, all predicted ones."""
    found, real = find_components(predicted), find_components(truth)
    both = (found.labels > 0) & (real.labels > 0)
    return len({*real.labels[both].tolist()}), len(real), len({*found.labels[both].tolist()}), len(found)


def lesion_f1(counts):
    n_found, n_true, n_right, n_predicted = (sum(column) for column in zip(*counts, strict=True))
    sensitivity, precision = n_found / max(n_true, 1), n_right / max(n_predicted, 1)
    return {
        "f1": 2 * sensitivity * precision / max(sensitivity + precision, 1e-9),
        "found": f"{n_found} of {n_true}",
        "right": f"{n_right} of {n_predicted}",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("-d", required=True)
    parser.add_argument("-o", type=Path, required=True, help="folder for the model; a new one")
    parser.add_argument("--network", choices=sorted(SLICES), required=True)
    parser.add_argument("--positive-weight", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--falls-at", type=float, nargs="*", default=[], help="shares of the steps; a tenth from there")
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    raw = read_raw_dataset(Workspace.find(args.workspace).dataset(args.d))
    recipe = recipe_of(args.network, args.positive_weight, args.steps, args.falls_at)
    plan = read_plan(raw.folders, None)
    cases = tuple(case for case in raw.cases if case.labelled and case.n_lesions >= 2)[: args.cases]
    shared = {"recipe": recipe.model_dump(mode="json"), "seed": args.seed, "plan": plan.model_dump(mode="json")}
    model = args.o / plan.dataset / f"CMBTrainer__{recipe.name}__3d"
    started = time.process_time()
    train_slices(FoldRun(raw, plan, recipe, model, 0, FoldCases(cases, cases), FoldSettings("cpu", args.seed), shared))
    result = {"training, processor seconds": round(time.process_time() - started)}
    ensemble = load_ensemble(model, (0,), "cpu")
    started = time.process_time()
    counts = []
    for case in cases:
        probability = ensemble.probability(images_of(case, raw, ensemble.channels)).data
        counts.append(lesion_counts(probability >= 0.5, read_volume(case.label, dtype="uint8").data > 0))
    result["prediction, processor seconds per case"] = round((time.process_time() - started) / len(cases), 1)
    result["parameters"] = ensemble.n_parameters
    result["voxel Dice by epoch"] = [round(row["validation_dice"], 3) for row in ensemble.checkpoint(0)["curves"]]
    best = best_f1(ensemble, raw, cases)
    print(json.dumps({**result, "at 0.5": lesion_f1(counts), "best": best}, indent=1, default=float))


if __name__ == "__main__":
    main()
