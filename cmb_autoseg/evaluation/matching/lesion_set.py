"""The lesions of one side of one case, whatever they were marked with: masks, points or boxes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions.components import Components
from cmb_autoseg.lesions.table import probabilities_of

__all__ = ["Kind", "LesionSet"]

Kind = Literal["mask", "points", "boxes"]


@dataclass(frozen=True)
class LesionSet:
    """Lesions as arrays, one entry a lesion; number n of a table is at index n - 1."""

    kind: Kind
    centres_mm: NDArray[np.float64]
    """(n, 3): centre of mass, point, or middle of the box; RAS millimetres."""
    volumes_mm3: NDArray[np.float64]
    """(n,); NaN of points, which have no extent."""
    regions: tuple[str, ...]
    """`lobar`, `deep`, `infratentorial` or `unknown`, one a lesion."""
    confidence: NDArray[np.float64] | None = None
    """(n,): highest probability of the lesion's voxels, or its score, 0..1; None where predictions have none."""
    mean_probability: NDArray[np.float64] | None = None
    """(n,): mean over the lesion's voxels, or its score."""
    components: Components | None = None
    """Of a mask, while its case is being scored; dropped afterwards."""
    boxes: NDArray[np.float64] | None = None
    """(n, 3, 2): lower and upper faces in voxel indices, where voxel i reaches from i - 0.5 to i + 0.5."""
    affine: NDArray[np.float64] | None = None
    """(4, 4), voxel indices to RAS millimetres, where there is a grid."""

    def __len__(self) -> int:
        return len(self.centres_mm)

    @classmethod
    def of_components(
        cls, components: Components, grid: Volume, probability: NDArray[Any] | None = None
    ) -> "LesionSet":
        """The lesions of a mask.

        Args:
            components: of the mask.
            grid: its place and voxel size; its values do not matter.
            probability: (i, j, k), gives the lesions their confidence; None where there is none.
        """
        highest, mean = (None, None) if probability is None else probabilities_of(components, probability)
        return cls(
            kind="mask",
            centres_mm=grid.to_ras_mm(components.centres).reshape(-1, 3),
            volumes_mm3=np.asarray(components.sizes * grid.voxel_volume_mm3, np.float64),
            regions=("unknown",) * len(components),
            confidence=highest,
            mean_probability=mean,
            components=components,
            affine=grid.affine,
        )

    @cached_property
    def diameters_mm(self) -> NDArray[np.float64]:
        """(n,): of the spheres of equal volume; NaN of points."""
        diameters: NDArray[np.float64] = np.cbrt(6 * self.volumes_mm3 / np.pi)
        return diameters

    def take(self, indices: NDArray[np.intp]) -> "LesionSet":
        """Some of the lesions, in the order of their indices, which rise."""
        components = None if self.components is None else self.components.take(indices)
        return replace(
            self,
            centres_mm=self.centres_mm[indices],
            volumes_mm3=self.volumes_mm3[indices],
            regions=tuple(self.regions[index] for index in indices),
            confidence=None if self.confidence is None else self.confidence[indices],
            mean_probability=None if self.mean_probability is None else self.mean_probability[indices],
            components=components,
            boxes=None if self.boxes is None else self.boxes[indices],
        )

    def slim(self) -> "LesionSet":
        """Without the components, which are as large as the image."""
        return replace(self, components=None)

    def with_regions(self, regions: Sequence[str]) -> "LesionSet":
        return replace(self, regions=tuple(regions))
