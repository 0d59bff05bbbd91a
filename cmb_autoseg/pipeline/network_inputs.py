"""Network inputs of raw cases by a plan: written once, kept as long as the plan is the same."""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg._nnunet import NETWORK_INPUT_ENDS, nnunet_plans
from cmb_autoseg.errors import InputError, OutputError
from cmb_autoseg.files import read_json, write_json
from cmb_autoseg.geometry import Volume, read_grid, read_volume
from cmb_autoseg.lesions import label_components
from cmb_autoseg.locking import is_owned
from cmb_autoseg.parallel import choose_workers, in_threads
from cmb_autoseg.pipeline.stored import images_of, made_by
from cmb_autoseg.preprocessing.network_input import network_input, save_network_input, stack_channels
from cmb_autoseg.progress import track
from cmb_autoseg.raw_dataset import RawCase, RawDataset
from cmb_autoseg.records import Plan
from cmb_autoseg.run_log import record
from cmb_autoseg.timing import StepTimes
from cmb_autoseg.workspace import DatasetFolders

__all__ = ["numbered_lesions", "refuse_while_read", "unwritten", "write_network_inputs"]

BYTES_A_VOXEL = 24
"""Of masks, numbered lesions and an array on its way to another grid; sequences come on top."""


def write_network_inputs(
    raw: RawDataset,
    plan: Plan,
    cases: Sequence[RawCase],
    folder: Path,
    origin: Mapping[str, str],
    before_anew: Callable[[], None],
    read: Callable[..., Volume] = read_volume,
) -> None:
    """Write the network inputs that are not there yet.

    Args:
        raw: the dataset of the cases.
        plan: of this dataset or of another; its channels are what is stacked, an absent one blank.
        cases: each with a sequence of the plan at least.
        folder: where to; what was made of another origin there is removed.
        origin: digests of what the inputs hang on; kept beside the folder.
        before_anew: called before that; may raise.
        read: gives the volume of a file; as `read_volume`.

    Raises:
        InputError: a lesion vanishes that the plan did not foresee.
    """
    if folder.is_dir() and made_by(_record(folder)) != origin:
        before_anew()
        shutil.rmtree(folder)
    write_json(_record(folder), dict(origin))
    plans, times = nnunet_plans(plan, plan.preset, {}), StepTimes()

    def write(case: RawCase) -> None:
        with times.step("read"):
            images = images_of(case, raw, plan.channels, read)
            data, spacing = stack_channels(images, plan.channels)
            lesions = numbered_lesions(case, read) if case.labelled else None
        result = network_input(data, spacing, plans, lesions, plan.preserve_lesions, times)
        unforeseen = [f"{case.name}#{n}" for n in result.lost if f"{case.name}#{n}" not in plan.lost_lesions]
        if unforeseen:
            raise InputError(f"{case.name}: lesions {', '.join(unforeseen)} vanish in preprocessing; plan again")
        with times.step("write"):
            save_network_input(result, folder, case.name, plan.patch_shape)

    todo = unwritten(cases, folder, origin)
    for _ in track(in_threads(write, todo, threads_for(raw, todo)), "Preprocessing", len(todo)):
        pass
    if todo:
        record(f"preprocessing: {times.shares}", event="shares", seconds=times.seconds)


def threads_for(raw: RawDataset, cases: Sequence[RawCase]) -> int:
    """How many cases the machine can work on at a time: one a core, as many as fit into the memory."""
    if not cases:
        return 1
    largest = max(cases, key=lambda case: case.image(raw.roles.index(case.sequences[0])).stat().st_size)
    shape, _ = read_grid(largest.image(raw.roles.index(largest.sequences[0])))
    return choose_workers(len(cases), math.prod(shape) * (BYTES_A_VOXEL + 12 * len(raw.roles)), 1)


def unwritten(cases: Sequence[RawCase], folder: Path, origin: Mapping[str, str]) -> list[RawCase]:
    """The cases without a complete network input of this origin."""
    if made_by(_record(folder)) != origin:
        return list(cases)
    return [case for case in cases if not all((folder / f"{case.name}{end}").is_file() for end in NETWORK_INPUT_ENDS)]


def _record(folder: Path) -> Path:
    # Beside the folder, since nnU-Net takes every kind of file in it for a kind of data.
    return folder.with_name(f"{folder.name}_made_by.json")


def numbered_lesions(case: RawCase, read: Callable[..., Volume] = read_volume) -> NDArray[np.int32]:
    """Numbered lesions (z, y, x); numbered in file order, as the fingerprint does.

    Args:
        case: labelled.
        read: gives the volume of a file; as `read_volume`.
    """
    return label_components(read(case.label, dtype=np.uint8).data > 0).transpose(2, 1, 0)


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
