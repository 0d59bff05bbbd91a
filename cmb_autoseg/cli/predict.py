"""`cmb_predict`: ensembled prediction of scans."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cmb_autoseg.cli._command import Parser, add_option, resolve_device, run_command
from cmb_autoseg.cli._help import epilog
from cmb_autoseg.cli._prediction import add_input, add_model, chosen_model, find_scans, input_path, tell_results
from cmb_autoseg.cli._preparation import add_preparation


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
    add_input(where)
    add_option(where, "-o", type=Path, required=True, metavar="OUT", help="folder for the results")
    add_option(where, "--bids", action="store_true", help="write BIDS derivatives (default: all files in one folder)")
    add_model(parser)
    add_preparation(parser, trained=True)
    return parser


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.inference.bids_layout import BidsLayout
    from cmb_autoseg.inference.inputs import is_bids
    from cmb_autoseg.inference.layouts import FlatLayout
    from cmb_autoseg.inference.run import predict_scans

    source = input_path(args.i, args.o)
    model = chosen_model(args)
    with tempfile.TemporaryDirectory(prefix="cmb_predict_") as scratch:
        found = find_scans(args, source, model, Path(scratch))
        raw = source if source.is_dir() and is_bids(source) else None
        layout = BidsLayout(args.o, raw) if args.bids else FlatLayout(args.o)
        device = resolve_device(args.device)
        results, failed = predict_scans(
            found.cases, found.failures, model, device, layout, "cmb_predict", refuse=found.single
        )
    return tell_results(results, failed, args.o)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
