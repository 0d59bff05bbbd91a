"""Which choices of the starter model's training pay: short trainings that differ in one setting, two seeds each.

    python benchmarks/starter/choices.py train --pool POOL --out OUT --seed 1 [--steps 500]
    python benchmarks/starter/choices.py judge --pool POOL --out OUT --people PEOPLE [-o RESULTS]

`train` runs all choices with one seed, on one thread, one after the other; several seeds may run side by side. It goes
on where it stopped. `judge` predicts the people of `choice` (`python -m cmb_autoseg.starter people`) with every model
and tells the pooled lesion F1 at each model's best threshold on these very people: good for choosing alone.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cmb_autoseg.files import write_json
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.inference.operating_points import counting_threshold
from cmb_autoseg.progress import log
from cmb_autoseg.starter.families import families_in
from cmb_autoseg.starter.judging import pooled, sweeps_of
from cmb_autoseg.starter.learning import CHECKPOINT, changed_settings, learn
from cmb_autoseg.starter.packing import learned_from, write_model

BASE = "as it is"
CHOICES: dict[str, dict[str, Any]] = {
    BASE: {},
    "a third of the random changes": {"views": {"width": 0.33}},
    "grid of 2 x 1 x 1 mm": {"views": {"spacing_mm": [2.0, 1.0, 1.0]}},
    "no hard negatives": {"hard_share": 0.0},
    "fewer patches about lesions (0.3)": {"views": {"lesion_share": 0.3}},
    "lesion voxels count as others": {"foreground_weight": 1.0},
    "one block a level": {"blocks_per_stage": 1},
}


def folder_of(out: Path, choice: str, seed: int) -> Path:
    return out / f"{'_'.join(choice.split())}_{seed}"


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    for choice, changes in CHOICES.items():
        settings = replace(changed_settings(changes), seed=args.seed, steps=args.steps)
        done = learn(args.pool, folder_of(args.out, choice, args.seed), settings, args.minutes)
        log(f"{choice}, seed {args.seed}: {done} of {args.steps} steps")


def models_of(args: argparse.Namespace) -> dict[tuple[str, str], Path]:
    """Model folders by choice and seed; the last weights and both seeds together, of the base, too."""
    learned, models = learned_from(args.pool), {}
    for choice in CHOICES:
        trained = [folder_of(args.out, choice, seed) / CHECKPOINT for seed in args.seeds]
        for seed, checkpoint in zip(args.seeds, trained, strict=True):
            place = checkpoint.parent / "model"
            models[choice, str(seed)] = write_model(place, [checkpoint], learned)
            if choice == BASE:
                last = write_model(checkpoint.parent / "last", [checkpoint], learned, "network")
                models["the last weights, no average", str(seed)] = last
        if choice == BASE:
            models["both seeds together", "all"] = write_model(args.out / "together", trained, learned)
    return models


def judge(args: argparse.Namespace) -> None:
    models = models_of(args)
    ensembles = [load_ensemble(folder, None, "cpu") for folder in models.values()]
    found: dict[tuple[str, str], list[Any]] = {key: [] for key in models}
    for family in families_in(args.people / "choice"):
        for key, people in zip(models, sweeps_of(ensembles, family), strict=True):
            found[key] += people.values()
    best = {}
    for key, people in found.items():
        total = pooled(people)
        best[key] = float(total.f1[counting_threshold(total)])
    rows = []
    for choice in dict.fromkeys(choice for choice, _ in models):
        own = {seed: f1 for (name, seed), f1 in best.items() if name == choice}
        base = [best[BASE, seed] for seed in own if (BASE, seed) in best]
        mean = sum(own.values()) / len(own)
        against = base or [best[BASE, str(seed)] for seed in args.seeds]
        rows.append({"choice": choice, **{f"F1, seed {seed}": f"{f1:.3f}" for seed, f1 in own.items()}})
        rows[-1]["mean"] = f"{mean:.3f}"
        rows[-1]["against the first row"] = f"{mean - sum(against) / len(against):+.3f}"
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns), *([row.get(key, "") for key in columns] for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    print(table)
    if args.o is not None:
        write_json(args.o.with_suffix(".json"), {"rows": rows})
        args.o.with_suffix(".md").write_text(f"# Choices of the starter model's training\n\n{table}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "judge"))
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of each choice, in this run")
    parser.add_argument("--people", type=Path)
    parser.add_argument("-o", type=Path, help="name of the results, without .json and .md")
    args = parser.parse_args()
    (train if args.what == "train" else judge)(args)


if __name__ == "__main__":
    main()
