"""`cmb_pretrain`: encoders that learn from scans without labels; resumes by itself."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cmb_autoseg.cli._command import (
    ExitCode,
    Parser,
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
)
from cmb_autoseg.cli._help import epilog
from cmb_autoseg.cli._recipes import add_recipe

if TYPE_CHECKING:
    from cmb_autoseg.trainers.recipe import Recipe

NAME = r"[a-z][a-z0-9]*(_[a-z0-9]+)*"


def build_parser() -> Parser:
    parser = Parser(
        "cmb_pretrain",
        "Make an encoder that has learned from scans without labels, for cmb_train to begin with. A stopped "
        "pretraining goes on where it stopped.",
        epilog(
            {
                "cmb_pretrain -d 501": "one encoder for all folds, from the unlabelled cases of a preprocessed dataset",
                "cmb_pretrain -d 501 502 -r ssl_mae": "from those of a second dataset too, by masked autoencoding",
                "cmb_pretrain -d 501 -f all": "one encoder a fold, from that fold's training subjects too",
                "cmb_pretrain -d 501 -r imagenet_transfer --weights resnet18-f37072fd.pth": "2D weights of a file",
            },
            writes="WORKSPACE/encoders/NAME/encoder.pt, or NAME/fold_K/encoder.pt with -f; beside it encoder.json,\n"
            "settings.json, progress.tsv, progress.png, neighbors.png; WORKSPACE/logs/; finished encoders are left",
            see="cmb_plan_preprocess, which comes before; cmb_train --encoder NAME, which comes after",
        ),
    )
    what = parser.add_argument_group("what is learned from")
    add_option(
        what,
        "-d",
        required=True,
        nargs="+",
        metavar="DATASET",
        help="datasets: 501, NAME or Dataset501_NAME; the first one's plan gives channels, grid and network",
    )
    add_option(
        what,
        "-f",
        nargs="+",
        metavar="FOLD",
        help="folds from 0 on, or all: one encoder each, from its training subjects too (default: one for all folds)",
    )
    add_recipe(what, "recipe: a name or a YAML file (default: ssl_barlow_twins)", default="ssl_barlow_twins")
    add_option(what, "--name", metavar="NAME", help="of the encoder (default: the recipe's)")
    add_option(
        what, "--weights", type=Path, metavar="FILE", help="of a 2D ResNet-18, for a recipe with the method imagenet"
    )
    add_preset(what)
    schedule = parser.add_argument_group("schedule")
    add_schedule(schedule)
    add_option(schedule, "--batch-size", type=positive_int, metavar="N", help="patches of a step, at least 2")
    run = parser.add_argument_group("run")
    add_option(
        run,
        "--checkpoint-every",
        type=positive_int,
        metavar="N",
        help="steps between checkpoints that a stopped pretraining goes on from (default 100)",
    )
    add_device(run)
    add_seed(run)
    add_workspace(run)
    return parser


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.errors import CMBError, OwnFaultError
    from cmb_autoseg.pretraining.launched import speaks_for_its_machine

    speaks = speaks_for_its_machine()
    try:
        return _run(args)
    except CMBError as error:
        if speaks or isinstance(error, OwnFaultError):
            raise
        return ExitCode.BAD_INPUT  # All of torchrun's processes met it before they began, and one says why.


def _run(args: argparse.Namespace) -> int:
    from cmb_autoseg.pretraining.launched import is_first_process
    from cmb_autoseg.raw_dataset import choose_folds
    from cmb_autoseg.workspace import Workspace

    wanted = fold_list(args.f or ["all"])
    recipe = _recipe(args)
    workspace = Workspace.find(args.workspace)
    datasets = [workspace.dataset(wanted) for wanted in args.d]
    folds = choose_folds(datasets[0], wanted) if args.f else ()
    device = resolve_device(args.device, tell=is_first_process())

    from cmb_autoseg.pipeline.pretraining import PretrainSettings, pretrain
    from cmb_autoseg.progress import report

    settings = PretrainSettings(device, args.seed, args.preset, args.name, args.weights, args.checkpoint_every)
    encoders = pretrain(datasets, recipe, folds, settings)
    if not is_first_process():
        return ExitCode.DONE
    for path in encoders:
        report(f"encoder: {path}")
    recipe_or_encoder = f"-r {args.r}" if args.name is None else f"-r {args.r} --encoder {args.name}"
    preset = f" -p {args.preset}" if args.preset else ""
    next_folds = " ".join(args.f) if args.f else "all"
    report(f"next: cmb_train -d {datasets[0].number} -f {next_folds} {recipe_or_encoder}{preset}")
    return ExitCode.DONE


def _recipe(args: argparse.Namespace) -> "Recipe":
    """The recipe with the schedule of the command line."""
    import re

    from cmb_autoseg.errors import InputError
    from cmb_autoseg.trainers.recipe import read_recipe

    if args.name is not None and not re.fullmatch(NAME, args.name):
        raise InputError(
            f"--name {args.name}: part of a folder's name; use small letters, digits and single underscores, with a "
            "letter first"
        )
    if args.batch_size == 1:
        raise InputError("--batch-size 1: views are compared across the patches of a step; give at least 2")
    recipe = read_recipe(args.r)
    changes = {"epochs": args.epochs, "steps_per_epoch": args.steps_per_epoch, "batch_size": args.batch_size}
    given = {key: value for key, value in changes.items() if value}
    if recipe.pretraining is None or not given:
        return recipe
    return recipe.model_copy(update={"pretraining": recipe.pretraining.model_copy(update=given)})


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
