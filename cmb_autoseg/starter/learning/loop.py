"""A training in runs that may be as short as one likes: each goes on where the last one stopped."""

import json
import math
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from cmb_autoseg.machine import described_machine
from cmb_autoseg.starter.learning.settings import LoopSettings, changed_settings
from cmb_autoseg.tensor_file import write_tensors

__all__ = ["CHECKPOINT", "LOG", "Task", "learn"]

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
CHECKPOINT_EVERY_S = 120.0
LOG_EVERY = 50
LARGEST_GRADIENT = 12.0
Batch = TypeVar("Batch")
Settings = TypeVar("Settings", bound=LoopSettings)


class Task(ABC, Generic[Settings, Batch]):
    """What is learned, by which settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def network(self) -> nn.Module:
        """A network with random weights."""

    @abstractmethod
    def batches(self, step: int) -> Iterator[Batch]:
        """Endless batches for a run that begins at this step; drawn in a thread of their own."""

    @abstractmethod
    def loss(self, network: nn.Module, batch: Batch, device: str) -> Tensor:
        """A number of what the network says of a batch."""


def learn(task: Task[Any, Any], out: Path, minutes: float, device: str = "cpu") -> int:
    """Train until all steps are done or the time is over.

    Args:
        task: as in earlier runs of the same folder.
        out: folder of the checkpoint and the log; gone on with if it holds them.
        minutes: of this run.
        device: to compute on.

    Returns:
        Steps done so far.

    Raises:
        ValueError: the folder's checkpoint is of other settings.
    """
    settings = task.settings
    ends = time.monotonic() + 60 * minutes
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    network = task.network().to(device)
    average = task.network().to(device)
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    step = begun_at = _restore(out / CHECKPOINT, settings, network, average, optimizer)
    if step < settings.steps:
        _write_log(out / LOG, run=_computing_on(device), step=step)
    losses: list[float] = []
    saved = logged = time.monotonic()
    busy = 0.0
    for batch in _drawn_ahead(task.batches(step)):
        if step >= settings.steps or time.monotonic() >= ends:
            break
        for group in optimizer.param_groups:
            group["lr"] = _rate(settings, step)
        begun = time.monotonic()
        network.train()
        loss = task.loss(network, batch, device)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        if math.isfinite(float(norm)):
            optimizer.step()
        _follow(average, network, min(settings.average, (step + 1) / (step + 10)))
        step += 1
        losses.append(float(loss.detach()))
        busy += time.monotonic() - begun
        if step % LOG_EVERY == 0 or step == settings.steps:
            now = time.monotonic()
            seconds = now - logged
            figures = {"loss": round(float(np.mean(losses)), 5), "seconds": round(seconds, 2)}
            _write_log(out / LOG, step=step, **figures, waiting_share=round(1 - busy / seconds, 3))
            losses, logged, busy = [], now, 0.0
        if time.monotonic() - saved > CHECKPOINT_EVERY_S:
            _save(out / CHECKPOINT, step, network, average, optimizer, settings)
            saved = time.monotonic()
    if step > begun_at or not (out / CHECKPOINT).is_file():
        _save(out / CHECKPOINT, step, network, average, optimizer, settings)
    return step


def _drawn_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, made by a thread of their own."""
    ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=2)
    over = threading.Event()

    def put(value: "Batch | BaseException") -> bool:
        while not over.is_set():
            try:
                ready.put(value, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def fill() -> None:
        try:
            for batch in batches:
                if not put(batch):
                    return
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        while True:
            value = ready.get()
            if isinstance(value, BaseException):
                raise value
            yield value
    finally:
        over.set()
        thread.join()


def _rate(settings: LoopSettings, step: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    rise = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    fall = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    return settings.learning_rate * rise * fall


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    for slow, fast in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if slow.is_floating_point():
            slow.lerp_(fast, 1 - decay)
        else:
            slow.copy_(fast)


def _computing_on(device: str) -> dict[str, str | int]:
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else {}
    return {**described_machine(), "torch": torch.__version__, **gpu, "threads": torch.get_num_threads()}


def _write_log(path: Path, **line: Any) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _save(
    path: Path,
    step: int,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: LoopSettings,
) -> None:
    content = {
        "step": step,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "settings": json.dumps(asdict(settings), sort_keys=True),
    }
    write_tensors(path, content)


def _restore(
    path: Path,
    settings: LoopSettings,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> int:
    if not path.is_file():
        return 0
    content: dict[str, Any] = torch.load(path, weights_only=True)
    if changed_settings(settings, json.loads(content["settings"])) != settings:
        raise ValueError(f"{path}: was trained with other settings; choose another folder")
    network.load_state_dict(content["network"])
    average.load_state_dict(content["average"])
    optimizer.load_state_dict(content["optimizer"])
    return int(content["step"])
