"""Seconds a step of each recipe on this machine, and how many steps fill a given time: for trainings of equal time.

    python benchmarks/systems/calibrate.py RECIPE.yaml ... -d 601 [--workspace DIR] [--minutes 10] [--write]

Each recipe is trained for a few steps by the tool's own training, in this process and with its threads (set
OMP_NUM_THREADS), into a folder that is deleted afterwards: once to warm up and to fill the stores of network inputs
in the workspace, then for three short epochs that are timed step by step. What an epoch takes beside its steps
(validation, checkpoint) and what comes before the first step count as well. With `--write` the `steps_per_epoch` that
fill the time are written into the files; the number of epochs stays. A recipe that is built on others gets `--second-
share` of the time, on top of theirs, and looks at made-up candidates here; of a mixture nothing is trained. `--clock
processor` counts seconds of the processor, for one thread on a machine that others use too.
"""

import argparse
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np

from cmb_autoseg.errors import CMBError
from cmb_autoseg.files import write_text
from cmb_autoseg.geometry import read_volume, write_volume
from cmb_autoseg.pipeline.members import known_recipes
from cmb_autoseg.pipeline.stored import brain_of, read_plan
from cmb_autoseg.progress import Meter
from cmb_autoseg.raw_dataset import RawDataset, parse_folds, read_raw_dataset
from cmb_autoseg.records import Plan
from cmb_autoseg.trainers.fold_settings import FoldSettings
from cmb_autoseg.trainers.members import Member
from cmb_autoseg.trainers.recipe import Recipe, read_recipe
from cmb_autoseg.trainers.train import train_fold
from cmb_autoseg.workspace import Workspace, model_folder_name

WARM_STEPS = 2
"""First steps of each epoch that are not timed."""
EPOCHS = 3
STEPS = re.compile(r"^steps_per_epoch:\s*\d+", re.M)
FALSE_PLACES = 15
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.monotonic, "processor": time.process_time}


@dataclass(frozen=True)
class Timing:
    """Of one recipe's training, in seconds."""

    start_s: float
    """Before the first step."""
    step_s: float
    epoch_s: float
    """Beside its steps."""

    def steps_per_epoch(self, seconds: float, n_epochs: int) -> int:
        """As many as fill the time; 1 at least."""
        return max(1, int(((seconds - self.start_s) / n_epochs - self.epoch_s) / self.step_s))


def timing_of(begun: float, marks: Sequence[float], n_steps: int) -> Timing:
    """Read a timing off a training.

    Args:
        begun: time of the call.
        marks: time of the end of each step of all epochs.
        n_steps: of an epoch.
    """
    at = np.reshape(marks, (-1, n_steps))
    step = float(np.diff(at, axis=1)[:, WARM_STEPS - 1 :].mean())
    between = at[1:, 0] - at[:-1, -1]
    return Timing(max(0.0, marks[0] - begun - step), step, max(0.0, float(between.mean()) - step))


@contextmanager
def step_ends(clock: Callable[[], float]) -> Iterator[list[float]]:
    """The times at which steps of a training end within the block."""
    ends: list[float] = []
    advance = Meter.advance

    def marked(meter: Meter, note: str = "") -> None:
        advance(meter, note)
        if meter.title.startswith("Training fold"):
            ends.append(clock())

    with patch.object(Meter, "advance", marked):
        yield ends


@dataclass(frozen=True)
class Bench:
    """Where and how recipes are timed."""

    raw: RawDataset
    plan: Plan
    fold: int
    n_steps: int
    clock: Callable[[], float]

    def time(self, recipe: Recipe) -> Timing:
        """Train shortly, twice; only the second training is timed."""
        with TemporaryDirectory() as folder:
            known = known_recipes(recipe)
            members = [self._made_up(read_recipe(known.get(name, name)), Path(folder)) for name in recipe.members]
            self._train(recipe, 1, 1, Path(folder) / "warm", members)
            begun = self.clock()
            with step_ends(self.clock) as ends:
                self._train(recipe, EPOCHS, self.n_steps, Path(folder) / "timed", members)
        return timing_of(begun, ends, self.n_steps)

    def _train(self, recipe: Recipe, n_epochs: int, n_steps: int, results: Path, members: Sequence[Member]) -> Path:
        short = recipe.model_copy(update={"epochs": n_epochs, "steps_per_epoch": n_steps})
        model = results / self.plan.dataset / model_folder_name(recipe.name)
        train_fold(self.raw, self.plan, short, model, self.fold, FoldSettings("cpu"), members)
        return model

    def _made_up(self, recipe: Recipe, folder: Path) -> Member:
        """A member that is hardly trained, with maps that find all lesions and some places more."""
        model = folder / "members" / self.plan.dataset / model_folder_name(recipe.name)
        short = recipe.model_copy(update={"epochs": 1, "steps_per_epoch": 1})
        record = train_fold(self.raw, self.plan, short, model, self.fold, FoldSettings("cpu"))
        maps = {
            case.name: folder / "maps" / f"{case.name}.nii.gz" for case in self.raw.training_cases() if case.labelled
        }
        rng = np.random.default_rng(0)
        for case in self.raw.training_cases():
            if case.name in maps:
                reference = read_volume(case.label, dtype="uint8")
                data = 0.8 * (reference.data > 0).astype(np.float32)
                brain = np.argwhere(brain_of(case, self.raw))
                places = brain[rng.choice(len(brain), FALSE_PLACES, replace=False)]
                data[tuple(places.T)] = rng.uniform(0.1, 0.6, FALSE_PLACES)
                write_volume(maps[case.name], reference.with_data(data), "float32")
        return Member(recipe.name, model, (record,) * len(parse_folds(self.raw.folders)), maps)


def with_steps(text: str, n_steps: int) -> str:
    """A recipe's file with another number of steps in an epoch; all else, comments too, as it is.

    Raises:
        ValueError: it does not say `steps_per_epoch`.
    """
    changed, n_found = STEPS.subn(f"steps_per_epoch: {n_steps}", text)
    if n_found != 1:
        raise ValueError(
            f"steps_per_epoch stands there {n_found} times; it must stand there once, in a line of its own"
        )
    return changed


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("-d", required=True, metavar="DATASET")
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("-f", type=int, default=0, metavar="FOLD")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--second-share", type=float, default=0.25)
    parser.add_argument("--steps", type=int, default=10, help=f"of each timed epoch, over {WARM_STEPS}")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args(argv)
    if args.steps <= WARM_STEPS:
        parser.error(f"--steps: found {args.steps}, legal are numbers over {WARM_STEPS}")

    folders = Workspace.find(args.workspace).dataset(args.d)
    bench = Bench(read_raw_dataset(folders), read_plan(folders, None), args.f, args.steps, CLOCKS[args.clock])
    recipes = {path: read_recipe(str(path)) for path in args.recipes}
    print(
        "| recipe | before the first step, s | step, s | beside the steps of an epoch, s | epochs x steps | minutes |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for path, recipe in recipes.items():
        if recipe.mixture is not None:
            print(f"| {recipe.name} | | | | none | 0 |", flush=True)
            continue
        try:
            timing = bench.time(recipe)
        except CMBError as error:
            print(f"| {recipe.name} | {error} | | | | |", flush=True)
            continue
        minutes = args.minutes * (args.second_share if recipe.members else 1.0)
        n_steps = timing.steps_per_epoch(60 * minutes, recipe.epochs)
        print(
            f"| {recipe.name} | {timing.start_s:.1f} | {timing.step_s:.3f} | {timing.epoch_s:.1f} | "
            f"{recipe.epochs} x {n_steps} | {minutes:g} |",
            flush=True,
        )
        if args.write:
            write_text(path, with_steps(path.read_text(encoding="utf-8"), n_steps))


if __name__ == "__main__":
    main()
