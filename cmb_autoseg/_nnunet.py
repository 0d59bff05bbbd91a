"""The one module that knows nnU-Net's environment variables, plans and files.

nnU-Net is a library here: its variables are set for the time of a call and restored afterwards,
and nothing that it prints reaches the user's terminal.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.machine import available_cores
from cmb_autoseg.records import Plan, Role
from cmb_autoseg.trainers.lookup import lookup_folder
from cmb_autoseg.workspace import CONFIGURATION, DatasetFolders

__all__ = [
    "CONFIGURATION",
    "NETWORK_INPUT_ENDS",
    "dataset_json",
    "nnunet_environment",
    "nnunet_plans",
    "refuse_unusable_logger",
]

WANDB_SWITCH = "nnUNet_wandb_enabled"
NETWORK_INPUT_ENDS = (".b2nd", "_seg.b2nd", ".pkl")
"""Image, mask and properties of one preprocessed case."""
NETWORK_CLASS = "cmb_autoseg.networks.residual_unet.ResidualUNet"


@contextlib.contextmanager
def nnunet_environment(
    folders: DatasetFolders | None = None, worker_processes: int = 0, results: Path | None = None
) -> Iterator[None]:
    """Set nnU-Net's variables for a block and restore them; swallow what it prints and warns.

    Args:
        folders: the dataset whose workspace it shall see; None where no folder is needed.
        worker_processes: for its background augmentation; 0 runs in this process.
        results: where models go, `results/DATASET/CLASS__PLANS__CONFIGURATION`; None for the workspace's own.
    """
    wanted = {
        "nnUNet_extTrainer": str(lookup_folder()),
        "nnUNet_n_proc_DA": str(worker_processes),
        # Read once, when nnunetv2 is first imported; more threads than cores make it slower.
        "nnUNet_def_n_proc": str(available_cores()),
        "nnUNet_compile": os.environ.get("nnUNet_compile", "f"),
    }
    if folders is not None:
        for kind in ("raw", "preprocessed", "results"):
            wanted[f"nnUNet_{kind}"] = str(folders.workspace / kind)
    if results is not None:
        wanted["nnUNet_results"] = str(results)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def refuse_unusable_logger() -> None:
    """Refuse nnU-Net's switch for Weights & Biases where it cannot work, before anything is written.

    Raises:
        InputError: the switch has an unknown value, or the package is not installed.
    """
    value = os.environ.get(WANDB_SWITCH, "0")
    if value not in ("0", "1", "True", "true", "False", "false"):
        raise InputError(f"{WANDB_SWITCH}: found {value!r}, expected 0 or 1; set it anew or unset it")
    if value in ("1", "True", "true") and find_spec("wandb") is None:
        raise InputError(f"{WANDB_SWITCH}={value}: wandb is not installed; pip install wandb, or unset the variable")


def dataset_json(channels: tuple[Role, ...], n_training: int, name: str) -> dict[str, object]:
    """nnU-Net's `dataset.json` for these channels."""
    return {
        "name": name,
        "channel_names": {str(index): role.value for index, role in enumerate(channels)},
        "labels": {"background": 0, "cmb": 1},
        "numTraining": n_training,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIO",
    }


def nnunet_plans(plan: Plan, plans_name: str, settings: dict[str, object]) -> dict[str, object]:
    """nnU-Net's plans for one plan of ours.

    Args:
        plan: ours.
        plans_name: part of the results folder's name; the recipe's name for a trained model.
        settings: stored under `cmb_autoseg`, where our trainer finds them (recipe, seed).
    """
    n_channels = len(plan.channels)
    resampling = {"is_seg": False, "force_separate_z": None, "memefficient_seg_resampling": False}
    configuration = {
        "data_identifier": f"{plan.preset}_{CONFIGURATION}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": plan.batch_size,
        "patch_size": list(plan.patch_shape),
        "median_image_size_in_voxels": list(plan.median_shape),
        "spacing": list(plan.spacing_mm),
        "normalization_schemes": ["ZScoreNormalization"] * n_channels,
        "use_mask_for_norm": [True] * n_channels,
        "resampling_fn_data": "resample_torch_fornnunet",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": "resample_torch_fornnunet",
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities": "resample_torch_fornnunet",
        "resampling_fn_probabilities_kwargs": resampling,
        "batch_dice": True,
        "architecture": {
            "network_class_name": NETWORK_CLASS,
            "arch_kwargs": {"n_stages": len(plan.topology.strides), **plan.topology.model_dump(mode="json")},
            "_kw_requires_import": [],
        },
    }
    backward = [plan.transpose_forward.index(axis) for axis in range(3)]
    return {
        "dataset_name": plan.dataset,
        "plans_name": plans_name,
        "original_median_spacing_after_transp": list(plan.spacing_mm),
        "original_median_shape_after_transp": list(plan.median_shape),
        "image_reader_writer": "NibabelIO",
        "transpose_forward": list(plan.transpose_forward),
        "transpose_backward": backward,
        "configurations": {CONFIGURATION: configuration},
        "experiment_planner_used": "CMBPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(index): {} for index in range(n_channels)},
        "cmb_autoseg": settings,
    }
