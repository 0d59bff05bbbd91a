"""Deep nuclei and small structures as soft shapes in MNI152 millimetres.

The right side is given; the left one mirrors it. Shapes and places are set by hand to where the MNI152
maps show them, not measured.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.simulation.anatomy.shapes import Ellipsoid, chain, paint
from cmb_autoseg.simulation.grids import Grid

__all__ = ["GREY_MATTER_PPM", "NUCLEUS_PPM", "SHAPES", "falx_share", "nucleus_share"]

GREY_MATTER_PPM = 0.02
NUCLEUS_PPM = {
    "caudate": 0.044,
    "putamen": 0.038,
    "pallidum": 0.13,
    "thalamus": 0.02,
    "red nucleus": 0.10,
    "substantia nigra": 0.11,
    "dentate": 0.15,
}

FALX_MM = 0.8

SHAPES: dict[str, tuple[Ellipsoid, ...]] = {
    "caudate": chain(
        [
            (9, 11, -6, 3.4),
            (10.5, 16, 1, 4.6),
            (12, 14, 8, 4.8),
            (14, 7, 14, 4.2),
            (15.5, -3, 18.5, 3.4),
            (17.5, -13, 20.5, 2.8),
            (21, -24, 18, 2.2),
            (27, -34, 12, 1.6),
        ]
    ),
    "putamen": (
        Ellipsoid((24.5, 8, 0), (4.6, 9.5, 8.5), yaw_deg=8),
        Ellipsoid((28.5, -5, 2), (3.9, 12, 8.0), yaw_deg=10),
        Ellipsoid((20, 12, -5), (4.5, 5, 4)),
    ),
    "pallidum": (
        Ellipsoid((19.5, -4, 0), (3.0, 8.5, 5.2), yaw_deg=26),
        Ellipsoid((15.5, -1.5, -2.5), (2.6, 4.5, 3.2), yaw_deg=20),
    ),
    "thalamus": (
        Ellipsoid((10, -17, 8), (6.0, 12.5, 7.5), yaw_deg=22),
        Ellipsoid((15.5, -27, 6), (6.0, 6.0, 6.5)),
    ),
    "red nucleus": (Ellipsoid((5, -20.5, -9), (2.9, 3.2, 4.2)),),
    "substantia nigra": (Ellipsoid((9.5, -17.5, -12.5), (2.0, 6.2, 3.6), yaw_deg=38, pitch_deg=15),),
    "dentate": (Ellipsoid((15.5, -57, -35), (6.0, 8.5, 5.5), yaw_deg=25, pitch_deg=10),),
    "choroid plexus": chain([(16, -12, 19, 1.1), (20, -28, 14, 1.5), (24, -39, 9, 3.0), (30, -34, -2, 1.4)]),
    "pineal": (Ellipsoid((0, -28.5, 4), (2.4, 3.6, 2.2)),),
}
_DENTATE_HILUM = Ellipsoid((12.5, -54, -34.5), (5.0, 7.0, 3.4), yaw_deg=25, pitch_deg=10)
"""White core of the dentate, open towards the middle and front."""


def nucleus_share(name: str, grid: Grid, to_mni: NDArray[np.float64]) -> Tensor:
    """Share 0..1 of each voxel of a template's grid in a structure of `SHAPES`, on either side."""
    share = paint(SHAPES[name], grid, to_mni, paired=True)
    return share * (1 - paint([_DENTATE_HILUM], grid, to_mni, paired=True)) if name == "dentate" else share


def falx_share(mni_mm: Tensor) -> Tensor:
    """Share 0..1 of the falx cerebri at points (3, ...): a sheet in the midline, deeper behind than in front."""
    x, y, z = mni_mm
    # Its free edge runs from the crista galli over the corpus callosum down to the tentorium.
    edge = 20 + 26 * (1 - ((y - 12) / 62) ** 2)
    above = torch.sigmoid((z - edge) / 1.5)
    share: Tensor = above * torch.exp(-((x / FALX_MM) ** 2)) * (y > -100) * (y < 72) * (z > -8)
    return share
