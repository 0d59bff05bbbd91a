"""`prepare_case`: what happens to a scan before anything is learnt from it or predicted on it."""

from dataclasses import dataclass

import numpy as np

from cmb_autoseg.geometry import Volume, to_canonical
from cmb_autoseg.preprocessing.brain_mask import dilate_mm, find_brain
from cmb_autoseg.preprocessing.checks import check_one_grid, orientation_warnings, read_sequences, repair
from cmb_autoseg.records import Case, Role

__all__ = ["PreparedCase", "prepare_case"]

LESION_MARGIN_MM = 2.0
"""Brain is kept at least this far around a marked lesion."""

ZERO_STAND_IN = 1e-6
"""Share of the largest value that replaces an exact 0 inside the brain."""


@dataclass(frozen=True)
class PreparedCase:
    """One case, ready for a network, and what is needed to bring results back to its own grid."""

    case: Case
    volumes: dict[Role, Volume]
    """Canonical RAS axes, one grid, float32; non-zero inside the brain, zero outside."""
    brain: Volume
    """uint8, 0 or 1, canonical."""
    label: Volume | None
    """uint8, 0 or 1, canonical."""
    original: Volume
    """The reference sequence as it came: own axes and header, float32, NaN left in."""
    warnings: tuple[str, ...]


def prepare_case(case: Case, label: Volume | None = None) -> PreparedCase:
    """Read, check, repair, reorient and strip one case; conversion and prediction share it.

    Args:
        case: sequences, and how to treat them (`case.prep`).
        label: microbleeds as non-zero voxels, on the reference sequence's own grid.

    Raises:
        InputError: an unreadable file, a volume without contrast, or NaN where the card refuses it.
        GeometryError: sequences or label that do not share the reference sequence's grid.
    """
    stored = read_sequences(case)
    check_one_grid(case, stored, label)
    repaired = {role: repair(case, role, volume) for role, volume in stored.items()}
    upright = {role: to_canonical(volume) for role, (volume, _) in repaired.items()}
    brain, brain_warnings = find_brain(upright, case.reference_role, case.prep.brain)
    marked = None if label is None else _binary(to_canonical(label))
    label_warnings: tuple[str, ...] = ()
    if marked is not None:
        brain, label_warnings = _keep_lesions(brain, marked)
    return PreparedCase(
        case=case,
        volumes={role: _strip(volume, brain.data > 0) for role, volume in upright.items()},
        brain=brain,
        label=marked,
        original=stored[case.reference_role],
        warnings=(
            *(text for role, volume in stored.items() for text in orientation_warnings(role, volume)),
            *(text for _, texts in repaired.values() for text in texts),
            *brain_warnings,
            *label_warnings,
        ),
    )


def _binary(label: Volume) -> Volume:
    return label.with_data((label.data > 0).astype(np.uint8))


def _keep_lesions(brain: Volume, label: Volume) -> tuple[Volume, tuple[str, ...]]:
    outside = int(np.count_nonzero(label.data[brain.data == 0]))
    kept = (brain.data > 0) | dilate_mm(label.data > 0, LESION_MARGIN_MM, label.spacing_mm)
    warnings = (f"label: {outside} voxels lie outside the brain mask, which was widened",) if outside else ()
    return brain.with_data(kept.astype(np.uint8)), warnings


def _strip(volume: Volume, brain: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Volume:
    """Zero outside the brain, never zero inside: nnU-Net takes exact zeros for background."""
    tiny = np.float32(ZERO_STAND_IN * float(np.abs(volume.data).max()))
    inside = np.where(volume.data == 0, max(tiny, np.finfo(np.float32).tiny), volume.data)
    return volume.with_data(np.where(brain, inside, 0).astype(np.float32))
