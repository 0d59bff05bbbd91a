"""Our trainer: nnU-Net's hooks, filled from the recipe that travels in the plans.

Import it inside `nnunet_environment`; nnunetv2 reads some variables at import time.
"""

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from cmb_autoseg._nnunet import FINAL_CHECKPOINT, LATEST_CHECKPOINT
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import atomic_path, write_tsv
from cmb_autoseg.interruption import StopRequest
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES
from cmb_autoseg.run_log import record
from cmb_autoseg.trainers.augmentation import (
    AXES,
    Augmentation,
    ChannelDropout,
    Flip,
    Intensity,
    SpatialWarp,
    max_pooled_targets,
)
from cmb_autoseg.trainers.curves import CURVE_COLUMNS, ScalarLogger, draw_curves
from cmb_autoseg.trainers.loader import PatchLoader, PatchSource
from cmb_autoseg.trainers.losses import DeepSupervisionLoss, DiceBCELoss
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.trainers.sampling import CaseAnchors, PatchShares

__all__ = ["CHECKPOINT_STEPS", "CMBTrainer"]

CHECKPOINT_STEPS = 100
VALIDATION_SEED = 7_919
"""Keeps the draws of validation patches apart from those of training patches."""


def _load_case(dataset: nnUNetDatasetBlosc2, name: str) -> tuple[Any, Any, Any, dict[str, Any]]:
    try:
        case: tuple[Any, Any, Any, dict[str, Any]] = dataset.load_case(name)
    except (RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        raise InputError(
            f"{dataset.source_folder}/{name}.b2nd: the network input of {name} is damaged ({type(error).__name__}); "
            f"delete the file and run cmb_plan_preprocess -d {Path(dataset.source_folder).parent.name}"
        ) from None
    return case


def _nothing(note: str) -> None:
    """Progress that nobody watches."""


class CMBTrainer(nnUNetTrainer):  # type: ignore[misc]
    """Trains one fold by the recipe in `plans["cmb_autoseg"]`.

    nnU-Net finds the class by name, constructs it, and re-reads the constructor's arguments, so
    the signature is nnU-Net's. `on_step` may be set to watch the progress, `stop` to end between two
    steps, and `checkpoint_steps` to save more or less often.
    """

    network: Any
    dataloader_train: Any
    dataloader_val: Any

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        settings = plans["cmb_autoseg"]
        self.recipe = Recipe.model_validate(settings["recipe"])
        self.seed = int(settings["seed"])
        self.initial_lr = self.recipe.optimizer.learning_rate
        self.weight_decay = self.recipe.optimizer.weight_decay
        self.num_epochs = self.recipe.epochs
        self.num_iterations_per_epoch = self.recipe.steps_per_epoch
        self.num_val_iterations_per_epoch = self.recipe.validation_steps
        self.on_step: Callable[[str], None] = _nothing
        self.stop = StopRequest()
        self.checkpoint_steps = CHECKPOINT_STEPS
        self.curves: list[dict[str, float]] = []
        self._losses: list[float] = []
        self._draws: dict[str, Any] | None = None

    def print_to_log_file(self, *args: object, also_print_to_console: bool = False, add_timestamp: bool = True) -> None:  # noqa: ARG002 - nnU-Net's signature
        """Into the log of our run; nnU-Net's own file would be one more with every resumption."""
        record(" ".join(map(str, args)), event="nnunet")

    @property
    def steps_done(self) -> int:
        return int(self.current_epoch * self.num_iterations_per_epoch) + len(self._losses)

    # Network, loss and optimiser

    def initialize(self) -> None:
        """As nnU-Net does, from a seed, with a memory layout that CPU convolutions prefer."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence((self.seed, self.fold)).generate_state(1)[0]))
            super().initialize()
        if self.device.type == "cpu":
            self.network = self.network.to(memory_format=torch.channels_last_3d)

    def _build_loss(self) -> DeepSupervisionLoss:
        return DeepSupervisionLoss(DiceBCELoss(**self.recipe.loss.model_dump()))

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, None]:
        """Adam; the learning rate is set at every step by `_learning_rate`."""
        return torch.optim.Adam(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay), None

    def _learning_rate(self, step: int) -> float:
        """Linear warm-up, then nnU-Net's polynomial decay with exponent 0.9, step by step."""
        total = self.num_epochs * self.num_iterations_per_epoch
        warmup = self.recipe.optimizer.warmup_steps
        rise = min(1.0, (step + 1) / (warmup + 1))
        return float(self.initial_lr * rise * (1 - step / total) ** 0.9)

    # Data

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Patches per lesion with the recipe's shares; background processes only where CUDA waits for them."""
        training, validation = self.do_split()
        shares = PatchShares(**self.recipe.sampling.model_dump())
        plans = self.configuration_manager
        source = self._source(training)
        if not any(case.lesions for case in source.anchors):
            raise InputError(
                f"fold {self.fold}: no lesion in its {len(training)} training cases; add labelled cases with lesions"
            )
        train_loader, val_loader = (
            PatchLoader(
                self._source(names) if names is validation else source,
                plans.patch_size,
                plans.spacing,
                self.batch_size,
                shares,
                augmentation,
                seed,
            )
            for names, augmentation, seed in (
                (training, self._augmentation(), (self.seed, self.fold)),
                (validation, None, (self.seed, self.fold, VALIDATION_SEED)),
            )
        )
        workers = get_allowed_n_proc_DA()
        if not workers:
            return SingleThreadedAugmenter(train_loader, None), SingleThreadedAugmenter(val_loader, None)
        for loader in (train_loader, val_loader):
            loader.start_epoch(self.current_epoch, len(self._losses))
        pin = self.device.type == "cuda"
        return (
            NonDetMultiThreadedAugmenter(train_loader, None, workers, 2 * workers, list(range(workers)), pin),
            NonDetMultiThreadedAugmenter(val_loader, None, 1, 2, [0], pin),
        )

    def _source(self, names: list[str]) -> PatchSource:
        dataset = nnUNetDatasetBlosc2(self.preprocessed_dataset_folder, names)
        images, labels, anchors = {}, {}, []
        for name in names:
            images[name], labels[name], _, properties = _load_case(dataset, name)
            shape = images[name].shape[1:]
            anchors.append(CaseAnchors(name, shape, properties["lesions"], properties["brain"]))
        return PatchSource(images, labels, anchors)

    def _augmentation(self) -> Augmentation:
        settings = self.recipe.augmentation
        roles = list(self.dataset_json["channel_names"].values())
        return Augmentation(
            SpatialWarp(settings.warp_probability, settings.rotation_degrees, settings.scaling, settings.elastic_mm),
            Flip(self._mirror_axes(settings.flip)),
            Intensity(settings.intensity_probability, settings.noise_sigma, settings.contrast),
            ChannelDropout(
                settings.channel_dropout, tuple(roles.index(role) for role in SUSCEPTIBILITY_ROLES if role in roles)
            ),
        )

    def _mirror_axes(self, planes: tuple[str, ...]) -> tuple[int, ...]:
        """Array axes, in the plan's order of axes, that mirror across these planes."""
        forward = self.plans_manager.transpose_forward
        return tuple(sorted(forward.index(AXES[plane]) for plane in planes))

    # The loop

    def prepare(self) -> None:
        """Network and data, so that what is wrong with them is known before anything is written."""
        if not self.was_initialized:
            self.initialize()
        if self.dataloader_train is None:
            self.dataloader_train, self.dataloader_val = self.get_dataloaders()

    def run_training(self) -> None:
        """As nnU-Net does, but it goes on within an epoch and ends between two steps when it is asked to."""
        self.on_train_start()
        while self.current_epoch < self.num_epochs:
            self.on_train_epoch_start()
            while len(self._losses) < self.num_iterations_per_epoch:
                self.train_step(next(self.dataloader_train))
                self._save_if_due()
            with torch.no_grad():
                self.on_validation_epoch_start()
                steps = range(self.num_val_iterations_per_epoch)
                self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val)) for _ in steps])
            self.on_epoch_end()
        self.on_train_end()

    def on_train_start(self) -> None:
        """Loggers; nothing is printed, drawn or unpacked."""
        self.prepare()
        self.inference_allowed_mirroring_axes = self._mirror_axes(self.recipe.inference.mirror) or None
        self.set_deep_supervision_enabled(True)
        self.logger.loggers.append(ScalarLogger(Path(self.output_folder) / "tensorboard", self.current_epoch))

    def on_train_epoch_start(self) -> None:
        self.network.train()
        for augmenter in (self.dataloader_train, self.dataloader_val):
            if isinstance(augmenter, SingleThreadedAugmenter):
                augmenter.data_loader.start_epoch(self.current_epoch)
        if self._draws is not None and isinstance(self.dataloader_train, SingleThreadedAugmenter):
            self.dataloader_train.data_loader.draws = self._draws
        self._draws = None

    def _save_if_due(self) -> None:
        """A checkpoint every so many steps, and one when the process is asked to end."""
        if self.stop or len(self._losses) % self.checkpoint_steps == 0:
            self.save_checkpoint(str(Path(self.output_folder) / LATEST_CHECKPOINT))
        self.stop.raise_if_made()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(self.steps_done)
        result: dict[str, Any] = super().train_step(self._with_pooled_targets(batch))
        self._losses.append(float(result["loss"]))
        self.on_step(f"loss {np.mean(self._losses[-20:]):.3f}")
        return result

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = super().validation_step(self._with_pooled_targets(batch))
        return result

    def _with_pooled_targets(self, batch: dict[str, Any]) -> dict[str, Any]:
        strides = self.configuration_manager.pool_op_kernel_sizes
        return {"data": batch["data"], "target": max_pooled_targets(batch["target"], strides)}

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """Voxel Dice pooled over the epoch's patches; 0 where there is neither lesion nor prediction.

        nnU-Net's own moving average turns to NaN for good in that case.
        """
        hits, wrong, missed = (
            float(np.sum([output[key] for output in val_outputs])) for key in ("tp_hard", "fp_hard", "fn_hard")
        )
        total = 2 * hits + wrong + missed
        figures = {
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "training_loss": float(np.mean(self._losses)),
            "validation_loss": float(np.mean([output["loss"] for output in val_outputs])),
            "validation_dice": 2 * hits / total if total else 0.0,
        }
        self.curves.append({"epoch": self.current_epoch, **figures})
        for logger in self.logger.loggers:
            for name, value in figures.items():
                logger.log(name, value, self.current_epoch)
        shown = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())
        record(
            f"fold {self.fold}, epoch {self.current_epoch}: {shown}", event="epoch", fold=self.fold, **self.curves[-1]
        )

    def on_epoch_end(self) -> None:
        """Curves and a checkpoint after every epoch."""
        self.current_epoch += 1
        self._losses = []
        folder = Path(self.output_folder)
        write_tsv(folder / "progress.tsv", CURVE_COLUMNS, self.curves)
        if self.current_epoch < self.num_epochs:
            self.save_checkpoint(str(folder / LATEST_CHECKPOINT))
            self.stop.raise_if_made()

    def on_train_end(self) -> None:
        """The picture first: the final checkpoint says that all is there."""
        folder = Path(self.output_folder)
        draw_curves(self.curves, folder / "progress.png", f"fold {self.fold}")
        self.save_checkpoint(str(folder / FINAL_CHECKPOINT))
        (folder / LATEST_CHECKPOINT).unlink(missing_ok=True)
        for augmenter in (self.dataloader_train, self.dataloader_val):
            if isinstance(augmenter, NonDetMultiThreadedAugmenter):
                augmenter._finish()

    # Checkpoints: plain types and tensors, so that they load with weights_only=True

    def save_checkpoint(self, filename: str) -> None:
        """Everything to go on with between two steps: `current_epoch` epochs are done, and a part of the next."""
        in_process = isinstance(self.dataloader_train, SingleThreadedAugmenter)
        checkpoint = {
            "network_weights": {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()},
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler is not None else None,
            "curves": self.curves,
            "current_epoch": self.current_epoch,
            "step_losses": self._losses,
            "draws": self.dataloader_train.data_loader.draws if in_process and self._losses else None,
            "init_args": {"configuration": self.configuration_name, "fold": self.fold},
            "settings": self.plans_manager.plans["cmb_autoseg"],
            "trainer_name": type(self).__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
        }
        with atomic_path(Path(filename)) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Go on where a checkpoint of this very recipe, plan and seed stopped.

        Raises:
            InputError: it is of another fold, plan, recipe, seed or deal of the cases to folds.
            KeyError, RuntimeError, ...: it is damaged.
        """
        if not self.was_initialized:
            self.initialize()
        checkpoint = torch.load(filename_or_checkpoint, map_location=self.device, weights_only=True)
        ours = (self.fold, self.plans_manager.plans["cmb_autoseg"])
        if (checkpoint["init_args"]["fold"], checkpoint["settings"]) != ours:
            raise InputError(
                f"{filename_or_checkpoint}: of another fold, plan, recipe, seed or deal of the cases to folds; "
                "delete it to train this fold from the start"
            )
        self.network.load_state_dict(checkpoint["network_weights"])
        self.optimizer.load_state_dict(checkpoint["optimizer_state"])
        if self.grad_scaler is not None and checkpoint["grad_scaler_state"] is not None:
            self.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])
        self.curves = checkpoint["curves"]
        self.current_epoch, self._losses = checkpoint["current_epoch"], checkpoint["step_losses"]
        self._draws = checkpoint["draws"]
