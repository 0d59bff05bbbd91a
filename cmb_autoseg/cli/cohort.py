"""`cmb_cohort`: drafts a card, dry-runs cards, lists those that come with the tool."""

from argparse import Namespace
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from cmb_autoseg.cli._command import ActionParser, ExitCode, Parser, add_option, existing_path, run_command
from cmb_autoseg.cli._help import epilog

EPILOG = epilog(
    {
        "cmb_cohort init /data/my_cohort -o my_card.yaml": "draft a card from the names of a folder's files",
        "cmb_cohort check my_card.yaml --count-lesions": "what the card matches, and what would go wrong",
        "cmb_cohort list": "cards that come with the tool",
    },
    see="cmb_cohort init --help, cmb_cohort check --help; cmb_convert, which comes next",
)
INIT = epilog(
    {
        "cmb_cohort init /data/my_cohort -o my_card.yaml": "then read the card through: what was guessed is marked",
        "cmb_cohort init /data/my_cohort": "only look",
    },
    writes="the card at -o; nothing in the cohort's folder",
    see="cmb_cohort check, which tries the card out",
)
CHECK = epilog(
    {
        "cmb_cohort check my_card.yaml": "headers only: seconds",
        "cmb_cohort check my_card.yaml --count-lesions": "reads the labels too",
        "cmb_cohort check valdo=/data/VALDO/Task2 bids=/data/study": "shipped cards, with the place of the files",
    },
    writes="nothing",
    see="cmb_convert, which does what was tried out",
)
SHOW = epilog(
    {
        "cmb_cohort show uk_biobank": "its keys; those of the card that it extends hold besides",
        "cmb_cohort show dicom": "copy it into a card of your own, or write extends: dicom there",
    },
    writes="nothing",
    see="cmb_cohort list",
)
LIST = epilog({"cmb_cohort list": "card, cohort, status, sequences and licence of each"}, writes="nothing")


def build_parser() -> Parser:
    parser = Parser("cmb_cohort", "Write and check cards: the YAML files that describe cohorts.", EPILOG)
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="init|check|show|list", parser_class=ActionParser, title="actions"
    )
    drafts = "Draft a card from the names of a folder's files."
    init = actions.add_parser("init", help=drafts, description=drafts, epilog=INIT).add_argument_group(
        "input and output"
    )
    init.add_argument("folder", type=Path, metavar="DIR", help="the cohort's folder")
    add_option(init, "-o", type=Path, metavar="FILE", help="where to write the card (default: the terminal)")
    tries = "Dry-run cards: what they match, and what would go wrong."
    check = actions.add_parser("check", help=tries, description=tries, epilog=CHECK).add_argument_group(
        "what is checked"
    )
    check.add_argument(
        "cards",
        nargs="+",
        metavar="CARD[=ROOT]",
        help="path of a card or name of a shipped one; =ROOT says where its files are",
    )
    add_option(check, "--count-lesions", action="store_true", help="read the labels and count their lesions")
    shows = "Print a card that comes with the tool, to be adapted."
    show = actions.add_parser("show", help=shows, description=shows, epilog=SHOW).add_argument_group("what is shown")
    show.add_argument("card", metavar="CARD", help="name of a shipped card")
    lists = "List the cards that come with the tool."
    actions.add_parser("list", help=lists, description=lists, epilog=LIST)
    return parser


def run(args: Namespace) -> int:
    if args.action == "init":
        return _init(args.folder, args.o)
    if args.action == "show":
        return _show(args.card)
    return _check(args.cards, args.count_lesions) if args.action == "check" else _list()


def _init(folder: Path, out: Path | None) -> int:
    existing_path(folder, "DIR")
    from cmb_autoseg.dataset_conversion.draft import draft_card
    from cmb_autoseg.errors import InputError, OutputError
    from cmb_autoseg.files import as_text, write_text

    if not folder.is_dir():
        raise InputError(f"DIR {folder}: a file, the cohort's folder is needed")
    if out is not None and out.exists():
        raise OutputError(f"-o {out}: exists already; choose another name or remove it")
    text = draft_card(folder)
    if as_text(text) != text:
        raise InputError(f"DIR {as_text(str(folder))}: names in it hold bytes that are no UTF-8 text; rename them")
    if out is None:
        print(text, end="")
        return ExitCode.DONE
    write_text(out, text)
    print(f"{out}: a draft; read it through, then: cmb_cohort check {out}")
    return ExitCode.DONE


def _check(cards: Sequence[str], count_lesions: bool) -> int:
    from cmb_autoseg.dataset_conversion.card_file import parse_card
    from cmb_autoseg.dataset_conversion.sorting.resolver import find_cases
    from cmb_autoseg.progress import log, report

    cohorts = [find_cases(opened) for opened in [parse_card(card) for card in cards]]

    from cmb_autoseg.dataset_conversion.check import check_cohorts

    for warning in (warning for cohort in cohorts for warning in cohort.warnings):
        log(f"warning: {warning}")
    checks = check_cohorts(cohorts, count_lesions)
    report("\n".join(check.table() for check in checks))
    for warning in (warning for check in checks for warning in check.warnings):
        log(f"warning: {warning}")
    if all(check.is_usable for check in checks):
        return ExitCode.DONE
    empty = [check.cohort.card for check in checks if not check.usable_cases]
    if empty:
        log(f"cmb_cohort check: {', '.join(empty)}: no case is usable; correct the card where the table says why")
        return ExitCode.BAD_INPUT
    log("cmb_cohort check: some cases cannot be used; mend the files or the card where the table says so")
    return ExitCode.BAD_INPUT


def _show(name: str) -> int:
    from cmb_autoseg.dataset_conversion.card_file import shipped_cards
    from cmb_autoseg.errors import InputError

    cards = shipped_cards()
    if name not in cards:
        near = get_close_matches(name, cards, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(cards)}"
        raise InputError(f"CARD {name}: no shipped card; {hint}")
    print(cards[name].read_text(encoding="utf-8"), end="")
    return ExitCode.DONE


def _list() -> int:
    from cmb_autoseg.dataset_conversion.card_file import parse_card, shipped_cards

    rows = [("card", "cohort", "status", "sequences", "licence")]
    for name in shipped_cards():
        card = parse_card(name).card
        roles = ", ".join(dict.fromkeys(image.role.value for image in card.images.values()))
        rows.append((name, card.name, card.status, roles, card.licence.id if card.licence else "-"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return ExitCode.DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
