"""All measures of one case, from the volumes before anything outside the brain is set to 0."""

from collections.abc import Mapping

import numpy as np

from cmb_autoseg.geometry import Volume
from cmb_autoseg.quality_control._blocks import brain_core
from cmb_autoseg.quality_control.brain_measures import measure_brain
from cmb_autoseg.quality_control.case_quality import CaseQuality
from cmb_autoseg.quality_control.label_measures import measure_label
from cmb_autoseg.quality_control.pair_measures import measure_pair
from cmb_autoseg.quality_control.sequence_measures import measure_sequence
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role

__all__ = ["measure_quality"]


def measure_quality(
    volumes: Mapping[Role, Volume],
    brain: Volume,
    label: Volume | None = None,
    registrations: Mapping[Role, Mapping[str, float]] | None = None,
    stored: Mapping[Role, Volume] | None = None,
) -> CaseQuality:
    """Measure one case: scans, how they fit each other, and the label.

    Args:
        volumes: canonical axes, one grid, finite, not stripped; derived channels are left out by the caller.
        brain: 0 or 1 on that grid, before it was widened for the sake of marked lesions.
        label: microbleeds on that grid; None for an unlabelled case.
        registrations: what registration of a sequence said of itself.
        stored: the sequences as they came, NaN, own axes and own grid included; by default `volumes`.
    """
    as_stored = volumes if stored is None else stored
    reference = next((role for role in SUSCEPTIBILITY_ROLES if role in volumes), next(iter(volumes)))
    mask = np.asarray(brain.data > 0)
    if not mask.any():
        mask = np.ones(mask.shape, dtype=bool)
    core = brain_core(mask, brain.spacing_mm)
    return CaseQuality(
        reference=reference,
        brain=measure_brain(brain),
        sequences={
            role: measure_sequence(role, volume, mask, core, as_stored.get(role, volume))
            for role, volume in volumes.items()
        },
        pairs={
            role: measure_pair(volumes[reference], volume, core, (registrations or {}).get(role, {}))
            for role, volume in volumes.items()
            if role is not reference
        },
        label=None if label is None else measure_label(volumes, reference, mask, label),
    )
