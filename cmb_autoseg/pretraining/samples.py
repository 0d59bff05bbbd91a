"""Samples by number: each hangs on the seed, its step and its place in the batch alone."""

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cmb_autoseg.interruption import end_with
from cmb_autoseg.pretraining.objectives import Sample, Sampler
from cmb_autoseg.pretraining.patches import CasePatches

__all__ = ["NumberedSamples", "batches", "probe_images"]

TRAINING, PROBES = 0, 1
"""Streams of random numbers."""
WORKERS_WITH_CUDA = 12


class NumberedSamples(Dataset[Sample]):
    """The sample of a step and a place in its batch, whoever asks for it and when."""

    def __init__(self, sampler: Sampler, patches: CasePatches, seed: int, batch_size: int) -> None:
        self.sampler, self.patches, self.seed, self.batch_size = sampler, patches, seed, batch_size

    def __getitem__(self, number: int) -> Sample:
        step, place = divmod(number, self.batch_size)
        return self.sampler(np.random.default_rng((TRAINING, self.seed, step, place)), self.patches)


def batches(samples: NumberedSamples, steps: range, own: range, device: torch.device) -> Iterator[Sample]:
    """Stacked samples of each step that are this process's.

    Background processes make them only where CUDA would wait for them; on a CPU they would take the cores that learn.

    Args:
        samples: by number.
        steps: still to do.
        own: places in the batch that are this process's.
        device: where they will be used.
    """
    numbers = ([step * samples.batch_size + place for place in own] for step in steps)
    options: dict[str, Any] = {}
    if device.type == "cuda":
        workers = min(WORKERS_WITH_CUDA, os.cpu_count() or 1)
        options = {
            "num_workers": workers,
            "pin_memory": True,
            "worker_init_fn": partial(_as_worker, os.getpid()),
            "multiprocessing_context": "fork",
        }
    return iter(DataLoader(samples, batch_sampler=numbers, **options))


def _as_worker(parent: int, _: int) -> None:
    end_with(parent)


def probe_images(patches: CasePatches, seed: int, n_patches: int) -> Tensor:
    """Patches that are always the same, without augmentation, by which runs and epochs are compared.

    Returns:
        (patch, channel, z, y, x).
    """
    draws = [patches.draw(np.random.default_rng((PROBES, seed, number))) for number in range(n_patches)]
    return torch.stack([patches.crop(draw, np.zeros(3, dtype=np.int64)) for draw in draws])
