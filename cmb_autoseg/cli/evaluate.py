"""`cmb_evaluate`: predictions against references, every figure from one command."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from cmb_autoseg.cli._command import ExitCode, Parser, add_option, existing_path, run_command
from cmb_autoseg.cli._help import epilog

__all__ = ["build_parser", "main", "run"]

DESCRIPTION = """\
Score predicted masks against reference masks: lesions, voxels and counts, per case and pooled.
Masks are paired by case name: <case>.nii.gz, <case>_mask.nii.gz or <case>_dseg.nii.gz on either side."""

EPILOG = epilog(
    {
        "cmb_evaluate -p predictions --reference masks -o scores": "as the VALDO challenge counts",
        "cmb_evaluate -p predictions --reference masks -o scores --protocol overlap": "by overlap instead of distance",
    },
    writes="OUT/metrics.json, per_case.tsv, matches.tsv, failures.tsv, report.html and logs/",
    some_failed="some cases could not be scored: failures.tsv says which and why",
    see="cmb_predict; the reference of metrics defines each figure",
)


def build_parser() -> Parser:
    from cmb_autoseg.evaluation.protocols import PROTOCOLS  # standard library only

    parser = Parser("cmb_evaluate", DESCRIPTION, EPILOG)
    where = parser.add_argument_group("input and output")
    add_option(where, "-p", required=True, type=Path, metavar="PRED", help="folder of predicted masks")
    add_option(where, "--reference", required=True, type=Path, metavar="REF", help="folder of reference masks")
    add_option(where, "-o", required=True, type=Path, metavar="OUT", help="folder for the results")
    add_option(
        parser.add_argument_group("scoring"),
        "--protocol",
        choices=tuple(PROTOCOLS),
        default="valdo",
        help="when a lesion counts as found: valdo, centres of mass within 5 mm, one to one; "
        "overlap, more than 40 %% of the reference lesion covered (default: valdo)",
    )
    return parser


def run(args: Namespace) -> int:
    predicted = _existing_folder(args.p, "-p")
    reference = _existing_folder(args.reference, "--reference")
    _refuse_input_folder(args.o, predicted, reference)

    from functools import partial

    from cmb_autoseg.evaluation.evaluate import evaluate_folder, pair_masks  # numpy and scipy from here on
    from cmb_autoseg.evaluation.protocols import PROTOCOLS
    from cmb_autoseg.locking import own_folder
    from cmb_autoseg.progress import log, report, track
    from cmb_autoseg.run_log import open_log

    pair_masks(predicted, reference)  # so that wrong folders leave no empty OUT behind
    with own_folder(args.o, "cmb_evaluate", nested=False):
        evaluation = evaluate_folder(predicted, reference, PROTOCOLS[args.protocol], partial(track, title="Scoring"))
        open_log(args.o)
        evaluation.write(args.o)
    for warning in evaluation.warnings:
        log(f"warning: {warning}")
    for failure in evaluation.failures:
        log(f"failed: {failure.reason}")
    report(evaluation.table())
    report(f"\nreport: {args.o / 'report.html'}")
    return ExitCode.SOME_FAILED if evaluation.failures else ExitCode.DONE


def _existing_folder(path: Path, flag: str) -> Path:
    from cmb_autoseg.errors import InputError

    if not existing_path(path, flag).is_dir():
        raise InputError(f"{flag} {path}: is a file; give the folder that holds the masks")
    return path


def _refuse_input_folder(output: Path, predicted: Path, reference: Path) -> None:
    """Results have names (failures.tsv) that a prediction's folder holds already."""
    from cmb_autoseg.errors import InputError

    if output.resolve() in (predicted.resolve(), reference.resolve()):
        raise InputError(f"-o {output}: holds the masks to be scored; choose another folder for the results")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_command(build_parser(), run, argv)
