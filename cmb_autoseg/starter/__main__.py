"""Train the starter model anew: `python -m cmb_autoseg.starter retrain -o OUT`, or its stages one by one.

Every stage goes on where it stopped, so that runs may be as short as one likes.
"""

import json
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cmb_autoseg.cli._command import (
    ActionParser,
    ExitCode,
    Parser,
    add_device,
    add_option,
    non_negative_int,
    positive_float,
    positive_int,
    resolve_device,
    run_command,
)
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json, writable_folder, write_json
from cmb_autoseg.progress import log

POOL, PEOPLE, MODEL = "pool", "people", "model"
"""Folders that `retrain` makes."""
HEADS = "heads.json"
"""In a folder of people, whose heads they have."""
AVERAGE = "average"
"""Name of the head that needs no file."""
LEARN_FROM, CHOOSE_BY = slice(0, 7), slice(7, 9)
"""Of the label maps in a folder, by name; the others are for judging."""
WHICH = {"choice": CHOOSE_BY, "test": slice(CHOOSE_BY.stop, None)}


def heads_of(folder: Path | None, which: slice, average: bool) -> dict[str, Any]:
    """Templates by name: heads of a folder of label maps, with the average head in front of them or instead of none.

    Raises:
        InputError: there is no such folder, or no label map in it.
    """
    from cmb_autoseg.simulation.anatomy.label_files import find_label_maps, load_label_map
    from cmb_autoseg.simulation.anatomy.mni152 import load_mni152

    heads = {path.name: load_label_map(path) for path in find_label_maps(folder)[which]} if folder else {}
    return {AVERAGE: load_mni152(), **heads} if average or not heads else heads


def run_simulate(args: Namespace) -> None:
    """Add people to a folder of blocks until there are enough, or the time is over."""
    turn = _turn(args.turn)
    from cmb_autoseg.starter.blocks import person_file, write_person
    from cmb_autoseg.starter.simulated_blocks import simulate_blocks

    heads = heads_of(args.anatomy, LEARN_FROM, average=True)
    _same_heads(writable_folder(args.pool), heads)
    ends = time.monotonic() + 60 * args.minutes
    for person in range(turn[0], args.people, turn[1]):
        if time.monotonic() >= ends:
            return
        if not (args.pool / person_file(args.seed, person)).is_file():
            begun = time.monotonic()
            blocks = list(simulate_blocks(list(heads.values()), args.seed, person, device=args.device))
            write_person(args.pool, args.seed, person, blocks)
            log(f"person {person}: {len(blocks)} blocks in {time.monotonic() - begun:.0f} s")


def run_learn(args: Namespace) -> None:
    """Go on with a training until the time is over or its steps are done."""
    try:
        changes = json.loads(args.settings)
    except json.JSONDecodeError as error:
        raise InputError(f"--settings: found {args.settings!r}, which is no JSON ({error.msg})") from None
    from cmb_autoseg.starter.blocks import block_files
    from cmb_autoseg.starter.learning import learn
    from cmb_autoseg.starter.settings import changed_settings

    if isinstance(changes, dict) and "seed" in changes:
        raise InputError("--settings: found seed, which is an option of its own; say --seed")
    settings = replace(changed_settings(changes), seed=args.seed)
    block_files(args.pool)
    done = learn(args.pool, writable_folder(args.out), settings, args.minutes, args.device)
    log(f"{args.out}: {done} of {settings.steps} steps")


def run_people(args: Namespace) -> None:
    """Simulate people to choose or to judge by, some of each family."""
    turn = _turn(args.turn)
    from cmb_autoseg.starter.families import FAMILIES, simulate_one

    unknown = sorted(set(args.families or ()) - set(FAMILIES))
    if unknown:
        raise InputError(f"--families: found {unknown[0]!r}, expected some of {', '.join(FAMILIES)}")
    heads = heads_of(args.anatomy, WHICH[args.part], average=False)
    if AVERAGE in heads:
        needed = WHICH[args.part].start + 1
        told = (
            f"people of {args.part} want heads of their own, which are the label maps from number {needed} on; name a "
            "folder of so many"
        )
        if args.part == "test":
            raise InputError(f"--anatomy: {told}")
        log(f"warning: {told}")
    part = writable_folder(args.out / args.part)
    _same_heads(part, heads)
    ends = time.monotonic() + 60 * args.minutes
    for index in range(turn[0], args.people, turn[1]):
        for family in args.families or FAMILIES:
            if time.monotonic() >= ends:
                return
            begun = time.monotonic()
            simulate_one(part / family, family, args.part, index, list(heads.values()))
            log(f"{args.part} {family} {index}: {time.monotonic() - begun:.0f} s")


def run_pack(args: Namespace) -> None:
    """Pack finished trainings into a model folder, calibrate it, and choose its operating points."""
    if args.out.exists():
        raise InputError(f"-o {args.out}: exists already; choose another name or remove it")
    from cmb_autoseg.inference.loading import load_ensemble
    from cmb_autoseg.starter.calibration import FIRST_GUESS, find_peaks, fit
    from cmb_autoseg.starter.families import families_in
    from cmb_autoseg.starter.judging import pooled, sweeps_of
    from cmb_autoseg.starter.learning import CHECKPOINT
    from cmb_autoseg.starter.packing import learned_from, write_model, write_points

    checkpoints = [folder / CHECKPOINT for folder in args.trained]
    for path in checkpoints:
        if not path.is_file():
            raise InputError(f"--trained {path.parent}: holds no {CHECKPOINT}; name folders of learn")
    learned, families = learned_from(args.pool), families_in(args.people / "choice")
    writable_folder(args.out.parent)
    with tempfile.TemporaryDirectory(dir=args.out.parent, prefix=f".{args.out.name}_") as scratch:
        model = Path(scratch) / args.out.name
        write_model(model, checkpoints, learned, FIRST_GUESS)
        calibration = FIRST_GUESS.then(fit(*find_peaks(load_ensemble(model, None, args.device), families)))
        write_model(model, checkpoints, learned, calibration)
        log(f"{args.out}: {calibration}")
        ensemble = load_ensemble(model, None, args.device)
        people = [sweep for family in families for sweep in sweeps_of([ensemble], family)[0].values()]
        write_points(model, pooled(people))
        model.rename(args.out)


def run_retrain(args: Namespace) -> None:
    """All stages, one after the other; what is finished is left as it is."""
    if len(set(args.seeds)) < len(args.seeds):
        raise InputError(f"--seeds: found {' '.join(map(str, args.seeds))}, expected each once")
    common = vars(args) | {"turn": (0, 1), "minutes": float("inf"), "pool": args.out / POOL, "settings": "{}"}
    run_simulate(Namespace(**common | {"seed": 0, "people": args.people_to_learn_from}))
    trained = [args.out / f"seed_{seed}" for seed in args.seeds]
    for seed, folder in zip(args.seeds, trained, strict=True):
        run_learn(Namespace(**common | {"seed": seed, "out": folder}))
    people = args.out / PEOPLE
    run_people(Namespace(**common | {"part": "choice", "people": 6, "out": people, "families": None}))
    model = args.out / MODEL
    if model.exists():
        log(f"{model}: is there already")
    else:
        run_pack(Namespace(**common | {"trained": trained, "people": people, "out": model}))


def _turn(turn: tuple[int, int]) -> tuple[int, int]:
    number, count = turn
    if not 0 <= number < count:
        raise InputError(f"--turn: found {number} {count}, expected this process, from 0, and how many there are")
    return number, count


def _same_heads(folder: Path, heads: Iterable[str]) -> None:
    """Note whose heads the people in a folder have; others must not come among them."""
    names, noted = list(heads), folder / HEADS
    if noted.is_file() and read_json(noted) != names:
        raise InputError(f"{noted}: people there were simulated of other heads; choose another folder")
    write_json(noted, names)


def build_parser() -> Parser:
    parser = Parser("python -m cmb_autoseg.starter", "Train the model of the package anew, from simulated heads.")
    stages = parser.add_subparsers(
        dest="stage", required=True, metavar="retrain|simulate|learn|people|pack", parser_class=ActionParser
    )

    def stage(name: str, run: Any, told: str) -> Parser:
        parser = stages.add_parser(name, help=told, description=told)
        parser.set_defaults(run=run)
        add_option(parser, "--threads", type=positive_int, metavar="N", help="of the CPU (default: PyTorch's choice)")
        add_device(parser)
        return parser

    everything = stage("retrain", run_retrain, "All stages, one after the other.")
    add_option(everything, "-o", dest="out", type=Path, required=True, metavar="OUT", help="folder of everything")
    add_option(everything, "--people-to-learn-from", type=positive_int, default=64, metavar="N")
    add_option(everything, "--seeds", type=non_negative_int, nargs="+", default=[1, 2], metavar="SEED")
    make = stage("simulate", run_simulate, "Simulate blocks of heads to learn from.")
    add_option(make, "--people", type=positive_int, default=64, metavar="N", help="how many in all (default: 64)")
    train = stage("learn", run_learn, "Learn from simulated blocks.")
    add_option(train, "-o", dest="out", type=Path, required=True, metavar="OUT", help="folder of the training")
    add_option(train, "--settings", default="{}", metavar="JSON", help="settings that differ from the defaults")
    others = stage("people", run_people, "Simulate people to choose or to judge by.")
    add_option(others, "-o", dest="out", type=Path, required=True, metavar="OUT", help="folder of both parts")
    add_option(others, "--part", choices=tuple(WHICH), default="choice")
    add_option(others, "--people", type=positive_int, default=6, metavar="N", help="of each family (default: 6)")
    add_option(others, "--families", nargs="+", metavar="FAMILY", help="some of them (default: all)")
    pack = stage("pack", run_pack, "Trained seeds into a calibrated model folder with operating points.")
    add_option(pack, "-o", dest="out", type=Path, required=True, metavar="OUT", help="the model folder")
    add_option(pack, "--trained", type=Path, nargs="+", required=True, metavar="DIR", help="of learn, one a seed")
    add_option(pack, "--people", type=Path, required=True, metavar="DIR", help="of people, with a part choice")
    for parser_ in (everything, make, others):
        add_option(parser_, "--anatomy", type=Path, metavar="DIR", help="label maps of heads, beside the average head")
    for parser_ in (make, train, others):
        forever = float("inf")
        add_option(parser_, "--minutes", type=positive_float, default=forever, help="of this run (default: until done)")
    for parser_ in (make, others):
        told = "this process, from 0, and how many there are"
        add_option(parser_, "--turn", type=non_negative_int, nargs=2, default=(0, 1), metavar="N", help=told)
    for parser_ in (make, train):
        add_option(parser_, "--seed", type=non_negative_int, default=0, metavar="N")
    for parser_ in (make, train, pack):
        add_option(parser_, "--pool", type=Path, required=True, metavar="DIR", help="of blocks")
    return parser


def run(args: Namespace) -> int:
    args.device = resolve_device(args.device)
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    args.run(args)
    return ExitCode.DONE


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
