"""What the files of a folder are, by their names alone."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.rows import LIST_SUFFIXES
from cmb_autoseg.evaluation.inputs.sides import FileKind, SideFile
from cmb_autoseg.geometry import is_nifti, nifti_stem

__all__ = [
    "LIST_PATTERNS",
    "MASK_PATTERNS",
    "NUMBERED",
    "RUN_RECORD",
    "TABLE_OF_RUN",
    "Inventory",
    "case_of_list",
    "case_of_map",
    "case_of_mask",
    "find_masks",
    "shown",
    "take_stock",
]

MASK_PATTERNS = ("<case>.nii.gz", "<case>_mask.nii.gz", "<case>_dseg.nii.gz")
MASK_ENDINGS = ("_mask", "_dseg")
LABELLED = re.compile(r"_label-[A-Za-z0-9]+$")
"""What a mask in BIDS derivatives is of: `sub-01_label-CMB_mask` is the case sub-01."""
PROBABILITY_ENDINGS = ("_label-CMB_probseg", "_probseg", "_prob")
NUMBERED = "_desc-lesions_dseg"
"""Lesions with numbers of their own, and the table beside them, in BIDS derivatives."""
BELOW_SUBJECTS = ("*_dseg.nii.gz", "*_label-*_mask.nii.gz", "*_probseg.nii.gz", f"*{NUMBERED}.tsv")
CHANNEL = re.compile(r".*_0\d{3}")
"""An image in nnU-Net's naming; `_2019` ends a name."""
LIST_ENDINGS: dict[str, FileKind] = {
    "_points": "points",
    "_boxes": "boxes",
    "_lesions": "list",
    "_detections": "list",
    "_predictions": "list",
    NUMBERED: "list",
}
LIST_PATTERNS = ("<case>.tsv", "<case>_lesions.tsv", "<case>_points.csv", "<case>_boxes.json")
TABLE_OF_RUN = "lesions.tsv"
RUN_RECORD = "run.json"
"""All lesions of a run of cmb_predict, and what it says of itself."""
NO_LIST = frozenset(
    (
        "cases.tsv",
        "counts.tsv",
        "dataset.json",
        "dataset_description.json",
        "dataset_fingerprint.json",
        "exclusions.tsv",
        "failures.tsv",
        "lesions.tsv",
        "matches.tsv",
        "metrics.json",
        "participants.json",
        "participants.tsv",
        "per_case.tsv",
        "plans.json",
        "postprocessing.json",
        "predict_from_raw_data_args.json",
        "progress.tsv",
        "run.json",
        "sessions.tsv",
        "splits_final.json",
        "summary.json",
        "thresholds.tsv",
    )
)
"""Tables and records that tools leave beside their results."""


@dataclass
class Inventory:
    """The files of a folder by case."""

    folder: Path
    masks: dict[str, Path] = field(default_factory=dict)
    probabilities: dict[str, Path] = field(default_factory=dict)
    arrays: dict[str, Path] = field(default_factory=dict)
    """nnU-Net's `.npz`, which say nothing of their grid."""
    lists: dict[str, list[SideFile]] = field(default_factory=dict)
    """By name of a case, those with a telling ending."""
    plain_lists: dict[str, list[SideFile]] = field(default_factory=dict)
    """Tables that are called like a case, or like anything else."""
    images: list[Path] = field(default_factory=list)
    """Taken for scans by their names."""
    others: list[str] = field(default_factory=list)


def take_stock(folder: Path) -> Inventory:
    """Sort the files of a folder, and of `sub-*/` below it as in BIDS derivatives, by their names.

    Raises:
        InputError: two masks of one case.
    """
    stock = Inventory(folder)
    below = (path for pattern in BELOW_SUBJECTS for path in folder.glob(f"sub-*/**/{pattern}"))
    for path in (*_visible(folder.iterdir()), *_visible(below)):
        if is_nifti(path):
            _add_volume(stock, path)
        elif path.suffix == ".npz":
            stock.arrays[path.stem] = path
        elif path.suffix.lower() in LIST_SUFFIXES and path.name not in NO_LIST and path.is_file():
            _add_list(stock, path)
        else:
            stock.others.append(path.name)
    return stock


def find_masks(folder: Path) -> dict[str, Path]:
    """The masks of a folder by case name, sorted; see `MASK_PATTERNS`.

    In BIDS derivatives they are looked for below `sub-*/`; lesions with numbers of their own are no mask.

    Raises:
        InputError: there is none, or two of one case.
    """
    stock = take_stock(folder)
    if not stock.masks:
        raise InputError(f"{folder}: found no mask{shown(stock)}; expected files named {', '.join(MASK_PATTERNS)}")
    return dict(sorted(stock.masks.items()))


def shown(stock: Inventory) -> str:
    """` (there: a.png, b.txt, ...)`, of files that are of no use as masks."""
    lists = [side.path.name for sides in (*stock.lists.values(), *stock.plain_lists.values()) for side in sides]
    maps = [path.name for path in (*stock.probabilities.values(), *stock.arrays.values(), *stock.images)]
    names = sorted({*stock.others, *lists, *maps})
    return f" (there: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""


def case_of_mask(stem: str) -> str:
    """The case that a mask is of, by its name without suffix."""
    return LABELLED.sub("", _without(stem, MASK_ENDINGS))


def case_of_map(stem: str) -> str | None:
    """The case that a probability map is of, by its name without suffix; None of other volumes."""
    return _without(stem, PROBABILITY_ENDINGS) if stem.endswith(PROBABILITY_ENDINGS) else None


def case_of_list(path: Path) -> tuple[str, SideFile]:
    """The case that a list is of, and what its name says of its kind."""
    for ending, kind in LIST_ENDINGS.items():
        if path.stem.endswith(ending) and path.stem != ending:
            return path.stem.removesuffix(ending), SideFile(path, kind)
    return path.stem, SideFile(path, "list")


def _visible(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if not path.name.startswith("."))


def _add_volume(stock: Inventory, path: Path) -> None:
    stem = nifti_stem(path)
    if CHANNEL.fullmatch(stem):
        stock.images.append(path)
    elif stem.endswith(NUMBERED):
        stock.others.append(path.name)
    elif (mapped := case_of_map(stem)) is not None:
        stock.probabilities.setdefault(mapped, path)
    else:
        case = case_of_mask(stem)
        if case in stock.masks:
            names = f"{stock.masks[case].name} and {path.name}"
            raise InputError(f"{stock.folder}: {names} are both masks of {case}; keep one")
        stock.masks[case] = path


def _add_list(stock: Inventory, path: Path) -> None:
    case, side = case_of_list(path)
    lists = stock.plain_lists if case == path.stem else stock.lists
    lists.setdefault(case, []).append(side)


def _without(stem: str, endings: tuple[str, ...]) -> str:
    return next((stem.removesuffix(ending) for ending in endings if stem.endswith(ending)), stem)
