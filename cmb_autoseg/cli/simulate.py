"""`cmb_simulate`: a simulated cohort in a real cohort's layout."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cmb_autoseg.cli._command import ExitCode, Parser, add_device, add_option, add_seed, positive_int, run_command
from cmb_autoseg.simulation.layouts import LAYOUTS
from cmb_autoseg.simulation.protocols import DEFAULT_PROTOCOL, PROTOCOLS

__all__ = ["build_parser", "main", "run"]


def build_parser() -> Parser:
    parser = Parser(
        "cmb_simulate",
        "Simulates people with and without microbleeds and writes their scans as a real cohort would come.\n"
        "Anatomy, susceptibility, field, signal, noise and what a reader can see: docs/concepts/simulation.md.",
        "examples:\n"
        "  cmb_simulate -o cohort -n 20\n"
        "  cmb_simulate -o cohort -n 28 --n-test 8 --protocol valdo_3 --seed 1\n"
        "  cmb_convert cohort/card.yaml -d 501",
    )
    add_option(parser, "-o", type=Path, required=True, metavar="OUT", help="a new or empty folder")
    add_option(
        parser, "-n", type=positive_int, required=True, metavar="N", help="how many people, test people included"
    )
    add_option(parser, "--n-test", type=int, default=0, metavar="N", help="how many of them are test (default 0)")
    add_option(parser, "--layout", choices=LAYOUTS, default="valdo", help="default: valdo")
    add_option(
        parser, "--protocol", choices=tuple(PROTOCOLS), default=DEFAULT_PROTOCOL, help=f"default: {DEFAULT_PROTOCOL}"
    )
    add_option(
        parser,
        "--lesion-free-share",
        type=float,
        default=0.33,
        metavar="SHARE",
        help="people without microbleeds, 0..1 (default 0.33)",
    )
    add_seed(parser)
    add_device(parser)
    return parser


def run(args: argparse.Namespace) -> int:
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
    print(summary)
    return ExitCode.DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
