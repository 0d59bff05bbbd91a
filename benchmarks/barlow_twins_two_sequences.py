"""Whether Barlow Twins learns what two sequences of one person have in common.

    python benchmarks/barlow_twins_two_sequences.py WORKSPACE [--roles swi qsm] [--people 16] [--places patch]

On the network inputs of a prepared dataset of simulated people, two of its sequences, no labels. One view shows one
sequence of a place, the other one the other. The diagonal of their cross-correlation is to rise to 1, the rest to fall
to 0, and the effective rank of the encoder's features, on patches that are always the same, not to fall to 1. Prints
the curves; --figure draws docs/images/barlow-twins-curves.png.
"""

import argparse
import pickle
import sys
import tempfile
import time
from pathlib import Path

import blosc2
import numpy as np
import torch

from cmb_autoseg.pretraining.loop import pretrain
from cmb_autoseg.pretraining.patches import PretrainingCase
from cmb_autoseg.pretraining.setup import PretrainingSetup, build_encoder
from cmb_autoseg.records import Plan, Role
from cmb_autoseg.trainers.recipe import AugmentationSettings, PretrainingSettings

sys.path.append(str(Path(__file__).parents[1] / "docs" / "figures"))
import style

SEED = 0
PATCH_SHAPE, FEATURES, PROJECTOR = (12, 32, 32), (8, 16, 32, 64), (64, 64, 64)
STEPS_PER_EPOCH, VOXEL_LEVEL = 10, 2
PANELS = {
    "on_diagonal": ("mean of the diagonal", style.BLUE),
    "off_diagonal": ("root mean square off the diagonal", style.VERMILION),
    "effective_rank": ("effective rank of the features", style.GREEN),
}


def load_cases(folder, channels, people):
    """The first people who have both sequences, sorted by name."""
    cases = []
    for path in sorted(folder.glob("*.pkl")):
        image = blosc2.open(urlpath=str(path.with_suffix(".b2nd")), mode="r")
        both = np.stack([image[channel] for channel in channels])
        if both.any(axis=(1, 2, 3)).all():
            brain = pickle.loads(path.read_bytes())["brain"]
            cases.append(PretrainingCase(path.stem, both, brain))
        if len(cases) == people:
            break
    return cases


def learn(cases, plan, roles, args):
    settings = PretrainingSettings(
        method="barlow_twins",
        epochs=args.epochs,
        steps_per_epoch=STEPS_PER_EPOCH,
        batch_size=args.pairs,
        learning_rate=args.learning_rate,
        warmup_steps=10,
        barlow_twins={
            "projector": PROJECTOR,
            "places": args.places,
            "redundancy_weight": args.redundancy_weight,
            "voxel_level": VOXEL_LEVEL,
            "voxels_per_patch": args.voxels,
        },
    )
    topology = plan.topology.with_features(FEATURES)
    flips = tuple(sorted(plan.transpose_forward.index(axis) for axis in (1, 2)))
    setup = PretrainingSetup(settings, AugmentationSettings(), roles, PATCH_SHAPE, plan.spacing_mm, flips, topology)
    encoder = build_encoder(len(roles), topology, SEED)
    with tempfile.TemporaryDirectory() as folder:
        return pretrain(encoder, cases, setup, Path(folder), "cpu", SEED)


def draw(rows):
    figure = style.new_figure(9.4, 2.9)
    for axes, (key, (title, color)) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
        axes.plot([row["epoch"] for row in rows], [row[key] for row in rows], "o-", ms=3, color=color)
        axes.set_title(title, size=10)
        axes.set_xlabel(f"epoch of {STEPS_PER_EPOCH} batches")
        axes.set_ylim(bottom=0, top=1 if key == "on_diagonal" else None)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--roles", nargs=2, type=Role, default=[Role.SWI, Role.QSM])
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=16, help="of patches in a batch")
    parser.add_argument("--voxels", type=int, default=64, help="places of each patch")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--places", choices=("patch", "voxels", "both"), default="voxels")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--redundancy-weight", type=float, default=0.6)
    parser.add_argument("--figure", action="store_true", help="draw docs/images/barlow-twins-curves.png")
    args = parser.parse_args()
    torch.set_num_threads(1)
    dataset = next(iter(sorted(args.workspace.glob("preprocessed/Dataset*"))))
    plan = Plan.read(dataset / "adaptive_plan.json")
    cases = load_cases(dataset / "adaptive_3d", [plan.channels.index(role) for role in args.roles], args.people)
    print(f"{dataset.name}: {len(cases)} people with {' and '.join(args.roles)}, spacing {plan.spacing_mm} mm")
    start = time.process_time()
    rows = learn(cases, plan, tuple(args.roles), args)
    print(f"{time.process_time() - start:.0f} processor seconds; row 0 is the first batch, before anything is learned")
    for row in rows:
        print(", ".join(f"{key} {value:.3g}" for key, value in row.items()))
    if args.figure:
        print(style.save(draw(rows), "barlow-twins-curves"))


if __name__ == "__main__":
    main()
