"""One anatomy is one person: the average head, moved, scaled, warped and given iron.

Coordinates are RAS millimetres of the scanner; the head lies in it nearly as in MNI152 space.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.simulation.anatomy.person import Person, draw_person
from cmb_autoseg.simulation.anatomy.template import Template
from cmb_autoseg.simulation.grids import Grid, box_blur, smooth_field

__all__ = ["NUCLEI", "Anatomy", "Nucleus", "Person", "Template", "build_anatomy", "draw_person"]

HEAD_CENTRE_MM = (0.0, -18.0, 10.0)
"""Point of MNI152 space about which a head is turned and scaled."""
WARP_SD_MM = 3.2
EDGE_MM = 0.8
"""Half-width of the soft edge of a nucleus."""


@dataclass(frozen=True)
class Nucleus:
    """An iron-rich nucleus as an ellipsoid on the right side; the left one mirrors it.

    Millimetres of MNI152 space. `yaw_deg` turns the ellipsoid about the vertical axis: positive
    brings its rear end outwards.
    """

    name: str
    centre_mm: tuple[float, float, float]
    semi_axes_mm: tuple[float, float, float]
    yaw_deg: float
    chi_ppm: float


NUCLEI = (
    Nucleus("caudate", (12.5, 13.0, 6.0), (4.0, 8.0, 7.0), -10.0, 0.044),
    Nucleus("caudate", (15.5, -1.0, 19.0), (3.0, 11.0, 4.0), 10.0, 0.044),
    Nucleus("putamen", (26.0, 2.0, 0.5), (4.2, 14.0, 8.0), 12.0, 0.038),
    Nucleus("pallidum", (19.0, -4.0, -1.0), (3.2, 8.5, 5.0), 28.0, 0.13),
    Nucleus("thalamus", (11.0, -19.0, 7.5), (7.0, 12.5, 7.5), 28.0, 0.02),
    Nucleus("red nucleus", (5.0, -21.0, -9.0), (3.0, 3.3, 4.0), 0.0, 0.10),
    Nucleus("substantia nigra", (9.5, -18.5, -12.0), (2.2, 6.0, 3.5), 35.0, 0.11),
    Nucleus("dentate", (15.0, -57.0, -34.0), (4.0, 8.0, 4.5), 25.0, 0.15),
)
GREY_MATTER_PPM = 0.02


@dataclass(frozen=True)
class Anatomy:
    """Tissues of one person on a grid; all maps have the grid's shape and lie in 0..1."""

    grid: Grid
    mni_mm: Tensor
    """Where each voxel lies in the average head, shape (3, i, j, k)."""
    grey: Tensor
    white: Tensor
    fluid: Tensor
    """Cerebrospinal fluid: inside the brain what is neither grey nor white, plus a rim around it."""
    brain: Tensor
    depth: Tensor
    """The brain blurred over 6 mm: 0.5 at its surface, above 0.85 further than 3 mm inside, 1 beyond 6 mm."""
    iron_ppm: Tensor
    """Susceptibility of the nuclei above that of grey matter."""
    nuclei: Tensor


def build_anatomy(template: Template, person: Person, grid: Grid, device: torch.device) -> Anatomy:
    """Sample the template where each voxel of `grid` falls in the average head; add the nuclei."""
    mni_mm = _to_mni(person, grid, device)
    grey, white, brain = _sample(template, mni_mm)
    tissue = (grey + white).clamp(max=1)
    depth = box_blur(box_blur(brain, 7), 7)
    # A rim of fluid, so that the brain does not end in nothing and ring there.
    rim = (depth * 3).clamp(max=1)
    fluid = (torch.maximum(brain, rim) - tissue).clamp(min=0)
    nuclei, iron_ppm = _nuclei(person, mni_mm, grid)
    # The template calls the pallidum and the dentate white matter; a nucleus is grey.
    grey, white = grey + nuclei * white, white * (1 - nuclei)
    return Anatomy(grid, mni_mm, grey, white, fluid, brain, depth, iron_ppm * tissue, nuclei * tissue)


def _to_mni(person: Person, grid: Grid, device: torch.device) -> Tensor:
    """Scanner to MNI152 millimetres, shape (3, i, j, k): undo shift, rotation and scale, then warp."""
    matrix = torch.as_tensor(np.linalg.inv(_pose(person)), dtype=torch.float32, device=device)
    axes = [axis.float() for axis in grid.axes_mm(device)]
    offsets = [axis - centre - shift for axis, centre, shift in zip(axes, HEAD_CENTRE_MM, person.shift_mm, strict=True)]
    x, y, z = offsets[0][:, None, None], offsets[1][None, :, None], offsets[2][None, None, :]
    warp = smooth_field(torch.as_tensor(person.warp_mm, device=device), grid.shape)
    for row in range(3):
        warp[row] += matrix[row, 0] * x + matrix[row, 1] * y + matrix[row, 2] * z + HEAD_CENTRE_MM[row]
    return warp


def _pose(person: Person) -> NDArray[np.float64]:
    """Rotation and scale about the head's centre, MNI152 to scanner, shape (3, 3)."""
    pitch, roll, yaw = person.rotation_rad
    about_x = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    about_y = np.array([[math.cos(roll), 0, math.sin(roll)], [0, 1, 0], [-math.sin(roll), 0, math.cos(roll)]])
    about_z = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x @ np.diag(person.scale), dtype=np.float64)


def _sample(template: Template, mni_mm: Tensor) -> Tensor:
    """The template's maps at points of MNI152 space, linearly; zero outside. Shape (3, i, j, k)."""
    grid = template.grid
    # grid_sample wants the last axis first, each coordinate scaled to -1..1.
    parts = [
        (mni_mm[axis] - grid.origin_mm[axis]) * (2 / (grid.spacing_mm[axis] * (grid.shape[axis] - 1))) - 1
        for axis in (2, 1, 0)
    ]
    points = torch.stack(parts, dim=-1)[None]
    maps = template.brain_maps.to(mni_mm.device)[None]
    return torch.nn.functional.grid_sample(maps, points, align_corners=True)[0]


def _nuclei(person: Person, mni_mm: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Membership (0..1) and susceptibility above grey matter (ppm) of all nuclei."""
    membership = torch.zeros_like(mni_mm[0])
    iron_ppm = torch.zeros_like(mni_mm[0])
    for nucleus in NUCLEI:
        iron = person.iron[nucleus.name]
        for side in (1, -1):
            box = _box_about(nucleus, side, person, grid)
            x, y, z = mni_mm[(slice(None), *box)]
            soft = _soft_ellipsoid(nucleus, x * side, y, z)
            membership[box] = torch.maximum(membership[box], soft)
            iron_ppm[box] = torch.maximum(iron_ppm[box], soft * (nucleus.chi_ppm * iron - GREY_MATTER_PPM))
    return membership, iron_ppm


def _box_about(nucleus: Nucleus, side: int, person: Person, grid: Grid) -> tuple[slice, slice, slice]:
    """Voxels in which a person's nucleus lies, with room for the warp and the soft edge."""
    mni = np.array(nucleus.centre_mm) * (side, 1, 1)
    centre = _pose(person) @ (mni - HEAD_CENTRE_MM) + HEAD_CENTRE_MM + person.shift_mm
    reach = max(nucleus.semi_axes_mm) + 3 * WARP_SD_MM + 4 * EDGE_MM
    low, high = (np.clip(grid.to_voxels(centre + r), 0, grid.shape).astype(int) for r in (-reach, reach))
    i, j, k = (slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))
    return i, j, k


def _soft_ellipsoid(nucleus: Nucleus, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    dx, dy, dz = (axis - centre for axis, centre in zip((x, y, z), nucleus.centre_mm, strict=True))
    yaw = math.radians(nucleus.yaw_deg)
    along, across = dy * math.cos(yaw) - dx * math.sin(yaw), dx * math.cos(yaw) + dy * math.sin(yaw)
    a, b, c = nucleus.semi_axes_mm
    radius = ((across / a) ** 2 + (along / b) ** 2 + (dz / c) ** 2).sqrt()
    return torch.sigmoid((1 - radius) * (min(a, b, c) / EDGE_MM * 2))
