"""Channels that are made of other sequences: radial symmetry, local phase, the sign of susceptibility."""

from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import GeometryError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing.alignment import Alignment
from cmb_autoseg.preprocessing.derived import (
    fast_radial_symmetry,
    local_phase,
    paramagnetic_sign,
    phase_scale,
    qsm_sign,
)
from cmb_autoseg.preprocessing.resampling import resample_brain, resample_image
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role, StepRecord

__all__ = ["derivable", "derive_channels"]

SOURCES = {
    Role.FRST: SUSCEPTIBILITY_ROLES,
    Role.LOCAL_PHASE: (Role.GRE_PHASE,),
    Role.QSM_SIGN: (Role.QSM,),
}
"""What each channel is made of: the first of these that a case has."""


def derivable(wanted: Iterable[Role], there: Collection[Role]) -> tuple[Role, ...]:
    """Those of the wanted channels of which a case with these sequences has a source."""
    return tuple(role for role in wanted if any(source in there for source in SOURCES[role]))


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

    Raises:
        GeometryError: a source cannot be brought to the reference's grid and may not be left out.
    """
    made: dict[Role, Volume] = {}
    steps: list[StepRecord] = []
    for role in wanted:
        source = next((known for known in SOURCES[role] if known in alignment.volumes), None)
        if source is None:
            lacking = " or ".join(SOURCES[role])
            steps.append(StepRecord(step=f"channel {role}", decision=f"not made: the case has no {lacking}"))
            continue
        try:
            made[role], remark = _derive(role, source, alignment, brain, frst_radii_mm)
        except GeometryError as error:  # its source cannot be brought to the reference's grid
            if alignment.case.prep.registration.on_failure == "refuse":
                raise
            steps.append(StepRecord(step=f"channel {role}", decision=f"not made: {error}"))
            continue
        steps.append(StepRecord(step=f"channel {role}", decision=f"made of {source}{remark}"))
    return made, steps


def _derive(
    role: Role, source: Role, alignment: Alignment, brain: Volume, radii_mm: tuple[float, ...]
) -> tuple[Volume, str]:
    """Made on the source's own grid, since phase cannot be interpolated, then brought to the reference's.

    Returns:
        The channel, and what was found of its source on the way.
    """
    volume = alignment.volumes[source]
    matrix = alignment.matrix(source)
    at_rest = alignment.is_at_rest(source)
    own = (
        brain
        if at_rest
        else resample_brain(brain, volume, None if matrix is None else np.linalg.inv(matrix).astype(np.float64))
    )
    inside = own.data > 0
    remark = ""
    if role is Role.FRST:
        data = fast_radial_symmetry(volume, radii_mm, inside, "bright" if source is Role.QSM else "dark")
    elif role is Role.LOCAL_PHASE:
        data, remark = _local_phase(volume, inside)
    else:
        data = qsm_sign(volume, inside)
    made = Volume(data, volume.affine, None, role.value)
    return (made if at_rest else resample_image(made, alignment.reference, matrix)), remark


def _local_phase(phase: Volume, brain: NDArray[np.bool_]) -> tuple[NDArray[np.float32], str]:
    _, taken_for = phase_scale(phase)
    local = local_phase(phase, brain, phase_sign=1)
    sign = paramagnetic_sign(phase.with_data(local), brain)
    turned = "it grows with the field" if sign > 0 else "it falls with the field and was turned round"
    return local * np.float32(sign), f": {taken_for}; by the brain's sources {turned}"
