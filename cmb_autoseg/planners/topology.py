"""Levels of the network from the grid: which axes each level convolves and pools."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.records import Topology

__all__ = ["ANISOTROPY", "patch_divisors", "plan_topology"]

ANISOTROPY = 1.5
"""An axis this many times coarser than the finest is left out of a level's kernels and pooling.

nnU-Net leaves an axis out from a factor of 2; on VALDO an in-plane first level helped for slices of
0.8-4 mm on grids of 0.5 mm and more, which starts at 1.6.
"""
MIN_FEATURE_MAP = 4
BLOCKS_PER_STAGE = 2
"""Two basic blocks a stage are ResNet-18's depth."""


def plan_topology(spacing_mm: Sequence[float], patch_shape: Sequence[int], features: Sequence[int]) -> Topology:
    """Choose kernels and strides level by level.

    A level pools the axes whose spacing is within a factor of 1.5 of the finest and whose feature
    map stays at 4 voxels or more, until `features` is used up or no axis can be pooled.

    Args:
        spacing_mm: (z, y, x).
        patch_shape: (z, y, x).
        features: channels of each level, finest first; its length is the largest number of levels.
    """
    spacing, shape = np.array(spacing_mm, dtype=float), np.array(patch_shape)
    kernels, strides = [_kernel(spacing)], [(1, 1, 1)]
    while len(strides) < len(features):
        pool = (spacing < ANISOTROPY * spacing.min()) & (shape // 2 >= MIN_FEATURE_MAP) & (shape % 2 == 0)
        if not pool.any():
            break
        stride = np.where(pool, 2, 1)
        spacing, shape = spacing * stride, shape // stride
        kernels.append(_kernel(spacing))
        strides.append(_triple(stride))
    return Topology(
        features_per_stage=tuple(features[: len(strides)]),
        kernel_sizes=tuple(kernels),
        strides=tuple(strides),
        n_blocks_per_stage=(BLOCKS_PER_STAGE,) * len(strides),
    )


def patch_divisors(spacing_mm: Sequence[float], n_levels: int) -> tuple[int, int, int]:
    """What each side (z, y, x) of a patch must be a multiple of, so that every level can pool."""
    spacing, divisor = np.array(spacing_mm, dtype=float), np.ones(3, dtype=int)
    for _ in range(n_levels - 1):
        stride = np.where(spacing < ANISOTROPY * spacing.min(), 2, 1)
        spacing, divisor = spacing * stride, divisor * stride
    return _triple(divisor)


def _kernel(spacing: NDArray[np.float64]) -> tuple[int, int, int]:
    return _triple(np.where(spacing >= ANISOTROPY * spacing.min(), 1, 3))


def _triple(values: NDArray[np.integer]) -> tuple[int, int, int]:
    z, y, x = (int(value) for value in values)
    return z, y, x
