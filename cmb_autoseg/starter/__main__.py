"""Train the starter model anew: `python -m cmb_autoseg.starter retrain -o OUT`, or its stages one by one.

Every stage goes on where it stopped, so that runs may be as short as one likes.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cmb_autoseg.progress import log
from cmb_autoseg.starter.blocks import person_file, write_person
from cmb_autoseg.starter.learning import CHECKPOINT, changed_settings, learn

POOL, PEOPLE, MODEL = "pool", "people", "model"
"""Folders that `retrain` makes."""
LEARN_FROM, CHOOSE_BY = slice(0, 7), slice(7, 9)
"""Of the label maps in a folder, by name; the others are for judging."""


def templates_of(folder: Path | None, which: slice, average: bool) -> Sequence[Any]:
    """Heads of a folder of label maps, and the average head in front of them."""
    from cmb_autoseg.simulation.anatomy.label_files import find_label_maps, load_label_map
    from cmb_autoseg.simulation.anatomy.mni152 import load_mni152

    heads = [load_label_map(path) for path in find_label_maps(folder)[which]] if folder else []
    return [load_mni152(), *heads] if average or not heads else heads


def run_simulate(args: argparse.Namespace) -> None:
    """Add people to a folder of blocks until there are enough, or the time is over."""
    from cmb_autoseg.starter.simulated_blocks import simulate_blocks

    templates = templates_of(args.anatomy, LEARN_FROM, average=True)
    ends = time.monotonic() + 60 * args.minutes
    for person in range(args.turn[0], args.people, args.turn[1]):
        if time.monotonic() >= ends:
            return
        if not (args.pool / person_file(args.seed, person)).is_file():
            begun = time.monotonic()
            blocks = list(simulate_blocks(templates, args.seed, person, device=args.device))
            write_person(args.pool, args.seed, person, blocks)
            log(f"person {person}: {len(blocks)} blocks in {time.monotonic() - begun:.0f} s")


def run_learn(args: argparse.Namespace) -> None:
    """Go on with a training until the time is over or its steps are done."""
    settings = replace(changed_settings(json.loads(args.settings)), seed=args.seed)
    done = learn(args.pool, args.out, settings, args.minutes, args.device)
    log(f"{args.out}: {done} of {settings.steps} steps")


def run_people(args: argparse.Namespace) -> None:
    """Simulate people to choose or to judge by, some of each family."""
    from cmb_autoseg.starter.families import FAMILIES, simulate_one

    which = CHOOSE_BY if args.part == "choice" else slice(CHOOSE_BY.stop, None)
    templates = templates_of(args.anatomy, which, average=False)
    ends = time.monotonic() + 60 * args.minutes
    for index in range(args.turn[0], args.people, args.turn[1]):
        for family in args.families or FAMILIES:
            if time.monotonic() >= ends:
                return
            begun = time.monotonic()
            simulate_one(args.out / args.part / family, family, args.part, index, templates)
            log(f"{args.part} {family} {index}: {time.monotonic() - begun:.0f} s")


def run_pack(args: argparse.Namespace) -> None:
    """Pack finished trainings into a model folder, calibrate it, and choose its operating points."""
    from cmb_autoseg.inference.loading import load_ensemble
    from cmb_autoseg.starter.calibration import FIRST_GUESS, find_peaks, fit
    from cmb_autoseg.starter.families import families_in
    from cmb_autoseg.starter.judging import pooled, sweeps_of
    from cmb_autoseg.starter.packing import learned_from, write_model, write_points

    checkpoints = [folder / CHECKPOINT for folder in args.trained]
    learned, families = learned_from(args.pool), families_in(args.people / "choice")
    write_model(args.out, checkpoints, learned, FIRST_GUESS)
    calibration = FIRST_GUESS.then(fit(*find_peaks(load_ensemble(args.out, None, args.device), families)))
    write_model(args.out, checkpoints, learned, calibration)
    log(f"{args.out}: {calibration}")
    ensemble = load_ensemble(args.out, None, args.device)
    by_family = [sweeps_of([ensemble], family)[0] for family in families]
    write_points(args.out, pooled([sweep for people in by_family for sweep in people.values()]))


def run_retrain(args: argparse.Namespace) -> None:
    """All stages, one after the other; what is finished is left as it is."""
    common = vars(args) | {"turn": (0, 1), "minutes": float("inf"), "pool": args.out / POOL, "settings": "{}"}
    run_simulate(argparse.Namespace(**common | {"seed": 0, "people": args.people_to_learn_from}))
    trained = [args.out / f"seed_{seed}" for seed in args.seeds]
    for seed, folder in zip(args.seeds, trained, strict=True):
        run_learn(argparse.Namespace(**common | {"seed": seed, "out": folder}))
    people = args.out / PEOPLE
    run_people(argparse.Namespace(**common | {"part": "choice", "people": 6, "out": people, "families": None}))
    run_pack(argparse.Namespace(**common | {"trained": trained, "people": people, "out": args.out / MODEL}))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cmb_autoseg.starter", description=__doc__)
    stages = parser.add_subparsers(required=True, metavar="retrain|simulate|learn|people|pack")
    everything = stages.add_parser("retrain", help="all stages, one after the other")
    everything.add_argument("-o", "--out", type=Path, required=True)
    everything.add_argument("--people-to-learn-from", type=int, default=64)
    everything.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    make = stages.add_parser("simulate", help="simulate blocks of heads to learn from")
    make.add_argument("--people", type=int, default=64, help="how many in all")
    train = stages.add_parser("learn", help="learn from simulated blocks")
    train.add_argument("-o", "--out", type=Path, required=True)
    train.add_argument("--settings", default="{}", help="JSON of settings that differ from the defaults")
    others = stages.add_parser("people", help="simulate people to choose or to judge by")
    others.add_argument("-o", "--out", type=Path, required=True)
    others.add_argument("--part", choices=("choice", "test"), default="choice")
    others.add_argument("--people", type=int, default=6, help="of each family")
    others.add_argument("--families", nargs="+")
    pack = stages.add_parser("pack", help="trained seeds into a model folder with operating points")
    pack.add_argument("-o", "--out", type=Path, required=True)
    pack.add_argument("--trained", type=Path, nargs="+", required=True, help="folders of learn, one a seed")
    pack.add_argument("--people", type=Path, required=True, help="folder of people")
    for stage, runs in (
        (everything, run_retrain),
        (make, run_simulate),
        (train, run_learn),
        (others, run_people),
        (pack, run_pack),
    ):
        stage.set_defaults(run=runs)
        stage.add_argument("--threads", type=int, default=0, help="of the CPU (default: PyTorch's own choice)")
        stage.add_argument("-device", default="cuda" if torch.cuda.is_available() else "cpu")
    for stage in (everything, make, others):
        stage.add_argument("--anatomy", type=Path, help="folder of label maps, beside the average head")
    for stage in (make, train, others):
        stage.add_argument("--minutes", type=float, default=float("inf"), help="of this run (default: until done)")
    for stage in (make, others):
        stage.add_argument("--turn", type=int, nargs=2, default=(0, 1), help="this process and how many there are")
    for stage in (make, train):
        stage.add_argument("--seed", type=int, default=0)
    for stage in (make, train, pack):
        stage.add_argument("--pool", type=Path, required=True, help="folder of blocks")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    args.run(args)


if __name__ == "__main__":
    main()
