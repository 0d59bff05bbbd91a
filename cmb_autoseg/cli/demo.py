"""`cmb_demo`: the whole tool on a small simulated cohort."""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cmb_autoseg.cli import convert, evaluate, plan_preprocess, predict, simulate, train
from cmb_autoseg.cli._command import ExitCode, Parser, add_option, add_seed, run_command
from cmb_autoseg.cli._help import epilog

PEOPLE, HELD_OUT = 28, 8
DATASET = "501"

Main = Callable[[Sequence[str]], int]


def build_parser() -> Parser:
    parser = Parser(
        "cmb_demo",
        "Simulate a small cohort, plan, train five folds, finalize, predict the held-out scans and score them. "
        "All data are simulated; the figures say nothing about patients.",
        epilog(
            {
                "cmb_demo": "everything into ./cmb_demo_output",
                "cmb_demo -o /tmp/demo -device cuda": "elsewhere, with a GPU",
            },
            writes="DIR/cohort, DIR/workspace, DIR/predictions, DIR/evaluation/report.html",
            see="the tutorial, which takes the same way by hand",
        ),
    )
    where = parser.add_argument_group("output")
    add_option(
        where,
        "-o",
        type=Path,
        default=Path("cmb_demo_output"),
        metavar="DIR",
        help="folder for everything (default: %(default)s)",
    )
    run = parser.add_argument_group("run")
    add_option(run, "-device", choices=("cuda", "cpu"), help="where to compute (default: cpu)")
    add_seed(run)
    return parser


def steps(out: Path, device: str, seed: int) -> list[tuple[str, Main, list[str]]]:
    """What the demo types, step by step: the command's name, its function, its arguments."""
    workspace = ["--workspace", str(out / "workspace")]
    cohort, card = out / "cohort", str(out / "cohort" / "card.yaml")
    raw = out / "workspace" / "raw" / "Dataset501_SIMULATED"
    chosen = ["-device", device]
    people = ["-n", str(PEOPLE), "--n-test", str(HELD_OUT), "--protocol", "small", "--seed", str(seed)]
    model = ["-d", DATASET, "-r", "demo"]
    return [
        ("cmb_simulate", simulate.main, ["-o", str(cohort), *people]),
        ("cmb_convert", convert.main, [card, "-d", DATASET, *workspace]),
        ("cmb_plan_preprocess", plan_preprocess.main, ["-d", DATASET, *chosen, "--seed", str(seed), *workspace]),
        ("cmb_train", train.main, [*model, "-f", "all", *chosen, "--seed", str(seed), *workspace]),
        (
            "cmb_predict",
            predict.main,
            ["-i", card, "--split", "test", "-o", str(out / "predictions"), *model, *chosen, *workspace],
        ),
        (
            "cmb_evaluate",
            evaluate.main,
            [
                *("-p", str(out / "predictions"), "--reference", str(raw / "labelsTs"), "-o", str(out / "evaluation")),
                *("--cases", str(raw / "cases.tsv"), "--images", str(raw / "imagesTs"), "--seed", str(seed)),
            ],
        ),
    ]


def run(args: argparse.Namespace) -> int:
    from cmb_autoseg.files import writable_folder

    out: Path = args.o
    writable_folder(out)
    start = time.monotonic()
    for name, main, arguments in steps(out, args.device or "cpu", args.seed):
        print(f"\n[{time.monotonic() - start:4.0f} s] {' '.join((name, *arguments))}", flush=True)
        code = main(arguments)
        if code != ExitCode.DONE:
            return code
    print(
        f"\nDone in {(time.monotonic() - start) / 60:.1f} minutes, on simulated data; "
        "the figures say nothing about patients.\n"
        f"  pictures, masks and lesion tables of the held-out scans: {out / 'predictions'}\n"
        f"  how they compare with the truth: {out / 'evaluation' / 'report.html'}\n"
        f"  training curves: {out / 'workspace' / 'results'}/.../fold_*/progress.png\n"
        "Next, your own scans: cmb_cohort init YOUR_FOLDER -o card.yaml"
    )
    return ExitCode.DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)
