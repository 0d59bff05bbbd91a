"""The training loop of every network that nnU-Net's own loop does not train: slices, boxes, second stages.

What differs between them is a `Task`. Draws hang on seed, fold, epoch and step alone, and the learning rate on the
curves so far, so that an interrupted training goes on as if it had not been.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from cmb_autoseg._nnunet import dataset_json
from cmb_autoseg.files import write_json, write_tsv
from cmb_autoseg.interruption import StopRequest, hold_back_stops
from cmb_autoseg.locking import own_folder
from cmb_autoseg.progress import Meter, log
from cmb_autoseg.run_log import open_log, record
from cmb_autoseg.trainers.checkpoints import TrainingState
from cmb_autoseg.trainers.curves import ScalarLogger, draw_curves
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.fold_settings import refuse_mixture
from cmb_autoseg.trainers.optimization import DivergenceWatch, descend, finite_mean, scheduled_rate
from cmb_autoseg.workspace import LATEST_CHECKPOINT

__all__ = ["CHECKPOINT_STEPS", "Task", "train_task", "write_model_files"]

CHECKPOINT_STEPS = 100
BATCHES_AHEAD = 8
"""Drawn by threads while a GPU works; a CPU draws them when they are needed."""


class Task(ABC):
    """What one fold learns: its network, batches, loss, and how an epoch is judged."""

    network: nn.Module
    """On the device of the training."""
    figure: ClassVar[str]
    """Key of `validate`; the higher, the better."""
    figure_title: ClassVar[str]
    """Of the curves' axis."""
    loss_title: ClassVar[str]

    @abstractmethod
    def batch(self, rng: np.random.Generator) -> Any:
        """Draw a batch, on the CPU; called by several threads at a time where a GPU waits."""

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """Of the network in training mode; a scalar with gradients."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """`validation_loss` and `figure` of the fold's validation cases; without gradients, in evaluation mode."""


def train_task(run: FoldRun, build: Callable[[], Task]) -> None:
    """Train one fold, or go on with it; `checkpoint_final.pth` says that it is done.

    Args:
        run: the fold.
        build: makes the task; torch's draws are seeded meanwhile.

    Raises:
        InputError: a checkpoint cannot be gone on from, the model's folder holds folds of other settings, or the loss
            is no longer finite.
        Stopped: the process was asked to end, and the checkpoint is written.
    """
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if run.settings.device == "cuda" else []):
        torch.manual_seed(_torch_seed(run.settings.seed, run.fold))
        loop = _Loop(run, build())
        if (run.folder / LATEST_CHECKPOINT).is_file():
            loop.go_on()
        write_model_files(run)
        steps = run.recipe.epochs * run.recipe.steps_per_epoch
        open_log(run.raw.folders.workspace)
        title = f"Training fold {run.fold}"
        with hold_back_stops() as loop.stop, Meter(title, steps, loop.steps_done, slow=True) as meter:
            loop.on_step = meter.advance
            loop.train()


def write_model_files(run: FoldRun) -> None:
    """Write the model's `plans.json` and `dataset.json`, by which it is known and loaded; the folds share them.

    Raises:
        InputError: folds of other settings are there.
    """
    with own_folder(run.model, "a fold that begins", wait_s=60, nested=False):
        refuse_mixture(run.model, run.shared, run.folder)
        plans = {"dataset_name": run.plan.dataset, "plans_name": run.model.name.split("__")[1]}
        write_json(run.model / "plans.json", {**plans, "cmb_autoseg": dict(run.shared)})
        n_cases = len(run.cases.training) + len(run.cases.validation)
        write_json(run.model / "dataset.json", dataset_json(run.plan.channels, n_cases, run.plan.dataset))


class _Loop:
    def __init__(self, run: FoldRun, task: Task) -> None:
        self.run, self.task, self.recipe = run, task, run.recipe
        settings = self.recipe.optimizer
        parameters = [p for p in task.network.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
        self.on_cuda = run.settings.device == "cuda"
        scaler = torch.amp.GradScaler("cuda") if self.on_cuda else None
        self.state = TrainingState(run, task.network, optimizer, scaler)
        self.divergence = DivergenceWatch(run.fold, run.model, self.on_cuda)
        self.stop = StopRequest()
        self.on_step: Callable[[str], None] = lambda _: None

    @property
    def epoch(self) -> int:
        return len(self.state.curves)

    @property
    def steps_done(self) -> int:
        return self.epoch * self.recipe.steps_per_epoch + len(self.state.losses)

    @property
    def figures(self) -> list[float]:
        """The validation figure of each finished epoch."""
        return [row[self.task.figure] for row in self.state.curves]

    def train(self) -> None:
        """All epochs that are left, then the final checkpoint."""
        logger = ScalarLogger(self.run.folder / "tensorboard", self.epoch)
        while self.epoch < self.recipe.epochs and not self._is_over():
            self._train_epoch()
            self._judge_epoch(logger)
        title = f"fold {self.run.fold}"
        task = self.task
        draw_curves(self.state.curves, self.run.folder / "progress.png", title, task.loss_title, task.figure_title)
        self.state.finish()

    def _is_over(self) -> bool:
        patience = self.recipe.schedule.stop_after_epochs
        over = patience is not None and _epochs_since_best(self.figures) >= patience
        if over:
            log(f"fold {self.run.fold}: no better {self.task.figure} for {patience} epochs; ends after {self.epoch}")
        return over

    def _train_epoch(self) -> None:
        self.task.network.train()
        every = self.run.settings.checkpoint_steps or CHECKPOINT_STEPS
        for batch in self._batches():
            torch.manual_seed(_torch_seed(self.run.settings.seed, self.run.fold, self.steps_done))
            self._step(batch)
            if self.stop or len(self.state.losses) % every == 0:
                self.state.save()
            self.stop.raise_if_made()

    def _batches(self) -> Iterator[Any]:
        """What is left of the epoch; a GPU's batches are drawn ahead."""
        steps = range(len(self.state.losses), self.recipe.steps_per_epoch)
        generators = [
            np.random.default_rng((self.run.settings.seed, self.run.fold, self.epoch, step)) for step in steps
        ]
        if not self.on_cuda:
            yield from map(self.task.batch, generators)
            return
        with ThreadPoolExecutor(BATCHES_AHEAD) as pool:
            waiting: list[Future[Any]] = []
            for rng in generators:
                waiting.append(pool.submit(self.task.batch, rng))
                if len(waiting) > BATCHES_AHEAD:
                    yield waiting.pop(0).result()
            for drawn in waiting:
                yield drawn.result()

    def _step(self, batch: Any) -> None:
        recipe, figures = self.recipe, self.figures
        n_steps = recipe.epochs * recipe.steps_per_epoch
        rate = scheduled_rate(recipe.optimizer, recipe.schedule, self.steps_done, n_steps, figures)
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate
        self.state.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            loss = self.task.loss(batch)
        is_finite = descend(loss, self.task.network, self.state.optimizer, self.state.scaler)
        self.divergence.see(is_finite, self.steps_done)
        self.state.losses.append(float(loss.detach()))
        self.on_step(f"loss {finite_mean(self.state.losses[-20:]):.3f}")

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast("cuda") if self.on_cuda else nullcontext()

    def _judge_epoch(self, logger: ScalarLogger) -> None:
        self.task.network.eval()
        with torch.no_grad(), self._autocast():
            judged = self.task.validate()
        rate = float(self.state.optimizer.param_groups[0]["lr"])
        figures = {"learning_rate": rate, "training_loss": finite_mean(self.state.losses), **judged}
        for name, value in figures.items():
            logger.log(name, value, self.epoch)
        row = {"epoch": self.epoch, **figures}
        record(f"fold {self.run.fold}, epoch {self.epoch}", event="epoch", fold=self.run.fold, **row)
        self.state.curves.append(row)
        self.state.losses = []
        if self.recipe.schedule.keep == "best" and _epochs_since_best(self.figures) == 0:
            self.state.best = self.state.weights()
        told = [{name: None if np.isnan(value) else value for name, value in row.items()} for row in self.state.curves]
        write_tsv(self.run.folder / "progress.tsv", tuple(row), told)
        self.state.save()
        self.stop.raise_if_made()

    def go_on(self) -> None:
        """Take up the latest checkpoint; errors as of `TrainingState.go_on`."""
        self.state.go_on()
        log(f"fold {self.run.fold}: goes on after step {self.steps_done}, in epoch {self.epoch + 1}")


def _epochs_since_best(figures: Sequence[float]) -> int:
    """0 where the last epoch is the best so far, and where no figure is defined (NaN) yet."""
    known = np.nan_to_num(figures, nan=-np.inf)
    return len(known) - 1 - int(np.argmax(known)) if np.isfinite(known).any() else 0


def _torch_seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
