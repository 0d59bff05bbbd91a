"""What lies outside the brain, made from the brain's outline: fluid, skull, scalp, face, air, dural sinuses.

Places are MNI152 millimetres; thicknesses are those of a head of the template's size.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.simulation.anatomy.shapes import Ellipsoid, chain, paint
from cmb_autoseg.simulation.grids import Grid, box_blur, resample_linear

__all__ = ["distance_mm", "surround"]

FLUID_MM, SKULL_MM, SCALP_MM = 1.6, 8.6, 15.0
"""Where fluid, skull and scalp end: distance outside the brain."""

CLOSED_MM = 7.0

FACE = (
    Ellipsoid((0, 48, -62), (62, 44, 62)),
    Ellipsoid((0, 84, -60), (13, 15, 20)),
    Ellipsoid((0, 0, -90), (66, 75, 55)),
    Ellipsoid((0, -42, -100), (60, 58, 70)),
    Ellipsoid((0, -30, -78), (68, 70, 40)),
)
_PAIRED_BONE = (
    Ellipsoid((40, -26, -42), (24, 11, 10), yaw_deg=-25),  # petrous part
    Ellipsoid((62, -38, -46), (10, 14, 18)),  # mastoid
    Ellipsoid((36, 62, -58), (20, 10, 24)),  # maxilla
    Ellipsoid((22, 78, -8), (22, 8, 7)),  # brow
)
_BONE = (
    Ellipsoid((0, -20, -52), (13, 20, 8), pitch_deg=-35),  # clivus
    Ellipsoid((0, 22, -44), (22, 22, 13)),  # body of the sphenoid
    Ellipsoid((0, 48, -70), (30, 32, 7)),  # palate
    *chain([(0, -34, -78, 14), (0, -44, -100, 14), (0, -50, -140, 14)]),  # spine
)
_PAIRED_AIR = (
    Ellipsoid((11, 82, -6), (9, 5, 11)),  # frontal
    Ellipsoid((7, 50, -38), (5.5, 19, 11)),  # ethmoid
    Ellipsoid((9, 20, -43), (8, 12, 9)),  # sphenoid
    Ellipsoid((29, 50, -62), (13, 16, 16)),  # maxillary
    Ellipsoid((60, -36, -45), (6, 9, 12)),  # mastoid cells
    Ellipsoid((42, -24, -42), (5, 3, 4)),  # middle ear
    *chain([(46, -24, -42, 3.0), (66, -21, -44, 3.2), (90, -20, -44, 4.0)]),  # ear canal
    *chain([(5, 78, -62, 4.0), (5, 44, -62, 4.5), (4, 18, -64, 5.0)], (0.7, 1, 3)),  # nasal cavity
)
_AIR = (
    *chain([(0, 14, -62, 7), (0, 2, -78, 7), (0, -8, -120, 7)]),  # pharynx
    *chain([(0, 60, -90, 4), (0, 10, -92, 4)], (2, 1, 1)),  # mouth
)
_EYES = Ellipsoid((31, 68, -33), (13, 13, 13))
_SAGITTAL = (
    (0, 66, 22, 1.5),
    (0, 54, 48, 2.2),
    (0, 30, 70, 2.8),
    (0, 0, 82, 3.3),
    (0, -32, 86, 3.8),
    (0, -62, 76, 4.2),
    (0, -88, 50, 4.5),
    (0, -104, 20, 4.8),
    (0, -106, -6, 5.0),
)
_TRANSVERSE = ((0, -105, -8, 4.5), (22, -100, -14, 4.2), (44, -84, -20, 4.2), (58, -62, -26, 4.4), (57, -48, -36, 4.5))
_SIGMOID = ((57, -48, -36, 4.5), (48, -42, -48, 4.2), (36, -40, -56, 4.5), (30, -34, -70, 4.5), (30, -26, -140, 4.5))
_STRAIGHT = ((0, -46, 4, 1.8), (0, -62, 0, 2.2), (0, -84, -5, 2.6), (0, -104, -7, 3.2))


def surround(brain: Tensor, grid: Grid, to_mni: NDArray[np.float64]) -> dict[str, Tensor]:
    """Tissues outside the brain: shares 0..1 of `fluid`, `bone`, `soft`, `air` and `blood`; the rest is not head.

    `blood` (dural sinuses) may reach into the rim of the brain; the others keep out of it.

    Args:
        brain: share 0..1, shape (i, j, k).
        grid: its grid.
        to_mni: the grid's millimetres to MNI152 millimetres, shape (4, 4).
    """

    def made(parts: Iterable[Ellipsoid], edge_mm: float, paired: bool = False) -> Tensor:
        return paint(parts, grid, to_mni, edge_mm, paired)

    # Skull and scalp do not follow every fissure: hollows are closed first.
    grown = distance_mm(brain > 0.5, grid, CLOSED_MM + 2) > CLOSED_MM
    hull = (distance_mm(grown, grid, CLOSED_MM + 2) > CLOSED_MM) | (brain > 0.5)
    away = distance_mm(hull, grid, SCALP_MM + 4)
    outside = 1 - brain
    # Below the skull's base the vault's shells end: a face and a neck hang there.
    head = torch.maximum(_below(away, SCALP_MM), made(FACE, 1.5))
    skull = torch.maximum(_below(away, SKULL_MM), torch.maximum(made(_PAIRED_BONE, 0.8, True), made(_BONE, 0.8)))
    air = torch.maximum(made(_PAIRED_AIR, 0.6, True), made(_AIR, 0.6)) * (1 - _below(away, FLUID_MM + 1.0))
    eyes = made([_EYES], 0.6, True) * (1 - _below(away, FLUID_MM + 1.5))
    blood = torch.maximum(
        made([*chain(_SAGITTAL), *chain(_STRAIGHT, (0.8, 1, 1))], 0.5),
        made([*chain(_TRANSVERSE), *chain(_SIGMOID)], 0.5, True),
    )
    rest = head * outside * (1 - air)
    fluid = torch.maximum(_below(away, FLUID_MM) * outside, eyes * rest)
    bone = (skull * (1 - eyes) * rest - fluid).clamp(min=0)
    soft = (rest - fluid - bone).clamp(min=0)
    kept = 1 - blood
    return {
        "fluid": fluid * kept,
        "bone": bone * kept,
        "soft": soft * kept,
        "air": air * head * outside * kept,
        "blood": blood,
    }


def _below(distance: Tensor, limit_mm: float) -> Tensor:
    return torch.sigmoid((limit_mm - distance) / 0.4)


def distance_mm(inside: Tensor, grid: Grid, limit_mm: float) -> Tensor:
    """Euclidean distance to the nearest voxel that is inside, at most `limit_mm`; shape of `inside`.

    Exact on a grid of at most 2 mm, linear in between.
    """
    factor = [max(1, round(2.0 / step)) for step in grid.spacing_mm]
    blocks = torch.nn.functional.max_pool3d(inside.float()[None, None], factor, ceil_mode=True)[0, 0]
    spacing = tuple(step * f for step, f in zip(grid.spacing_mm, factor, strict=True))
    origin = tuple(o + (f - 1) / 2 * s for o, f, s in zip(grid.origin_mm, factor, grid.spacing_mm, strict=True))
    coarse = Grid(tuple(blocks.shape), spacing, origin)  # type: ignore[arg-type]
    square = torch.where(blocks > 0, 0.0, limit_mm**2)
    for axis, step in enumerate(spacing):
        best = square.clone()
        n = square.shape[axis]
        for shift in range(1, min(n - 1, int(limit_mm / step)) + 1):
            add = (shift * step) ** 2
            near, far = square.narrow(axis, 0, n - shift), square.narrow(axis, shift, n - shift)
            torch.minimum(best.narrow(axis, shift, n - shift), near + add, out=best.narrow(axis, shift, n - shift))
            torch.minimum(best.narrow(axis, 0, n - shift), far + add, out=best.narrow(axis, 0, n - shift))
        square = best
    return box_blur(resample_linear(square.sqrt(), coarse, grid), 3)
