"""What a training has come to, and the checkpoints that keep it: plain types and tensors, loaded weights-only."""

from dataclasses import dataclass, field
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from cmb_autoseg.errors import CMBError, InputError
from cmb_autoseg.tensor_file import write_tensors
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.fold_settings import same_training
from cmb_autoseg.workspace import FINAL_CHECKPOINT, LATEST_CHECKPOINT

__all__ = ["TrainingState"]


@dataclass
class TrainingState:
    """The changing part of one fold's training.

    Attributes:
        run: the fold.
        network: on the device of the training.
        optimizer: of its parameters.
        scaler: None on a CPU.
        curves: a row for each finished epoch.
        losses: of the epoch that is going on, step by step.
        best: weights of the best epoch so far, on the CPU; only where the recipe keeps them.
    """

    run: FoldRun
    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None
    curves: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    best: dict[str, Tensor] | None = None

    def weights(self) -> dict[str, Tensor]:
        """Copies of the network's weights, on the CPU."""
        state = self.network.state_dict()
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}

    def save(self) -> None:
        """Write the checkpoint that `go_on` takes up.

        Raises:
            OutputError: it cannot be written (a full disk).
        """
        progress = {
            "optimizer_state": self.optimizer.state_dict(),
            "scaler_state": self.scaler.state_dict() if self.scaler is not None else None,
            "losses": self.losses,
            "best": self.best,
        }
        write_tensors(self.run.folder / LATEST_CHECKPOINT, {**self._final(), **progress})

    def finish(self) -> None:
        """Write the final checkpoint, of the best weights where they were kept, and delete the latest.

        Raises:
            OutputError: it cannot be written (a full disk).
        """
        if self.best is not None:
            self.network.load_state_dict(self.best)
        write_tensors(self.run.folder / FINAL_CHECKPOINT, self._final())
        (self.run.folder / LATEST_CHECKPOINT).unlink(missing_ok=True)

    def _final(self) -> dict[str, Any]:
        return {
            "network_weights": self.weights(),
            "settings": dict(self.run.shared),
            "fold": self.run.fold,
            "curves": self.curves,
            "checkpoints": {member.recipe: member.records[self.run.fold].checkpoint for member in self.run.members},
        }

    def go_on(self) -> None:
        """Take up the latest checkpoint.

        Raises:
            InputError: it is damaged, or of another fold, plan, recipe, seed or deal of the cases.
        """
        path = self.run.folder / LATEST_CHECKPOINT
        cure = "delete it to train this fold from the start"
        try:
            # Weights and the optimizer's state are copied to where the network is; what else there is stays here.
            content = torch.load(path, map_location="cpu", weights_only=True)
            if content["fold"] != self.run.fold or not same_training(content["settings"], self.run.shared):
                raise InputError(f"{path}: of another fold, plan, recipe, seed or deal of the cases to folds; {cure}")
            self.network.load_state_dict(content["network_weights"])
            self.optimizer.load_state_dict(content["optimizer_state"])
            if self.scaler is not None and content["scaler_state"] is not None:
                self.scaler.load_state_dict(content["scaler_state"])
            self.curves, self.losses, self.best = content["curves"], content["losses"], content["best"]
        except CMBError:
            raise
        except (
            AttributeError,
            EOFError,
            KeyError,
            OSError,
            RuntimeError,
            TypeError,
            UnpicklingError,
            ValueError,
        ) as error:
            raise InputError(f"{path}: training cannot go on from it ({type(error).__name__}); {cure}") from None
