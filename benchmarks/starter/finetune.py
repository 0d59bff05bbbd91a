"""What five labelled people of a new protocol teach: the model of the package trained on, against random weights.

    python benchmarks/starter/finetune.py --scratch FOLDER [--protocol adni_gre] [--steps 100 300] [--seeds 1 2]
        [-o RESULTS]

Both arms are `cmb_train` with equal plan, patches, steps and seeds; one has `--init starter`, whose network the other
one gets too. Six people are simulated to train (five in fold 0) and others to judge, who are predicted by
`cmb_predict` with their skulls; the lesion F1 is told at probability 0.5 and at the best threshold on these people.
What is trained or predicted already is left as it is.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from judge import save_rows

from cmb_autoseg.evaluation.matching.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from cmb_autoseg.files import write_text
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.inference.model_choice import STARTER_MODEL
from cmb_autoseg.inference.operating_points import SWEEP_THRESHOLDS, ScoredCase, count_case, counting_threshold
from cmb_autoseg.progress import log
from cmb_autoseg.starter.judging import pooled
from cmb_autoseg.trainers.recipe import read_recipe
from cmb_autoseg.trainers.starting_model import learned_plan
from cmb_autoseg.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))
from common import command

LEARNED_FROM, JUDGED = "701", "702"
PARTS = {"train": (LEARNED_FROM, 6, 41_000), "test": (JUDGED, 8, 42_000)}
"""Number of the dataset, people and seed."""
ARMS = ("starter", "scratch")
HALF = SWEEP_THRESHOLDS.index(0.5)


def prepare(scratch: Path, protocol: str) -> None:
    """People, raw datasets and network inputs."""
    where = ["--workspace", scratch / "workspace"]
    for part, (number, people, seed) in PARTS.items():
        if not (scratch / part / "card.yaml").is_file():
            drawn = ["-n", people, "--protocol", protocol, "--seed", seed, "--name", part.upper()]
            command(["cmb_simulate", "-o", scratch / part, *drawn])
        command(["cmb_convert", scratch / part / "card.yaml", "-d", number, *where])
    folds = PARTS["train"][1]
    command(["cmb_plan_preprocess", "-d", LEARNED_FROM, "--folds", folds, *where, "-device", "cpu"])


def train(scratch: Path, arm: str, seed: int, steps: int) -> Path:
    """The model folder of one arm."""
    recipe = read_recipe("supervised").beginning_with(learned_plan(STARTER_MODEL).topology)
    content = recipe.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    content |= {"schema": 1, "name": f"{arm}_{seed}_{steps}", "description": "few people"}
    content |= {"epochs": 1, "steps_per_epoch": steps, "batch_size": 2}
    path = scratch / f"{content['name']}.yaml"
    write_text(path, yaml.safe_dump(content))
    options = ["--init", "starter"] if arm == "starter" else []
    where = ["--workspace", scratch / "workspace", "-device", "cpu"]
    command(["cmb_train", "-d", LEARNED_FROM, "-f", 0, "-r", path, "--seed", seed, *where, *options])
    return Workspace(scratch / "workspace").dataset(LEARNED_FROM).model(content["name"])


def judged(scratch: Path, model: Path) -> dict[str, str]:
    """Figures of a model on the people of the test."""
    raw, out = Workspace(scratch / "workspace").dataset(JUDGED).raw, scratch / "predicted" / model.name
    if not (out / "run.json").is_file():
        where = ["-i", raw / "imagesTr", "-o", out, "-m", model]
        command(["cmb_predict", *where, "--operating-point", 0.5, "-device", "cpu"])
    cases = []
    for label in sorted((raw / "labelsTr").glob("*.nii.gz")):
        name = label.name.removesuffix(".nii.gz")
        case = ScoredCase(name, read_volume(out / f"{name}_prob.nii.gz"), read_volume(label, dtype="uint8"))
        cases.append(count_case(case, PROTOCOLS[DEFAULT_PROTOCOL]))
    total = pooled(cases)
    best = counting_threshold(total)
    return {
        "lesions": str(total.n_lesions),
        "F1 at 0.5": f"{total.f1[HALF]:.3f}",
        "best F1": f"{total.f1[best]:.3f}",
        "sensitivity there": f"{total.sensitivity[best]:.3f}",
        "false positives a scan there": f"{total.fp_per_scan[best]:.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--protocol", default="adni_gre")
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("-o", type=Path, help="name of the results, without .json and .md")
    args = parser.parse_args()
    prepare(args.scratch, args.protocol)
    rows: list[dict[str, Any]] = [
        {"begins with": "starter, as it is", "seed": "", "steps": 0, **judged(args.scratch, STARTER_MODEL)}
    ]
    for steps in args.steps:
        for seed in args.seeds:
            for arm in ARMS:
                model = train(args.scratch, arm, seed, steps)
                rows.append({"begins with": arm, "seed": seed, "steps": steps, **judged(args.scratch, model)})
                log(str(rows[-1]))
    people, others = (people for _, people, _ in PARTS.values())
    told = (
        f"{people - 1} people of the protocol {args.protocol} to learn from, {others} others to judge; all simulated."
    )
    save_rows(args.o, "Few labelled people of a new protocol", told, rows)


if __name__ == "__main__":
    main()
