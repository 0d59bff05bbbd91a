"""Train the starter model anew: `python -m cmb_autoseg.starter simulate ...`, then `... learn ...`."""

import argparse
import json
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from cmb_autoseg.progress import log
from cmb_autoseg.starter.blocks import person_file, simulate_blocks, write_person
from cmb_autoseg.starter.learning import LearningSettings, as_tuples, learn


def run_simulate(args: argparse.Namespace) -> None:
    """Add people to a folder of blocks until the time is over."""
    from cmb_autoseg.simulation.anatomy.label_files import find_label_maps, load_label_map
    from cmb_autoseg.simulation.anatomy.mni152 import load_mni152

    templates = [load_mni152()]
    if args.anatomy:
        templates += [load_label_map(path) for path in find_label_maps(args.anatomy)[: args.heads]]
    ends = time.monotonic() + 60 * args.minutes
    person = args.first
    while time.monotonic() < ends:
        if not (args.pool / person_file(args.seed, person)).is_file():
            begun = time.monotonic()
            blocks = list(simulate_blocks(templates, args.seed, person, device=args.device))
            write_person(args.pool, args.seed, person, blocks)
            log(f"person {person}: {len(blocks)} blocks in {time.monotonic() - begun:.0f} s")
        person += args.step


def run_learn(args: argparse.Namespace) -> None:
    """Go on with a training until the time is over or its steps are done."""
    settings = replace(_settings(json.loads(args.settings)), seed=args.seed)
    done = learn(args.pool, args.out, settings, args.minutes, args.device)
    log(f"{args.out}: {done} of {settings.steps} steps")


def _settings(changes: dict[str, Any]) -> LearningSettings:
    """The settings with some of them changed, those of views by `views`."""
    base = LearningSettings()
    views = _changed(base.views, changes.pop("views", {}))
    settings: LearningSettings = _changed(replace(base, views=views), changes)
    return settings


def _changed(base: Any, changes: dict[str, Any]) -> Any:
    known = {field.name for field in fields(base)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise SystemExit(f"--settings: {unknown[0]} is unknown; known are {', '.join(sorted(known))}")
    return replace(base, **{name: as_tuples(value) for name, value in changes.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("simulate", help="simulate blocks of heads to learn from")
    make.add_argument("--anatomy", type=Path, help="folder of label maps, beside the average head")
    make.add_argument("--heads", type=int, help="only the first of them")
    make.add_argument("--first", type=int, default=0)
    make.add_argument("--step", type=int, default=1, help="of several processes, each its own people")
    make.set_defaults(run=run_simulate)
    train = commands.add_parser("learn", help="learn from simulated blocks; goes on with what is there")
    train.add_argument("-o", "--out", type=Path, required=True)
    train.add_argument("--settings", default="{}", help="JSON of settings that differ from the defaults")
    train.set_defaults(run=run_learn)
    for command in (make, train):
        command.add_argument("--pool", type=Path, required=True)
        command.add_argument("--minutes", type=float, default=9.0)
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--threads", type=int, default=1)
        command.add_argument("-device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.run(args)


if __name__ == "__main__":
    main()
