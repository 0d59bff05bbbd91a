"""`cmb_bids`: prediction of a BIDS dataset, with the arguments of a BIDS App."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cmb_autoseg.cli._command import ExitCode, Parser, add_option, existing_path, resolve_device, run_command
from cmb_autoseg.cli._help import epilog
from cmb_autoseg.cli._prediction import add_choices, add_model, chosen_model, tell_results
from cmb_autoseg.cli._preparation import add_preparation, preparation

if TYPE_CHECKING:
    from cmb_autoseg.inference.inputs import InputFailure
    from cmb_autoseg.records import Case


def build_parser() -> Parser:
    parser = Parser(
        "cmb_bids",
        "Find microbleeds in a BIDS dataset and write BIDS derivatives: participants one by one or in parallel,\n"
        "then the tables of the group.",
        epilog(
            {
                "cmb_bids /data/raw /data/derivatives/cmb_autoseg participant -d 501": "all participants",
                "cmb_bids raw derivatives participant --participant-label 01 02 -m /models/clinic": "two of them",
                "cmb_bids raw derivatives group": "tables over all participants that were predicted",
            },
            writes="OUT/sub-LABEL/[ses-LABEL/]anat: dseg, probseg and desc-lesions_dseg with sidecars, figures;\n"
            "OUT/logs; with group OUT/counts.tsv, lesions.tsv and failures.tsv",
            some_failed="some scans could not be predicted: OUT/logs/*_failure.json says why, and so does failures.tsv",
            see="cmb_predict --bids, which does both levels at once",
        ),
    )
    add_option(parser, "bids_dir", type=Path, metavar="IN", help="root of the BIDS dataset")
    add_option(parser, "output_dir", type=Path, metavar="OUT", help="root of the derivatives")
    add_option(
        parser,
        "analysis_level",
        choices=("participant", "group"),
        help="participant: predict; group: make tables of what was predicted",
    )
    chosen = parser.add_argument_group("input")
    add_option(
        chosen,
        "--participant-label",
        nargs="+",
        metavar="LABEL",
        help="only these, with or without sub- (default: all)",
    )
    add_option(
        chosen, "--session-label", nargs="+", metavar="LABEL", help="only these, with or without ses- (default: all)"
    )
    add_choices(chosen)
    add_model(parser)
    add_preparation(parser, trained=True)
    return parser


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.errors import InputError
    from cmb_autoseg.inference.inputs import is_bids, refuse_raw_data

    root = existing_path(args.bids_dir, "IN")
    if not root.is_dir() or not is_bids(root):
        raise InputError(f"IN {root}: no BIDS dataset (no dataset_description.json, no sub-*/anat); give its root")
    if root.resolve() == args.output_dir.resolve():
        raise InputError(f"OUT {args.output_dir}: is the dataset itself; choose a folder like {root}/derivatives/cmb")
    refuse_raw_data(args.output_dir, "OUT")
    return _group(args.output_dir) if args.analysis_level == "group" else _participants(args, root)


def _participants(args: argparse.Namespace, root: Path) -> int:
    from cmb_autoseg.inference.bids_layout import BidsLayout
    from cmb_autoseg.inference.inputs import InputSettings, find_cases
    from cmb_autoseg.inference.model_folder import trained_plan
    from cmb_autoseg.inference.run import predict_scans
    from cmb_autoseg.preprocessing.settings import needed_roles, prepared_by
    from cmb_autoseg.workspace import Workspace

    subjects = _known(args.participant_label, "sub-", root.glob("sub-*"), "--participant-label")
    sessions = _known(args.session_label, "ses-", root.glob("sub-*/ses-*"), "--session-label")
    model = chosen_model(args)
    wanted = preparation(args, Workspace.find(args.workspace))
    roles = needed_roles(trained_plan(model.folder).channels, wanted)
    settings = InputSettings(roles, args.echo, prefer=tuple(args.prefer or ()))
    cases, failures = _of(subjects, sessions, *find_cases(root, settings))
    cases = prepared_by(wanted, cases)
    layout = BidsLayout(args.output_dir, root, gathers=False)
    results, failed = predict_scans(cases, failures, model, resolve_device(args.device), layout, "cmb_bids")
    return tell_results(results, failed, args.output_dir)


def _known(labels: Sequence[str] | None, prefix: str, folders: Iterable[Path], flag: str) -> set[str] | None:
    """The folders' names that the labels mean; None for all.

    Raises:
        InputError: there is no folder of a label.
    """
    from cmb_autoseg.errors import InputError

    if labels is None:
        return None
    there = {path.name for path in folders if path.is_dir()}
    wanted = {prefix + label.removeprefix(prefix) for label in labels}
    unknown = sorted(name.removeprefix(prefix) for name in wanted - there)
    if unknown:
        listed = ", ".join(sorted(name.removeprefix(prefix) for name in there)) or "none"
        raise InputError(f"{flag} {' '.join(unknown)}: not in the dataset; there are {listed}")
    return wanted


def _of(
    subjects: set[str] | None, sessions: set[str] | None, cases: "Sequence[Case]", failures: "Sequence[InputFailure]"
) -> "tuple[list[Case], list[InputFailure]]":
    """What belongs to the wanted participants and sessions.

    Raises:
        InputError: nothing does.
    """
    from cmb_autoseg.errors import InputError

    def wanted(name: str) -> bool:
        subject, _, session = name.partition("_")
        return (subjects is None or subject in subjects) and (sessions is None or session in sessions)

    kept = [case for case in cases if wanted(case.name)], [failure for failure in failures if wanted(failure.case)]
    if not any(kept):
        raise InputError("--participant-label, --session-label: no scan of these participants in these sessions")
    return kept


def _group(out: Path) -> int:
    from cmb_autoseg.inference.bids_layout import gather
    from cmb_autoseg.locking import own_folder
    from cmb_autoseg.progress import report

    existing_path(out, "OUT")
    with own_folder(out, "cmb_bids group", nested=False):
        predicted, failed = gather(out)
    report(f"{predicted} of {predicted + failed} cases predicted; tables: {out}")
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
