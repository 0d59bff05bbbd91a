"""Levels of the network from the grid: which axes each level convolves and pools."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.records import Topology

__all__ = ["ANISOTROPY", "largest_size", "next_size", "patch_divisors", "plan_topology"]

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

    A level pools the axes whose feature map stays at 4 voxels or more and whose spacing is within
    a factor of 1.5 of the finest of these, until `features` is used up or no axis can be pooled. It
    convolves the axes within that factor of the finest of all, and those that a finer level does:
    an axis of few slices, which is never pooled, must not become the only one.

    Args:
        spacing_mm: (z, y, x).
        patch_shape: (z, y, x).
        features: channels of each level, finest first; its length is the largest number of levels.
    """
    spacing, shape = np.array(spacing_mm, dtype=float), np.array(patch_shape)
    convolved = _within(spacing, spacing.min())
    kernels, strides = [_kernel(convolved)], [(1, 1, 1)]
    while len(strides) < len(features):
        room = (shape // 2 >= MIN_FEATURE_MAP) & (shape % 2 == 0)
        if not room.any():
            break
        stride = np.where(room & _within(spacing, spacing[room].min()), 2, 1)
        spacing, shape = spacing * stride, shape // stride
        convolved = convolved | _within(spacing, spacing.min())
        kernels.append(_kernel(convolved))
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
        stride = np.where(_within(spacing, spacing.min()), 2, 1)
        spacing, divisor = spacing * stride, divisor * stride
    return _triple(divisor)


def next_size(voxels: int, divisor: int) -> int:
    """The next larger side of a patch that is pooled as often as its size and `divisor` allow."""
    return voxels + _unit(voxels, divisor)


def largest_size(voxels: float, divisor: int) -> int:
    """The largest side that `next_size` leads to from 1 and that is no larger than `voxels`; at least 1."""
    whole = max(1, int(voxels))
    unit = _unit(whole, divisor)
    return whole // unit * unit


def _unit(voxels: int, divisor: int) -> int:
    """A side of `voxels` is pooled until fewer than 4 would be left, but by `divisor` at most."""
    pools = max(0, (voxels // MIN_FEATURE_MAP).bit_length() - 1)
    return min(1 << pools, divisor)


def _within(spacing: NDArray[np.float64], finest: float) -> NDArray[np.bool_]:
    return np.asarray(spacing < ANISOTROPY * finest)


def _kernel(convolved: NDArray[np.bool_]) -> tuple[int, int, int]:
    return _triple(np.where(convolved, 3, 1))


def _triple(values: NDArray[np.integer]) -> tuple[int, int, int]:
    z, y, x = (int(value) for value in values)
    return z, y, x
