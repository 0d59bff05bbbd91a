"""`cmb_predict`: ensembled prediction of scans."""

import argparse
import tempfile
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
    resolve_device,
    run_command,
)
from cmb_autoseg.cli._help import epilog

if TYPE_CHECKING:
    from cmb_autoseg.inference.inputs import InputFailure
    from cmb_autoseg.inference.predict import CaseResult

ROLES = ("swi", "gre_mag", "qsm")


def build_parser() -> Parser:
    parser = Parser(
        "cmb_predict",
        "Find microbleeds: probability map, mask, table of lesions and a picture for every scan.",
        epilog(
            {
                "cmb_predict -i new_scans -o predictions -d 501": "a folder, with the model of dataset 501",
                "cmb_predict -i scan.nii.gz -o predictions -m /models/clinic --operating-point screening": (
                    "one scan, with a model folder; rather too many lesions than too few"
                ),
                "cmb_predict -i dicom_folder -o predictions -d 501 --echo 2": "the second echo of DICOM series",
            },
            writes="OUT/CASE_prob.nii.gz, CASE_mask.nii.gz, CASE_lesions.tsv, CASE_overlay.png, CASE.json;\n"
            "for the run lesions.tsv, counts.tsv, failures.tsv, run.json; finished cases are skipped",
            some_failed="some scans could not be predicted: failures.tsv says which and why",
            see="cmb_evaluate, which compares with masks",
        ),
    )
    where = parser.add_argument_group("input and output")
    add_option(
        where,
        "-i",
        required=True,
        metavar="IN",
        help="a NIfTI file, a folder of them (CASE_0000.nii.gz or any names), a DICOM folder or a card",
    )
    add_option(where, "-o", type=Path, required=True, metavar="OUT", help="folder for the results")
    add_option(where, "--echo", type=positive_int, metavar="N", help="which echo of multi-echo scans, from 1")
    add_option(where, "--role", choices=ROLES, help="what single scans are, where their names do not say it")
    add_option(where, "--split", choices=("train", "test"), help="of a card, predict only these cases (default: all)")
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
    return parser


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.geometry import is_nifti
    from cmb_autoseg.inference.inputs import find_cases
    from cmb_autoseg.inference.model_folder import find_model, operating_point, trained_plan
    from cmb_autoseg.locking import own_folder
    from cmb_autoseg.records import Role

    source = _input(args.i, args.o)
    folder = find_model(args.m, args.d, args.r, args.preset, args.workspace)
    point = operating_point(folder, args.operating_point)
    folds = None if args.f is None else fold_list(args.f)
    with tempfile.TemporaryDirectory(prefix="cmb_predict_") as scratch:
        role = Role(args.role) if args.role else None
        cases, failures = find_cases(source, trained_plan(folder).channels, args.echo, role, Path(scratch))
        if args.split is not None:
            cases = [case for case in cases if case.split == args.split]
        if not cases and (args.split is not None or not failures):
            raise InputError(f"-i {args.i}: no usable case{f' of split {args.split}' if args.split else ''} in it")
        with own_folder(args.o, "cmb_predict"):
            from cmb_autoseg.inference.ensemble import Ensemble
            from cmb_autoseg.inference.predict import predict_cases
            from cmb_autoseg.progress import track

            ensemble = Ensemble(folder, folds, resolve_device(args.device), args.trust_model)
            # A single bad file is bad input, not a cohort with a failure.
            single = source.is_file() and is_nifti(source)
            results, failed = predict_cases(
                cases, failures, ensemble, point, args.o, lambda todo: track(todo, "Predicting"), single
            )
    _report(results, failed, args.o)
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


def _input(text: str, out: Path) -> Path:
    from cmb_autoseg.errors import InputError

    if not text.strip():
        raise InputError("-i: found nothing, expected a scan, a folder of scans, a DICOM folder or a card")
    if Path(text).is_dir() and Path(text).resolve() == out.resolve():
        raise InputError(f"-o {out}: holds the scans, and results among them would be taken for scans; choose another")
    return Path(text)


def _report(results: "Sequence[CaseResult]", failed: "Sequence[InputFailure]", out: Path) -> None:
    from cmb_autoseg.progress import log, report

    for result in results:
        report(f"{result.table.case}: {len(result.table.lesions)} lesions")
        for warning in result.warnings:
            log(f"warning: {result.table.case}: {warning}")
    for failure in failed:
        log(f"failed: {failure.case}: {failure.reason}")
    report(f"{len(results)} of {len(results) + len(failed)} cases predicted; tables, masks and pictures: {out}")


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
