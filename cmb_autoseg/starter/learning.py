"""Learning from simulated blocks, in runs that may be as short as one likes: each goes on where the last one stopped.

Needs PyTorch and numpy alone, so that it runs on any machine with a GPU; without one it does the same, longer.
"""

import functools
import json
import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cmb_autoseg.errors import InputError
from cmb_autoseg.machine import described_machine
from cmb_autoseg.starter.blocks import Block, block_files, read_blocks
from cmb_autoseg.starter.settings import LearningSettings, read_settings
from cmb_autoseg.starter.views import View, ViewDraw, draw_view, make_view
from cmb_autoseg.tensor_file import read_tensors, write_tensors
from cmb_autoseg.trainers.patches.augmentation import max_pooled_targets
from cmb_autoseg.trainers.patches.losses import DeepSupervisionLoss, DiceBCELoss

__all__ = ["learn"]

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
CHECKPOINT_EVERY_S = 120.0
LARGEST_GRADIENT = 12.0
PEOPLE_AT_ONCE = 24
VIEWS_PER_TURN = 64
"""After so many views another person's blocks take the place of the longest-held ones."""
HARD_PROBABILITY = 0.2
"""What the network takes for a microbleed where there is none, at least, to be shown again."""
MISSED_PROBABILITY = 0.5
"""What it says at most about a microbleed that is shown again."""
MOST_HARD = 256
AWAY_VOXELS = 2
"""In the plane, around what is marked: there the network may say anything, and there it finds a microbleed."""
LOG_EVERY = 50
BATCHES_AHEAD = 3
"""Made before they are learned from, the one in the making among them: when the batch of a step is begun, all before
the last so many steps are done."""


@dataclass(frozen=True)
class _Item:
    """A view and where it came from."""

    view: View
    block: Block
    draw: ViewDraw


class _Source:
    """Endless views of the blocks in a folder, some of them about what was falsely found or missed before."""

    def __init__(self, folder: Path, settings: LearningSettings, step: int) -> None:
        self._folder, self._settings, self._step = folder, settings, step
        self._rng = np.random.default_rng([settings.seed, step])
        self._people: list[list[Block]] = []
        self._hard: list[tuple[int, Block, np.ndarray]] = []
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[_Item]:
        taken = 0
        while True:
            if taken % VIEWS_PER_TURN == 0:
                self._turn()
            yield self._item(self._step + taken // self._settings.batch_size)
            taken += 1

    def add_hard(self, step: int, block: Block, centre: np.ndarray) -> None:
        """Remember a place (i, j, k voxels of the block), met at a step, to be shown again."""
        with self._lock:
            self._hard.append((step, block, centre))
            too_late = 2 * (BATCHES_AHEAD + 1) * self._settings.batch_size
            del self._hard[: -(MOST_HARD + too_late)]

    def _hard_at(self, step: int) -> list[tuple[int, Block, np.ndarray]]:
        """What is shown again at a step: nothing that was met so lately that it may not be here yet."""
        with self._lock:
            return [place for place in self._hard if place[0] < step - BATCHES_AHEAD][-MOST_HARD:]

    def _turn(self) -> None:
        files = block_files(self._folder)
        wanted = min(PEOPLE_AT_ONCE, len(files)) if not self._people else 1
        for _ in range(wanted):
            self._people.append(read_blocks(files[int(self._rng.integers(len(files)))]))
        del self._people[:-PEOPLE_AT_ONCE]

    def _item(self, step: int) -> _Item:
        about, places = None, self._hard_at(step)
        if places and self._rng.random() < self._settings.hard_share:
            _, block, about = places[int(self._rng.integers(len(places)))]
        else:
            people = self._people[int(self._rng.integers(len(self._people)))]
            block = people[int(self._rng.integers(len(people)))]
        views = replace(self._settings.views, lesion_share=_lesion_share(self._settings, step))
        draw = draw_view(self._rng, block, views, about)
        return _Item(make_view(block, draw, self._settings.views), block, draw)


def learn(
    pool: Path,
    out: Path,
    settings: LearningSettings,
    minutes: float,
    device: str = "cpu",
) -> int:
    """Train until all steps are done or the time is over.

    Args:
        pool: folder of simulated blocks; more may be added meanwhile.
        out: folder of the checkpoint and the log; gone on with if it holds them.
        settings: as in earlier runs of the same folder.
        minutes: of this run.
        device: to compute on.

    Returns:
        Steps done so far.

    Raises:
        InputError: the folder's checkpoint is damaged or of other settings, or there are no blocks.
    """
    ends = time.monotonic() + 60 * minutes
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    network = settings.network().to(device)
    average = settings.network().to(device)
    average.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    step = begun_at = _restore(out / CHECKPOINT, network, average, optimizer, settings)
    loss_of = DeepSupervisionLoss(
        DiceBCELoss(dice_weight=settings.dice_weight, foreground_weight=settings.foreground_weight)
    )
    if step < settings.steps:
        told = {"seed": settings.seed, "steps": settings.steps, "people": len(block_files(pool))}
        _write_log(out / LOG, run={**_computing_on(device), **told}, step=step)
    source = _Source(pool, settings, step)
    losses: list[float] = []
    saved = logged = time.monotonic()
    busy = 0.0
    for items in _batches(source, settings.batch_size):
        if step >= settings.steps or time.monotonic() >= ends:
            break
        for group in optimizer.param_groups:
            group["lr"] = _rate(settings, step)
        begun = time.monotonic()
        image = torch.stack([item.view.image for item in items]).to(device)
        target = torch.stack([item.view.target for item in items]).to(device)
        network.train()
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=settings.half_precision):
            logits = network(image)
        loss = loss_of([level.float() for level in logits], max_pooled_targets(target, settings.strides))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        if math.isfinite(float(norm)):
            optimizer.step()
        _follow(average, network, min(settings.average, (step + 1) / (step + 10)))
        _remember_hard(source, step, items, logits[0].detach().float(), target, settings)
        step += 1
        losses.append(float(loss.detach()))
        busy += time.monotonic() - begun
        if step % LOG_EVERY == 0:
            _write_losses(out / LOG, step, losses, time.monotonic() - logged, busy)
            losses, logged, busy = [], time.monotonic(), 0.0
        if time.monotonic() - saved > CHECKPOINT_EVERY_S:
            _save(out / CHECKPOINT, step, network, average, optimizer, settings)
            saved = time.monotonic()
    if losses:
        _write_losses(out / LOG, step, losses, time.monotonic() - logged, busy)
    if step > begun_at or not (out / CHECKPOINT).is_file():
        _save(out / CHECKPOINT, step, network, average, optimizer, settings)
    return step


def _batches(source: _Source, size: int) -> Iterator[list[_Item]]:
    """Batches made by a thread of their own."""
    ready: queue.Queue[list[_Item] | BaseException] = queue.Queue(maxsize=BATCHES_AHEAD - 1)
    over = threading.Event()

    def put(value: "list[_Item] | BaseException") -> bool:
        while not over.is_set():
            try:
                ready.put(value, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def fill() -> None:
        try:
            batch: list[_Item] = []
            for item in source:
                batch.append(item)
                if len(batch) == size:
                    if not put(batch):
                        return
                    batch = []
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


def _rate(settings: LearningSettings, step: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    rise = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    fall = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    return settings.learning_rate * rise * fall


def _lesion_share(settings: LearningSettings, step: int) -> float:
    first, done = settings.views.lesion_share, min(1.0, step / settings.steps)
    return first + (settings.last_lesion_share - first) * done


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)


@torch.no_grad()
def _remember_hard(
    source: _Source, step: int, items: list[_Item], logits: Tensor, target: Tensor, settings: LearningSettings
) -> None:
    """Tell the source the worst false alarm and the worst miss of each view."""
    probability = torch.sigmoid(logits[:, 1] - logits[:, 0])[:, None]
    around = functools.partial(
        functional.max_pool3d,
        kernel_size=(3, 2 * AWAY_VOXELS + 1, 2 * AWAY_VOXELS + 1),
        stride=1,
        padding=(1, AWAY_VOXELS, AWAY_VOXELS),
    )
    false = (probability * (1 - around(target)))[:, 0].cpu()
    missed = ((1 - around(probability)) * target)[:, 0].cpu()
    shape = np.array(false.shape[1:])
    for item, *both in zip(items, false, missed, strict=True):
        leasts = (HARD_PROBABILITY, 1 - MISSED_PROBABILITY if settings.missed_again else math.inf)
        for values, least in zip(both, leasts, strict=True):
            if float(values.max()) < least:
                continue
            place = np.array(np.unravel_index(int(values.argmax()), shape))
            for axis in item.draw.flips:
                place[axis] = shape[axis] - 1 - place[axis]
            offset = (place - (shape - 1) / 2) * settings.views.spacing_mm / item.draw.scale
            source.add_hard(step, item.block, item.draw.centre + offset[::-1] / item.block.spacing_mm)


def _computing_on(device: str) -> dict[str, Any]:
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else {}
    return {**described_machine(), "torch": torch.__version__, **gpu, "threads": torch.get_num_threads()}


def _write_log(path: Path, **line: Any) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _write_losses(path: Path, step: int, losses: list[float], seconds: float, busy: float) -> None:
    figures = {"loss": round(float(np.mean(losses)), 5), "seconds": round(seconds, 2)}
    _write_log(path, step=step, **figures, waiting_share=round(1 - busy / seconds, 3))


def _save(
    path: Path,
    step: int,
    network: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: LearningSettings,
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
    path: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, settings: LearningSettings
) -> int:
    if not path.is_file():
        return 0
    content: dict[str, Any] = read_tensors(path, "choose another folder")
    if read_settings(content["settings"]) != settings:
        raise InputError(f"{path}: was trained with other settings; choose another folder")
    network.load_state_dict(content["network"])
    average.load_state_dict(content["average"])
    optimizer.load_state_dict(content["optimizer"])
    return int(content["step"])
