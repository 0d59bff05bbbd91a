"""`cmb_simulate`: a simulated cohort in a real cohort's layout."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cmb_autoseg.cli._command import ExitCode, Parser, add_device, add_option, add_seed, positive_int, run_command
from cmb_autoseg.cli._help import epilog
from cmb_autoseg.simulation.layouts import LAYOUTS
from cmb_autoseg.simulation.protocols import DEFAULT_PROTOCOL, PROTOCOLS

__all__ = ["build_parser", "main", "run"]


def build_parser() -> Parser:
    parser = Parser(
        "cmb_simulate",
        "Simulate people with and without microbleeds, and write their scans as a real cohort would come.",
        epilog(
            {
                "cmb_simulate -o cohort -n 20": "twenty people, a few minutes on a laptop",
                "cmb_simulate -o cohort -n 28 --n-test 8 --protocol valdo_3 --seed 1": (
                    "eight of them for the test, 1 x 1 x 3 mm"
                ),
            },
            writes="OUT/: scans and masks by subject, participants.tsv, card.yaml, truth/ (lesions, mimics, people),\n"
            "logs/",
            see="cmb_convert OUT/card.yaml -d 501, which takes the cohort in",
        ),
    )
    where = parser.add_argument_group("output")
    add_option(where, "-o", type=Path, required=True, metavar="OUT", help="a new or empty folder")
    add_option(where, "--layout", choices=LAYOUTS, default="valdo", help="whose files it looks like (default: valdo)")
    people = parser.add_argument_group("people and scanner")
    add_option(
        people, "-n", type=positive_int, required=True, metavar="N", help="how many people, test people included"
    )
    add_option(people, "--n-test", type=int, default=0, metavar="N", help="how many of them are test (default: 0)")
    add_option(
        people,
        "--protocol",
        choices=tuple(PROTOCOLS),
        default=DEFAULT_PROTOCOL,
        help=f"field strength, echo time, grid and noise (default: {DEFAULT_PROTOCOL})",
    )
    add_option(
        people,
        "--lesion-free-share",
        type=float,
        default=0.33,
        metavar="SHARE",
        help="people without microbleeds, 0..1 (default: 0.33)",
    )
    run = parser.add_argument_group("run")
    add_seed(run)
    add_device(run)
    return parser


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
        device=args.device,
    )
    report(str(summary))
    return ExitCode.DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
