"""All sequences of a case on the grid of its reference sequence.

Sequences that share a grid were measured or reconstructed together: they move together, by the registration
of the one whose contrast is best for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import GeometryError
from cmb_autoseg.geometry import Volume, check_same_grid, same_grid
from cmb_autoseg.preprocessing.registration import Registration, check_registration, register
from cmb_autoseg.preprocessing.resampling import resample_brain, resample_image
from cmb_autoseg.records import DERIVED_ROLES, Case, Role, StepRecord

__all__ = ["Alignment"]

MOVING_ORDER = (Role.T1, Role.T2, Role.FLAIR, Role.GRE_MAG, Role.SWI, Role.QSM, Role.GRE_PHASE, *DERIVED_ROLES)
"""Of sequences on one grid the first of these is registered."""
WITHOUT_ANATOMY = frozenset([Role.GRE_PHASE, *DERIVED_ROLES])
"""Wrapped phase, say, has no contrast that another sequence shares; its header places it."""
TOGETHER = frozenset([Role.QSM, Role.GRE_PHASE, *DERIVED_ROLES])
"""Made of the very echoes of the sequence whose grid they share."""


@dataclass
class Alignment:
    """Brings sequences, masks and marks of one case to the reference's grid; registers at most once a grid.

    Args:
        case: its settings and names.
        volumes: canonical axes, finite, each on its own grid.
    """

    case: Case
    volumes: dict[Role, Volume]
    steps: list[StepRecord] = field(default_factory=list)
    """What was registered, with its figures."""
    figures: dict[Role, dict[str, float]] = field(default_factory=dict)
    """Of the registration that a sequence was moved by."""
    brain: NDArray[np.bool_] | None = None
    """On the reference's grid, once it is known: registration looks inside it."""
    _matrices: dict[Role, NDArray[np.float64] | None] = field(default_factory=dict)
    _failures: dict[tuple[Role, bool], GeometryError] = field(default_factory=dict)
    """By the registered sequence, and whether the brain was known then: once it is, another try is worth it."""

    def __post_init__(self) -> None:
        self._groups = _groups(self.case, self.volumes)

    @property
    def reference(self) -> Volume:
        return self.volumes[self.case.reference_role]

    def is_at_rest(self, role: Role) -> bool:
        """Whether a sequence stays as it is: on the reference's grid, and trusted to lie right."""
        return role in self._groups[0]

    def matrix(self, role: Role) -> NDArray[np.float64] | None:
        """RAS mm of the reference to RAS mm of a sequence (4, 4); None where they are the same.

        Raises:
            GeometryError: the registration fails or breaks a bound of `prep.registration`.
        """
        if self.is_at_rest(role):
            return None
        group = next(group for group in self._groups if role in group)
        attempt = group[0], self.brain is not None
        if attempt in self._failures:
            raise self._failures[attempt]
        if group[0] not in self._matrices:
            try:
                matrix = self._found(group)
            except GeometryError as error:
                self._failures[attempt] = error
                raise
            self._matrices.update(dict.fromkeys(group, matrix))
        return self._matrices[role]

    def image(self, role: Role) -> Volume:
        """A sequence on the reference's grid, trilinear; the very volume where it lies there."""
        if self.is_at_rest(role):
            return self.volumes[role]
        return resample_image(self.volumes[role], self.reference, self.matrix(role))

    def mask(self, mask: Volume, role: Role) -> Volume:
        """A brain mask on a sequence's grid, brought to the reference's."""
        return mask if self.is_at_rest(role) else resample_brain(mask, self.reference, self.matrix(role))

    def _found(self, group: tuple[Role, ...]) -> NDArray[np.float64] | None:
        settings, reference, moving = self.case.prep, self.case.reference_role, group[0]
        names = ", ".join(group)
        if settings.coregister == "header" or moving in WITHOUT_ANATOMY:
            self.steps.append(StepRecord(step="registration", decision=f"{names}: placed by the headers alone"))
            return None
        if settings.coregister == "refuse":
            cure = "prep.coregister is refuse: register them first, or set it to affine"
            try:
                check_same_grid(self.volumes[moving], self.reference, cure)
            except GeometryError as error:
                raise GeometryError(f"{self.case.name}: {error}") from None
            return None
        found = register(self.reference, self.volumes[moving], self.brain, settings.coregister)
        check_registration(found, settings.registration, self.case.name, moving, reference)
        self.steps.append(_step(found, names, moving, self.case))
        self.figures.update(dict.fromkeys(group, found.figures))
        return found.matrix


def _step(found: Registration, names: str, moving: Role, case: Case) -> StepRecord:
    decision = (
        f"{names}: registered to {case.reference_role} by {moving}, {case.prep.coregister}; moved by "
        f"{found.translation_mm:.1f} mm and {found.rotation_deg:.1f} degrees, overlap {found.overlap:.2f}"
    )
    return StepRecord(step="registration", decision=decision, figures=found.figures)


def _groups(case: Case, volumes: Mapping[Role, Volume]) -> list[tuple[Role, ...]]:
    """Roles that stay where they are first, then those of each other grid; the one to be registered comes first."""
    reference = case.reference_role
    ordered = sorted(volumes, key=MOVING_ORDER.index)
    stored = {role: (volume.shape, volume.affine) for role, volume in volumes.items()}
    grids: list[list[Role]] = []
    for role in ordered:
        home = next((grid for grid in grids if same_grid(stored[role], stored[grid[0]])), None)
        if home is None:
            grids.append([role])
        else:
            home.append(role)
    own = next(grid for grid in grids if reference in grid)
    others = [tuple(grid) for grid in grids if grid is not own]
    if case.prep.coregister_when == "other_grid" or case.prep.coregister in ("header", "refuse"):
        return [tuple(own), *others]
    still = tuple(role for role in own if role is reference or role in TOGETHER)
    return [still, *((role,) for role in own if role not in still), *others]
