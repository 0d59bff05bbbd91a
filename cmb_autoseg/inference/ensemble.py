"""A trained model folder, loaded once, and what it says of one prepared case: the same for every kind of system."""

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmb_autoseg.errors import CMBError, InputError
from cmb_autoseg.files import file_digest, read_json, text_digest
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.model_choice import available_folds
from cmb_autoseg.inference.model_folder import intended_use, trained_channels, trained_plan
from cmb_autoseg.interruption import raise_stop_behind
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role
from cmb_autoseg.workspace import FINAL_CHECKPOINT

__all__ = ["Ensemble", "Prediction", "SliceBox", "checkpoint_path", "load_checkpoint"]

LONGEST_REASON = 300
"""Characters of a library's message that are passed on."""


@dataclass(frozen=True)
class SliceBox:
    """A box about a microbleed in one axial slice, in voxels of the prepared scan.

    Voxel 0 reaches from -0.5 to 0.5; `x` is the first array axis (i), `y` the second (j).
    """

    slice: int
    """Index along the third axis (k)."""
    x_min: float
    y_min: float
    x_max: float
    y_max: float
    score: float
    lesion: int
    """Number of the lesion that it was linked to, from 1."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one case, on the grid of the prepared volumes."""

    probability: Volume
    """Of a microbleed at every voxel."""
    boxes: tuple[SliceBox, ...] | None = None
    """Of a detector; None of models that segment."""


class Ensemble(ABC):
    """The folds of one model.

    Args:
        folder: `results/DatasetNNN_NAME/CMBTrainer__<recipe>__3d` or a copy of it.
        folds: which ones; None for all that are finished.
        device: `cuda` or `cpu`.
        trust_model: load pickled objects and foreign network classes as well.

    Raises:
        InputError: no such folder, no finished fold, or one that needs `trust_model`.
    """

    def __init__(self, folder: Path, folds: Sequence[int] | None, device: str, trust_model: bool = False) -> None:
        self.folder, self.device, self.trusted = folder, device, trust_model
        self.plans, self.dataset_json = _read_folder(folder)
        there = available_folds(folder)
        self.folds = tuple(folds) if folds is not None else there
        absent = sorted(set(self.folds) - set(there))
        if absent or not there:
            raise InputError(
                f"{folder}: found {f'finished folds {list(there)}' if there else 'no checkpoint'}, "
                f"needed {absent or f'fold_0/{FINAL_CHECKPOINT} at least'}; choose others with -f, "
                "or train them with cmb_train"
            )
        self.plan = trained_plan(folder)
        self.channels = trained_channels(folder)
        """Sequences that the model has learned from; the network's other channels stay blank."""
        self.intended_use = intended_use(folder)
        self.digests = {fold: file_digest(checkpoint_path(folder, fold)) for fold in self.folds}
        self.digest = text_digest(repr(sorted(self.digests.items())) + json.dumps(self.plans, sort_keys=True))
        try:
            self._load()
        except CMBError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, AssertionError) as error:
            raise_stop_behind(error)
            reason = " ".join(str(error).split())[:LONGEST_REASON]
            raise InputError(
                f"{folder}: its plans.json, dataset.json and checkpoints do not fit together "
                f"({type(error).__name__}: {reason}); copy the model folder again, whole"
            ) from None

    @abstractmethod
    def _load(self) -> None:
        """Build the networks of `folds` on `device`; errors of the kinds above mean a damaged folder."""

    @abstractmethod
    def predict(self, volumes: Mapping[Role, Volume]) -> Prediction:
        """What the model says of one prepared case.

        Args:
            volumes: canonical, one grid, zero outside the brain; sequences that the model does not
                know are left out, planned ones that are missing are blank channels.

        Raises:
            InputError: no sequence that the model has learned from, or no finite probability.
        """

    @property
    def is_fast(self) -> bool:
        """Whether `hasten` was called."""
        return False

    @property
    def engine_name(self) -> str:
        """What computes the networks."""
        return "torch"

    def hasten(self) -> None:
        """Show later folds only what the first one finds, from now on.

        Raises:
            InputError: this kind of model cannot.
        """
        raise InputError(f"--fast: {self.folder.name} is no model of 3D patches; leave the option out")

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Of one fold's network, or of all networks that it takes to predict by one fold."""

    def probability(self, volumes: Mapping[Role, Volume]) -> Volume:
        """The probability map of `predict` alone."""
        return self.predict(volumes).probability

    def sees(self, roles: Collection[Role]) -> bool:
        """Whether it predicts from these sequences: it has learned from one in which microbleeds show."""
        return bool(set(roles) & set(self.channels) & set(SUSCEPTIBILITY_ROLES))

    def known(self, volumes: Mapping[Role, Volume]) -> dict[Role, Volume]:
        """The sequences that the model has learned from.

        Raises:
            InputError: there is none.
        """
        known = {role: volume for role, volume in volumes.items() if role in self.channels}
        if not known:
            raise InputError(
                f"{next(iter(volumes.values())).name}: has {', '.join(volumes)}, but the model has learned from "
                f"{', '.join(self.channels)} alone; take a model of all sequences"
            )
        return known

    def checkpoint(self, fold: int) -> dict[str, Any]:
        """The content of a fold's final checkpoint, on the CPU.

        Raises:
            InputError: it is damaged, or needs more than plain tensors to load.
        """
        return load_checkpoint(self.folder, fold, self.trusted)


def checkpoint_path(folder: Path, fold: int) -> Path:
    """Where a fold's final weights are."""
    return folder / f"fold_{fold}" / FINAL_CHECKPOINT


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    for name in ("plans.json", "dataset.json"):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: no {name}, so this is no model folder; train with cmb_train or check -m")
    return read_json(folder / "plans.json"), read_json(folder / "dataset.json")


def load_checkpoint(folder: Path, fold: int, trust_model: bool = False) -> dict[str, Any]:
    """The content of a fold's final checkpoint, on the CPU.

    Raises:
        InputError: it is damaged, or needs more than plain tensors to load.
    """
    import pickle
    import zipfile

    import torch

    path = checkpoint_path(folder, fold)
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=not trust_model)
    except pickle.UnpicklingError:
        if not zipfile.is_zipfile(path):
            raise InputError(f"{path}: damaged (no file of weights); copy it again or train the fold anew") from None
        raise InputError(
            f"{path}: needs more than plain tensors to load; if you know where it comes from, cmb_predict takes it "
            "with --trust-model"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise_stop_behind(error)
        raise InputError(
            f"{path}: damaged ({str(error).splitlines()[0].partition('. ')[0]}); copy it again or train the fold anew"
        ) from None
    for name, values in content.get("network_weights", {}).items():
        if not torch.isfinite(values).all():
            raise InputError(f"{path}: found weights that are no finite numbers ({name}); train the fold anew")
    return content
