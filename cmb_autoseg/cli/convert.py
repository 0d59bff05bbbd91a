"""`cmb_convert`: the scans that cards describe, as one raw dataset."""

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cmb_autoseg.cli._command import (
    ExitCode,
    Parser,
    add_dataset,
    add_device,
    add_option,
    add_workspace,
    positive_int,
    run_command,
)
from cmb_autoseg.cli._help import epilog
from cmb_autoseg.cli._preparation import add_preparation, preparation

if TYPE_CHECKING:
    from cmb_autoseg.preprocessing.settings import Preparation
    from cmb_autoseg.workspace import DatasetFolders, Workspace

EPILOG = epilog(
    {
        "cmb_convert my_card.yaml -d 501": "one cohort; the dataset gets the cohort's name",
        "cmb_convert valdo=/data/VALDO/Task2 my_card.yaml -d Dataset502_BOTH --jobs 4": "two cohorts as one dataset",
    },
    writes="WORKSPACE/raw/DatasetNNN_NAME/: prepared volumes, cases.tsv, exclusions.tsv, conversion_log.txt;\n"
    "quality control (qc.html to look through, qc.tsv), participant_flow.*, cohorts.tsv;\n"
    "your own files are only read, and a repeated run does only what has changed",
    some_failed="some cases were left out: exclusions.tsv says which and why; without any usable case it is 2",
    see="cmb_cohort check, which tries cards out; cmb_plan_preprocess, which comes next",
)


def build_parser() -> Parser:
    parser = Parser("cmb_convert", "Prepare the scans that one or more cards describe as one raw dataset.", EPILOG)
    where = parser.add_argument_group("input and output")
    where.add_argument(
        "cards",
        nargs="+",
        metavar="CARD[=ROOT]",
        help="path of a card or name of a shipped one; =ROOT says where its files are",
    )
    add_dataset(where, help="new or existing dataset: a number from 1 to 999 or Dataset501_NAME")
    add_workspace(where)
    run = parser.add_argument_group("run")
    add_option(
        run,
        "--jobs",
        type=positive_int,
        metavar="N",
        help="scans prepared at a time (default: as many as processors, memory and the number of scans allow)",
    )
    add_device(run)
    add_preparation(parser)
    return parser


def convert_cards(
    cards: Sequence[str],
    wanted: str,
    workspace: "Workspace",
    preparation: "Preparation",
    jobs: int | None = None,
) -> "tuple[DatasetFolders, ExitCode]":
    """Convert cards to the dataset that `-d` names; says on the terminal what was done.

    Raises:
        CMBError: see `read_card` and `convert`.
    """
    from cmb_autoseg.dataset_conversion.card_file import parse_card
    from cmb_autoseg.dataset_conversion.conversion import convert, workspace_salt
    from cmb_autoseg.dataset_conversion.sorting.resolver import find_cases
    from cmb_autoseg.progress import log, report

    opened = [parse_card(card) for card in cards]
    folders = workspace.new_dataset(wanted, "_".join(dict.fromkeys(each.card.name for each in opened)))
    salt = workspace_salt(workspace) if any(each.card.privacy.hash_ids for each in opened) else None
    cohorts = [find_cases(each, salt).prepared_by(preparation) for each in opened]
    for warning in (warning for cohort in cohorts for warning in cohort.warnings):
        log(f"warning: {warning}")
    conversion = convert(cohorts, folders, jobs)
    for exclusion in conversion.exclusions:
        log(f"left out: {exclusion.cohort} {exclusion.case}: {exclusion.reason}")
    cases = conversion.dataset.cases
    report(
        f"{folders.raw}: {len(cases)} cases ({sum(case.labelled for case in cases)} labelled, "
        f"{sum(case.split == 'test' for case in cases)} test, {conversion.n_unchanged} unchanged), "
        f"{len(conversion.exclusions)} left out; channels {', '.join(conversion.dataset.roles)}"
    )
    return folders, ExitCode.SOME_FAILED if conversion.failures else ExitCode.DONE


def run(args: Namespace) -> int:
    from cmb_autoseg.workspace import Workspace

    workspace = Workspace.find(args.workspace)
    return convert_cards(args.cards, args.d, workspace, preparation(args, workspace), args.jobs)[1]


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
