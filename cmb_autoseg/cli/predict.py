"""`cmb_predict`: ensembled prediction of scans."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cmb_autoseg.cli._command import Parser, add_option, resolve_device, run_command
from cmb_autoseg.cli._help import epilog
from cmb_autoseg.cli._prediction import add_choices, add_model, chosen_model, tell_results
from cmb_autoseg.cli._preparation import add_preparation, preparation

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
                "cmb_predict -i bids_root -o bids_root/derivatives/cmb_autoseg -d 501 --bids": "BIDS in, BIDS out",
                "cmb_predict -i dicom_folder -o predictions -d 501 --echo 2": "the second echo of DICOM series",
            },
            writes="OUT/CASE_prob.nii.gz, CASE_mask.nii.gz, CASE_lesions.tsv, CASE_overlay.png, CASE.json;\n"
            "for the run lesions.tsv, counts.tsv, failures.tsv, run.json, logs/; finished cases are skipped;\n"
            "with --bids OUT/sub-LABEL/[ses-LABEL/]anat/*_dseg.nii.gz and so on",
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
        help="a NIfTI file, a folder of them (CASE_0000.nii.gz or any names), a BIDS root, a DICOM folder or a card",
    )
    add_option(where, "-o", type=Path, required=True, metavar="OUT", help="folder for the results")
    add_option(where, "--bids", action="store_true", help="write BIDS derivatives (default: all files in one folder)")
    add_choices(where)
    add_option(where, "--role", choices=ROLES, help="what single scans are, where their names do not say it")
    add_option(where, "--split", choices=("train", "test"), help="of a card, predict only these cases (default: all)")
    add_model(parser)
    add_preparation(parser, trained=True)
    return parser


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.inference.bids_layout import BidsLayout
    from cmb_autoseg.inference.inputs import InputSettings, find_cases, is_bids, is_single_file
    from cmb_autoseg.inference.layouts import FlatLayout
    from cmb_autoseg.inference.model_folder import trained_plan
    from cmb_autoseg.inference.run import predict_scans
    from cmb_autoseg.preprocessing.settings import needed_roles, prepared_by
    from cmb_autoseg.records import Role
    from cmb_autoseg.workspace import Workspace

    source = _input(args.i, args.o)
    model = chosen_model(args)
    workspace = Workspace.find(args.workspace)
    wanted = preparation(args, workspace)
    with tempfile.TemporaryDirectory(prefix="cmb_predict_") as scratch:
        settings = InputSettings(
            roles=needed_roles(trained_plan(model.folder).channels, wanted),
            echo=args.echo,
            role=Role(args.role) if args.role else None,
            prefer=tuple(args.prefer or ()),
            scratch=Path(scratch),
            workspace=workspace,
        )
        cases, failures = find_cases(source, settings)
        if args.split is not None:
            cases = [case for case in cases if case.split == args.split]
        cases = prepared_by(wanted, cases)
        if not cases and (args.split is not None or not failures):
            raise InputError(f"-i {args.i}: no usable case{f' of split {args.split}' if args.split else ''} in it")
        raw = source if source.is_dir() and is_bids(source) else None
        layout = BidsLayout(args.o, raw) if args.bids else FlatLayout(args.o)
        # A single bad file is bad input, not a cohort with a failure.
        single = is_single_file(source)
        device = resolve_device(args.device)
        results, failed = predict_scans(cases, failures, model, device, layout, "cmb_predict", refuse=single)
    return tell_results(results, failed, args.o)


def _input(text: str, out: Path) -> Path:
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.inference.inputs import refuse_raw_data

    if not text.strip():
        raise InputError("-i: found nothing, expected a scan, a folder of scans, a DICOM folder or a card")
    if Path(text).is_dir() and Path(text).resolve() == out.resolve():
        raise InputError(f"-o {out}: holds the scans, and results among them would be taken for scans; choose another")
    refuse_raw_data(out, "-o")
    return Path(text)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
