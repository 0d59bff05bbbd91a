"""`cmb_train`: trains folds of a recipe; resumes by itself."""

import argparse
from collections.abc import Sequence

from cmb_autoseg.cli._command import (
    ExitCode,
    Parser,
    add_dataset,
    add_device,
    add_option,
    add_preset,
    add_seed,
    add_workspace,
    fold_list,
    positive_int,
    resolve_device,
    run_command,
)


def build_parser() -> Parser:
    parser = Parser(
        "cmb_train",
        "Train folds of a recipe on a preprocessed dataset. A stopped training goes on where it stopped.",
        "examples:\n"
        "  cmb_train -d 501 -f 0\n"
        "  cmb_train -d 501 -f all -r supervised      (all five folds, then cmb_finalize)\n"
        "  cmb_train --list-recipes",
    )
    add_dataset(parser, required=False)
    add_option(parser, "-f", nargs="+", metavar="FOLD", help="folds 0 to 4, or all (which ends with cmb_finalize)")
    add_option(
        parser, "-r", default="supervised", metavar="RECIPE", help="recipe: a name or a YAML file (default: supervised)"
    )
    add_preset(parser)
    add_option(parser, "--epochs", type=positive_int, metavar="N", help="instead of the recipe's")
    add_option(parser, "--steps-per-epoch", type=positive_int, metavar="N", help="instead of the recipe's")
    add_option(parser, "--list-recipes", action="store_true", help="name the shipped recipes and stop")
    add_device(parser)
    add_seed(parser)
    add_workspace(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.trainers.recipe import list_recipes, read_recipe

    if args.list_recipes:
        print("\n".join(list_recipes()))
        return ExitCode.DONE
    if args.d is None or args.f is None:
        missing = "-d DATASET" if args.d is None else "-f FOLD"
        raise InputError(f"{missing} is missing; for example: cmb_train -d 501 -f 0")
    from cmb_autoseg.workspace import Workspace

    folds = fold_list(args.f)
    changes = {"epochs": args.epochs, "steps_per_epoch": args.steps_per_epoch}
    recipe = read_recipe(args.r).model_copy(update={key: value for key, value in changes.items() if value})
    folders = Workspace.find(args.workspace).dataset(args.d)
    device = resolve_device(args.device)

    from cmb_autoseg.pipeline import TrainSettings, finalize, train

    model, _ = train(folders, recipe, folds, TrainSettings(device, args.seed, args.preset))
    print(f"trained folds {', '.join(map(str, folds))}: {model}")
    if args.f == ["all"]:
        print(finalize(folders, model, device))
    return ExitCode.DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
