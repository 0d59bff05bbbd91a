"""The second stage learns to tell microbleeds from what the first stage mistakes for them."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cmb_autoseg.networks.candidate_classifier import CandidateClassifier
from cmb_autoseg.starter.blocks import SEQUENCES, Block, read_blocks
from cmb_autoseg.starter.learning.candidates import read_candidates
from cmb_autoseg.starter.learning.loop import Task
from cmb_autoseg.starter.learning.people import PeopleInTurn
from cmb_autoseg.starter.learning.settings import LoopSettings
from cmb_autoseg.starter.views import View, ViewSettings, draw_view, make_view

__all__ = ["SecondStage", "SecondStageSettings"]

PEOPLE_AT_ONCE = 16
BATCHES_PER_TURN = 8
RANDOM_PLACES = 2
"""Of each block, beside its candidates: in microbleeds, and anywhere."""
EDGE_MM = 6.0
"""Candidates nearer than this to the block's edge are left out: most of their surroundings is missing."""
NEAR_MM = 3.0
"""A microbleed that lies nearer to the middle along every axis makes a place right."""
Places = list[tuple[Block, NDArray[np.float64]]]


@dataclass(frozen=True)
class SecondStageSettings(LoopSettings):
    """All that its training hangs on."""

    steps: int = 5000
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    average: float = 0.995
    features: tuple[int, ...] = (24, 48, 96)
    sees_middle: bool = True
    right_share: float = 0.35
    """Of the places, those in microbleeds; where there are some."""
    random_share: float = 0.07
    """Of the places, those anywhere in the head."""
    jitter_mm: float = 1.0
    """Largest distance of the middle from a place, along each axis."""
    views: ViewSettings = field(
        default_factory=lambda: ViewSettings(spacing_mm=(0.75, 0.75, 0.75), patch_shape=(32, 32, 32), thick_slices=None)
    )


@dataclass(frozen=True)
class PersonsPlaces:
    """Where to look in a person's blocks: (i, j, k) voxels of one."""

    right: Places
    wrong: Places
    anywhere: Places


class SecondStage(Task[SecondStageSettings, tuple[Tensor, Tensor]]):
    """Cubes about candidates.

    Args:
        pool: folder of simulated blocks.
        candidates: folder of what a first stage has found in them (`find_candidates`).
        settings: of the training.
    """

    def __init__(self, pool: Path, candidates: Path, settings: SecondStageSettings) -> None:
        super().__init__(settings)
        self._pool, self._candidates = pool, candidates

    def network(self) -> CandidateClassifier:
        """See `Task.network`."""
        return CandidateClassifier(len(SEQUENCES), self.settings.features, self.settings.sees_middle)

    def batches(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Task.batches`; cubes (batch, channel, z, y, x) and whether a microbleed is in the middle (batch,)."""
        rng = np.random.default_rng([self.settings.seed, step])
        people = PeopleInTurn(self._pool, lambda path: self._read(path, rng), rng, PEOPLE_AT_ONCE)
        taken = 0
        while True:
            if taken % BATCHES_PER_TURN == 0:
                people.next()
            taken += 1
            views = [self._view(rng, people.any()) for _ in range(self.settings.batch_size)]
            right = torch.tensor([self._is_right(view) for view in views])
            yield torch.stack([view.image for view in views]), right.float()

    def _read(self, path: Path, rng: np.random.Generator) -> PersonsPlaces:
        places = PersonsPlaces([], [], [])
        for block, found in zip(read_blocks(path), read_candidates(self._candidates / path.name), strict=True):
            last = np.array(block.mask.shape) - 1
            for some, into in ((found.right, places.right), (found.wrong, places.wrong)):
                for place in some.double().numpy():
                    if (np.minimum(place, last - place) * block.spacing_mm > EDGE_MM).all():
                        into.append((block, place))
            for mask, into in ((block.mask, places.right), (block.head, places.anywhere)):
                voxels = torch.nonzero(mask).double().numpy()
                into += [(block, voxels[int(rng.integers(len(voxels)))]) for _ in range(RANDOM_PLACES) if len(voxels)]
        return places

    def _view(self, rng: np.random.Generator, person: PersonsPlaces) -> View:
        settings, share = self.settings, rng.random()
        if share < settings.right_share and person.right:
            places = person.right
        elif share < 1 - settings.random_share and person.wrong:
            places = person.wrong
        else:
            places = person.anywhere
        block, place = places[int(rng.integers(len(places)))]
        jitter = rng.uniform(-settings.jitter_mm, settings.jitter_mm, 3) / block.spacing_mm
        draw = replace(draw_view(rng, block, settings.views), centre=place + jitter)
        return make_view(block, draw, settings.views)

    def _is_right(self, view: View) -> bool:
        near = [
            slice(int((n - 1) / 2 - NEAR_MM / mm + 0.999), int((n - 1) / 2 + NEAR_MM / mm) + 1)
            for n, mm in zip(view.target.shape[1:], self.settings.views.spacing_mm, strict=True)
        ]
        return bool(view.target[0][tuple(near)].any())

    def loss(self, network: nn.Module, batch: tuple[Tensor, Tensor], device: str) -> Tensor:
        """See `Task.loss`."""
        cubes, right = (values.to(device) for values in batch)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.settings.half_precision):
            logits = network(cubes)
        return functional.binary_cross_entropy_with_logits(logits.float(), right)
