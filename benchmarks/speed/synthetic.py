"""Datasets and models that take no time to make, for timing alone: nobody's brain, networks that have learned nothing.

What a network computes takes as long whatever its weights are; lesions are compared on trained models only.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from cmb_autoseg._nnunet import CONFIGURATION, FINAL_CHECKPOINT, dataset_json, nnunet_plans
from cmb_autoseg.files import write_json, write_tsv
from cmb_autoseg.networks import ResidualUNet
from cmb_autoseg.records import Plan, Role
from cmb_autoseg.tensor_file import write_tensors
from cmb_autoseg.trainers.recipe import read_recipe
from cmb_autoseg.workspace import DatasetFolders

ROLES = ("swi", "gre_mag", "qsm")


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
    roles = tuple(Role(name) for name in ROLES[:n_sequences])
    write_json(folders.raw / "dataset.json", dataset_json(roles, n_cases, folders.name))


def make_model(folders: DatasetFolders, plan: Plan, n_folds: int = 5, features: tuple[int, ...] | None = None) -> Path:
    """A model folder of networks with random weights, which nnU-Net can load as well.

    Args:
        folders: of the dataset.
        plan: gives the network and its patch.
        n_folds: networks.
        features: of the network's levels; None for the plan's.
    """
    recipe = read_recipe("supervised")
    if features is not None:
        recipe = recipe.model_copy(update={"network": recipe.network.model_copy(update={"features": features})})
    fitted = recipe.applied_to(plan)
    settings = {"plan": plan.model_dump(mode="json"), "recipe": recipe.model_dump(mode="json"), "seed": 0}
    model = folders.model("timing", plan.preset)
    write_json(model / "plans.json", nnunet_plans(fitted, "timing", settings))
    write_json(model / "dataset.json", dataset_json(plan.channels, 1, folders.name))
    for fold in range(n_folds):
        torch.manual_seed(fold)
        topology = fitted.topology.model_dump()
        network = ResidualUNet(len(plan.channels), 2, len(fitted.topology.strides), **topology, deep_supervision=True)
        network.apply(ResidualUNet.initialize)
        checkpoint = {
            "network_weights": network.state_dict(),
            "init_args": {"configuration": CONFIGURATION, "fold": fold},
            "trainer_name": "CMBTrainer",
            "inference_allowed_mirroring_axes": (1, 2),
        }
        (model / f"fold_{fold}").mkdir(parents=True, exist_ok=True)
        write_tensors(model / f"fold_{fold}" / FINAL_CHECKPOINT, checkpoint)
    return model
