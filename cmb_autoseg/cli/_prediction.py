"""What the commands that predict share: choosing a model, and telling what came of it."""

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
    add_workspace,
    fold_list,
    positive_int,
)

if TYPE_CHECKING:
    from cmb_autoseg.inference.inputs import InputFailure
    from cmb_autoseg.inference.layouts import CaseResult
    from cmb_autoseg.inference.run import ModelChoice

__all__ = ["add_choices", "add_model", "chosen_model", "tell_results"]


def add_choices(group: argparse._ActionsContainer) -> None:
    """Options that choose among several files of one sequence."""
    add_option(group, "--echo", type=positive_int, metavar="N", help="which echo of multi-echo scans, from 1")
    add_option(
        group,
        "--prefer",
        nargs="+",
        metavar="TAG",
        help="of several acquisitions or runs in BIDS, take those with this in their names: acq-hires, run-2",
    )


def add_model(parser: Parser) -> None:
    """Options that name the model, and where it runs."""
    model = parser.add_argument_group("model (-d or -m)")
    add_dataset(model, required=False)
    add_option(
        model, "-r", default="supervised", metavar="RECIPE", help="recipe of the model, with -d (default: supervised)"
    )
    add_preset(model)
    add_option(model, "-m", type=Path, metavar="MODEL_DIR", help="a model folder instead of -d")
    add_option(model, "-f", nargs="+", metavar="FOLD", help="folds of the ensemble (default: all trained ones)")
    add_option(
        model,
        "--operating-point",
        default="counting",
        metavar="POINT",
        help="counting, screening, youden, or a probability like 0.35 (default: counting)",
    )
    add_option(
        model, "--trust-model", action="store_true", help="load a model that may run foreign code (default: refuse it)"
    )
    run = parser.add_argument_group("run")
    add_device(run)
    add_workspace(run)


def chosen_model(args: argparse.Namespace) -> "ModelChoice":
    """The model that the options name.

    Raises:
        InputError: there is no such model, fold or operating point.
    """
    from cmb_autoseg.inference.model_folder import find_model, operating_point
    from cmb_autoseg.inference.run import ModelChoice

    folder = find_model(args.m, args.d, args.r, args.preset, args.workspace)
    point = operating_point(folder, args.operating_point)
    folds = None if args.f is None else fold_list(args.f)
    return ModelChoice(folder, folds, point, args.trust_model)


def tell_results(results: "Sequence[CaseResult]", failed: "Sequence[InputFailure]", out: Path) -> ExitCode:
    """Print what was found, warnings and failures; the exit code of the run."""
    from cmb_autoseg.progress import log, report

    for result in results:
        earlier = "" if result.seconds else " (predicted by an earlier run)"
        report(f"{result.table.case}: {len(result.table.lesions)} lesions{earlier}")
        for warning in result.warnings:
            log(f"warning: {result.table.case}: {warning}")
    for failure in failed:
        log(f"failed: {failure.case}: {failure.reason}")
    report(f"{len(results)} of {len(results) + len(failed)} cases predicted; tables, masks and pictures: {out}")
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE
