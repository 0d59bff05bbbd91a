"""Everything in one head besides tissue, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cmb_autoseg.simulation.anatomy.head import Person
from cmb_autoseg.simulation.contents.calcifications import draw_calcifications
from cmb_autoseg.simulation.contents.microbleeds import Habits, draw_microbleeds
from cmb_autoseg.simulation.contents.sources import Contents
from cmb_autoseg.simulation.contents.surroundings import survey
from cmb_autoseg.simulation.protocols import Protocol

if TYPE_CHECKING:
    from cmb_autoseg.simulation.anatomy.head import Head

__all__ = ["draw_contents"]


def draw_contents(
    rng: np.random.Generator,
    head: Head,
    person: Person,
    protocol: Protocol,
    habits: Habits,
    lesion_free: bool,
) -> Contents:
    """Draw microbleeds, their mimics and vessels; a lesion-free person has no microbleed.

    Vessels, microbleeds and compact mimics hang on a generator each, so that the same person has the
    same vessels with and without lesions.

    Raises:
        InputError: the protocol's field of view holds no brain.
    """
    for_microbleeds, for_mimics = (np.random.default_rng(seed) for seed in rng.integers(2**62, size=2))
    around = survey(head, protocol)
    slice_mm = max(protocol.spacing_mm)
    microbleeds = [] if lesion_free else draw_microbleeds(for_microbleeds, around, person, [], habits, slice_mm)
    mimics = draw_calcifications(for_mimics, around, person, microbleeds, habits, habits.apart_mm + slice_mm)
    return Contents(microbleeds, mimics, [])
