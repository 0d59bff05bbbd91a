"""The first stage learns to mark microbleeds in patches of simulated blocks."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cmb_autoseg.networks.residual_unet import ResidualUNet
from cmb_autoseg.starter.blocks import SEQUENCES, Block, read_blocks
from cmb_autoseg.starter.learning.loop import Task
from cmb_autoseg.starter.learning.people import PeopleInTurn
from cmb_autoseg.starter.learning.settings import LoopSettings
from cmb_autoseg.starter.views import View, ViewDraw, ViewSettings, draw_view, make_view
from cmb_autoseg.trainers.patches.augmentation import max_pooled_targets
from cmb_autoseg.trainers.patches.losses import DeepSupervisionLoss, DiceBCELoss

__all__ = ["FirstStage", "FirstStageSettings", "network_of"]

PEOPLE_AT_ONCE = 24
VIEWS_PER_TURN = 64
HARD_PROBABILITY = 0.2
"""What the network takes for a microbleed where there is none, at least, to be shown again."""
MOST_HARD = 256
AWAY_VOXELS = 2
"""In the plane, around what is marked: there the network may say anything."""


@dataclass(frozen=True)
class FirstStageSettings(LoopSettings):
    """All that its training hangs on."""

    steps: int = 7000
    batch_size: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    average: float = 0.998
    foreground_weight: float = 2.0
    dice_weight: float = 1.0
    last_lesion_share: float = 0.2
    """In the end, of the patches of blocks with microbleeds those about one; falls evenly from `views.lesion_share`."""
    hard_share: float = 0.3
    """Of the views, those about what was falsely found before."""
    features: tuple[int, ...] = (16, 32, 64, 128)
    kernel_sizes: tuple[tuple[int, int, int], ...] = ((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    strides: tuple[tuple[int, int, int], ...] = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    blocks_per_stage: int = 2
    views: ViewSettings = field(default_factory=ViewSettings)


def network_of(settings: FirstStageSettings) -> ResidualUNet:
    """With random weights."""
    return ResidualUNet(
        input_channels=len(SEQUENCES),
        num_classes=2,
        n_stages=len(settings.features),
        features_per_stage=settings.features,
        kernel_sizes=settings.kernel_sizes,
        strides=settings.strides,
        n_blocks_per_stage=(settings.blocks_per_stage,) * len(settings.features),
        deep_supervision=True,
    )


@dataclass(frozen=True)
class Item:
    """A view and where it came from."""

    view: View
    block: Block
    draw: ViewDraw


class FirstStage(Task[FirstStageSettings, list[Item]]):
    """Views of the blocks in a folder, some of them about what was falsely found before.

    Args:
        pool: folder of simulated blocks; more may be added meanwhile.
        settings: of the training.
    """

    def __init__(self, pool: Path, settings: FirstStageSettings) -> None:
        super().__init__(settings)
        self._pool = pool
        self._hard: list[tuple[Block, np.ndarray]] = []
        self._lock = threading.Lock()
        self._loss = DeepSupervisionLoss(
            DiceBCELoss(dice_weight=settings.dice_weight, foreground_weight=settings.foreground_weight)
        )

    def network(self) -> ResidualUNet:
        """See `Task.network`."""
        return network_of(self.settings)

    def batches(self, step: int) -> Iterator[list[Item]]:
        """See `Task.batches`."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, step])
        people = PeopleInTurn(self._pool, read_blocks, rng, PEOPLE_AT_ONCE)
        taken = 0
        while True:
            batch = []
            for _ in range(settings.batch_size):
                if taken % VIEWS_PER_TURN == 0:
                    people.next()
                lesion_share = _lesion_share(settings, step + taken // settings.batch_size)
                batch.append(self._item(rng, people, lesion_share))
                taken += 1
            yield batch

    def _item(self, rng: np.random.Generator, people: PeopleInTurn[list[Block]], lesion_share: float) -> Item:
        with self._lock:
            hard = None
            if self._hard and rng.random() < self.settings.hard_share:
                hard = self._hard[int(rng.integers(len(self._hard)))]
        if hard is None:
            blocks = people.any()
            block = blocks[int(rng.integers(len(blocks)))]
        else:
            block = hard[0]
        views = replace(self.settings.views, lesion_share=lesion_share)
        draw = draw_view(rng, block, views, None if hard is None else hard[1])
        return Item(make_view(block, draw, views), block, draw)

    def loss(self, network: nn.Module, batch: list[Item], device: str) -> Tensor:
        """See `Task.loss`; remembers what is falsely found."""
        image = torch.stack([item.view.image for item in batch]).to(device)
        target = torch.stack([item.view.target for item in batch]).to(device)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.settings.half_precision):
            logits = network(image)
        logits = [level.float() for level in logits]
        self._remember_hard(batch, logits[0].detach(), target)
        loss: Tensor = self._loss(logits, max_pooled_targets(target, self.settings.strides))
        return loss

    @torch.no_grad()
    def _remember_hard(self, items: list[Item], logits: Tensor, target: Tensor) -> None:
        """The worst false alarm of each view, as a place (i, j, k voxels) of its block."""
        probability = torch.sigmoid(logits[:, 1] - logits[:, 0])
        side = 2 * AWAY_VOXELS + 1
        near = functional.max_pool3d(target, (3, side, side), 1, (1, AWAY_VOXELS, AWAY_VOXELS))[:, 0]
        false = (probability * (1 - near)).cpu()
        shape = np.array(false.shape[1:])
        for item, values in zip(items, false, strict=True):
            if float(values.max()) < HARD_PROBABILITY:
                continue
            place = np.array(np.unravel_index(int(values.argmax()), shape))
            for axis in item.draw.flips:
                place[axis] = shape[axis] - 1 - place[axis]
            offset = (place - (shape - 1) / 2) * self.settings.views.spacing_mm / item.draw.scale
            with self._lock:
                self._hard.append((item.block, item.draw.centre + offset[::-1] / item.block.spacing_mm))
                del self._hard[:-MOST_HARD]


def _lesion_share(settings: FirstStageSettings, step: int) -> float:
    first, done = settings.views.lesion_share, min(1.0, step / settings.steps)
    return first + (settings.last_lesion_share - first) * done
