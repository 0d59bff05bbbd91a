"""When a predicted lesion counts as found, as data. Standard library only, so that commands can list the names."""

from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["DEFAULT_PROTOCOL", "PROTOCOLS", "Duplicates", "LesionRule", "Protocol", "Rule"]

Rule = Literal["nearest", "radius", "overlap", "iou"]
Duplicates = Literal["false", "right", "ignored"]
"""What a further prediction on a lesion is that has been found: wrong, right too, or neither."""


@dataclass(frozen=True)
class Protocol:
    """One published way to decide which predicted and reference lesions belong together."""

    name: str
    rule: Rule
    limit: float
    """Rules `nearest` and `radius`: greatest distance of the centres in millimetres, itself included. `overlap`: share
    of the reference lesion that a predicted lesion must exceed. `iou`: least intersection over union."""
    duplicates: Duplicates
    merges: bool
    """Whether one predicted lesion over several reference lesions finds them all, or one of them."""
    definition: str
    """For the report: the rule in a few sentences, with `{limit}`."""

    @property
    def defined(self) -> str:
        """The definition with the limit in force."""
        if self.rule != "overlap":
            return self.definition.format(limit=f"{self.limit:g}")
        share = f"more than {100 * self.limit:g} % of its voxels" if self.limit else "a voxel of it or more"
        return self.definition.format(limit=share)

    def with_limit(self, limit: float) -> "Protocol":
        return replace(self, limit=limit)


@dataclass(frozen=True)
class LesionRule:
    """What counts as a lesion, on both sides."""

    connectivity: Literal[6, 18, 26] = 26
    """Neighbours of a voxel that belong to the same lesion: those that share a face; an edge, too; a corner, too."""
    min_volume_mm3: float = 0.0
    diameter_mm: tuple[float, float] | None = None
    """Least and greatest diameter of the sphere of equal volume; None for no limit."""

    @property
    def told(self) -> str:
        """For the report, in a sentence."""
        sides = {6: "a face", 18: "a face or an edge", 26: "a face, an edge or a corner"}[self.connectivity]
        limits = [f"below {self.min_volume_mm3:g} mm3"] if self.min_volume_mm3 else []
        if self.diameter_mm:
            limits.append("whose sphere of equal volume is not {:g} to {:g} mm across".format(*self.diameter_mm))
        left_out = f" Lesions {' or '.join(limits)} are left out on both sides." if limits else ""
        return (
            f"A lesion of a mask is a {self.connectivity}-connected component: voxels that share {sides} belong "
            f"together.{left_out}"
        )


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="valdo",
            rule="nearest",
            limit=5.0,
            duplicates="false",
            merges=False,
            definition=(
                "Each predicted lesion claims the reference lesion whose centre of mass is nearest, if it is "
                "within {limit} mm; a reference lesion keeps the nearest of those that claim it; every other "
                "predicted lesion, duplicates included, is a false positive."
            ),
        ),
        Protocol(
            name="overlap",
            rule="overlap",
            limit=0.0,
            duplicates="right",
            merges=True,
            definition=(
                "A reference lesion is found when a predicted lesion covers {limit}; one predicted lesion may find "
                "several, and several on one lesion are all right; a predicted lesion that finds none is a false "
                "positive."
            ),
        ),
        Protocol(
            name="overlap40",
            rule="overlap",
            limit=0.4,
            duplicates="right",
            merges=True,
            definition=(
                "A reference lesion is found when one predicted lesion covers {limit}; one predicted lesion may find "
                "several, and several on one lesion are all right; a predicted lesion that finds none is a false "
                "positive."
            ),
        ),
        Protocol(
            name="points",
            rule="radius",
            limit=5.0,
            duplicates="ignored",
            merges=False,
            definition=(
                "A reference lesion is found when the centre of a predicted lesion lies within {limit} mm of its own; "
                "pairs are formed from the nearest on, one to one; a further predicted lesion within {limit} mm of a "
                "reference lesion is neither right nor wrong; any other is a false positive."
            ),
        ),
        Protocol(
            name="iou",
            rule="iou",
            limit=0.1,
            duplicates="false",
            merges=False,
            definition=(
                "Predicted and reference lesions whose intersection over union is at least {limit} are paired one to "
                "one so that the sum of 1 + intersection over union is greatest; every other predicted lesion is a "
                "false positive."
            ),
        ),
    )
}
"""`valdo`: the rule of the VALDO challenge 2021 (Sudre et al. 2024), in millimetres. `overlap40`: of 2.5D detectors of
microbleeds. `points`: as the LUNA16 challenge counts detections (Setio et al. 2017). `iou`: as PI-CAI counts
(Saha et al. 2024), duplicates apart."""
DEFAULT_PROTOCOL = "valdo"
