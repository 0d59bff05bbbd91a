"""`cmb_simulate`: a simulated cohort in a real cohort's layout."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cmb_autoseg.cli._command import (
    ExitCode,
    Parser,
    add_device,
    add_option,
    add_seed,
    positive_int,
    resolve_device,
    run_command,
)
from cmb_autoseg.cli._help import epilog
from cmb_autoseg.cohort_names import check_cohort_name
from cmb_autoseg.simulation.layouts import LAYOUTS
from cmb_autoseg.simulation.protocols import PROTOCOLS

__all__ = ["build_parser", "main", "run"]


def build_parser() -> Parser:
    parser = Parser(
        "cmb_simulate",
        "Simulate people with and without microbleeds, and write their scans as a real cohort would come.",
        epilog(
            {
                "cmb_simulate -o cohort -n 20 --protocol small": "twenty people, the quickest: about 20 seconds each",
                "cmb_simulate -o cohort -n 28 --n-test 8 --protocol valdo_3 --seed 1": (
                    "eight of them for the test, 1 x 1 x 3 mm"
                ),
                "cmb_simulate -o raw -n 50 --layout bids --unlabelled --name SCANS --seed 2": (
                    "a BIDS dataset of several scanners, without masks, for one dataset with the others"
                ),
                "cmb_simulate -o cohort -n 15 --anatomy label_maps --misalign --montage": (
                    "heads from label maps; T1w moved by a known transform; pictures"
                ),
            },
            writes="OUT/: scans and labels in the layout, participants.tsv, card.yaml, truth/ (lesions, mimics,\n"
            "people, raters), montage/, logs/",
            see="cmb_convert OUT/card.yaml -d 501, which takes the cohort in; other cohorts of one dataset need\n"
            "another --name, and another --seed, since person k of a seed has the same head in all of them",
        ),
    )
    where = parser.add_argument_group("output")
    add_option(where, "-o", type=Path, required=True, metavar="OUT", help="a new or empty folder, or one to go on with")
    add_option(
        where,
        "--layout",
        choices=LAYOUTS,
        default="valdo",
        help="whose files it looks like (default: valdo)",
    )
    add_option(
        where,
        "--name",
        type=_cohort_name,
        default="SIMULATED",
        metavar="NAME",
        help="the cohort's name in card.yaml; cohorts of one dataset need different ones (default: SIMULATED)",
    )
    add_option(where, "--unlabelled", action="store_true", help="without masks, points and boxes; truth/ is written")
    add_option(
        where, "--montage", action="store_true", help="a picture a person too: slices with lesions and mimics marked"
    )
    people = parser.add_argument_group("people and scanner")
    add_option(
        people, "-n", type=positive_int, required=True, metavar="N", help="how many people, test people included"
    )
    add_option(people, "--n-test", type=int, default=0, metavar="N", help="how many of them are test (default: 0)")
    add_option(
        people,
        "--protocol",
        choices=tuple(PROTOCOLS),
        nargs="+",
        action="extend",
        metavar="NAME",
        help="field strength, echo times, grid and noise; of several each person gets one (default: the layout's "
        f"mix): {', '.join(PROTOCOLS)}",
    )
    add_option(
        people,
        "--anatomy",
        type=Path,
        metavar="DIR",
        help="folder of FreeSurfer-style label maps, one a person (default: the average head, warped)",
    )
    add_option(
        people,
        "--lesion-free-share",
        type=float,
        metavar="SHARE",
        help="people without microbleeds, 0..1 (default: the layout's)",
    )
    add_option(
        people,
        "--misalign",
        action="store_true",
        help="the head moves before T1w; truth/transforms.tsv says how",
    )
    run = parser.add_argument_group("run")
    add_seed(run)
    add_device(run)
    return parser


def _cohort_name(text: str) -> str:
    """An argparse type."""
    try:
        return check_cohort_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.progress import report
    from cmb_autoseg.simulation.cohort import simulate_cohort

    summary = simulate_cohort(
        args.o,
        people=args.n,
        test_people=args.n_test,
        layout=args.layout,
        protocol=args.protocol,
        seed=args.seed,
        lesion_free_share=args.lesion_free_share,
        device=resolve_device(args.device),
        anatomy=args.anatomy,
        labelled=not args.unlabelled,
        misalign=args.misalign,
        montage=args.montage,
        name=args.name,
    )
    report(str(summary))
    return ExitCode.DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
