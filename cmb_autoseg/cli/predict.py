"""`cmb_predict`: ensembled prediction of scans."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cmb_autoseg.cli._command import (
    ExitCode,
    Parser,
    add_dataset,
    add_device,
    add_option,
    add_workspace,
    fold_list,
    positive_int,
    resolve_device,
    run_command,
)

ROLES = ("swi", "gre_mag", "qsm")


def build_parser() -> Parser:
    parser = Parser(
        "cmb_predict",
        "Find microbleeds: probability map, mask, table of lesions and a picture for every scan.",
        "examples:\n"
        "  cmb_predict -i scan.nii.gz -o out -d 501 -r supervised\n"
        "  cmb_predict -i folder_of_scans -o out -m MODEL_DIR --operating-point screening\n"
        "  cmb_predict -i dicom_folder -o out -m MODEL_DIR --echo 2\n"
        "IN is a NIfTI file, a folder of them (CASE_0000.nii.gz or any names), a DICOM folder or a card.",
    )
    add_option(parser, "-i", required=True, metavar="IN", help="scans: file, folder, DICOM folder or card")
    add_option(parser, "-o", type=Path, required=True, metavar="OUT", help="where results are written")
    add_dataset(parser, required=False)
    add_option(parser, "-r", default="supervised", metavar="RECIPE", help="recipe of the model, with -d")
    add_option(parser, "-p", "--preset", choices=("adaptive", "s0"), help="plan of the model, with -d")
    add_option(parser, "-m", type=Path, metavar="MODEL_DIR", help="a model folder instead of -d")
    add_option(parser, "-f", nargs="+", metavar="FOLD", help="folds of the ensemble (default: all trained ones)")
    add_option(parser, "--echo", type=positive_int, metavar="N", help="which echo of multi-echo scans, from 1")
    add_option(parser, "--role", choices=ROLES, help="what single scans are, where their names do not say it")
    add_option(parser, "--split", choices=("train", "test"), help="of a card, predict only these cases")
    add_option(
        parser,
        "--operating-point",
        default="counting",
        metavar="POINT",
        help="counting (default), screening, youden, or a probability like 0.35",
    )
    add_option(parser, "--trust-model", action="store_true", help="load a model that may run foreign code")
    add_device(parser)
    add_workspace(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.geometry import is_nifti
    from cmb_autoseg.inference.inputs import find_cases
    from cmb_autoseg.inference.model_folder import find_model, operating_point, planned_channels
    from cmb_autoseg.records import Role

    folder = find_model(args.m, args.d, args.r, args.preset, args.workspace)
    point = operating_point(folder, args.operating_point)
    folds = None if args.f is None else fold_list(args.f)
    made = not args.o.exists()
    with tempfile.TemporaryDirectory(prefix="cmb_predict_") as scratch:
        role = Role(args.role) if args.role else None
        cases, failures = find_cases(Path(args.i), planned_channels(folder), args.echo, role, Path(scratch))
        if args.split is not None:
            cases = [case for case in cases if case.split == args.split]
        if not cases:
            raise InputError(f"-i {args.i}: no usable case ({'; '.join(failure.reason for failure in failures)})")
        from cmb_autoseg.files import writable_folder

        writable_folder(args.o)
        try:
            from cmb_autoseg.inference.ensemble import Ensemble
            from cmb_autoseg.inference.predict import predict_case, predict_cases
            from cmb_autoseg.progress import track

            ensemble = Ensemble(folder, folds, resolve_device(args.device), args.trust_model)
            if Path(args.i).is_file() and is_nifti(Path(args.i)):
                # A single bad file is bad input, not a cohort with a failure.
                predict_case(cases[0], ensemble, point, args.o)
            results, failed = predict_cases(
                cases, failures, ensemble, point, args.o, lambda todo: track(todo, "Predicting")
            )
        except BaseException:
            if made and not any(args.o.iterdir()):
                args.o.rmdir()
            raise
    _report(results, failed, args.o)
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


def _report(results: Sequence[object], failed: Sequence[object], out: Path) -> None:
    from cmb_autoseg.inference.predict import CaseResult
    from cmb_autoseg.progress import log

    for result in results:
        assert isinstance(result, CaseResult)
        print(f"{result.table.case}: {len(result.table.lesions)} lesions")
        for warning in result.warnings:
            log(f"warning: {result.table.case}: {warning}")
    for failure in failed:
        log(f"failed: {failure.case}: {failure.reason}")  # type: ignore[attr-defined]
    print(f"{len(results)} of {len(results) + len(failed)} cases predicted; tables, masks and pictures: {out}")


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
