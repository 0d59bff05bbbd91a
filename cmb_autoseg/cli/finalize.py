"""`cmb_finalize`: out-of-fold predictions, cross-validation report, operating points, model card."""

import argparse
from collections.abc import Sequence

from cmb_autoseg.cli._command import (
    ExitCode,
    Parser,
    add_dataset,
    add_device,
    add_preset,
    add_workspace,
    resolve_device,
    run_command,
)
from cmb_autoseg.cli._help import epilog
from cmb_autoseg.cli._recipes import add_recipe


def build_parser() -> Parser:
    parser = Parser(
        "cmb_finalize",
        "Predict every training case with the fold that has not seen it, choose operating points, "
        "report the cross-validation and write the model card.",
        epilog(
            {
                "cmb_finalize -d 501": "after all folds of the recipe supervised",
                "cmb_finalize -d 501 -r demo -device cpu": "another recipe, without a GPU",
            },
            writes="in the model's folder: crossvalidation/, operating_points.json and, last, model.json;\n"
            "WORKSPACE/logs/",
            see="cmb_train -f all, which ends with this; cmb_predict, which comes next",
        ),
    )
    model = parser.add_argument_group("model")
    add_dataset(model)
    add_recipe(model, "recipe: a name or a YAML file (default: supervised)", default="supervised")
    add_preset(model)
    run = parser.add_argument_group("run")
    add_device(run)
    add_workspace(run)
    return parser


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.inference.model_choice import find_model
    from cmb_autoseg.workspace import Workspace

    folder = find_model(None, args.d, args.r, args.preset, args.workspace)
    folders = Workspace.find(args.workspace).dataset(args.d)

    from cmb_autoseg.pipeline.finalizing import finalize
    from cmb_autoseg.progress import report

    report(finalize(folders, folder, resolve_device(args.device)))
    return ExitCode.DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
