"""Network inputs of raw cases by a plan: written once, kept as long as the plan is the same."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg._nnunet import NETWORK_INPUT_ENDS, dataset_json, nnunet_environment, nnunet_plans
from cmb_autoseg.errors import InputError, OutputError
from cmb_autoseg.files import read_json, write_json
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.lesions import label_components
from cmb_autoseg.locking import is_owned
from cmb_autoseg.pipeline.stored import made_by
from cmb_autoseg.progress import track
from cmb_autoseg.raw_dataset import RawCase, RawDataset
from cmb_autoseg.records import Plan
from cmb_autoseg.workspace import DatasetFolders

__all__ = ["numbered_lesions", "refuse_while_read", "unwritten", "write_network_inputs"]


def write_network_inputs(
    raw: RawDataset,
    plan: Plan,
    cases: Sequence[RawCase],
    folder: Path,
    origin: Mapping[str, str],
    before_anew: Callable[[], None],
) -> None:
    """Write the network inputs that are not there yet.

    Args:
        raw: the dataset of the cases.
        plan: of this dataset or of another; its channels are what is stacked, an absent one blank.
        cases: each with a sequence of the plan at least.
        folder: where to; what was made of another origin there is removed.
        origin: digests of what the inputs hang on; kept beside the folder.
        before_anew: called before that; may raise.

    Raises:
        InputError: a lesion vanishes that the plan did not foresee.
    """
    if folder.is_dir() and made_by(_record(folder)) != origin:
        before_anew()
        shutil.rmtree(folder)
    write_json(_record(folder), dict(origin))
    with nnunet_environment(raw.folders):
        from cmb_autoseg.preprocessing.network_input import network_input, save_network_input, stack_channels

        plans = nnunet_plans(plan, plan.preset, {})
        content = dataset_json(plan.channels, len(raw.training_cases()), plan.dataset)
        for case in track(unwritten(cases, folder, origin), "Preprocessing"):
            images = {
                role: read_volume(case.image(raw.roles.index(role))) for role in case.sequences if role in plan.channels
            }
            data, spacing = stack_channels(images, plan.channels)
            lesions = numbered_lesions(case) if case.labelled else None
            result = network_input(data, spacing, plans, content, lesions, plan.preserve_lesions)
            unforeseen = [f"{case.name}#{n}" for n in result.lost if f"{case.name}#{n}" not in plan.lost_lesions]
            if unforeseen:
                raise InputError(f"{case.name}: lesions {', '.join(unforeseen)} vanish in preprocessing; plan again")
            save_network_input(result, folder, case.name, plan.patch_shape)


def unwritten(cases: Sequence[RawCase], folder: Path, origin: Mapping[str, str]) -> list[RawCase]:
    """The cases without a complete network input of this origin."""
    if made_by(_record(folder)) != origin:
        return list(cases)
    return [case for case in cases if not all((folder / f"{case.name}{end}").is_file() for end in NETWORK_INPUT_ENDS)]


def _record(folder: Path) -> Path:
    # Beside the folder, since nnU-Net takes every kind of file in it for a kind of data.
    return folder.with_name(f"{folder.name}_made_by.json")


def numbered_lesions(case: RawCase) -> NDArray[np.int32]:
    """Numbered lesions (z, y, x); numbered in file order, as the fingerprint does."""
    return label_components(read_volume(case.label, dtype="uint8").data > 0).transpose(2, 1, 0)


def refuse_while_read(folders: DatasetFolders) -> None:
    """Refuse to replace inputs that a training or a pretraining reads.

    Raises:
        OutputError: says which process it is.
    """
    trained = sorted(folders.results.glob("*/fold_*"))
    encoders = folders.workspace / "encoders"
    pretrained = [path for path in (*encoders.glob("*"), *encoders.glob("*/fold_*")) if _learns_from(path, folders)]
    for folder in (*trained, *sorted(pretrained)):
        doing = is_owned(folder)
        if doing:
            raise OutputError(
                f"{folders.name}: the plan changed, but {doing} reads the inputs of the old one; wait until it ends"
            )


def _learns_from(encoder: Path, folders: DatasetFolders) -> bool:
    try:
        return folders.name in read_json(encoder / "settings.json")["datasets"]
    except (InputError, KeyError, TypeError):
        return False
