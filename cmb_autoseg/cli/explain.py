"""`cmb_explain`: Grad-CAM maps of lesions and candidates."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cmb_autoseg.cli._command import (
    ExitCode,
    Parser,
    add_option,
    non_negative_int,
    positive_int,
    resolve_device,
    run_command,
)
from cmb_autoseg.cli._help import epilog
from cmb_autoseg.cli._prediction import add_input, add_model, chosen_model, find_scans, input_path
from cmb_autoseg.cli._preparation import add_preparation

if TYPE_CHECKING:
    from cmb_autoseg.explanation import ExplainedCase
    from cmb_autoseg.inference.inputs import InputFailure


def build_parser() -> Parser:
    parser = Parser(
        "cmb_explain",
        "Show what a model's lesions and candidates rest on: Grad-CAM maps, and what each sequence adds.",
        epilog(
            {
                "cmb_explain -i new_scans -o explained -d 501": "lesions and candidates of a folder's scans",
                "cmb_explain -i scan.nii.gz -o explained -m /models/clinic -f 0": "one scan, one fold",
                "cmb_explain -i new_scans -o explained -d 501 --reference masks": (
                    "with known lesions: hits, false positives and missed ones"
                ),
            },
            writes="OUT/CASE_gradcam.nii.gz, CASE_gradcam.tsv, CASE_gradcam.png, CASE_gradcam.json;\n"
            "for the run failures.tsv, run.json, logs/; finished cases are skipped",
            some_failed="some scans could not be explained: failures.tsv says which and why",
            see="cmb_predict, which writes the lesions themselves",
        ),
    )
    where = parser.add_argument_group("input and output")
    add_input(where)
    add_option(where, "-o", type=Path, required=True, metavar="OUT", help="folder for the results")
    add_option(
        where,
        "--reference",
        type=Path,
        dest="masks",  # `reference` is the sequence whose grid a case is prepared on
        metavar="REF",
        help="folder of reference masks, named as for cmb_evaluate; missed lesions are explained too (default: none)",
    )
    what = parser.add_argument_group("explanation")
    add_option(
        what,
        "--method",
        choices=("hirescam", "gradcam"),
        default="hirescam",
        help="how features are weighted: place by place, or by their mean gradient, which says little of small lesions "
        "(default: hirescam)",
    )
    add_option(
        what,
        "--level",
        type=non_negative_int,
        metavar="K",
        help="level of the network whose features are mapped: 0 is the encoder's finest, the highest the decoder's "
        "finest (default: 1, the encoder's second finest)",
    )
    add_option(
        what,
        "--max-lesions",
        type=positive_int,
        default=6,
        metavar="N",
        help="most findings of each kind: lesions or hits, false positives, missed lesions, candidates "
        "(default: 6, the most probable)",
    )
    add_model(parser)
    add_preparation(parser, trained=True)
    return parser


def run(args: argparse.Namespace) -> int:
    source = input_path(args.i, args.o)
    model = chosen_model(args, _refuse_other_kinds)
    references = None if args.masks is None else _references(args.masks, args.o)
    device = resolve_device(args.device)
    with tempfile.TemporaryDirectory(prefix="cmb_explain_") as scratch:
        found = find_scans(args, source, model, Path(scratch))
        _refuse_foreign_references(args.masks, references, [case.name for case in found.cases])

        from cmb_autoseg.progress import telling

        with telling("loading PyTorch ..."):
            from cmb_autoseg.pipeline.explaining import ExplainSettings, explain_scans

        settings = ExplainSettings(args.level, args.method, args.max_lesions, references)
        results, failed = explain_scans(
            found.cases, found.failures, model, device, args.o, settings, refuse=found.single
        )
    return _tell(results, failed, args.o)


def _refuse_other_kinds(folder: Path) -> None:
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.inference.loading import family_of

    family = family_of(folder)
    if family != "patches":
        raise InputError(
            f"{folder}: is a model of the kind {family}, and Grad-CAM explains models of 3D patches alone; name one of "
            "these with -r or -m"
        )


def _references(folder: Path, out: Path) -> dict[str, Path]:
    from cmb_autoseg.cli._command import existing_path
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.evaluation.inputs.naming import find_masks

    if not existing_path(folder, "--reference").is_dir():
        raise InputError(f"--reference {folder}: is a file; give the folder that holds the masks")
    if folder.resolve() == out.resolve():
        raise InputError(f"-o {out}: holds the reference masks; choose another folder for the results")
    return find_masks(folder)


def _refuse_foreign_references(folder: Path, references: dict[str, Path] | None, cases: list[str]) -> None:
    """Masks of which none belongs to a scan are those of another cohort, or named otherwise."""
    from cmb_autoseg.errors import InputError

    if references is not None and cases and not references.keys() & set(cases):
        raise InputError(
            f"--reference {folder}: has masks of {', '.join(list(references)[:3])}, but -i has "
            f"{', '.join(cases[:3])}; name the masks after the cases"
        )


def _tell(results: "Sequence[ExplainedCase]", failed: "Sequence[InputFailure]", out: Path) -> ExitCode:
    from cmb_autoseg.progress import log, report

    names = {"lesion": "lesions", "hit": "hits", "fp": "false positives", "missed": "missed", "candidate": "candidates"}
    for result in results:
        earlier = "" if result.seconds else " (by an earlier run)"
        counted = ", ".join(f"{names[kind]}: {count}" for kind, count in result.kinds.items()) or "nothing to explain"
        report(f"{result.case}: {counted}{earlier}")
        for warning in result.warnings:
            log(f"warning: {result.case}: {warning}")
    for failure in failed:
        log(f"failed: {failure.case}: {failure.reason}")
    report(f"{len(results)} of {len(results) + len(failed)} cases explained; maps, tables and pictures: {out}")
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
