"""`prepare_case`: what happens to a scan before anything is learnt from it or predicted on it."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import GeometryError
from cmb_autoseg.geometry import Volume, to_canonical
from cmb_autoseg.preprocessing.alignment import Alignment
from cmb_autoseg.preprocessing.bias import correct_bias
from cmb_autoseg.preprocessing.brain_mask import dilate_mm
from cmb_autoseg.preprocessing.brain_search import FoundBrain, search_brain
from cmb_autoseg.preprocessing.channels import derive_channels
from cmb_autoseg.preprocessing.checks import (
    burned_in_warnings,
    check_label_grid,
    orientation_warnings,
    read_sequences,
    repair,
)
from cmb_autoseg.preprocessing.distortion import correct_distortion
from cmb_autoseg.preprocessing.normalization import strip, zscore_in_brain
from cmb_autoseg.preprocessing.resampling import resample_lesions_to
from cmb_autoseg.quality_control import CaseQuality
from cmb_autoseg.records import DERIVED_ROLES, Case, Role, StepRecord

__all__ = ["PreparedCase", "prepare_case"]

LESION_MARGIN_MM = 2.0
"""Brain is kept at least this far around a marked lesion."""

UNBIASED = frozenset([Role.QSM, Role.GRE_PHASE, *DERIVED_ROLES])
"""Values that no coil's sensitivity multiplies."""


@dataclass(frozen=True)
class PreparedCase:
    """One case, ready for a network, and what is needed to bring results back to its own grid."""

    case: Case
    volumes: dict[Role, Volume]
    """Canonical RAS axes, the reference's grid, float32; non-zero inside the brain, zero outside."""
    brain: Volume
    """uint8, 0 or 1, canonical."""
    label: Volume | None
    """uint8, 0 or 1, canonical."""
    original: Volume
    """The reference sequence as it came: own axes and header, float32, NaN left in."""
    warnings: tuple[str, ...]
    steps: tuple[StepRecord, ...] = ()
    """What each step decided, in their order."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By step; apart from the decisions, since it differs from run to run."""
    quality: CaseQuality | None = None
    """None unless it was asked for."""
    brain_alone: bool = False
    """The mask leaves the skull out, as far as can be told."""
    picture: bytes = b""
    """A strip of views as JPEG; empty unless `quality` was asked for."""


@dataclass
class _Diary:
    """Decisions, warnings and seconds of one case, as its steps go by."""

    steps: list[StepRecord] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - begun, 3)

    def note(self, step: str, decision: str, **figures: float) -> None:
        self.steps.append(StepRecord(step=step, decision=decision, figures=figures))


def prepare_case(
    case: Case,
    label: Volume | None = None,
    label_role: Role | None = None,
    quality: bool = False,
    keep: Collection[Role] | None = None,
) -> PreparedCase:
    """Read, check, repair, reorient, strip, align and complete one case; conversion and prediction share it.

    Args:
        case: sequences, and how to treat them (`case.prep`).
        label: microbleeds as non-zero voxels, on the own grid of `label_role`.
        label_role: the sequence on which they were marked; None for the reference sequence.
        quality: measure the case for quality control, too, and draw it.
        keep: of the sequences only these are brought to the reference's grid; None for all. Others may show the brain.

    Raises:
        InputError: an unreadable file, a volume without contrast, or NaN where the card refuses it.
        GeometryError: sequences that cannot be brought to the reference's grid, or a label that is on none.
    """
    diary = _Diary()
    with diary.step("read"):
        stored = read_sequences(case)
        if case.prep.reference not in (None, case.reference_role):
            diary.warnings.append(f"reference: the case has no {case.prep.reference}; {case.reference_role} is used")
        if label is not None:
            check_label_grid(case, stored[label_role or case.reference_role], label)
    with diary.step("repair"):
        upright = _upright(case, stored, diary)
    if case.prep.distortion is not None:
        with diary.step("distortion"):
            upright = correct_distortion(case.prep.distortion, upright, case)
            diary.note("distortion", f"corrected by {case.prep.distortion}")
    alignment = Alignment(case, upright)
    with diary.step("brain"):
        brain, is_alone = _brain(case, alignment, diary)
    with diary.step("registration"):
        aligned = _aligned(case, alignment, label_role, case.images if keep is None else keep, diary)
        marked = None if label is None else _marked(label, label_role, alignment, diary)
    kept = _keep_lesions(brain, marked, diary) if marked is not None else brain
    with diary.step("channels"):
        wanted = [role for role in case.prep.derived if role not in aligned]
        made, steps = derive_channels(wanted, alignment, brain, case.prep.frst_radii_mm)
        diary.steps += [*alignment.steps, *steps]
    with diary.step("bias"):
        corrected = _unbiased(case, aligned, brain, diary)
    finished = {role: _finished(case, volume, kept.data > 0) for role, volume in {**corrected, **made}.items()}
    diary.note("normalization", case.prep.normalize)
    measured, picture = None, b""
    if quality:
        with diary.step("quality"):
            measured, picture = _quality(stored, aligned, brain, marked, alignment)
    return PreparedCase(
        case=case,
        volumes=finished,
        brain=kept,
        brain_alone=is_alone,
        label=marked,
        original=stored[case.reference_role],
        warnings=tuple(diary.warnings),
        steps=tuple(diary.steps),
        seconds=diary.seconds,
        quality=measured,
        picture=picture,
    )


def _upright(case: Case, stored: dict[Role, Volume], diary: _Diary) -> dict[Role, Volume]:
    """Finite values, canonical axes."""
    for role, volume in stored.items():
        diary.warnings += orientation_warnings(role, volume)
        diary.warnings += burned_in_warnings(case, role, volume)
    repaired = {role: repair(case, role, volume) for role, volume in stored.items()}
    diary.warnings += [text for _, texts in repaired.values() for text in texts]
    bad = {
        role: int(np.count_nonzero(~np.isfinite(stored[role].data))) for role, (_, texts) in repaired.items() if texts
    }
    diary.note("repair", "NaN and infinite voxels set to 0" if bad else "every voxel is finite", **bad)
    return {role: to_canonical(volume) for role, (volume, _) in repaired.items()}


def _brain(case: Case, alignment: Alignment, diary: _Diary) -> tuple[Volume, bool]:
    """The mask on the reference's grid, wherever it was found, and whether it leaves the skull out."""
    found, mask = _carried_brain(case, alignment, diary)
    alignment.brain = mask.data > 0
    volume_ml = round(float(np.count_nonzero(mask.data)) * mask.voxel_volume_mm3 / 1000, 1)
    diary.note("brain", found.decision, volume_ml=volume_ml)
    diary.warnings += found.warnings
    return mask, found.alone


def _carried_brain(case: Case, alignment: Alignment, diary: _Diary) -> tuple[FoundBrain, Volume]:
    """The mask as it was found, and on the reference's grid; another one where its sequence may be left out."""
    volumes = dict(alignment.volumes)
    while True:
        found = search_brain(case, volumes)
        try:
            return found, alignment.mask(found.mask, found.role)
        except GeometryError as error:
            if case.prep.registration.on_failure == "refuse" or case.brain_mask is not None:
                raise
            diary.warnings.append(f"brain mask of {found.role} not used: {error}")
            del volumes[found.role]


def _aligned(
    case: Case, alignment: Alignment, label_role: Role | None, keep: Collection[Role], diary: _Diary
) -> dict[Role, Volume]:
    """The sequences on the reference's grid; without those that may be left out and cannot be brought there."""
    aligned: dict[Role, Volume] = {}
    for role in case.images:
        if role not in keep and role is not case.reference_role:
            continue
        if role is Role.GRE_PHASE and not alignment.is_at_rest(role):
            continue  # interpolated phase is none; the channel made of it comes from its own grid
        try:
            aligned[role] = alignment.image(role)
        except GeometryError as error:
            if case.prep.registration.on_failure == "refuse" or role is label_role:
                raise
            diary.warnings.append(f"{role} left out: {error}")
    return aligned


def _marked(label: Volume, role: Role | None, alignment: Alignment, diary: _Diary) -> Volume:
    """The label as 0 and 1 on the reference's grid, lesion by lesion."""
    upright = to_canonical(label)
    binary = upright.with_data((upright.data > 0).astype(np.uint8))
    if role is None or alignment.is_at_rest(role):
        return binary
    moved, notes = resample_lesions_to(binary, alignment.reference, alignment.matrix(role))
    diary.warnings += notes
    diary.note("label", f"brought from {role} to the reference's grid, lesion by lesion")
    return moved


def _keep_lesions(brain: Volume, label: Volume, diary: _Diary) -> Volume:
    outside = int(np.count_nonzero(label.data[brain.data == 0]))
    kept = (brain.data > 0) | dilate_mm(label.data > 0, LESION_MARGIN_MM, label.spacing_mm)
    if outside:
        diary.warnings.append(f"label: {outside} voxels lie outside the brain mask, which was widened")
    return brain.with_data(kept.astype(np.uint8))


def _unbiased(case: Case, volumes: dict[Role, Volume], brain: Volume, diary: _Diary) -> dict[Role, Volume]:
    if case.prep.bias == "none":
        diary.note("bias", "not corrected")
        return volumes
    corrected = dict(volumes)
    for role, volume in volumes.items():
        if role not in UNBIASED:
            corrected[role], figures = correct_bias(volume, brain.data > 0)
            diary.note(f"bias of {role}", "N4", **figures)
    return corrected


def _finished(case: Case, volume: Volume, brain: NDArray[np.bool_]) -> Volume:
    """Normalized where that is asked for, and zero outside the brain alone."""
    return zscore_in_brain(volume, brain) if case.prep.normalize == "zscore" else strip(volume, brain)


def _quality(
    stored: dict[Role, Volume], aligned: dict[Role, Volume], brain: Volume, label: Volume | None, alignment: Alignment
) -> tuple[CaseQuality, bytes]:
    from cmb_autoseg.quality_control.measures import measure_quality
    from cmb_autoseg.quality_control.thumbnails import draw_case

    own = {role: volume for role, volume in aligned.items() if role not in DERIVED_ROLES}
    return measure_quality(own, brain, label, alignment.figures, stored), draw_case(own, brain, label)
