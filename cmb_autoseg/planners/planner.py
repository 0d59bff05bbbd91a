"""From the fingerprint to a plan: channels, grid, patch and network, each with its reason."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.lesions import ResampledMask, resample_mask
from cmb_autoseg.planners.topology import patch_divisors, plan_topology
from cmb_autoseg.records import (
    SUSCEPTIBILITY_ROLES,
    CaseFingerprint,
    Fingerprint,
    Plan,
    Role,
    Topology,
    TrainingRange,
    Triple,
)

__all__ = ["PlanSettings", "network_values", "plan_dataset"]

MIN_AVAILABILITY = 0.1
"""A sequence that fewer cases have is no channel, unless one of them has no other in which microbleeds show."""
VOXELS_PER_LESION = 3
REFINEMENT = 0.8
MAX_REFINEMENTS = 6
PATCH_MM = tuple(range(144, 12, -4))
"""Sides of a cubic patch that are tried, largest first. On VALDO 24 mm cost 0.22 F1 against 38x31x47 mm."""
MIN_PATCH_MM = 40
CPU_PATCH_VOXELS = 2**16
FEATURES = {
    "cuda": ((32, 64, 128, 256, 320, 320), (24, 48, 96, 192, 256, 256), (16, 32, 64, 128, 192, 192)),
    "cpu": ((16, 32, 64, 128),),
}
BATCH_SIZE = {"cuda": 4, "cpu": 2}
BYTES_PER_VALUE = 6.0
"""nnU-Net's budget for residual encoders: 6.8e8 values at batch 2 fill 8 GB with mixed precision."""


@dataclass(frozen=True)
class PlanSettings:
    """What the user chose."""

    preset: Literal["adaptive", "s0"] = "adaptive"
    device: Literal["cuda", "cpu"] = "cpu"
    memory_gb: float = 8.0
    allow_lesion_loss: bool = False


def plan_dataset(
    measured: Fingerprint, read_label: Callable[[str], NDArray[np.integer]], settings: PlanSettings
) -> Plan:
    """Choose how a dataset is trained.

    Args:
        measured: the fingerprint.
        read_label: gives the mask of a labelled case, (z, y, x) on its own grid, so that lesions
            can be counted on the planned grid.
        settings: preset, device and memory.

    Raises:
        InputError: no susceptibility sequence, lesions that the planned grid would lose, or too
            little memory for any patch.
    """
    channels, reasons = _choose_channels(measured)
    forward = _slice_axis_first(measured)
    grids = _Grids(measured.cases, forward)
    spacing, spacing_reason = _choose_spacing(grids, settings.preset)
    reasons.append(spacing_reason)
    preserve = settings.preset == "adaptive"
    check = _count_lesions(grids, read_label, spacing, preserve)
    for _ in range(MAX_REFINEMENTS if preserve else 0):
        if not check.lost:
            break
        spacing = _triple([round(size * REFINEMENT, 4) for size in spacing])
        check = _count_lesions(grids, read_label, spacing, preserve)
        reasons.append(f"spacing refined to {_mm(spacing)}, because lesions vanished or merged at the coarser one")
    if check.lost and not settings.allow_lesion_loss:
        raise InputError(
            f"{measured.dataset}: {len(check.lost)} of {check.before} lesions vanish or merge at {_mm(spacing)} "
            f"({', '.join(check.lost[:8])}{', ...' if len(check.lost) > 8 else ''}); "
            + ("use --preset adaptive, or " if not preserve else "")
            + "accept the loss with --allow-lesion-loss"
        )
    median_shape = grids.median_shape(spacing)
    patch, topology, batch, memory = _choose_patch(spacing, median_shape, settings)
    reasons += _patch_reasons(spacing, patch, topology, memory, settings)
    return Plan(
        dataset=measured.dataset,
        preset=settings.preset,
        channels=channels,
        transpose_forward=forward,
        spacing_mm=spacing,
        median_shape=median_shape,
        patch_shape=patch,
        batch_size=batch,
        topology=topology,
        preserve_lesions=preserve,
        lesions_before=check.before,
        lesions_after=check.before - len(check.lost),
        lost_lesions=check.lost,
        memory_gb=round(memory, 2),
        reasons=tuple(reasons),
        training_range=_training_range(measured, channels),
        parents=(measured.digest,),
    )


def _choose_channels(measured: Fingerprint) -> tuple[tuple[Role, ...], list[str]]:
    share = {role: float(np.mean([role in case.sequences for case in measured.cases])) for role in measured.roles}
    common = {role for role in measured.roles if share[role] >= MIN_AVAILABILITY}
    # A case whose only susceptibility sequence were dropped would have nothing to be trained on.
    common |= {
        case_role
        for case in measured.cases
        if not common & set(case.sequences) & set(SUSCEPTIBILITY_ROLES)
        for case_role in case.sequences
        if case_role in SUSCEPTIBILITY_ROLES
    }
    channels = tuple(role for role in measured.roles if role in common)
    if not set(channels) & set(SUSCEPTIBILITY_ROLES):
        raise InputError(
            f"{measured.dataset}: no susceptibility sequence in its cases; "
            f"add {', '.join(SUSCEPTIBILITY_ROLES)} to the card"
        )
    reasons = [f"channels {', '.join(f'{role} ({share[role]:.0%} of cases)' for role in channels)}"]
    reasons += [
        f"{role} is no channel: only {share[role]:.0%} of cases have it"
        for role in measured.roles
        if role not in channels
    ]
    return channels, reasons


def _slice_axis_first(measured: Fingerprint) -> Triple[int]:
    """The order of axes that puts the one with the thickest slices, over the cases, first."""
    thickest = int(np.median([case.spacing_mm for case in measured.cases], axis=0).argmax())
    return _triple([thickest, *(axis for axis in range(3) if axis != thickest)])


class _Grids:
    """The cases' grids with axes in the plan's order, cropped to the brain as nnU-Net crops."""

    def __init__(self, cases: Sequence[CaseFingerprint], forward: Triple[int]) -> None:
        self.cases, self.forward = cases, list(forward)
        # In the precision of NIfTI headers, so that shapes are rounded as in preprocessing.
        stored = np.array([case.spacing_mm for case in cases], dtype=np.float32)
        self.spacing_mm = stored.astype(np.float64)[:, self.forward]
        boxes = np.array([np.subtract(case.box_stop, case.box_start) for case in cases])
        self.box_shape = boxes[:, self.forward]
        self.diameters_mm = np.array([lesion.diameter_mm for case in cases for lesion in case.lesions])

    def shapes_at(self, spacing: Triple[float]) -> NDArray[np.int64]:
        """Shapes (case, 3) after resampling; rounds as nnU-Net does."""
        return np.array(
            [
                [round(old / new * n) for old, new, n in zip(case_spacing, spacing, shape, strict=True)]
                for case_spacing, shape in zip(self.spacing_mm, self.box_shape, strict=True)
            ]
        )

    def median_shape(self, spacing: Triple[float]) -> Triple[int]:
        return _triple([int(n) for n in np.median(self.shapes_at(spacing), axis=0)])

    def crop(self, label: NDArray[np.integer], case: CaseFingerprint) -> NDArray[np.integer]:
        box = tuple(slice(start, stop) for start, stop in zip(case.box_start, case.box_stop, strict=True))
        return label[box].transpose(self.forward)


def _choose_spacing(grids: _Grids, preset: str) -> tuple[Triple[float], str]:
    if preset == "s0":
        return (1.0, 1.0, 1.0), "spacing 1 x 1 x 1 mm: the publication's"
    slices = float(grids.spacing_mm[:, 0].min())
    in_plane = grids.spacing_mm[:, 1:]
    finest, median = float(in_plane.min()), float(np.median(in_plane))
    if grids.diameters_mm.size:
        p10 = float(np.percentile(grids.diameters_mm, 10))
        target = min(median, max(finest, p10 / VOXELS_PER_LESION))
        lesion = f"a tenth of the lesions is smaller than {p10:.1f} mm, which asks for {p10 / VOXELS_PER_LESION:.2f} mm"
    else:
        target, lesion = median, "no lesion is labelled"
    spacing = _triple([round(slices, 4), round(target, 4), round(target, 4)])
    return spacing, (
        f"spacing {_mm(spacing)}: {lesion} in-plane, native in-plane voxels are {finest:.2f} mm at the finest and "
        f"{median:.2f} mm at the median; slices stay at the thinnest native {slices:.2f} mm"
    )


@dataclass(frozen=True)
class _LesionCheck:
    before: int
    lost: tuple[str, ...]


def _count_lesions(
    grids: _Grids, read_label: Callable[[str], NDArray[np.integer]], spacing: Triple[float], preserve: bool
) -> _LesionCheck:
    """Count components before and after resampling to `spacing`, case by case."""
    before, lost = 0, []
    for case, shape in zip(grids.cases, grids.shapes_at(spacing), strict=True):
        if case.lesions:
            moved: ResampledMask = resample_mask(grids.crop(read_label(case.case), case), shape, preserve)
            before += moved.n_before
            lost += [f"{case.case}#{number}" for number in moved.lost]
    return _LesionCheck(before, tuple(lost))


def _choose_patch(
    spacing: Triple[float], median_shape: Triple[int], settings: PlanSettings
) -> tuple[Triple[int], Topology, int, float]:
    """The largest cubic patch (in millimetres) and the widest network that fit the memory."""
    batch = BATCH_SIZE[settings.device]
    if settings.preset == "s0":
        patch = (64, 64, 64)
        for features in FEATURES[settings.device]:
            topology = plan_topology(spacing, patch, features)
            memory = _memory_gb(topology, patch, batch)
            if memory <= settings.memory_gb:
                break
        return patch, topology, batch, memory
    fallback: tuple[Triple[int], Topology, int, float] | None = None
    for features in FEATURES[settings.device]:
        for side_mm in PATCH_MM:
            patch = _patch(side_mm, spacing, median_shape, len(features))
            if settings.device == "cpu" and math.prod(patch) > CPU_PATCH_VOXELS:
                continue
            topology = plan_topology(spacing, patch, features)
            memory = _memory_gb(topology, patch, batch)
            if memory <= settings.memory_gb:
                chosen = (patch, topology, batch, memory)
                if side_mm >= MIN_PATCH_MM:
                    return chosen
                fallback = fallback or chosen
                break
    if fallback is None:
        raise InputError(
            f"-gpu_memory_target {settings.memory_gb:g}: not even the smallest patch at {_mm(spacing)} fits; "
            "give at least 0.5"
        )
    return fallback


def _patch(side_mm: float, spacing: Triple[float], median_shape: Triple[int], n_levels: int) -> Triple[int]:
    """A cube of `side_mm`, no larger than the median brain, in multiples that every level can pool."""
    shape = []
    for size, n, divisor in zip(spacing, median_shape, patch_divisors(spacing, n_levels), strict=True):
        voxels = min(side_mm / size, n)
        # A thin slab need not be padded to the deepest level's multiple: fewer levels pool it then.
        while divisor > 1 and divisor > voxels:
            divisor //= 2
        shape.append(max(1, round(voxels / divisor)) * divisor)
    return _triple(shape)


def _memory_gb(topology: Topology, patch: Triple[int], batch: int) -> float:
    return network_values(topology, patch) * batch * BYTES_PER_VALUE / 1e9


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


def _patch_reasons(
    spacing: Triple[float], patch: Triple[int], topology: Topology, memory: float, settings: PlanSettings
) -> list[str]:
    extent = " x ".join(f"{n * size:.0f}" for n, size in zip(patch, spacing, strict=True))
    limit = (
        f"the largest of at most {CPU_PATCH_VOXELS} voxels, since this is planned for a CPU"
        if settings.device == "cpu"
        else f"about {memory:.1f} of {settings.memory_gb:g} GB"
    )
    if settings.preset == "s0":
        limit = "the publication's"
    in_plane = sum(kernel[0] == 1 for kernel in topology.kernel_sizes)
    first = "the first" if in_plane == 1 else f"the first {in_plane}"
    kernels = f"{first} convolving in-plane only, as slices are thick" if in_plane else "all convolving in 3D"
    return [
        f"patch {' x '.join(map(str, patch))} voxels ({extent} mm): {limit}",
        f"network of {len(topology.strides)} levels with {', '.join(map(str, topology.features_per_stage))} features, "
        f"{kernels}",
    ]


def _training_range(measured: Fingerprint, channels: tuple[Role, ...]) -> TrainingRange:
    spacing = np.array([case.spacing_mm for case in measured.cases])
    volumes = [case.brain_volume_ml for case in measured.cases]
    fields = {case.field_strength_t for case in measured.cases if case.field_strength_t is not None}
    return TrainingRange(
        sequences=channels,
        spacing_mm_min=_triple([float(v) for v in spacing.min(axis=0)]),
        spacing_mm_max=_triple([float(v) for v in spacing.max(axis=0)]),
        brain_volume_ml=(min(volumes), max(volumes)),
        field_strength_t=tuple(sorted(fields)),
    )


def _triple(values: Sequence[int] | Sequence[float]) -> Triple:  # type: ignore[type-arg]
    z, y, x = values
    return z, y, x


def _mm(spacing: Triple[float]) -> str:
    return " x ".join(f"{size:g}" for size in spacing) + " mm"
