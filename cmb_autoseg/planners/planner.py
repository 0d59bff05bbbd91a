"""From the fingerprint to a plan: channels, grid, patch and network, each with its reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.planners.channels import choose_channels, planning_cases
from cmb_autoseg.planners.grid import (
    Grids,
    LesionCheck,
    choose_spacing,
    count_lesions,
    growth_warnings,
    mm,
    refined,
    thickest,
)
from cmb_autoseg.planners.patch import choose_patch, patch_reasons, patch_warnings
from cmb_autoseg.records import CaseFingerprint, Fingerprint, Plan, Reason, Role, TrainingRange, Triple
from cmb_autoseg.workspace import Preset

__all__ = ["PlanSettings", "describe_lesion", "plan_dataset"]

FIXED_GRIDS: dict[Preset, tuple[Triple[float], str]] = {
    "s0": ((1.0, 1.0, 1.0), "Janardanan et al. 2026"),
    "starter": ((1.5, 0.75, 0.75), "the voxels of the model that --init starter begins with"),
}
"""Spacing (z, y, x) in millimetres of the presets that do not look at the data for it, and why it is that."""
NAMED_LESIONS = 8
"""As many lost lesions are named in an error."""
LESION_RULE = (
    "components are counted in every labelled case before and after resampling to this very grid; each lesion is "
    "resampled on its own and kept one voxel apart from the next (docs/decisions/0004)"
)
PLAIN_RULE = "masks are resampled as nnU-Net does, by trilinear weights of at least one half, with nothing preserved"


@dataclass(frozen=True)
class PlanSettings:
    """What the user chose."""

    preset: Preset = "adaptive"
    device: Literal["cuda", "cpu"] = "cpu"
    memory_gb: float = 8.0
    allow_lesion_loss: bool = False


def plan_dataset(
    measured: Fingerprint, read_lesions: Callable[[str], NDArray[np.integer]], settings: PlanSettings
) -> Plan:
    """Choose how a dataset is trained.

    Args:
        measured: the fingerprint.
        read_lesions: gives the numbered lesions of a labelled case, (z, y, x) on its own grid, 0
            outside, with the fingerprint's numbers.
        settings: preset, device and memory.

    Raises:
        InputError: no susceptibility sequence, lesions that the planned grid would lose, a case
            without a voxel on it, or too little memory for any patch.
    """
    s0 = settings.preset == "s0"
    channels, reasons = choose_channels(measured)
    grids, everyone = Grids(planning_cases(measured)), Grids(measured.cases)
    warnings: list[str] = []
    if settings.preset in FIXED_GRIDS:
        spacing, rule = FIXED_GRIDS[settings.preset]
        reasons.append(Reason(topic="grid", text=f"{mm(spacing)} for every case: fixed", rule=rule))
    else:
        spacing, grid_reasons, warnings = choose_spacing(grids)
        reasons += grid_reasons
    spacing, check, lesion_reasons = _checked(measured, grids, read_lesions, spacing, not s0, settings)
    warnings += growth_warnings(everyone, spacing)
    forward = thickest(spacing)
    planned = _ordered(spacing, forward)
    median_shape = _ordered(grids.median_shape(spacing), forward)
    chosen = choose_patch(planned, median_shape, settings.device, settings.memory_gb, s0)
    reasons += lesion_reasons
    reasons += patch_reasons(planned, median_shape, chosen, settings.device, settings.memory_gb, s0)
    warnings += patch_warnings(planned, median_shape, chosen, settings.device, s0)
    return Plan(
        dataset=measured.dataset,
        preset=settings.preset,
        channels=channels,
        transpose_forward=forward,
        spacing_mm=planned,
        median_shape=median_shape,
        patch_shape=chosen.patch,
        batch_size=chosen.batch,
        topology=chosen.topology,
        preserve_lesions=not s0,
        lesions_before=check.before,
        lesions_after=check.before - len(check.lost),
        lost_lesions=check.names,
        device=settings.device,
        memory_target_gb=settings.memory_gb,
        memory_gb=round(chosen.memory_gb, 3),
        reasons=tuple(reasons),
        warnings=tuple(warnings),
        training_range=_training_range(measured, channels),
        prep=measured.prep,
        parents=(measured.digest,),
    )


def _checked(
    measured: Fingerprint,
    grids: Grids,
    read_lesions: Callable[[str], NDArray[np.integer]],
    spacing: Triple[float],
    preserve: bool,
    settings: PlanSettings,
) -> tuple[Triple[float], LesionCheck, list[Reason]]:
    """The grid, refined until no lesion is lost where the preset does not fix it, and the final count."""
    fixed = settings.preset in FIXED_GRIDS
    reasons: list[Reason] = []
    growth_warnings(grids, spacing)
    check = count_lesions(grids, read_lesions, spacing, preserve)
    while check.lost and not fixed:
        finer = refined(spacing, check)
        if finer is None:
            break
        text = f"refined to {mm(finer)}, since at {mm(spacing)} these would vanish or merge: {_listed(check)}"
        reasons.append(
            Reason(topic="grid", text=text, rule="by a fifth a time, no further than these cases' own voxels")
        )
        spacing, check = finer, count_lesions(grids, read_lesions, finer, preserve)
    if check.lost and not settings.allow_lesion_loss:
        raise InputError(
            f"{measured.dataset}: {len(check.lost)} of {check.before} lesions vanish or merge at {mm(spacing)} "
            f"({_listed(check)}); {'use --preset adaptive, or ' if fixed else ''}accept the loss with "
            "--allow-lesion-loss"
        )
    kept = f"{check.before - len(check.lost)} of {check.before} lesions stay lesions of their own at {mm(spacing)}"
    if check.lost:
        kept += f"; {len(check.lost)} vanish or merge, which --allow-lesion-loss accepted"
    reasons.append(Reason(topic="lesions", text=kept, rule=LESION_RULE if preserve else PLAIN_RULE))
    return spacing, check, reasons


def _listed(check: LesionCheck) -> str:
    named = [describe_lesion(case, number) for case, number in check.lost[:NAMED_LESIONS]]
    more = len(check.lost) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def describe_lesion(case: CaseFingerprint, number: int) -> str:
    """A lesion by its number, place and size, as messages name it."""
    lesion = case.lesions[number - 1]
    return (
        f"{case.case}#{number} at ({lesion.x_mm:.1f}, {lesion.y_mm:.1f}, {lesion.z_mm:.1f}) mm RAS, "
        f"{lesion.diameter_mm:.1f} mm wide, {lesion.voxels} voxels"
    )


def _ordered(values: Sequence, order: Triple[int]) -> Triple:  # type: ignore[type-arg]
    z, y, x = (values[axis] for axis in order)
    return z, y, x


def _training_range(measured: Fingerprint, channels: tuple[Role, ...]) -> TrainingRange:
    spacing = np.array([case.spacing_mm for case in measured.cases])
    volumes = [case.brain_volume_ml for case in measured.cases]
    fields = {case.field_strength_t for case in measured.cases if case.field_strength_t is not None}
    finest, coarsest = ((float(z), float(y), float(x)) for z, y, x in (spacing.min(axis=0), spacing.max(axis=0)))
    return TrainingRange(
        sequences=channels,
        spacing_mm_min=finest,
        spacing_mm_max=coarsest,
        brain_volume_ml=(min(volumes), max(volumes)),
        field_strength_t=tuple(sorted(fields)),
    )
