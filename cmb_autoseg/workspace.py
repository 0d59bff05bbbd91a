"""Where a dataset's files are: the folders of one workspace."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cmb_autoseg.errors import InputError

__all__ = [
    "CONFIGURATION",
    "FINAL_CHECKPOINT",
    "FIRST_STAGE",
    "LATEST_CHECKPOINT",
    "PRESETS",
    "STARTER_DATASET",
    "TRAINER_NAME",
    "DatasetFolders",
    "Preset",
    "Workspace",
    "model_folder_name",
]

CONFIGURATION = "3d"
"""What nnU-Net calls the one configuration that plans have; it finds inputs and models by names that end in it."""
TRAINER_NAME = "CMBTrainer"
LATEST_CHECKPOINT, FINAL_CHECKPOINT = "checkpoint_latest.pth", "checkpoint_final.pth"
FIRST_STAGE = "first_stage"
"""In the folder of a model of two stages: that of the first one's copy."""

Preset = Literal["adaptive", "s0", "starter"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
"""Plans that a dataset may have; the first that is there is taken where the user names none."""

STARTER_DATASET = "Dataset000_SIMULATED"
"""Of the model of the package and those made like it, which have learned from nobody."""
DATASET_NAME = re.compile(r"Dataset(\d{3})_(\w+)")


def model_folder_name(model: str) -> str:
    """Of a trained model, such as a recipe's; nnU-Net finds it by that name."""
    return f"{TRAINER_NAME}__{model}__{CONFIGURATION}"


@dataclass(frozen=True)
class DatasetFolders:
    """The folders of one dataset; none of them need exist."""

    workspace: Path
    name: str
    """`DatasetNNN_NAME`."""

    @property
    def number(self) -> int:
        match = DATASET_NAME.fullmatch(self.name)
        assert match is not None
        return int(match[1])

    @property
    def raw(self) -> Path:
        return self.workspace / "raw" / self.name

    @property
    def preprocessed(self) -> Path:
        return self.workspace / "preprocessed" / self.name

    def inputs(self, preset: str) -> Path:
        """Network inputs by this dataset's own plan; nnU-Net finds them by that name."""
        return self.preprocessed / f"{preset}_{CONFIGURATION}"

    def inputs_for(self, plan_of: str, preset: str) -> Path:
        """Network inputs of this dataset's cases by the plan of another one, from which an encoder is learned."""
        return self.preprocessed / f"{plan_of}_{preset}_{CONFIGURATION}"

    @property
    def results(self) -> Path:
        return self.workspace / "results" / self.name

    def plan(self, preset: str, suffix: str = ".json") -> Path:
        """Our plan of one preset; with suffix `.txt` its explanation."""
        return self.preprocessed / f"{preset}_plan{suffix}"

    def model(self, recipe: str, preset: str = "adaptive") -> Path:
        """The folder of the model that `recipe` trains; a preset other than `adaptive` is part of its name."""
        name = recipe if preset == "adaptive" else f"{recipe}_{preset}"
        return self.results / model_folder_name(name)


@dataclass(frozen=True)
class Workspace:
    """One folder that holds raw, preprocessed, encoders and results."""

    root: Path

    @classmethod
    def find(cls, chosen: Path | None) -> "Workspace":
        """The folder that the user chose, else $CMB_WORKSPACE, else ./cmb_workspace."""
        return cls((chosen or Path(os.environ.get("CMB_WORKSPACE") or "cmb_workspace")).absolute())

    def datasets(self) -> list[str]:
        """Names of the datasets that have a raw folder, sorted."""
        raw = self.root / "raw"
        return sorted(path.name for path in raw.glob("Dataset*") if DATASET_NAME.fullmatch(path.name))

    @property
    def encoders(self) -> Path:
        """What cmb_pretrain makes."""
        return self.root / "encoders"

    def encoder(self, name: str, fold: int | None = None) -> Path:
        """The file of a pretrained encoder, by its recipe's name: a fold's own, or the one that serves all folds."""
        folder = self.encoders / name
        return (folder if fold is None else folder / f"fold_{fold}") / "encoder.pt"

    def dataset(self, wanted: str) -> DatasetFolders:
        """Find a dataset by number, name or `DatasetNNN_NAME`.

        Raises:
            InputError: there is none or more than one; lists those there are.
        """
        there = self.datasets()
        found = [name for name in there if _answers_to(name, wanted)]
        if len(found) == 1:
            return DatasetFolders(self.root, found[0])
        listed = ", ".join(there) or "none"
        problem = "no such dataset" if not found else f"more than one dataset of that name ({', '.join(found)})"
        cure = "name it as 501, NAME or Dataset501_NAME, or convert one with cmb_convert CARD -d 501"
        if found:
            cure = f"name one as {found[0]}"
        elif _may_be_new(wanted):
            cure = f"convert one with cmb_convert CARD -d {wanted}"
        raise InputError(f"-d {wanted}: {problem} in {self.root} (there: {listed}); {cure}")

    def new_dataset(self, wanted: str, default_name: str) -> DatasetFolders:
        """The dataset that `wanted` names, or a new one with that number and a name from the cohorts.

        Raises:
            InputError: `wanted` is neither a known dataset, a number 1-999 nor `DatasetNNN_NAME`.
        """
        there = self.datasets()
        found = [name for name in there if _answers_to(name, wanted)]
        if len(found) == 1:
            return DatasetFolders(self.root, found[0])
        if DATASET_NAME.fullmatch(wanted):
            clash = [name for name in there if name[:10] == wanted[:10]]
            if clash:
                raise InputError(f"-d {wanted}: number {wanted[7:10]} is taken by {clash[0]}; choose another number")
            return DatasetFolders(self.root, wanted)
        if _may_be_new(wanted):
            plain = re.sub(r"[^A-Za-z0-9]+", "", default_name) or "CMB"
            return DatasetFolders(self.root, f"Dataset{int(wanted):03d}_{plain}")
        raise InputError(f"-d {wanted}: a new dataset needs a number from 1 to 999 or a name like Dataset501_NAME")


def _may_be_new(wanted: str) -> bool:
    """Whether a dataset that is not there can be made by what the user calls it."""
    return DATASET_NAME.fullmatch(wanted) is not None or (wanted.isdecimal() and 1 <= int(wanted) <= 999)


def _answers_to(name: str, wanted: str) -> bool:
    match = DATASET_NAME.fullmatch(name)
    assert match is not None
    if wanted.isdecimal():
        return int(match[1]) == int(wanted)
    return wanted in (name, match[2])
