"""What a first stage takes for microbleeds in simulated blocks: the places that the second stage learns from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cmb_autoseg.starter.blocks import Block, block_files, read_blocks
from cmb_autoseg.starter.learning.first_stage import FirstStageSettings, network_of
from cmb_autoseg.starter.learning.loop import CHECKPOINT
from cmb_autoseg.starter.learning.settings import changed_settings
from cmb_autoseg.starter.views import View, draw_view, make_view
from cmb_autoseg.tensor_file import write_tensors

__all__ = ["FoundIn", "find_candidates", "read_candidates", "trained_networks"]

LOWEST_PROBABILITY = 0.02
MOST_OF_A_VIEW = 40
"""Candidates, those of the highest probability."""
NEAR = (3, 7, 7)
"""Voxels (z, y, x): where none is higher, there is a candidate; with a microbleed in it, it is right."""
WIDTH = 0.5
"""Of what is random about views: these are to be like scans rather than like lessons."""


@dataclass(frozen=True)
class FoundIn:
    """Candidates of one block, arrays of (n, 3) in voxels (i, j, k)."""

    right: Tensor
    wrong: Tensor


def trained_networks(trainings: Sequence[Path]) -> tuple[FirstStageSettings, list[nn.Module]]:
    """Averages that a first stage's trainings have kept, and the settings of the first of them.

    Args:
        trainings: folders of checkpoints, of the same settings but for the seed.
    """
    networks: list[nn.Module] = []
    for training in trainings:
        content = torch.load(training / CHECKPOINT, weights_only=True, map_location="cpu")
        settings = changed_settings(FirstStageSettings(), json.loads(content["settings"]))
        networks.append(network_of(settings))
        networks[-1].load_state_dict(content["average"])
        networks[-1].eval()
    return settings, networks


def find_candidates(
    networks: Sequence[nn.Module],
    settings: FirstStageSettings,
    pool: Path,
    out: Path,
    views: int = 2,
    turn: tuple[int, int] = (0, 1),
) -> int:
    """Look at each block of a folder some times; people whose candidates are written already are left as they are.

    Args:
        networks: of a first stage, whose probabilities are averaged.
        settings: that they were trained with.
        pool: folder of simulated blocks.
        out: folder of one file a person, of the same name as that of the blocks.
        views: looks at a block.
        turn: this process, and how many there are.

    Returns:
        Candidates that were found.
    """
    out.mkdir(parents=True, exist_ok=True)
    found = 0
    for path in block_files(pool)[turn[0] :: turn[1]]:
        if (out / path.name).is_file():
            continue
        rng = np.random.default_rng(list(path.stem.encode()))
        places = [_of_block(networks, settings, block, rng, views) for block in read_blocks(path)]
        write_tensors(out / path.name, {"candidates": [vars(place) for place in places]})
        found += sum(len(place.right) + len(place.wrong) for place in places)
    return found


def read_candidates(path: Path) -> list[FoundIn]:
    """Of a person, block by block."""
    return [FoundIn(**found) for found in torch.load(path, weights_only=True)["candidates"]]


def _of_block(
    networks: Sequence[nn.Module], settings: FirstStageSettings, block: Block, rng: np.random.Generator, views: int
) -> FoundIn:
    size_mm = np.array(block.mask.shape) * block.spacing_mm
    halvings = np.prod(settings.strides, axis=0)
    units = size_mm[::-1] / np.array(settings.views.spacing_mm) / halvings
    z, y, x = (np.ceil(units) * halvings).astype(int).tolist()
    whole = replace(settings.views, patch_shape=(z, y, x), width=WIDTH)
    middle = (np.array(block.mask.shape) - 1) / 2
    right, wrong = [torch.zeros(0, 3)], [torch.zeros(0, 3)]
    for _ in range(views):
        draw = replace(draw_view(rng, block, whole), centre=middle, scale=np.ones(3), earlier=None, flips=())
        view = make_view(block, draw, whole)
        probability = _probability(networks, view)
        for place, is_right in _peaks(probability, view.target[0]):
            offset_mm = (np.array(place) - (np.array(whole.patch_shape) - 1) / 2) * whole.spacing_mm
            at = torch.from_numpy(middle + offset_mm[::-1] / block.spacing_mm).float()
            (right if is_right else wrong).append(at[None])
    return FoundIn(torch.cat(right), torch.cat(wrong))


@torch.no_grad()
def _probability(networks: Sequence[nn.Module], view: View) -> Tensor:
    """Mean over the networks, shape (z, y, x)."""
    total = torch.zeros(view.image.shape[1:])
    for network in networks:
        with torch.autocast("cpu", torch.bfloat16):
            finest = network(view.image[None])[0]
        total += torch.softmax(finest.float(), dim=1)[0, 1] / len(networks)
    return total


def _peaks(probability: Tensor, target: Tensor) -> list[tuple[list[int], bool]]:
    """Places (z, y, x), highest first, and whether each is right."""
    padding = tuple(side // 2 for side in NEAR)
    both = functional.max_pool3d(torch.stack([probability, target])[None], NEAR, 1, padding)[0]
    places = torch.nonzero((probability == both[0]) & (probability > LOWEST_PROBABILITY))
    order = probability[tuple(places.T)].argsort(descending=True)[:MOST_OF_A_VIEW]
    return [(place.tolist(), bool(both[1][tuple(place)] > 0)) for place in places[order]]
