"""A raw dataset of a few small scans with dark dots, and plain recipes of slices."""

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.raw_dataset import RawCase, RawDataset
from cmb_autoseg.records import Plan, Role
from cmb_autoseg.trainers.fold_cases import FoldCases
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.fold_settings import FoldSettings
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.workspace import DatasetFolders

SHAPE = (44, 48, 8)
ROLES = (Role.SWI, Role.QSM)
DOTS = {
    "a": ((20, 20, 3), (30, 25, 5)),
    "b": ((12, 30, 2),),
    "c": ((25, 14, 4), (16, 24, 1), (33, 33, 6)),
    "free": (),
}
"""Centres in voxels by case."""


def scan_of(centres, seed):
    """SWI and QSM of an ellipsoid brain, and the mask; voxels are 1 x 1 x 2 mm."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    middle = (np.array(SHAPE) - 1) / 2
    brain = (((grid - middle) / (middle + 0.5)) ** 2).sum(axis=-1) < 0.95
    mask = np.zeros(SHAPE, bool)
    for centre in centres:
        mask |= (((grid - centre) * (1, 1, 2)) ** 2).sum(axis=-1) <= 2.3**2
    swi = np.where(mask, 30, 100) + rng.normal(0, 5, SHAPE)
    qsm = np.where(mask, 0.4, 0.0) + rng.normal(0, 0.03, SHAPE)
    return (swi * brain).astype(np.float32), (qsm * brain).astype(np.float32), mask.astype(np.uint8)


def write_raw(folder):
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for seed, (case, centres) in enumerate(DOTS.items()):
        swi, qsm, mask = scan_of(centres, seed)
        nib.save(nib.Nifti1Image(swi, affine), folder / "imagesTr" / f"{case}_0000.nii.gz")
        nib.save(nib.Nifti1Image(qsm, affine), folder / "imagesTr" / f"{case}_0001.nii.gz")
        nib.save(nib.Nifti1Image(mask, affine), folder / "labelsTr" / f"{case}.nii.gz")


@pytest.fixture
def raw(tmp_path):
    folders = DatasetFolders(tmp_path, "Dataset501_Dots")
    write_raw(folders.raw)
    cases = tuple(
        RawCase(name, "Dots", name, ROLES, "train", True, 3.0, folders.raw, len(centres))
        for name, centres in DOTS.items()
    )
    return RawDataset(folders, ROLES, cases, "sha256:0")


PLAN = {
    "dataset": "Dataset501_Dots",
    "preset": "adaptive",
    "channels": ROLES,
    "transpose_forward": (0, 1, 2),
    "spacing_mm": (2.0, 1.0, 1.0),
    "median_shape": SHAPE[::-1],
    "patch_shape": (8, 16, 16),
    "batch_size": 2,
    "topology": {
        "features_per_stage": (4, 8),
        "kernel_sizes": ((3, 3, 3), (3, 3, 3)),
        "strides": ((1, 1, 1), (2, 2, 2)),
        "n_blocks_per_stage": (2, 2),
    },
    "preserve_lesions": True,
    "lesions_before": 6,
    "lesions_after": 6,
    "device": "cpu",
    "memory_target_gb": 1.0,
    "memory_gb": 1.0,
    "reasons": (),
    "training_range": {
        "sequences": ROLES,
        "spacing_mm_min": (2.0, 1.0, 1.0),
        "spacing_mm_max": (2.0, 1.0, 1.0),
        "brain_volume_ml": (10.0, 20.0),
    },
}


@pytest.fixture
def make_recipe():
    """A small recipe; keys of `slices` and of the recipe itself may be changed."""

    def make(network="residual25d", **changes):
        slices = {
            "network": network,
            "features": [6, 8, 12],
            "pictures": {"size": [48, 48], "neighbors": int(network == "residual25d")},
            "positive_share": 0.5,
            "augmentation": {"channel_dropout": 0.0},
        }
        content = {
            **{"name": "small", "description": "for tests", "epochs": 2, "steps_per_epoch": 3, "batch_size": 4},
            "optimizer": {"learning_rate": 5e-3, "weight_decay": 0.0},
            "slices": {**slices, **changes.pop("slices", {})},
        }
        return Recipe.model_validate({**content, **changes})

    return make


@pytest.fixture
def make_run(raw, tmp_path):
    """Fold 0 of a recipe on all cases, which it is judged by as well."""

    def make(recipe, name="one", **settings):
        plan = Plan.model_validate(PLAN)
        shared = {
            **{"recipe": recipe.model_dump(mode="json"), "seed": 0, "plan": plan.model_dump(mode="json")},
            **{"folds": "sha256:f", "budget": 1.0, "encoder": None, "members": None},
        }
        model = tmp_path / name / plan.dataset / "CMBTrainer__small__3d"
        cases = FoldCases(raw.cases, raw.cases)
        return FoldRun(raw, plan, recipe, model, 0, cases, FoldSettings("cpu", **settings), shared)

    return make
