"""Which choices of the starter model's training pay: short trainings that differ in one setting, two seeds each.

Their patches are small, and 1,300 steps are a fifth of the shipped model's: what pays early need not pay late.

    python benchmarks/starter/choices.py blocks --scratch FOLDER --anatomy LABEL_MAPS [--turn 0 1]
    python benchmarks/starter/choices.py train --scratch FOLDER --pool POOL --seed 1 [--steps 1300]
    python benchmarks/starter/choices.py judge --scratch FOLDER [--seeds 1 2] [-o RESULTS]

`blocks` simulates people to judge by, of heads that no training learns from. `train` runs all choices with one seed, on
one thread, one after the other; several seeds may run side by side. It goes on where it stopped. `judge` shows each
model the same blocks, brains and heads with SWI, magnitude or both and QSM in turn, on the finest grid, and tells the
pooled lesion F1 at the model's best threshold on these very blocks: good for choosing alone. Intervals of the
difference from the first choice: 95 %, 500 bootstraps over people, all seeds together.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from judge import save_rows
from torch import Tensor, nn
from torch.nn import functional

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.matching.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.operating_points import ScoredCase, Sweep, count_case, counting_threshold
from cmb_autoseg.progress import log
from cmb_autoseg.starter.__main__ import AVERAGE, WHICH, heads_of
from cmb_autoseg.starter.blocks import Block, block_files, person_file, read_blocks, write_person
from cmb_autoseg.starter.calibration import FIRST_GUESS
from cmb_autoseg.starter.judging import pooled
from cmb_autoseg.starter.learning import CHECKPOINT, learn
from cmb_autoseg.starter.settings import LearningSettings, changed_settings, read_settings
from cmb_autoseg.starter.simulated_blocks import simulate_blocks
from cmb_autoseg.starter.views import ViewDraw, ViewSettings, draw_view, make_view

BASE = "as it is"
CHOICES: dict[str, dict[str, Any]] = {
    BASE: {},
    "a third of the random changes": {"views": {"width": 0.33}},
    "grid of 2 x 1 x 1 mm": {"views": {"spacing_mm": [2.0, 1.0, 1.0]}},
    "nothing shown again": {"hard_share": 0.0},
    "false finds shown again, misses not": {"missed_again": False},
    "patches about lesions stay three in five": {"last_lesion_share": 0.6},
    "lesion voxels count as others": {"foreground_weight": 1.0},
    "no Dice in the loss": {"dice_weight": 0.0},
}
SMALL_PATCHES = (12, 32, 32)
"""A fifth of the voxels of those that the shipped model learned from; steps take a quarter of the time."""
JUDGING_SEED, N_JUDGED = 660_000, 6
N_BOOTSTRAPS = 500
SHOWN = (("swi",), ("mag",), ("swi", "mag", "qsm"))
"""In turn, with and without the skull."""
FINEST = ViewSettings(patch_shape=(32, 96, 96), width=0.0, scaling=0.0, resampled_share=0.0)
"""Blocks as they are, each of them whole but for 2 or 3 mm at its sides."""


@dataclass(frozen=True)
class Shown:
    """A block and how it is shown."""

    person: int
    block: Block
    draw: ViewDraw

    def image(self, spacing_mm: tuple[float, float, float]) -> Tensor:
        """On a grid, shape (1, channel, z, y, x)."""
        ratios = zip(FINEST.patch_shape, FINEST.spacing_mm, spacing_mm, strict=True)
        z, y, x = (round(n * fine / step) for n, fine, step in ratios)
        settings = replace(FINEST, spacing_mm=spacing_mm, patch_shape=(z, y, x))
        return make_view(self.block, self.draw, settings).image[None]

    def target(self) -> Tensor:
        """On the finest grid, shape (z, y, x)."""
        return make_view(self.block, self.draw, FINEST).target[0]


def blocks(args: argparse.Namespace) -> None:
    heads = heads_of(args.anatomy, WHICH["choice"], average=False)
    if AVERAGE in heads:
        raise InputError(f"--anatomy {args.anatomy}: holds too few label maps; {WHICH['choice'].start + 1} are needed")
    for person in range(args.turn[0], N_JUDGED, args.turn[1]):
        if not (args.scratch / "judged" / person_file(JUDGING_SEED, person)).is_file():
            simulated = list(simulate_blocks(list(heads.values()), JUDGING_SEED, person))
            write_person(args.scratch / "judged", JUDGING_SEED, person, simulated)
            log(f"person {person}")


def folder_of(scratch: Path, choice: str, seed: int) -> Path:
    return scratch / f"{'_'.join(choice.split())}_{seed}"


def train(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    for choice, changes in CHOICES.items():
        changed = changed_settings(changes)
        views = replace(changed.views, patch_shape=SMALL_PATCHES)
        settings = replace(changed, views=views, seed=args.seed, steps=args.steps)
        done = learn(args.pool, folder_of(args.scratch, choice, args.seed), settings, args.minutes)
        log(f"{choice}, seed {args.seed}: {done} of {args.steps} steps")


def shown_blocks(folder: Path) -> Iterator[Shown]:
    for person, path in enumerate(block_files(folder)):
        for number, block in enumerate(read_blocks(path)):
            rng = np.random.default_rng([JUDGING_SEED, person, number])
            settings = replace(
                FINEST,
                head_share=float(number // len(SHOWN) % 2),
                sequence_shares=((SHOWN[number % len(SHOWN)], 1.0),),
            )
            middle = (np.array(block.mask.shape) - 1) / 2
            yield Shown(person, block, replace(draw_view(rng, block, settings), centre=middle, flips=()))


@torch.inference_mode()
def sweeps_of(shown: Sequence[Shown], network: nn.Module, settings: LearningSettings) -> list[Sweep]:
    """Counts of each block at every threshold; logits are roughly calibrated, so that thresholds tell finds apart."""
    network.eval()
    counts = []
    affine = np.diag([*FINEST.spacing_mm, 1.0])
    for one in shown:
        with torch.autocast("cpu", torch.bfloat16):
            finest = network(one.image(settings.views.spacing_mm))[0].float()
        own = functional.interpolate(finest[:, 1:] - finest[:, :1], FINEST.patch_shape, mode="trilinear")[0, 0]
        probability = torch.sigmoid(FIRST_GUESS.scale * own + FIRST_GUESS.shift).numpy()
        reference = one.target().numpy().astype(np.uint8)
        scored = ScoredCase("block", Volume(probability, affine), Volume(reference, affine))
        counts.append(count_case(scored, PROTOCOLS[DEFAULT_PROTOCOL]))
    return counts


def trained_network(folder: Path) -> tuple[nn.Module, LearningSettings, int]:
    """The averaged weights of a training, its settings and its steps."""
    content = torch.load(folder / CHECKPOINT, weights_only=True, map_location="cpu")
    settings = read_settings(content["settings"])
    network = settings.network()
    network.load_state_dict(content["average"])
    return network, settings, content["step"]


@dataclass(frozen=True)
class Judged:
    """A trained model's counts of each block, and the index of its best threshold."""

    sweeps: list[Sweep]
    best: int
    steps: int

    def f1(self, numbers: Iterable[int]) -> float:
        """Of some blocks."""
        return float(pooled([self.sweeps[number] for number in numbers]).f1[self.best])


def _of_drawn(of_people: list[list[int]], rng: np.random.Generator) -> list[int]:
    """The blocks of as many people, drawn with replacement."""
    return [number for person in rng.integers(len(of_people), size=len(of_people)) for number in of_people[person]]


def judge(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    shown, rows = list(shown_blocks(args.scratch / "judged")), []
    everything, rng = range(len(shown)), np.random.default_rng(0)
    of_people = [[n for n in everything if shown[n].person == person] for person in range(shown[-1].person + 1)]
    draws = [everything, *(_of_drawn(of_people, rng) for _ in range(N_BOOTSTRAPS))]
    base: np.ndarray | None = None
    for choice in CHOICES:
        by_seed = {}
        for seed in args.seeds:
            network, settings, steps = trained_network(folder_of(args.scratch, choice, seed))
            sweeps = sweeps_of(shown, network, settings)
            by_seed[seed] = Judged(sweeps, counting_threshold(pooled(sweeps)), steps)
            log(f"{choice}, seed {seed}: {by_seed[seed].f1(everything):.3f}")
        means = np.array([np.mean([one.f1(numbers) for one in by_seed.values()]) for numbers in draws])
        base = means if base is None else base
        low, high = np.percentile(means - base, (2.5, 97.5))
        rows.append(
            {
                "choice": choice,
                "steps": " ".join(str(one.steps) for one in by_seed.values()),
                **{f"F1, seed {seed}": f"{one.f1(everything):.3f}" for seed, one in by_seed.items()},
                "mean": f"{means[0]:.3f}",
                "more": f"{means[0] - base[0]:+.3f} ({low:+.3f} to {high:+.3f})",
            }
        )
    n_lesions = pooled(next(iter(by_seed.values())).sweeps).n_lesions
    told = f"{len(shown)} blocks, {n_lesions} microbleeds in them; `more` than the first row. All simulated."
    save_rows(args.o, "Choices of the starter model's training", told, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = parser.add_subparsers(required=True, metavar="blocks|train|judge")
    for run in (blocks, train, judge):
        stage = stages.add_parser(run.__name__)
        stage.set_defaults(run=run)
        stage.add_argument("--scratch", type=Path, required=True)
        if run is blocks:
            stage.add_argument("--anatomy", type=Path, required=True)
            stage.add_argument("--turn", type=int, nargs=2, default=(0, 1), help="this process and how many there are")
        elif run is train:
            stage.add_argument("--pool", type=Path, required=True)
            stage.add_argument("--seed", type=int, default=1)
            stage.add_argument("--steps", type=int, default=1300)
            stage.add_argument("--minutes", type=float, default=float("inf"), help="of each choice, in this run")
        else:
            stage.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
            stage.add_argument("--threads", type=int, default=2)
            stage.add_argument("-o", type=Path, help="name of the results, without .json and .md")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
