"""Everything in one head besides tissue, drawn."""

import numpy as np

from cmb_autoseg.simulation.anatomy.head import Head
from cmb_autoseg.simulation.anatomy.person import Person
from cmb_autoseg.simulation.contents.arteries import draw_arteries
from cmb_autoseg.simulation.contents.calcifications import draw_calcifications
from cmb_autoseg.simulation.contents.findings import draw_findings
from cmb_autoseg.simulation.contents.microbleeds import Habits, draw_aetiology, draw_microbleeds
from cmb_autoseg.simulation.contents.sources import Contents, Tube
from cmb_autoseg.simulation.contents.surroundings import Surroundings, survey
from cmb_autoseg.simulation.contents.veins import draw_veins
from cmb_autoseg.simulation.protocols import Protocol

__all__ = ["draw_contents"]

TUBE_REACH_MM = 12.0
"""Vessels further outside of the scan do not show."""


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
    for_veins, for_arteries, for_microbleeds, for_mimics = (
        np.random.default_rng(seed) for seed in rng.integers(2**62, size=4)
    )
    around = survey(head, protocol)
    slice_mm = max(protocol.spacing_mm)
    apart_mm = habits.apart_mm + slice_mm
    tubes = draw_veins(for_veins, around) + draw_arteries(for_arteries, around)
    aetiology = None if lesion_free else draw_aetiology(for_microbleeds, habits)
    microbleeds = (
        draw_microbleeds(for_microbleeds, around, person, aetiology, tubes, habits, slice_mm) if aetiology else []
    )
    mimics = draw_calcifications(for_mimics, around, person, microbleeds, habits, apart_mm)
    mimics += draw_findings(for_mimics, around, microbleeds, aetiology, habits, apart_mm)
    return Contents(microbleeds, mimics, [tube for tube in tubes if _near_view(tube, around)])


def _near_view(tube: Tube, around: Surroundings) -> bool:
    """Whether any of the tube's field reaches the scan."""
    low, high = around.view_mm + np.array([[-TUBE_REACH_MM], [TUBE_REACH_MM]])
    return bool(np.all((tube.points_mm > low) & (tube.points_mm < high), axis=1).any())
