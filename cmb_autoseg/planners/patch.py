"""Patch, batch and width of the network from the memory there is.

All candidates stand on one ladder: each rung has a patch at least as large on every axis, a network
at least as wide and a batch at least as large as the rung before. The highest rung that fits is
taken, so that more memory never gives less of anything.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cmb_autoseg.errors import InputError
from cmb_autoseg.planners.grid import mm
from cmb_autoseg.planners.topology import BLOCKS_PER_STAGE, largest_size, next_size, patch_divisors, plan_topology
from cmb_autoseg.records import Reason, Topology, Triple

__all__ = ["Candidate", "choose_patch", "network_parameters", "network_values", "patch_reasons", "patch_warnings"]

Device = Literal["cuda", "cpu"]

MAX_PATCH_MM = 144.0
MIN_PATCH_MM = 40.0
"""On VALDO patches of 24 mm cost 0.22 F1 against 38x31x47 mm."""
MIN_CPU_PATCH_MM = 24.0
CPU_PATCH_VOXELS = 2**16
START_VOXELS = 16
"""Side of the smallest patch that is tried, along the finest axis."""
FEATURES = {
    "cuda": ((16, 32, 64, 128, 192, 192), (24, 48, 96, 192, 256, 256), (32, 64, 128, 256, 320, 320)),
    "cpu": ((16, 32, 64, 128),),
}
"""Narrowest first."""
BATCH_SIZE = {"cuda": 4, "cpu": 2}
MIN_BATCH_SIZE = 2
WHOLE = 0.9
"""A patch of this share of the brain on every axis is said to hold the whole."""
S0_PATCH = (64, 64, 64)
BYTES_PER_VALUE = 6.0
"""nnU-Net's budget for residual encoders: 6.8e8 values at batch 2 fill 8 GB with mixed precision."""
BYTES_PER_PARAMETER = 16.0
"""Weight, gradient and Adam's two moments, 4 bytes each."""

PATCH_RULE = (
    f"grown axis by axis towards a cube in millimetres, no larger than the median brain or {MAX_PATCH_MM:.0f} mm; "
    f"first to {MIN_PATCH_MM:.0f} mm, then batch and network grow, then the patch again (docs/concepts/planning.md)"
)
S0_RULE = "the publication's settings (Janardanan et al. 2026)"
NETWORK_RULE = (
    "an axis 1.5 times coarser than the finest is left out of a level's kernels and pooling; levels end where a side "
    "of the feature map would fall below 4 voxels"
)
MEMORY_RULE = (
    "6 bytes a value of the feature maps (nnU-Net's budget for residual encoders: 6.8e8 values at batch 2 in 8 GB) and "
    "16 bytes a weight (weight, gradient, Adam's two moments); what CUDA itself takes, about 0.5 GB, comes on top"
)


@dataclass(frozen=True)
class Candidate:
    """One rung: a patch (z, y, x), the network for it and the batch."""

    patch: Triple[int]
    topology: Topology
    batch: int

    @property
    def memory_gb(self) -> float:
        values = network_values(self.topology, self.patch) * self.batch * BYTES_PER_VALUE
        return (values + network_parameters(self.topology) * BYTES_PER_PARAMETER) / 1e9


def choose_patch(
    spacing: Triple[float], median_shape: Triple[int], device: Device, target_gb: float, s0: bool
) -> Candidate:
    """The highest rung whose memory is within the target.

    Args:
        spacing: (z, y, x) of the plan, millimetres.
        median_shape: of the brain boxes on that grid.
        device: sets widths, batch and, on a CPU, a largest number of voxels.
        target_gb: memory that training may take.
        s0: the publication's patch, of which only the network's width adapts.

    Raises:
        InputError: not even the lowest rung fits; names what it needs.
    """
    ladder = list(_s0_ladder(spacing, device) if s0 else _ladder(spacing, median_shape, device))
    fitting = [candidate for candidate in ladder if candidate.memory_gb <= target_gb]
    if not fitting:
        # Rounded up, so that the figure itself is enough.
        least = math.ceil(ladder[0].memory_gb * 1000) / 1000
        raise InputError(
            f"-gpu_memory_target {target_gb:g}: the smallest patch, {' x '.join(map(str, ladder[0].patch))} voxels at "
            f"{mm(spacing)}, needs {least:g} GB; give at least -gpu_memory_target {least:g}"
        )
    return fitting[-1]


def _s0_ladder(spacing: Triple[float], device: Device) -> Iterator[Candidate]:
    for features in FEATURES[device]:
        yield Candidate(S0_PATCH, plan_topology(spacing, S0_PATCH, features), BATCH_SIZE[device])


def _ladder(spacing: Triple[float], median_shape: Triple[int], device: Device) -> Iterator[Candidate]:
    widths = FEATURES[device]
    patches = list(_growing_patches(spacing, median_shape, len(widths[0])))
    enough = MIN_CPU_PATCH_MM if device == "cpu" else MIN_PATCH_MM
    turn = next(i for i, patch in enumerate(patches) if _is_enough(patch, patches[-1], spacing, enough))
    batches = list(dict.fromkeys((MIN_BATCH_SIZE, BATCH_SIZE[device])))
    steps = [(patch, widths[0], batches[0]) for patch in patches[: turn + 1]]
    steps += [(patches[turn], widths[0], batch) for batch in batches[1:]]
    steps += [(patches[turn], width, batches[-1]) for width in widths[1:]]
    steps += [
        (patch, widths[-1], batches[-1])
        for patch in patches[turn + 1 :]
        if device != "cpu" or math.prod(patch) <= CPU_PATCH_VOXELS
    ]
    levels = 0
    for patch, width, batch in steps:
        candidate = Candidate(patch, plan_topology(spacing, patch, width), batch)
        if len(candidate.topology.strides) >= levels:
            levels = len(candidate.topology.strides)
            yield candidate


def _growing_patches(spacing: Triple[float], median_shape: Triple[int], n_levels: int) -> Iterator[Triple[int]]:
    """Patches from small to large, one step on one axis at a time, the shortest in millimetres first."""
    divisors = patch_divisors(spacing, n_levels)
    start_mm = START_VOXELS * min(spacing)
    patch = [
        largest_size(min(start_mm / size, n), divisor)
        for size, n, divisor in zip(spacing, median_shape, divisors, strict=True)
    ]
    while True:
        yield patch[0], patch[1], patch[2]
        longer = [next_size(side, divisor) for side, divisor in zip(patch, divisors, strict=True)]
        growing = [
            axis
            for axis in range(3)
            # A step is worth it when half of what it adds is brain.
            if (patch[axis] + longer[axis]) / 2 <= median_shape[axis]
            and longer[axis] * spacing[axis] <= MAX_PATCH_MM + 1e-6
        ]
        if not growing:
            return
        axis = min(growing, key=lambda a: (patch[a] * spacing[a], -median_shape[a] * spacing[a]))
        patch[axis] = longer[axis]


def _is_enough(patch: Triple[int], last: Triple[int], spacing: Triple[float], enough_mm: float) -> bool:
    """Every side spans `enough_mm` or, where the brain is smaller, cannot grow any more."""
    return all(n == most or n * size >= enough_mm - 1e-6 for n, most, size in zip(patch, last, spacing, strict=True))


def network_values(topology: Topology, patch_shape: Sequence[int]) -> int:
    """Values in all feature maps for one patch (z, y, x); equals `ResidualUNet.compute_conv_feature_map_size`."""
    features = topology.features_per_stage
    shape = np.array(patch_shape, dtype=np.int64)
    voxels = []
    for stride in topology.strides:
        shape = -(-shape // np.array(stride))
        voxels.append(int(shape.prod()))
    size = features[0] * voxels[0]
    size += sum(2 * b * f * v for b, f, v in zip(topology.n_blocks_per_stage, features, voxels, strict=True))
    return size + sum((2 * f + 2) * v for f, v in zip(features[:-1], voxels[:-1], strict=True))


def network_parameters(topology: Topology, n_channels: int = 1, n_classes: int = 2) -> int:
    """Weights of `ResidualUNet`; further channels add less than one part in a thousand."""
    features, kernels = topology.features_per_stage, [math.prod(kernel) for kernel in topology.kernel_sizes]
    strides = [math.prod(stride) for stride in topology.strides]
    total, n_in = n_channels * features[0] * kernels[0] + 2 * features[0], features[0]
    for n_out, kernel, n_blocks in zip(features, kernels, topology.n_blocks_per_stage, strict=True):
        total += (n_in + (2 * n_blocks - 1) * n_out) * n_out * kernel + 4 * n_blocks * n_out
        total += (n_in + 2) * n_out if n_in != n_out else 0
        n_in = n_out
    for level in range(len(features) - 1):
        skip, deep = features[level], features[level + 1]
        total += (deep * strides[level + 1] + 1) * skip
        total += 2 * skip * skip * kernels[level] + 2 * skip + (skip + 1) * n_classes
    return total


def patch_reasons(
    spacing: Triple[float], median_shape: Triple[int], chosen: Candidate, device: Device, target_gb: float, s0: bool
) -> list[Reason]:
    """Why this patch, network and memory."""
    patch, topology = chosen.patch, chosen.topology
    limit = f"the largest whose training fits {target_gb:g} GB"
    if all(n >= WHOLE * brain for n, brain in zip(patch, median_shape, strict=True)):
        limit = f"the whole of a median brain box, {' x '.join(map(str, median_shape))} voxels"
    elif device == "cpu":
        limit = f"at most {CPU_PATCH_VOXELS} voxels or {MIN_CPU_PATCH_MM:.0f} mm, since this is planned for a CPU"
    in_plane = sum(1 in kernel for kernel in topology.kernel_sizes)
    first = "the first level convolves" if in_plane == 1 else f"the first {in_plane} levels convolve"
    kernels = f"{first} in-plane only, as slices are thick" if in_plane else "all levels convolve in 3D"
    values, weights = network_values(topology, patch), network_parameters(topology)
    return [
        Reason(
            topic="patch",
            text=f"patch {' x '.join(map(str, patch))} voxels, "
            f"{' x '.join(f'{n * size:.0f}' for n, size in zip(patch, spacing, strict=True))} mm, in batches of "
            f"{chosen.batch}: {'fixed' if s0 else limit}",
            rule=S0_RULE if s0 else PATCH_RULE,
        ),
        Reason(
            topic="network",
            text=f"residual U-Net of {len(topology.strides)} levels with "
            f"{', '.join(map(str, topology.features_per_stage))} features and {BLOCKS_PER_STAGE} blocks a level, "
            f"{weights / 1e6:.1f} million weights; {kernels}",
            rule=NETWORK_RULE,
        ),
        Reason(
            topic="memory",
            text=f"about {chosen.memory_gb:.2f} of {target_gb:g} GB: {values / 1e6:.0f} million values in the feature "
            f"maps of one patch, batch {chosen.batch}, {weights / 1e6:.1f} million weights",
            rule=MEMORY_RULE,
        ),
    ]


def patch_warnings(
    spacing: Triple[float], median_shape: Triple[int], chosen: Candidate, device: Device, s0: bool
) -> list[str]:
    """A patch that shows too little around a lesion, where the brain has more."""
    sides = [
        n * size
        for n, size, brain in zip(chosen.patch, spacing, median_shape, strict=True)
        if (n + 0.5) * size < MIN_PATCH_MM and n < brain
    ]
    if s0 or not sides or device == "cpu":
        return []
    return [
        f"the patch spans only {min(sides):.0f} mm; below {MIN_PATCH_MM:.0f} mm too little is seen around a lesion: "
        "give more with -gpu_memory_target"
    ]
