"""Our trainer: nnU-Net's hooks, filled from the recipe that travels in the plans.

Import it inside `nnunet_environment`; nnunetv2 reads some variables at import time.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import write_tsv
from cmb_autoseg.interruption import StopRequest
from cmb_autoseg.preprocessing.network_grid import mirror_axes
from cmb_autoseg.progress import log
from cmb_autoseg.records import Plan, Role
from cmb_autoseg.run_log import record
from cmb_autoseg.tensor_file import write_tensors
from cmb_autoseg.timing import StepTimes
from cmb_autoseg.trainers.curves import ScalarLogger, curve_columns, draw_curves, epoch_figures
from cmb_autoseg.trainers.fold_cases import FoldCases
from cmb_autoseg.trainers.fold_settings import same_training
from cmb_autoseg.trainers.optimization import DivergenceWatch, descend, finite_mean, polynomial_rate
from cmb_autoseg.trainers.patches.augmentation import max_pooled_targets
from cmb_autoseg.trainers.patches.enhancement import FeatureEnhancement, enhanced_stage
from cmb_autoseg.trainers.patches.losses import DeepSupervisionLoss, DiceBCELoss
from cmb_autoseg.trainers.patches.patch_data import FoldPatches, PatchFeed
from cmb_autoseg.trainers.patches.semi_supervised import Teaching
from cmb_autoseg.trainers.patches.transfer import parameter_groups, transfer_encoder
from cmb_autoseg.trainers.pretrained_encoder import PretrainedEncoder
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.workspace import FINAL_CHECKPOINT, LATEST_CHECKPOINT

__all__ = ["CHECKPOINT_STEPS", "CMBTrainer"]

CHECKPOINT_STEPS = 100


def _nothing(note: str) -> None:
    """Progress that nobody watches."""


class CMBTrainer(nnUNetTrainer):  # type: ignore[misc]
    """Trains one fold by the recipe in `plans["cmb_autoseg"]`.

    nnU-Net finds the class by name, constructs it, and re-reads the constructor's arguments, so
    the signature is nnU-Net's. `cases` must be set, and `encoder` where there is a pretrained one, before
    `prepare`. `on_step` may be set to watch the progress, `stop` to end between two steps, and
    `checkpoint_steps` to save more or less often.
    """

    network: Any
    dataloader_train: Any
    dataloader_val: Any
    cases: FoldCases

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.settings = plans["cmb_autoseg"]
        self.recipe = Recipe.model_validate(self.settings["recipe"])
        self.seed = int(self.settings["seed"])
        self.initial_lr = self.recipe.optimizer.learning_rate
        self.weight_decay = self.recipe.optimizer.weight_decay
        self.num_epochs = self.recipe.epochs
        self.num_iterations_per_epoch = self.recipe.steps_per_epoch
        self.num_val_iterations_per_epoch = self.recipe.validation_steps
        self.encoder: PretrainedEncoder | None = None
        self.on_step: Callable[[str], None] = _nothing
        self.stop = StopRequest()
        self.checkpoint_steps = CHECKPOINT_STEPS
        self.divergence = DivergenceWatch(fold, Path(self.output_folder_base), device.type == "cuda")
        self.teaching: Teaching | None = None
        self.enhancement: FeatureEnhancement | None = None
        self.unlabelled: PatchFeed | None = None
        self.curves: list[dict[str, float]] = []
        self._losses: list[float] = []
        self._lessons: list[list[float]] = []
        """Unlabelled loss and voxels that taught, step by step of this epoch."""
        self._draws: list[dict[str, Any] | None] = []

    def print_to_log_file(self, *args: object, also_print_to_console: bool = False, add_timestamp: bool = True) -> None:  # noqa: ARG002 - nnU-Net's signature
        """Into the log of our run; nnU-Net's own file would be one more with every resumption."""
        record(" ".join(map(str, args)), event="nnunet")

    @property
    def steps_done(self) -> int:
        return int(self.current_epoch * self.num_iterations_per_epoch) + len(self._losses)

    @property
    def roles(self) -> tuple[Role, ...]:
        """Of the channels."""
        return tuple(map(Role, self.dataset_json["channel_names"].values()))

    # Network, loss and optimiser

    def initialize(self) -> None:
        """As nnU-Net does, from a seed or a pretrained encoder."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence((self.seed, self.fold)).generate_state(1)[0]))
            super().initialize()
        if self.encoder is not None:
            given, plan = self.encoder, self.recipe.applied_to(Plan.model_validate(self.settings["plan"]))
            done = transfer_encoder(self.network.encoder, plan, given.path, given.weights, given.record)
            kind = "encoder" if given.decoder is None else "model"
            if given.decoder is not None:
                self.network.decoder.load_state_dict(given.decoder)
            log(f"fold {self.fold}: {kind} {given.record.name} of {given.path}: {done}")
        if self.recipe.semi_supervised is not None:
            self.teaching = Teaching(self.recipe.semi_supervised, self.network)
        if self.recipe.network.feature_enhancement is not None:
            settings = self.recipe.network.feature_enhancement
            stage = enhanced_stage(settings, list(self.network.encoder.stages))
            self.enhancement = FeatureEnhancement(settings, stage, self.roles)

    def _do_i_compile(self) -> bool:
        """A compiled network would not call what hangs on a stage for a while."""
        return self.recipe.network.feature_enhancement is None and bool(super()._do_i_compile())

    def _build_loss(self) -> DeepSupervisionLoss:
        return DeepSupervisionLoss(DiceBCELoss(**self.recipe.loss.model_dump()))

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, None]:
        """Adam; the learning rate is set at every step by `_set_learning_rates`."""
        factor = 1.0 if self.encoder is None else self.recipe.transfer.learning_rate_factor
        groups = parameter_groups(self.network, factor)
        return torch.optim.Adam(groups, self.initial_lr, weight_decay=self.weight_decay, fused=True), None

    def _set_learning_rates(self) -> None:
        """A pretrained encoder gets its share, and nothing as long as it is frozen."""
        rate = polynomial_rate(self.recipe.optimizer, self.steps_done, self.num_epochs * self.num_iterations_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("factor", 1.0)
        if self.encoder is not None:
            self.network.encoder.requires_grad_(self.steps_done >= self.recipe.transfer.frozen_steps)

    # Data

    def do_split(self) -> tuple[list[str], list[str]]:
        """The cases that the fold was given."""
        return [case.name for case in self.cases.training], [case.name for case in self.cases.validation]

    def get_dataloaders(self) -> tuple[PatchFeed, PatchFeed]:
        """Patches of training and validation cases; those of unlabelled cases go to `unlabelled`."""
        training, validation = self.do_split()
        patches = self._patches()
        unlabelled = [case.name for case in self.cases.unlabelled]
        if unlabelled:
            self.unlabelled = self._feed(patches.unlabelled(unlabelled), 0.5)
        return self._feed(patches.training(training), 1.0), self._feed(patches.validation(validation), 0.0)

    def _patches(self) -> FoldPatches:
        plan, recipe = self.configuration_manager, self.recipe
        blank = [
            i for i, role in enumerate(self.roles) if recipe.sequences is not None and role not in recipe.sequences
        ]
        return FoldPatches(
            Path(self.preprocessed_dataset_folder),
            recipe,
            self.roles,
            tuple(blank),
            tuple(plan.patch_size),
            tuple(plan.spacing),
            self.batch_size,
            self._mirror_axes(recipe.augmentation.flip),
            (self.seed, self.fold),
        )

    def _feed(self, loader: Any, share: float) -> PatchFeed:
        return PatchFeed.start(loader, self.current_epoch, len(self._losses), self.device.type == "cuda", share)

    def _feeds(self) -> list[PatchFeed]:
        return [feed for feed in (self.dataloader_train, self.dataloader_val, self.unlabelled) if feed is not None]

    def _mirror_axes(self, planes: tuple[str, ...]) -> tuple[int, ...]:
        """Array axes, in the plan's order of axes, that mirror across these planes."""
        return mirror_axes(planes, self.plans_manager.transpose_forward)

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
            times = StepTimes()
            while len(self._losses) < self.num_iterations_per_epoch:
                with times.step("waiting for patches"):
                    batch = next(self.dataloader_train)
                with times.step("steps"):
                    self.train_step(batch)
                with times.step("checkpoints"):
                    self._save_if_due()
            with torch.no_grad(), times.step("validation"):
                self.on_validation_epoch_start()
                steps = range(self.num_val_iterations_per_epoch)
                self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val)) for _ in steps])
            with times.step("checkpoints"):
                self.on_epoch_end()
            record(f"fold {self.fold}: {times.shares}", event="shares", fold=self.fold, seconds=times.seconds)
        self.on_train_end()

    def on_train_start(self) -> None:
        """Loggers; nothing is printed, drawn or unpacked."""
        self.prepare()
        # What nnU-Net may mirror, as it knows the patches; `inference.mirror` is what we do.
        self.inference_allowed_mirroring_axes = self._mirror_axes(self.recipe.augmentation.flip) or None
        self.set_deep_supervision_enabled(True)
        self.logger.loggers.append(ScalarLogger(Path(self.output_folder) / "tensorboard", self.current_epoch))

    def on_train_epoch_start(self) -> None:
        self.network.train()
        for feed in self._feeds():
            feed.start_epoch(self.current_epoch)
        for feed, draws in zip((self.dataloader_train, self.unlabelled), self._draws, strict=False):
            if feed is not None:
                feed.take_up(draws)
        self._draws = []

    def _save_if_due(self) -> None:
        """A checkpoint every so many steps, and one when the process is asked to end."""
        if self.stop or len(self._losses) % self.checkpoint_steps == 0:
            self.save_checkpoint(str(Path(self.output_folder) / LATEST_CHECKPOINT))
        self.stop.raise_if_made()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """One step down the loss of labelled patches, and of unlabelled ones where the recipe learns from them."""
        self._set_learning_rates()
        self.optimizer.zero_grad(set_to_none=True)
        batch = self._with_pooled_targets(batch)
        with self._autocast():
            targets = [self._on_device(target) for target in batch["target"]]
            images = self._on_device(batch["data"])
            with self.enhancement.of(images, batch["target"][0]) if self.enhancement is not None else nullcontext():
                logits = self.network(images)
            loss: Tensor = self.loss(logits, targets)
            total = loss if self.teaching is None else loss + self._unlabelled_loss(self.teaching)
        self.divergence.see(descend(total, self.network, self.optimizer, self.grad_scaler), self.steps_done)
        if self.teaching is not None:
            self.teaching.follow(self.steps_done)
        self._losses.append(float(loss.detach()))
        self.on_step(f"loss {finite_mean(self._losses[-20:]):.3f}")
        return {"loss": self._losses[-1]}

    def _unlabelled_loss(self, teaching: Teaching) -> Tensor:
        assert self.unlabelled is not None
        views = next(self.unlabelled)
        lesson = teaching.lesson(self._on_device(views["easy"]), self._on_device(views["hard"]), self.steps_done)
        self._lessons.append([float(lesson.loss.detach()), float(lesson.voxels)])
        return lesson.weight * lesson.loss

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast("cuda") if self.device.type == "cuda" else nullcontext()

    def _on_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

    def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        with self.teaching.delivering(self) if self.teaching is not None else nullcontext():
            return dict(super().validation_step(self._with_pooled_targets(batch)))

    def _with_pooled_targets(self, batch: dict[str, Any]) -> dict[str, Any]:
        strides = self.configuration_manager.pool_op_kernel_sizes
        return {"data": batch["data"], "target": max_pooled_targets(batch["target"], strides)}

    def on_validation_epoch_end(self, val_outputs: list[dict[str, Any]]) -> None:
        """The epoch's figures, for the curves."""
        rate = float(self.optimizer.param_groups[0]["lr"])
        figures = epoch_figures(rate, self._losses, val_outputs, self._lessons)
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
        self._losses, self._lessons = [], []
        folder = Path(self.output_folder)
        write_tsv(folder / "progress.tsv", curve_columns(self.curves), self.curves)
        if self.current_epoch < self.num_epochs:
            self.save_checkpoint(str(folder / LATEST_CHECKPOINT))
            self.stop.raise_if_made()

    def on_train_end(self) -> None:
        """The picture first: the final checkpoint says that all is there."""
        folder = Path(self.output_folder)
        draw_curves(self.curves, folder / "progress.png", f"fold {self.fold}")
        if self.teaching is not None:
            self.teaching.hand_over()
        self.save_checkpoint(str(folder / FINAL_CHECKPOINT))
        (folder / LATEST_CHECKPOINT).unlink(missing_ok=True)
        for feed in self._feeds():
            feed.close()

    # Checkpoints: plain types and tensors, so that they load with weights_only=True

    def save_checkpoint(self, filename: str) -> None:
        """Everything to go on with between two steps: `current_epoch` epochs are done, and a part of the next."""
        feeds = (self.dataloader_train, self.unlabelled) if self._losses else ()
        checkpoint = {
            "network_weights": {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()},
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler is not None else None,
            "teacher_state": self.teaching.state_dict() if self.teaching is not None else None,
            "curves": self.curves,
            "current_epoch": self.current_epoch,
            "step_losses": self._losses,
            "step_lessons": self._lessons,
            "draws": [feed.draws if feed is not None else None for feed in feeds],
            "init_args": {"configuration": self.configuration_name, "fold": self.fold},
            "settings": self.settings,
            "encoder": self._encoder_digest,
            "trainer_name": type(self).__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
        }
        write_tensors(Path(filename), checkpoint)

    @property
    def _encoder_digest(self) -> str | None:
        return self.encoder.record.weights if self.encoder is not None else None

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Go on where a checkpoint of this very recipe, plan, seed and encoder stopped.

        Raises:
            InputError: it is of another fold, plan, recipe, seed, deal of the cases to folds, or encoder.
            KeyError, RuntimeError, ...: it is damaged.
        """
        if not self.was_initialized:
            self.initialize()
        checkpoint = torch.load(filename_or_checkpoint, map_location=self.device, weights_only=True)
        if checkpoint["init_args"]["fold"] != self.fold or not same_training(checkpoint["settings"], self.settings):
            raise InputError(
                f"{filename_or_checkpoint}: of another fold, plan, recipe, seed or deal of the cases to folds; "
                "delete it to train this fold from the start"
            )
        if checkpoint.get("encoder") != self._encoder_digest:
            raise InputError(
                f"{filename_or_checkpoint}: began with other weights of the encoder, which was pretrained anew since; "
                "delete it to train this fold from the start"
            )
        self.network.load_state_dict(checkpoint["network_weights"])
        self.optimizer.load_state_dict(checkpoint["optimizer_state"])
        if self.grad_scaler is not None and checkpoint["grad_scaler_state"] is not None:
            self.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])
        if self.teaching is not None:
            self.teaching.load_state_dict(checkpoint["teacher_state"])
        self.curves = checkpoint["curves"]
        self.current_epoch, self._losses = checkpoint["current_epoch"], checkpoint["step_losses"]
        self._lessons, draws = checkpoint.get("step_lessons", []), checkpoint["draws"]
        # Versions that knew no unlabelled cases saved the one state of the draws as it was.
        self._draws = draws if isinstance(draws, list) else [draws]
