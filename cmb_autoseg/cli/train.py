"""`cmb_train`: trains folds of a recipe; resumes by itself."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cmb_autoseg.cli._command import (
    ExitCode,
    Parser,
    add_dataset,
    add_device,
    add_option,
    add_preset,
    add_schedule,
    add_seed,
    add_workspace,
    fold_list,
    positive_int,
    resolve_device,
    run_command,
    workspace_words,
)
from cmb_autoseg.cli._help import epilog
from cmb_autoseg.cli._recipes import add_recipe
from cmb_autoseg.workspace import PRESETS

if TYPE_CHECKING:
    from cmb_autoseg.trainers.recipe import Recipe
    from cmb_autoseg.workspace import DatasetFolders


def build_parser() -> Parser:
    parser = Parser(
        "cmb_train",
        "Train folds of a recipe on a preprocessed dataset. A stopped training goes on where it stopped.",
        epilog(
            {
                "cmb_train -d 501 -f all": "all folds one after the other, then cmb_finalize",
                "cmb_train -d 501 -f 0 -r demo -device cpu": "one fold of the short recipe, on a laptop",
                "cmb_train -d 501 -f 0 -r supervised --encoder ssl_mae": "begins with the encoder of cmb_pretrain",
                "cmb_train -d 501 -f all --init starter --epochs 20": "trains the model of the package on, a while",
                "cmb_train -d 501 -f all -r two_stage": "a second look at supervised, all folds of which are trained",
                "cmb_train --list-recipes": "the recipes that come with the tool",
                "cmb_train --show-recipe supervised": "one of them, to be changed into one of your own",
            },
            writes="WORKSPACE/results/DatasetNNN_NAME/CMBTrainer__RECIPE__3d/fold_K/: checkpoint_final.pth,\n"
            "fold.json, progress.tsv, progress.png, tensorboard/; WORKSPACE/logs/; finished folds are left as they are",
            see="cmb_finalize, when folds were trained one by one; cmb_predict",
        ),
    )
    what = parser.add_argument_group("what is trained")
    add_dataset(what, required=False)
    add_option(
        what,
        "-f",
        nargs="+",
        metavar="FOLD",
        help="folds from 0 on (of five: 0 to 4), or all (which ends with cmb_finalize)",
    )
    add_recipe(what, "recipe: a name or a YAML file (default: supervised)", default="supervised")
    add_preset(what, "; for --init starter the starter one, if it is there")
    add_option(
        what,
        "--encoder",
        metavar="NAME",
        help="pretrained encoder to begin with: the recipe of a cmb_pretrain, a file, or none for random weights "
        "(default: what the recipe says)",
    )
    add_option(
        what,
        "--init",
        metavar="MODEL",
        help="begin with all weights of a trained model, and train on: starter for the model of the package, or a "
        "model folder; sequences are matched by role",
    )
    schedule = parser.add_argument_group("schedule")
    add_schedule(schedule)
    run = parser.add_argument_group("run")
    add_option(
        run,
        "--checkpoint-every",
        type=positive_int,
        metavar="N",
        help="steps between checkpoints that a stopped training goes on from (default 100)",
    )
    add_device(run)
    add_seed(run)
    add_workspace(run)
    return parser


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.workspace import Workspace

    if args.d is None or args.f is None:
        missing = "-d DATASET" if args.d is None else "-f FOLD"
        raise InputError(f"{missing} is missing; for example: cmb_train -d 501 -f 0")
    wanted = fold_list(args.f)
    folders = Workspace.find(args.workspace).dataset(args.d)

    from cmb_autoseg.raw_dataset import choose_folds
    from cmb_autoseg.trainers.recipe import read_recipe

    changes = {"epochs": args.epochs, "steps_per_epoch": args.steps_per_epoch}
    given = {key: value for key, value in changes.items() if value}
    recipe = read_recipe(args.r)
    if given and recipe.family == "mixture":
        flag = "--epochs" if args.epochs else "--steps-per-epoch"
        raise InputError(f"{flag}: recipe {recipe.name} joins finished models and has no epochs; leave the option out")
    recipe = recipe.model_copy(update=given)
    begin_with: str | Path | None = args.encoder
    if args.init is not None:
        recipe, begin_with = _begun(recipe, args)
        args.preset = args.preset or _preset_for(args.init, folders)
    folds = choose_folds(folders, wanted)
    device = resolve_device(args.device)

    from cmb_autoseg.pipeline.training import TrainSettings, train
    from cmb_autoseg.progress import report

    chosen = TrainSettings(device, args.seed, args.preset, args.checkpoint_every, begin_with)
    model, _ = train(folders, recipe, folds, chosen)
    report(f"trained folds {', '.join(map(str, folds))}: {model}")
    if args.f == ["all"]:
        from cmb_autoseg.pipeline.finalizing import finalize

        report(finalize(folders, model, device))
    report(f"next: {_next_command(args, folders, recipe.name, model)}")
    return ExitCode.DONE


def _begun(recipe: "Recipe", args: argparse.Namespace) -> "tuple[Recipe, Path]":
    """The recipe with the levels of the model that `--init` names, and the model's folder.

    Raises:
        InputError: there is no such model, or the recipe cannot begin with one.
    """
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.trainers.encoder_choice import NO_ENCODER
    from cmb_autoseg.trainers.starting_model import find_starting_model, learned_plan

    if args.encoder is not None:
        raise InputError("--init and --encoder: found both; a model has an encoder of its own, so leave one out")
    if recipe.family != "patches":
        raise InputError(f"--init {args.init}: recipe {recipe.name} sees no 3D patches; leave the option out")
    if recipe.transfer.encoder not in (None, NO_ENCODER):
        raise InputError(
            f"--init {args.init}: recipe {recipe.name} begins with an encoder of its own ({recipe.transfer.encoder}); "
            "choose a recipe without, such as supervised, or leave the option out"
        )
    folder = find_starting_model(args.init)
    return recipe.beginning_with(learned_plan(folder).topology), folder


def _preset_for(init: str, folders: "DatasetFolders") -> str | None:
    """For the starter model the plan of its voxels, unless the dataset has others alone."""
    from cmb_autoseg.trainers.pretrained_encoder import STARTER

    there = [preset for preset in PRESETS if folders.plan(preset).is_file()]
    return "starter" if init == STARTER and ("starter" in there or not there) else None


def _next_command(args: argparse.Namespace, folders: "DatasetFolders", recipe: str, model: Path) -> str:
    """Training of the folds that are missing, else what a model of all folds is for."""
    from cmb_autoseg.inference.model_choice import available_folds
    from cmb_autoseg.raw_dataset import choose_folds

    preset = f" -p {args.preset}" if args.preset else ""
    where = workspace_words(args.workspace)
    dataset = folders.number
    missing = [fold for fold in choose_folds(folders, None) if fold not in available_folds(model)]
    if missing:  # Folds of one model share these settings.
        shared = {
            "--encoder": args.encoder,
            "--init": args.init,
            "--epochs": args.epochs,
            "--steps-per-epoch": args.steps_per_epoch,
        }
        given = "".join(f" {option} {value}" for option, value in shared.items() if value is not None)
        seed = f" --seed {args.seed}" if args.seed else ""
        return f"cmb_train -d {dataset} -f {' '.join(map(str, missing))} -r {args.r}{preset}{given}{seed}{where}"
    predict = f"cmb_predict -i SCANS -o OUT -d {dataset} -r {recipe}{preset}{where}"
    return predict if args.f == ["all"] else f"cmb_finalize -d {dataset} -r {recipe}{preset}{where}, then {predict}"


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
