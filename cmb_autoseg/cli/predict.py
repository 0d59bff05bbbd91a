"""`cmb_predict`: ensembled prediction of scans."""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cmb_autoseg.cli._command import Parser, add_option, non_negative_int, positive_int, resolve_device, run_command
from cmb_autoseg.cli._help import epilog
from cmb_autoseg.cli._prediction import add_input, add_model, chosen_model, find_scans, input_path, tell_results
from cmb_autoseg.cli._preparation import add_preparation

if TYPE_CHECKING:
    from cmb_autoseg.inference.parts import Part


def build_parser() -> Parser:
    parser = Parser(
        "cmb_predict",
        "Find microbleeds: probability map, mask, table of lesions and a picture for every scan.",
        epilog(
            {
                "cmb_predict -i scan.nii.gz -o predictions": "one scan, with the starter model of the package",
                "cmb_predict -i new_scans -o predictions -d 501": "a folder, with the model of dataset 501",
                "cmb_predict -i new_scans -o predictions -m /models/clinic --operating-point screening": (
                    "with a model folder; rather too many lesions than too few"
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
    speed = parser.add_argument_group("speed")
    add_option(
        speed,
        "--fast",
        action="store_true",
        help="cover the brain with the first fold alone, not with two; faster, and may miss what that one misses",
    )
    parts = parser.add_argument_group("a part of the scans (several processes or machines, one OUT)")
    add_option(
        parts,
        "-num_parts",
        type=positive_int,
        metavar="N",
        help="deal the subjects into N parts; the last joins the tables",
    )
    add_option(parts, "-part_id", type=non_negative_int, metavar="K", help="predict part K of them, from 0")
    add_option(parts, "--slurm-array", action="store_true", help="take both from the variables of a SLURM job array")
    add_preparation(parser, trained=True)
    return parser


def chosen_part(args: argparse.Namespace) -> "Part | None":
    """The part that the options name; None for all.

    Raises:
        InputError: half of a part, or one that there is not.
    """
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.inference.parts import Part, slurm_part

    number, count = args.part_id, args.num_parts
    if args.slurm_array:
        if number is not None or count is not None:
            raise InputError("--slurm-array: found -num_parts or -part_id too; give either")
        return slurm_part()
    if number is None and count is None:
        return None
    if number is None or count is None:
        given, missing = ("-part_id", "-num_parts") if count is None else ("-num_parts", "-part_id")
        raise InputError(f"{given}: found without {missing}; give both, such as -num_parts 10 -part_id 0")
    if number >= count:
        raise InputError(f"-part_id: found {number}, expected a number from 0 to {count - 1} with -num_parts {count}")
    return Part(number, count)


def run(args: argparse.Namespace) -> int:
    part = chosen_part(args)
    source = input_path(args.i, args.o)
    model = replace(chosen_model(args), fast=args.fast)

    from cmb_autoseg.inference.bids_layout import BidsLayout
    from cmb_autoseg.inference.inputs import is_bids
    from cmb_autoseg.inference.layouts import FlatLayout
    from cmb_autoseg.inference.run import predict_scans

    with tempfile.TemporaryDirectory(prefix="cmb_predict_") as scratch:
        found = find_scans(args, source, model, Path(scratch))
        raw = source if source.is_dir() and is_bids(source) else None
        layout = BidsLayout(args.o, raw) if args.bids else FlatLayout(args.o)
        device = resolve_device(args.device)
        results, failed = predict_scans(
            found.cases, found.failures, model, device, layout, "cmb_predict", refuse=found.single, part=part
        )
    written = "tables, masks and pictures" if part is None else "masks and pictures"
    return tell_results(results, failed, args.o, written)


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
