"""What few labelled people of one protocol teach: the model of the package trained on, against random weights.

    python benchmarks/starter/finetune.py --people PEOPLE --scratch FOLDER [--family gre_15t]
        [--presets starter] [--steps 300] [--seeds 1 2] [-o RESULTS]

All arms are `cmb_train` with equal plan, patches, steps and seeds; two have `--init starter`, one of them a tenth of
the learning rate, and the third one gets the same network without its weights. Presets are of the plan: `starter` by
the voxels of the model of the package, `adaptive` by those of the scans. They learn from the people of a family's
`choice`, all but those whom fold 0 validates by, and are judged by the family's people of `test`, with their skulls,
each at its own best threshold and at probability 0.5. What is trained already is left as it is.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from judge import in_shares, row_of, save_rows, share_of_model

from cmb_autoseg.files import write_text
from cmb_autoseg.inference.model_choice import STARTER_MODEL
from cmb_autoseg.inference.operating_points import SWEEP_THRESHOLDS, counting_threshold
from cmb_autoseg.progress import log
from cmb_autoseg.starter.families import FAMILIES, ROLES, cases_of
from cmb_autoseg.starter.judging import pooled
from cmb_autoseg.trainers.recipe import read_recipe
from cmb_autoseg.trainers.starting_model import learned_plan
from cmb_autoseg.workspace import PRESETS, DatasetFolders, Preset, Workspace

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))
from common import command

DATASET = "701"
ARMS = {"starter": 1.0, "starter_slowly": 0.1, "scratch": 1.0}
"""Of the recipe's learning rate."""
HALF = SWEEP_THRESHOLDS.index(0.5)


def prepare(scratch: Path, folder: Path, presets: Sequence[Preset]) -> DatasetFolders:
    """Raw dataset and network inputs of a family's people; as many folds as people."""
    images = {image: ROLES[image] for image in FAMILIES[folder.name].images}
    card = {
        "schema": 1,
        "name": folder.name.upper(),
        "simulated": True,
        "status": "verified",
        "root": str(folder.resolve()),
        "licence": {"id": "CC0-1.0", "redistribute": True},
        "case": "{sub}",
        "group_by": ["sub"],
        "images": {
            name: {"role": role.value, "path": f"images/{{sub:p\\d{{3}}}}_{role}.nii.gz"}
            for name, role in images.items()
        },
        "labels": {"cmb": {"kind": "mask", "path": "labels/{sub:p\\d{3}}.nii.gz", "values": {"cmb": 1}}},
    }
    where = ["--workspace", scratch / "workspace"]
    plan = ["cmb_plan_preprocess", "-d", DATASET, "--folds", len(cases_of(folder)), *where, "-device", "cpu"]
    write_text(scratch / "card.yaml", yaml.safe_dump(card))
    command(["cmb_convert", scratch / "card.yaml", "-d", DATASET, *where])
    for preset in presets:
        command([*plan, "--preset", preset, "--allow-lesion-loss"])
    return Workspace(scratch / "workspace").dataset(DATASET)


def train(scratch: Path, folders: DatasetFolders, arm: str, preset: Preset, seed: int, steps: int) -> Path:
    """The model folder of one arm."""
    recipe = read_recipe("supervised").beginning_with(learned_plan(STARTER_MODEL).topology)
    content = recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    content |= {"schema": 1, "name": f"{arm}_{seed}_{steps}", "description": "few people"}
    content |= {"epochs": 1, "steps_per_epoch": steps, "batch_size": 2}
    content["optimizer"] = {**content["optimizer"], "learning_rate": recipe.optimizer.learning_rate * ARMS[arm]}
    path = scratch / f"{content['name']}.yaml"
    write_text(path, yaml.safe_dump(content))
    options = ["--init", "starter"] if arm.startswith("starter") else []
    where = ["--workspace", folders.workspace, "-device", "cpu"]
    command(["cmb_train", "-d", DATASET, "-f", 0, "-r", path, "-p", preset, "--seed", seed, *where, *options])
    return folders.model(content["name"], preset)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--family", choices=tuple(FAMILIES), default="gre_15t")
    parser.add_argument("--presets", choices=PRESETS, nargs="+", default=["starter"])
    parser.add_argument("--steps", type=int, nargs="+", default=[300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("-o", type=Path, help="name of the results, without .json and .md")
    args = parser.parse_args()
    args.scratch.mkdir(parents=True, exist_ok=True)
    folders = prepare(args.scratch, args.people / "choice" / args.family, args.presets)
    rows: list[dict[str, Any]] = []

    def judge(words: dict[str, Any], model: Path) -> None:
        test = args.people / "test" / args.family
        people = in_shares(partial(share_of_model, model), [test], args.processes)[args.family]
        best = counting_threshold(pooled(people))
        rows.append({**words, **row_of(args.family, people, best), "F1 at 0.5": f"{pooled(people).f1[HALF]:.3f}"})
        log(str(rows[-1]))

    judge({"begins with": "starter, as it is", "plan": "starter", "steps": 0, "seed": ""}, STARTER_MODEL)
    for preset in args.presets:
        first = [("starter", args.seeds[0], 1)]  # hardly changed: what the plan alone does
        for arm, seed, steps in [*first, *product(ARMS, args.seeds, args.steps)]:
            words = {"begins with": arm, "plan": preset, "steps": steps, "seed": seed}
            judge(words, train(args.scratch, folders, arm, preset, seed, steps))
    n_people = len(cases_of(args.people / "choice" / args.family)) - 1
    told = (
        f"{n_people} people of {args.family} to learn from, others to judge, at the threshold that is best on these. "
        "The starter as it is has two folds, which look again where they are unsure; what is trained is one fold that "
        "does not. Simulated."
    )
    save_rows(args.o, "Few labelled people of one protocol", told, rows)


if __name__ == "__main__":
    main()
