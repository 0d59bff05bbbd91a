"""Channels that are made of other sequences: radial symmetry, local phase, the sign of susceptibility."""

from collections.abc import Iterable

import numpy as np

from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing.alignment import Alignment
from cmb_autoseg.preprocessing.derived import fast_radial_symmetry, local_phase, qsm_sign
from cmb_autoseg.preprocessing.resampling import resample_brain, resample_image
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role, StepRecord

__all__ = ["derive_channels"]

SOURCES = {
    Role.FRST: SUSCEPTIBILITY_ROLES,
    Role.LOCAL_PHASE: (Role.GRE_PHASE,),
    Role.QSM_SIGN: (Role.QSM,),
}
"""What each channel is made of: the first of these that a case has."""


def derive_channels(
    wanted: Iterable[Role], alignment: Alignment, brain: Volume, frst_radii_mm: tuple[float, ...]
) -> tuple[dict[Role, Volume], list[StepRecord]]:
    """Make those of the wanted channels for which the case has a source.

    Args:
        wanted: of `DERIVED_ROLES`.
        alignment: the case's sequences.
        brain: uint8 0/1 on the reference's grid.
        frst_radii_mm: of the radial symmetry.

    Returns:
        Channels on the reference's grid, float32, and what was done about each wanted one.
    """
    made: dict[Role, Volume] = {}
    steps: list[StepRecord] = []
    for role in wanted:
        source = next((known for known in SOURCES[role] if known in alignment.volumes), None)
        if source is None:
            lacking = " or ".join(SOURCES[role])
            steps.append(StepRecord(step=f"channel {role}", decision=f"not made: the case has no {lacking}"))
            continue
        made[role] = _derive(role, source, alignment, brain, frst_radii_mm)
        steps.append(StepRecord(step=f"channel {role}", decision=f"made of {source}"))
    return made, steps


def _derive(role: Role, source: Role, alignment: Alignment, brain: Volume, radii_mm: tuple[float, ...]) -> Volume:
    """Made on the source's own grid, since phase cannot be interpolated, then brought to the reference's."""
    volume = alignment.volumes[source]
    matrix = alignment.matrix(source)
    at_rest = alignment.is_at_rest(source)
    own = brain if at_rest else resample_brain(brain, volume, None if matrix is None else np.linalg.inv(matrix).astype(np.float64))
    inside = own.data > 0
    if role is Role.FRST:
        data = fast_radial_symmetry(volume, radii_mm, inside, "bright" if source is Role.QSM else "dark")
    elif role is Role.LOCAL_PHASE:
        data = local_phase(volume, inside)
    else:
        data = qsm_sign(volume, inside)
    made = Volume(data, volume.affine, None, role.value)
    return made if at_rest else resample_image(made, alignment.reference, matrix)
