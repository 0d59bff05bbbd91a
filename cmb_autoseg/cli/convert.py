"""`cmb_convert`: the scans that cards describe, as one raw dataset."""

from argparse import Namespace
from collections.abc import Sequence

from cmb_autoseg.cli._command import ExitCode, Parser, add_dataset, add_option, add_workspace, positive_int, run_command

EPILOG = """examples:
  cmb_convert my_card.yaml -d 501
  cmb_convert valdo=/data/VALDO/Task2 my_card.yaml -d Dataset502_BOTH --jobs 4

A case that cannot be used is left out, its reason stands in exclusions.tsv, and the command ends
with exit code 1; without any usable case nothing is written and it ends with 2.
"""


def build_parser() -> Parser:
    parser = Parser("cmb_convert", "Prepare the scans that one or more cards describe as one raw dataset.", EPILOG)
    parser.add_argument("cards", nargs="+", metavar="CARD[=ROOT]", help="path of a card or name of a shipped one")
    add_dataset(parser)
    add_option(parser, "--jobs", type=positive_int, default=1, metavar="N", help="scans prepared at a time (default 1)")
    add_workspace(parser)
    return parser


def run(args: Namespace) -> int:
    from cmb_autoseg.dataset_conversion.card import parse_card
    from cmb_autoseg.dataset_conversion.resolver import find_cases
    from cmb_autoseg.progress import log
    from cmb_autoseg.workspace import Workspace

    workspace = Workspace.find(args.workspace)
    opened = [parse_card(card) for card in args.cards]
    folders = workspace.new_dataset(args.d, "_".join(dict.fromkeys(each.card.name for each in opened)))

    from cmb_autoseg.dataset_conversion.convert import convert, workspace_salt

    private = any(each.card.privacy.hash_ids for each in opened)
    salt = workspace_salt(workspace) if private else None
    cohorts = [find_cases(each, salt) for each in opened]
    for warning in (warning for cohort in cohorts for warning in cohort.warnings):
        log(f"warning: {warning}")
    conversion = convert(cohorts, folders, args.jobs)
    for exclusion in conversion.exclusions:
        log(f"left out: {exclusion.cohort} {exclusion.case}: {exclusion.reason}")
    cases = conversion.dataset.cases
    print(
        f"{folders.raw}: {len(cases)} cases ({sum(case.labelled for case in cases)} labelled, "
        f"{sum(case.split == 'test' for case in cases)} test, {conversion.n_unchanged} unchanged), "
        f"{len(conversion.exclusions)} left out; channels {', '.join(conversion.dataset.roles)}"
    )
    return ExitCode.SOME_FAILED if conversion.failures else ExitCode.DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
