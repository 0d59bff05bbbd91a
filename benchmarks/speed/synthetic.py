"""Datasets and models that are made in minutes, for timing alone: nobody's brain, dark dots that are learned at once.

Prediction hangs on how much the networks find, so they learn to find the dots, and little else.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
from common import command

from cmb_autoseg.files import write_json, write_tsv
from cmb_autoseg.workspace import DatasetFolders

ROLES = ("swi", "gre_mag", "qsm")
RECIPE = """\
schema: 1
name: timing
description: finds dark dots in noise, for timing alone
epochs: 1
steps_per_epoch: STEPS
validation_steps: 1
batch_size: 2
optimizer: {learning_rate: 3.0e-3, warmup_steps: 10}
augmentation: {warp_probability: 0.0, elastic_mm: 0.0}
inference: {mirror: []}
"""


def make_scan(shape: tuple[int, int, int], n_sequences: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Sequences (i, j, k) of an ellipsoid of noise over smooth shading, zero outside, and a mask of dark dots in it."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    brain = sum(axis**2 for axis in axes) < 0.8
    shading = 100 + 20 * axes[0] + 10 * axes[1] * axes[2]
    mask = np.zeros(shape, np.uint8)
    inside = np.argwhere(brain)
    for center in inside[rng.choice(len(inside), 6, replace=False)]:
        box = tuple(slice(max(c - 1, 0), c + 2) for c in center)
        mask[box] = brain[box]
    sequences = []
    for _ in range(n_sequences):
        values = shading + rng.normal(0, 5, shape).astype(np.float32) - 60 * mask
        sequences.append(np.where(brain, np.maximum(values, 1), 0).astype(np.float32))
    return sequences, mask


def make_dataset(
    folders: DatasetFolders,
    n_cases: int,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    n_sequences: int = 2,
) -> None:
    """Write a raw dataset as `cmb_convert` leaves it, which nnU-Net reads as well; every case has a mask.

    Args:
        folders: where to.
        n_cases: one of each subject.
        shape: (i, j, k) of every sequence.
        spacing_mm: along these axes.
        n_sequences: of each case.
    """
    affine, rows = np.diag([*spacing_mm, 1.0]), []
    for part in ("imagesTr", "labelsTr"):
        (folders.raw / part).mkdir(parents=True, exist_ok=True)
    for index in range(n_cases):
        name = f"case_{index:03d}"
        sequences, mask = make_scan(shape, n_sequences, index)
        for channel, values in enumerate(sequences):
            nib.save(nib.Nifti1Image(values, affine), folders.raw / "imagesTr" / f"{name}_{channel:04d}.nii.gz")
        nib.save(nib.Nifti1Image(mask, affine), folders.raw / "labelsTr" / f"{name}.nii.gz")
        row = {"case": name, "cohort": "Timing", "subject": name, "sequences": ",".join(ROLES[:n_sequences])}
        rows.append({**row, "split": "train", "labelled": 1, "n_lesions": 6})
    write_tsv(folders.raw / "cases.tsv", tuple(rows[0]), rows)
    content = {"name": folders.name, "channel_names": dict(enumerate(ROLES[:n_sequences])), "numTraining": n_cases}
    more = {
        "labels": {"background": 0, "cmb": 1},
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIO",
    }
    write_json(folders.raw / "dataset.json", {**content, **more})


def make_model(
    folders: DatasetFolders, n_folds: int = 5, features: tuple[int, ...] | None = None, steps: int = 40
) -> Path:
    """Plan a dataset and train a model for some minutes.

    Args:
        folders: of the dataset, which has at least as many cases as folds.
        n_folds: networks, at least 2; for one fold predict with `-f 0`.
        features: of the network's levels; None for the plan's.
        steps: of training; 40 are enough to find the dots.
    """
    recipe, where = folders.workspace / "timing.yaml", ["-d", folders.number, "--workspace", folders.workspace]
    recipe.write_text(
        RECIPE.replace("STEPS", str(steps)) + (f"network: {{features: {list(features)}}}\n" if features else "")
    )
    command(["cmb_plan_preprocess", *where, "-device", "cpu", "--folds", n_folds])
    command(["cmb_train", *where, "-device", "cpu", "-r", recipe, "-f", *range(n_folds)])
    return folders.model("timing", "adaptive")
