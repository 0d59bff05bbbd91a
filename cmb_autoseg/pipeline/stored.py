"""What earlier stages left: plans, prepared images, and what files were made by."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json
from cmb_autoseg.geometry import Volume, read_volume
from cmb_autoseg.planners import current_fingerprint
from cmb_autoseg.raw_dataset import RawCase, RawDataset
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Plan, Role
from cmb_autoseg.workspace import PRESETS, DatasetFolders

__all__ = ["brain_of", "images_of", "made_by", "read_plan", "refuse_stale_plan"]


def read_plan(folders: DatasetFolders, preset: str | None) -> Plan:
    """The plan of `preset`; without a name the first that there is of `PRESETS`.

    Raises:
        InputError: the dataset is not planned.
    """
    there = [name for name in PRESETS if folders.plan(name).is_file()]
    chosen = preset or (there[0] if there else "adaptive")
    if chosen not in there:
        raise InputError(
            f"{folders.name}: not planned with preset {chosen}; run cmb_plan_preprocess -d {folders.number} "
            f"--preset {chosen}"
        )
    try:
        return Plan.read(folders.plan(chosen))
    except InputError as error:
        problem = str(error).partition("; ")[0]
        raise InputError(f"{problem}; run cmb_plan_preprocess -d {folders.number} --preset {chosen} again") from None


def refuse_stale_plan(raw: RawDataset, plan: Plan) -> None:
    """Refuse to work by a plan of what the raw dataset was before it was converted again."""
    if current_fingerprint(raw, plan) is None:
        raise InputError(
            f"{plan.dataset}: its cases changed since it was planned; run cmb_plan_preprocess -d {raw.folders.number} "
            f"--preset {plan.preset}, and train anew in an empty results folder"
        )


def made_by(record: Path) -> dict[str, str]:
    """What a record says that results were made by; one that is missing or damaged says nothing."""
    try:
        content = read_json(record)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def images_of(
    case: RawCase, raw: RawDataset, channels: Sequence[Role], read: Callable[..., Volume] = read_volume
) -> dict[Role, Volume]:
    """The prepared sequences of a case that are among the channels; `read` gives the volume of a file."""
    return {role: read(case.image(raw.roles.index(role))) for role in case.sequences if role in channels}


def brain_of(case: RawCase, raw: RawDataset) -> NDArray[np.bool_]:
    """(i, j, k), where the first sequence in which microbleeds show is not blank."""
    image = next(iter(images_of(case, raw, SUSCEPTIBILITY_ROLES).values()))
    return np.asarray(image.data != 0)
