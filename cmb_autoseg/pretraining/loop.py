"""The loop that learns an encoder without labels, and goes on where it was stopped."""

import math
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from cmb_autoseg.errors import CMBError, InputError
from cmb_autoseg.files import write_tsv
from cmb_autoseg.interruption import Stopped, StopRequest
from cmb_autoseg.networks.residual_unet import ResidualEncoder
from cmb_autoseg.pretraining.distributed import World, device_of_process, join_world
from cmb_autoseg.pretraining.effective_rank import effective_rank
from cmb_autoseg.pretraining.objectives import Execution
from cmb_autoseg.pretraining.patches import CasePatches, PretrainingCase
from cmb_autoseg.pretraining.samples import NumberedSamples, batches, probe_images
from cmb_autoseg.pretraining.setup import PretrainingSetup, build_objective
from cmb_autoseg.run_log import record
from cmb_autoseg.tensor_file import write_tensors
from cmb_autoseg.trainers.recipe import PretrainingSettings

__all__ = ["CHECKPOINT", "CURVE_COLUMNS", "cosine_rate", "pretrain", "steps_done"]

CHECKPOINT = "checkpoint_latest.pth"
CHECKPOINT_STEPS = 100
CURVE_COLUMNS = ("epoch", "learning_rate", "loss", "on_diagonal", "off_diagonal", "effective_rank")
"""Of `progress.tsv`. `epoch`: how many are done; row 0 is the first batch before anything is learned, a later row the
mean over the batches of its epoch. `on_diagonal`: mean of the cross-correlation's diagonal; `off_diagonal`: root mean
square of its other entries, both `n/a` for masked autoencoding; `effective_rank`: of the encoder's features on fixed
patches, at the end of the epoch."""
N_PROBES = 128
PROBES_AT_A_TIME = 8
DAMAGE = (AttributeError, EOFError, KeyError, OSError, RuntimeError, TypeError, UnpicklingError, ValueError)

CurveRow = dict[str, float]


def _nothing(note: str) -> None:
    """Progress that nobody watches."""


def pretrain(
    encoder: ResidualEncoder,
    cases: Sequence[PretrainingCase],
    setup: PretrainingSetup,
    folder: Path,
    device: str | torch.device,
    seed: int,
    checkpoint_steps: int | None = None,
    stop: StopRequest | None = None,
    on_step: Callable[[str], None] = _nothing,
) -> list[CurveRow]:
    """Learn the encoder's weights in place, or go on with it, or take the weights of a finished run.

    In `folder`, which is the caller's own, lie `checkpoint_latest.pth` and `progress.tsv`. Under `torchrun` every
    process calls this alike, and process 0 writes; on several machines they must see the same folder.

    Args:
        encoder: with its first weights (`build_encoder`); moved to the device.
        cases: at least one.
        setup: objective, schedule, augmentation, grid, network.
        folder: where it is written.
        device: `cuda` or `cpu`.
        seed: of the head's first weights and of all patches.
        checkpoint_steps: steps between two checkpoints; there is one after every epoch and at a stop, too.
        stop: ends it between two steps.
        on_step: told the loss after every step.

    Returns:
        One row before the first step and one an epoch, with the keys of `CURVE_COLUMNS` that the method has.

    Raises:
        InputError: the folder's checkpoint is damaged or of other settings; settings that do not fit the network or
            the number of processes; the loss or the features are no longer finite numbers.
        Stopped: the process was asked to end, and the checkpoint is written.
    """
    run = _Run(encoder, cases, setup, folder, device_of_process(device), seed, join_world(device))
    run.checkpoint_steps = checkpoint_steps or CHECKPOINT_STEPS
    run.stop = stop if stop is not None else StopRequest()
    run.on_step = on_step
    run.go_on()
    run.work()
    return run.rows


def steps_done(folder: Path) -> int:
    """Optimizer steps of the checkpoint in a folder; 0 without one, or with one that `pretrain` will refuse."""
    try:
        return int(torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)["step"])
    except DAMAGE:
        return 0


def cosine_rate(settings: PretrainingSettings, step: int) -> float:
    """Linear warm-up, then half a cosine down to 0; the warm-up takes at most half of all steps."""
    total = settings.epochs * settings.steps_per_epoch
    warmup = min(settings.warmup_steps, total // 2)
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


class _Run:
    """One pretraining: weights, optimizer, and how far it is."""

    checkpoint_steps = CHECKPOINT_STEPS

    def __init__(
        self,
        encoder: ResidualEncoder,
        cases: Sequence[PretrainingCase],
        setup: PretrainingSetup,
        folder: Path,
        device: torch.device,
        seed: int,
        world: World,
    ) -> None:
        self.settings, self.folder, self.device, self.world = setup.settings, folder, device, world
        self.digest = setup.digest(seed=seed, cases=[case.name for case in cases])
        self.own = world.share(self.settings.batch_size)
        self.objective = build_objective(setup, seed)
        self.encoder, self.head = encoder.to(device).train(), self.objective.head.to(device).train()
        if device.type == "cpu":
            self.encoder.to(memory_format=torch.channels_last_3d)
        patches = CasePatches(cases, setup.patch_shape, self.settings.brain)
        self.samples = NumberedSamples(self.objective.sampler, patches, seed, self.settings.batch_size)
        n_probes = min(N_PROBES, self.settings.steps_per_epoch * self.settings.batch_size)
        self.probes = probe_images(patches, seed, n_probes) if world.rank == 0 else None
        parameters = [*self.encoder.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.Adam(
            parameters, self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        autocast = _half_precision(device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=autocast is torch.float16)
        self.execution = Execution(device, world, self.settings.micro_batch_size, autocast, self.scaler.scale)
        self.step, self.rows, self.figures = 0, list[CurveRow](), list[dict[str, float]]()
        self.stop: StopRequest = StopRequest()
        self.on_step: Callable[[str], None] = _nothing

    @property
    def total(self) -> int:
        return self.settings.epochs * self.settings.steps_per_epoch

    def work(self) -> None:
        """All steps that are left."""
        for batch in batches(self.samples, range(self.step, self.total), self.own, self.device):
            self.learn(batch)
            if self.step % self.settings.steps_per_epoch == 0:
                self.add_row()
                self.figures = []
            self.save_if_due()
        self.world.wait()
        if self.device.type == "cpu":
            self.encoder.to(memory_format=torch.contiguous_format)

    def learn(self, batch: dict[str, torch.Tensor]) -> None:
        """One optimizer step."""
        for group in self.optimizer.param_groups:
            group["lr"] = cosine_rate(self.settings, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        figures = self.objective.accumulate(self.encoder, batch, self.execution)
        if not math.isfinite(figures["loss"]):
            raise self.no_number(f"the loss of step {self.step + 1} is")
        self.figures.append(figures)
        if self.step == 0:
            self.add_row()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.on_step(f"loss {np.mean([each['loss'] for each in self.figures[-20:]]):.4g}")

    def no_number(self, what: str) -> InputError:
        """What to say where the weights run away."""
        return InputError(
            f"{self.folder}: {what} no finite number; lower pretraining.learning_rate in the recipe (found "
            f"{self.settings.learning_rate}) and delete {CHECKPOINT} there"
        )

    def add_row(self) -> None:
        """A row of the curves: the mean of the figures since the last epoch's end."""
        epoch = self.step // self.settings.steps_per_epoch
        row: CurveRow = {"epoch": epoch, "learning_rate": self.optimizer.param_groups[0]["lr"]}
        row |= {name: float(np.mean([each[name] for each in self.figures])) for name in self.figures[0]}
        if self.probes is not None:
            row["effective_rank"] = self.rank_of_probes(self.probes)
        self.rows.append(row)
        if self.world.rank == 0:
            write_tsv(self.folder / "progress.tsv", CURVE_COLUMNS, self.rows)
            shown = ", ".join(f"{name.replace('_', ' ')} {row[name]:.4g}" for name in CURVE_COLUMNS[1:] if name in row)
            record(f"pretraining, epoch {row['epoch']}: {shown}", **{"event": "epoch", **row})

    def rank_of_probes(self, probes: torch.Tensor) -> float:
        with torch.no_grad():
            embeddings = [
                self.objective.embed(self.encoder, part, self.execution)
                for part in torch.split(probes, PROBES_AT_A_TIME)
            ]
        features = torch.cat(embeddings)
        if not features.isfinite().all():
            raise self.no_number(f"after step {self.step} what the encoder says of a patch is")
        return effective_rank(features)

    # Checkpoints: plain types and tensors, so that they load with weights_only=True

    def save_if_due(self) -> None:
        """A checkpoint every so many steps, after every epoch, and in all processes when one is asked to end."""
        stopped = self.world.any(bool(self.stop), self.device)
        if stopped or not self.figures or len(self.figures) % self.checkpoint_steps == 0:
            self.save()
        if stopped and self.step < self.total:
            self.stop.raise_if_made()
            raise Stopped(signal.SIGTERM)

    def save(self) -> None:
        if self.world.rank != 0:
            return
        checkpoint = {
            "settings": self.digest,
            "step": self.step,
            "rows": self.rows,
            "figures": self.figures,
            "encoder": {name: tensor.contiguous() for name, tensor in self.encoder.state_dict().items()},
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        write_tensors(self.folder / CHECKPOINT, checkpoint)

    def go_on(self) -> None:
        """Take up the folder's checkpoint, if there is one."""
        path = self.folder / CHECKPOINT
        there = path.exists()
        self.world.wait()
        if not there:
            return
        try:
            self.load(torch.load(path, map_location=self.device, weights_only=True))
        except CMBError:
            raise
        except DAMAGE as error:
            raise InputError(
                f"{path}: pretraining cannot go on from it ({type(error).__name__}); delete it to begin anew"
            ) from None

    def load(self, checkpoint: dict[str, Any]) -> None:
        if checkpoint["settings"] != self.digest:
            raise InputError(
                f"{self.folder / CHECKPOINT}: of another recipe, plan, seed or set of cases; delete it to begin anew, "
                "or use the same as before"
            )
        self.encoder.load_state_dict(checkpoint["encoder"])
        self.head.load_state_dict(checkpoint["head"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.scaler.load_state_dict(checkpoint["scaler"])
        self.step, self.rows, self.figures = checkpoint["step"], checkpoint["rows"], checkpoint["figures"]


def _half_precision(device: torch.device) -> torch.dtype | None:
    """Of the encoder on CUDA: bfloat16 where the card has it, else half, which needs scaled losses."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
