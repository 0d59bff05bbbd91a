"""`cmb_compare`: recipes, seeds and label budgets on identical folds."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cmb_autoseg.cli._command import (
    ExitCode,
    Parser,
    add_dataset,
    add_device,
    add_option,
    add_preset,
    add_workspace,
    fold_list,
    non_negative_int,
    positive_int,
    resolve_device,
    run_command,
)
from cmb_autoseg.cli._help import epilog
from cmb_autoseg.cli._recipes import add_recipe


def build_parser() -> Parser:
    parser = Parser(
        "cmb_compare",
        "Train recipes with several seeds and shares of the labels on the same folds, judge every fold on the cases "
        "that it has not seen, and write tables with confidence intervals and paired tests. Cells (one fold of one "
        "recipe, seed and budget) that are finished in OUT are not trained again.",
        epilog(
            {
                "cmb_compare -d 501 -r supervised ssl_barlow_twins -o compared": "two recipes, all folds",
                "cmb_compare -d 501 -r supervised fixmatch -o compared --seeds 1 2 --budgets 1.0 0.25": "two seeds, "
                "with all labels and with a quarter",
                "cmb_compare -o compared --tables-only --reference fixmatch": "other tests, from the stored scores",
            },
            writes="OUT/comparison.md with all tables and pictures; OUT/tables/, OUT/figures/, OUT/scores/,\n"
            "OUT/models/, OUT/comparison.json, OUT/seconds.json, OUT/logs/",
            see="cmb_pretrain, for recipes that begin with an encoder; cmb_train, for the recipe that wins",
        ),
    )
    what = parser.add_argument_group("what is compared")
    add_dataset(what, required=False)
    add_recipe(what, "recipes: names or YAML files", nargs="+")
    add_option(what, "-o", required=True, type=Path, metavar="OUT", help="folder of the comparison")
    add_option(
        what,
        "-f",
        nargs="+",
        metavar="FOLD",
        help="folds from 0 on, or all (default: all), for every recipe; with "
        "--tables-only: draw these (default: those that all recipes share)",
    )
    add_option(what, "--seeds", nargs="+", type=non_negative_int, metavar="N", help="of training (default: 0)")
    add_option(
        what,
        "--budgets",
        nargs="+",
        type=float,
        metavar="SHARE",
        help="shares of the labelled training subjects, each a part of the next larger one (default: 1.0)",
    )
    add_preset(what)
    more = parser.add_argument_group("further tables")
    views = more.add_mutually_exclusive_group()
    add_option(
        views,
        "--subsets",
        action="store_true",
        help="also judge predictions from subsets of the sequences (missing ones)",
    )
    add_option(
        views,
        "--no-single-sequences",
        action="store_true",
        help="do not judge predictions from each sequence alone; with three sequences a quarter of the predictions",
    )
    add_option(
        more,
        "--cross-sequence",
        action="store_true",
        help="also train on each sequence alone, at the largest budget, and test on each",
    )
    add_option(
        more, "--reference", metavar="RECIPE", help="the recipe that others are tested against (default: the first)"
    )
    add_option(more, "--tables-only", action="store_true", help="only draw tables and pictures anew from stored scores")
    schedule = parser.add_argument_group("schedule")
    add_option(schedule, "--epochs", type=positive_int, metavar="N", help="instead of every recipe's")
    add_option(schedule, "--steps-per-epoch", type=positive_int, metavar="N", help="instead of every recipe's")
    run = parser.add_argument_group("run")
    add_device(run)
    add_workspace(run)
    return parser


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.errors import InputError

    if args.tables_only:
        chosen = {
            **{"-d": args.d, "-r": args.r, "--seeds": args.seeds, "--budgets": args.budgets},
            **{"--preset": args.preset, "--epochs": args.epochs, "--steps-per-epoch": args.steps_per_epoch},
            **{"--subsets": args.subsets or None, "--cross-sequence": args.cross_sequence or None},
            "--no-single-sequences": args.no_single_sequences or None,
        }
        given = next((flag for flag, value in chosen.items() if value is not None), None)
        if given is not None:
            raise InputError(f"{given}: has no meaning with --tables-only, which draws what is in -o; leave it out")
        from cmb_autoseg.pipeline.comparing import redraw
        from cmb_autoseg.progress import report

        folds = None if args.f is None else fold_list(args.f) or ()
        report(redraw(args.o, args.reference, folds))
        return ExitCode.DONE
    if args.d is None or args.r is None:
        missing = "-d DATASET" if args.d is None else "-r RECIPE"
        raise InputError(f"{missing} is missing; for example: cmb_compare -d 501 -r supervised ssl_barlow_twins -o OUT")
    from cmb_autoseg.raw_dataset import choose_folds
    from cmb_autoseg.trainers.recipe import read_recipe
    from cmb_autoseg.workspace import Workspace

    wanted = fold_list(args.f or ["all"])
    changes = {key: value for key in ("epochs", "steps_per_epoch") if (value := getattr(args, key))}
    read = [read_recipe(name) for name in args.r]
    recipes = tuple(one if one.family == "mixture" else one.model_copy(update=changes) for one in read)
    folders = Workspace.find(args.workspace).dataset(args.d)
    folds = choose_folds(folders, wanted)
    device = resolve_device(args.device)

    from cmb_autoseg.pipeline.comparing import compare
    from cmb_autoseg.pipeline.comparison_jobs import CompareSettings
    from cmb_autoseg.progress import report

    seeds, budgets = tuple(args.seeds or [0]), tuple(args.budgets or [1.0])
    views = {"subsets": args.subsets, "singles": not args.no_single_sequences}
    settings = CompareSettings(
        recipes, seeds, budgets, folds, args.reference, cross_sequence=args.cross_sequence, **views
    )
    report(compare(folders, settings, args.o, args.preset, device))
    return ExitCode.DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
