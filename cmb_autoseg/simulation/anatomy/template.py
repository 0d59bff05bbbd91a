"""What a head is drawn from: soft maps of tissues and structures on a grid, and its place in MNI152 space."""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.simulation.grids import Grid, box_blur, resample_linear

__all__ = ["TISSUES", "Structure", "Template", "as_bytes", "coarse_grid"]

TISSUES = ("grey", "white", "fluid", "bone", "soft", "air", "blood")
"""Order of a template's maps, which end with `brain`."""
COARSE_MM = 4.0
"""Grid of warps and other smooth fields."""


@dataclass(frozen=True)
class Structure:
    """A nucleus or another part of a head as a soft map on a small grid of its own."""

    map: Tensor
    """Share 0..255 (uint8), shape (i, j, k)."""
    grid: Grid


@dataclass(frozen=True)
class Template:
    """Tissue maps of one head, in its own axes (right, front, top) and millimetres.

    `maps` has shape (8, i, j, k) and dtype uint8: shares 0..255 of `TISSUES`, then of `brain` (what
    skull stripping keeps). Where the tissues sum to less than 255, the rest is air outside the head.
    """

    maps: Tensor
    grid: Grid
    structures: dict[str, Structure] = field(default_factory=dict)
    """Nuclei, ventricles, choroid plexus, ... by name."""
    to_mni: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    """The template's millimetres to MNI152 millimetres, shape (4, 4)."""
    size: float = 1.0
    """Multiplies lengths to make a head of common size: 0.88 for MNI152, which is larger than people are."""
    sharpness: float = 1.0
    """Power by which memberships are sharpened: above 1 where the maps are an average of many heads."""
    atrophy: float = 0.0
    """Sulcal widening that the maps hold already, on the scale of `Person.atrophy`."""

    @cached_property
    def outline_mm(self) -> NDArray[np.float64]:
        """Scattered points that span the head, template millimetres, shape (n, 3)."""
        step = 6
        head = self.maps[:7, ::step, ::step, ::step].float().sum(0) > 25
        return self.grid.to_mm(torch.nonzero(head).cpu().numpy() * step)

    @cached_property
    def ventricle_pull(self) -> Tensor | None:
        """Unit pull towards the ventricles, strongest at their walls, on `coarse_grid(self.grid)`, shape (3, a, b, c).

        A map from a head into the template that moves points this way draws larger ventricles.
        """
        if "ventricles" not in self.structures:
            return None
        structure = self.structures["ventricles"]
        target = coarse_grid(self.grid)
        smooth = box_blur(box_blur(structure.map.float() / 255, 5), 5)
        smooth[[0, -1]] = 0
        smooth[:, [0, -1]] = 0
        smooth[:, :, [0, -1]] = 0
        coarse = resample_linear(smooth, structure.grid, target)
        pull = torch.stack(torch.gradient(coarse))
        unit: Tensor = pull / pull.norm(dim=0).max().clamp(min=1e-6)
        return unit

    @cached_property
    def within(self) -> Tensor:
        """The brain, with an edge of about 10 mm, on `coarse_grid(self.grid)`."""
        share = resample_linear(self.maps[7].float() / 255, self.grid, coarse_grid(self.grid))
        return box_blur(box_blur(share, 3), 3)


def as_bytes(share: Tensor) -> Tensor:
    """Shares 0..1 as uint8 0..255."""
    return (share.clamp(0, 1) * 255).round().to(torch.uint8)


def coarse_grid(grid: Grid, step_mm: float = COARSE_MM) -> Grid:
    """A grid of `step_mm` that covers `grid`."""
    shape = tuple(
        max(4, math.ceil((n - 1) * step / step_mm) + 1) for n, step in zip(grid.shape, grid.spacing_mm, strict=True)
    )
    return Grid(shape, (step_mm,) * 3, grid.origin_mm)  # type: ignore[arg-type]
