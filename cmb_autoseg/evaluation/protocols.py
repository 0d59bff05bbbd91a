"""When a predicted lesion counts as found, as data. Standard library only, so that commands can list the names."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["PROTOCOLS", "Protocol"]


@dataclass(frozen=True)
class Protocol:
    """One published way to decide which predicted and reference lesions belong together."""

    name: str
    rule: Literal["centre", "overlap"]
    definition: str
    """For the report: the rule in one or two sentences."""
    threshold: float = 0.5
    """A voxel is predicted when its value is at least this; masks hold 0 and 1."""
    max_distance_mm: float = 0.0
    """Rule `centre`: greatest distance between the centres of mass, itself included."""
    min_overlap: float = 0.0
    """Rule `overlap`: share of the reference lesion that a predicted lesion must exceed."""


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="valdo",
            rule="centre",
            max_distance_mm=5.0,
            definition=(
                "Each predicted lesion claims the reference lesion whose centre of mass is nearest, if it is "
                "within 5 mm; a reference lesion keeps the nearest of those that claim it; every other "
                "predicted lesion, duplicates included, is a false positive."
            ),
        ),
        Protocol(
            name="overlap",
            rule="overlap",
            min_overlap=0.4,
            definition=(
                "A reference lesion is found when one predicted lesion covers more than 40 % of its voxels; a "
                "predicted lesion that covers more than 40 % of no reference lesion is a false positive."
            ),
        ),
    )
}
"""`valdo`: the rule of the VALDO challenge 2021 (Sudre et al. 2024), in millimetres.
`overlap`: a predicted lesion counts when it overlaps more than 40 % of the true lesion."""
