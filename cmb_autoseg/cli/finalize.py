"""`cmb_finalize`: out-of-fold predictions, cross-validation report, operating points, model card."""

import argparse
from collections.abc import Sequence

from cmb_autoseg.cli._command import (
    ExitCode,
    Parser,
    add_dataset,
    add_device,
    add_option,
    add_preset,
    add_workspace,
    resolve_device,
    run_command,
)


def build_parser() -> Parser:
    parser = Parser(
        "cmb_finalize",
        "Predict every training case with the fold that has not seen it, choose operating points, "
        "report the cross-validation and write the model card.",
        "example:\n  cmb_finalize -d 501 -r supervised",
    )
    add_dataset(parser)
    add_option(parser, "-r", default="supervised", metavar="RECIPE", help="recipe (default: supervised)")
    add_preset(parser)
    add_device(parser)
    add_workspace(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.inference.model_folder import find_model
    from cmb_autoseg.workspace import Workspace

    folder = find_model(None, args.d, args.r, args.preset, args.workspace)
    folders = Workspace.find(args.workspace).dataset(args.d)

    from cmb_autoseg.pipeline import finalize

    print(finalize(folders, folder, resolve_device(args.device)))
    return ExitCode.DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
