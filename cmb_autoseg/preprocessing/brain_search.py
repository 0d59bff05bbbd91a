"""Which way the brain of a case is found: a mask that came along, the scan's own background, a network, thresholds."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume, check_same_grid, to_canonical
from cmb_autoseg.preprocessing.brain_mask import MAGNITUDE_ROLES, classical_mask, looks_stripped, support_mask
from cmb_autoseg.readers import read_volume
from cmb_autoseg.records import BrainMaskSource, BrainNetworkSettings, Case, PrepSettings, Role

if TYPE_CHECKING:
    from cmb_autoseg.preprocessing.brain_network import BrainNetwork

__all__ = ["FoundBrain", "read_given_mask", "search_brain"]

NETWORK_ROLES = (Role.T1, Role.FLAIR, Role.T2)
"""Sequences that HD-BET was trained on."""
BRAIN_CM3 = (200.0, 2500.0)
"""A network's mask of another size has missed the brain."""


@dataclass(frozen=True)
class FoundBrain:
    """A brain mask, and how it came about."""

    mask: Volume
    """uint8, 0 or 1, on the canonical grid of `role`."""
    role: Role
    decision: str
    warnings: tuple[str, ...] = ()
    alone: bool = False
    """It has the brain without its skull, as far as can be told; thresholds take both."""


def search_brain(case: Case, volumes: dict[Role, Volume]) -> FoundBrain:
    """Find the brain as `prep.brain` says; `auto` tries a given mask, a stripped scan, the network, thresholds.

    Args:
        case: its settings and the mask that came along, if one did.
        volumes: canonical axes, finite, each on its own grid.

    Raises:
        InputError: a given mask is asked for and there is none, or it cannot be read.
        GeometryError: a given mask is on another grid than its sequence.
    """
    how, reference = case.prep.brain, case.reference_role
    volume = volumes[reference]
    if how == "none":
        return _found(volume, np.ones(volume.shape, dtype=bool), reference, "no mask: the whole volume is used")
    if how == "given" or (how == "auto" and case.brain_mask is not None):
        return _given(case, volumes)
    stripped = reference if how == "already_masked" else _stripped(volumes, reference) if how == "auto" else None
    if stripped is not None:
        support = support_mask(volumes[stripped])
        decision = f"{stripped} is skull-stripped: its own background"
        return _found(volumes[stripped], support, stripped, decision, alone=True)
    why = "the classical mask is asked for"
    if how != "classical":
        found, why = _by_network(case, volumes)
        if found is not None:
            return found
    return _classical(volumes, reference, why, case.prep)


def _found(
    volume: Volume,
    mask: NDArray[np.bool_],
    role: Role,
    decision: str,
    warnings: tuple[str, ...] = (),
    alone: bool = False,
) -> FoundBrain:
    found = Volume(mask.astype(np.uint8), volume.affine, None, "brain mask")
    return FoundBrain(found, role, decision, warnings, alone)


def _stripped(volumes: dict[Role, Volume], reference: Role) -> Role | None:
    """The first sequence without a skull: the reference, or one that the network would meet as no head."""
    return next(
        (
            role
            for role in (reference, *NETWORK_ROLES)
            if role in volumes and looks_stripped(volumes[role], signed=role not in MAGNITUDE_ROLES)
        ),
        None,
    )


def _given(case: Case, volumes: dict[Role, Volume]) -> FoundBrain:
    if case.brain_mask is None:
        raise InputError(
            f"{case.name}: prep.brain is given, but the case has no mask; name it in the card's brain_mask"
        )
    role = case.brain_mask.grid or case.reference_role
    mask = read_given_mask(case.name, case.brain_mask)
    check_same_grid(mask, volumes[role], "name its sequence in brain_mask.grid, or leave the mask out")
    return _found(mask, mask.data > 0, role, f"the mask that came with {role}", alone=True)


def read_given_mask(case: str, given: BrainMaskSource) -> Volume:
    """The mask that came with a case: uint8, 0 or 1, canonical axes.

    Raises:
        InputError: it cannot be read, or is empty.
    """
    mask = to_canonical(read_volume(given.source))
    inside = np.isfinite(mask.data) & (mask.data > 0)
    if not inside.any():
        raise InputError(f"{case}: {mask.name}: the brain mask is empty; correct it or leave it out")
    return mask.with_data(inside.astype(np.uint8))


def _by_network(case: Case, volumes: dict[Role, Volume]) -> tuple[FoundBrain | None, str]:
    """The network's mask, or why there is none."""
    settings, reference = case.prep.hd_bet, case.reference_role
    if settings is None:
        return None, "no weights of HD-BET are named (--brain-weights DIR or prep.hd_bet.folder)"
    role = next((known for known in (*NETWORK_ROLES, reference) if known in volumes), reference)
    if role not in MAGNITUDE_ROLES:
        return None, f"HD-BET's network knows no {role}"
    volume = volumes[role]
    mask = _network(settings).mask(volume)
    volume_cm3 = float(np.count_nonzero(mask)) * volume.voxel_volume_mm3 / 1000
    if mask.all() or not BRAIN_CM3[0] <= volume_cm3 <= BRAIN_CM3[1]:
        return None, f"HD-BET's network found {volume_cm3:.0f} cm3 in {role}, which is no brain"
    warnings = () if role in NETWORK_ROLES else (f"brain mask: HD-BET was not trained on {role}; look at the mask",)
    digest = (settings.sha256 or "unknown").removeprefix("sha256:")[:12]
    return _found(volume, mask, role, f"HD-BET's network (weights {digest}) on {role}", warnings, alone=True), ""


@lru_cache(maxsize=1)
def _network(settings: BrainNetworkSettings) -> "BrainNetwork":
    from cmb_autoseg.preprocessing.brain_network import load_brain_network

    return load_brain_network(Path(settings.folder), settings.sha256, settings.device or "cpu")


def _classical(volumes: dict[Role, Volume], reference: Role, why: str, prep: PrepSettings) -> FoundBrain:
    volume = volumes[reference]
    role = next(
        (known for known in (reference, *MAGNITUDE_ROLES) if known in volumes and known in MAGNITUDE_ROLES), None
    )
    if role is None:
        text = f"brain mask: none found in {reference}; the whole volume is used"
        return _found(volume, np.ones(volume.shape, dtype=bool), reference, text, (text,))
    mask = classical_mask(volumes[role])
    size = "whole volume" if mask.all() else f"{mask.sum() * volumes[role].voxel_volume_mm3 / 1000:.0f} cm3"
    expected = prep.brain == "classical" or (prep.skull == "on" and not mask.all())
    told = f"brain mask: {role} is not skull-stripped; classical mask used ({size}), because {why}"
    warnings = () if expected else (told,)
    return _found(volumes[role], mask, role, f"classical mask of {role} ({size}), because {why}", warnings)
