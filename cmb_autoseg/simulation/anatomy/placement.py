"""Where a person's head lies: from the scan's axes to the template, by pose, size and a diffeomorphic warp."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.simulation.anatomy.person import Person
from cmb_autoseg.simulation.anatomy.shapes import Box, part_of
from cmb_autoseg.simulation.anatomy.template import Template, coarse_grid
from cmb_autoseg.simulation.grids import Grid, smooth_field
from cmb_autoseg.simulation.protocols import Protocol

__all__ = ["Placement", "at_points", "exponential", "place"]

HEAD_CENTRE_MM = (0.0, -18.0, 10.0)
"""Point of MNI152 space about which a head is turned and scaled."""
MARGIN_MM = 8.0
"""Around the outline of the unwarped head."""
SQUARINGS = 6
COMMON_EXTENT_MM = 200.0
"""Mean edge of a whole head's template, for which the spread of the warps is given."""


@dataclass(frozen=True)
class Placement:
    """Maps a head's grid into its template."""

    grid: Grid
    matrix: NDArray[np.float64]
    """Scan millimetres to template millimetres before the warp, shape (4, 4)."""
    coarse: Grid
    smooth: Tensor
    """On the coarse grid: the displacement that the warp adds (template millimetres), then the person's
    textures; shape (5, a, b, c)."""

    def points(self, box: Box) -> tuple[Tensor, Tensor]:
        """For a box of the grid's voxels: template millimetres (3, ...) and textures (2, ...)."""
        part = part_of(self.grid, box)
        smooth = _upsampled(self.smooth, self.coarse, part)
        x, y, z = (axis.float() for axis in part.axes_mm(smooth.device))
        for row in range(3):
            a, b, c, shift = (float(value) for value in self.matrix[row])
            smooth[row] += (a * x)[:, None, None] + (b * y)[None, :, None] + (c * z + shift)[None, None, :]
        return smooth[:3], smooth[3:]

    def box_of(self, structure: Grid) -> Box:
        """Voxels of the head in which a structure on a grid of the template lies, with room for the warp."""
        ends = np.array(np.meshgrid(*[(0, n - 1) for n in structure.shape], indexing="ij")).reshape(3, -1).T
        corners = apply_affine(np.asarray(np.linalg.inv(self.matrix), dtype=np.float64), structure.to_mm(ends))
        reach = float(self.smooth[:3].abs().max()) + 1
        low, high = corners.min(axis=0) - reach, corners.max(axis=0) + reach
        first = np.clip(np.floor(self.grid.to_voxels(low)), 0, self.grid.shape).astype(int)
        last = np.clip(np.ceil(self.grid.to_voxels(high)) + 1, 0, self.grid.shape).astype(int)
        i, j, k = (slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
        return i, j, k


def _upsampled(values: Tensor, coarse: Grid, fine: Grid) -> Tensor:
    """Values (channel, a, b, c) linearly on a finer grid inside the coarse one."""
    # A product with a matrix of weights, one axis after another, is several times quicker than gathering.
    goal = fine.axes_mm(values.device)
    for axis in (0, 1, 2):
        position = (goal[axis] - coarse.origin_mm[axis]) / coarse.spacing_mm[axis]
        knots = torch.arange(coarse.shape[axis], dtype=position.dtype, device=values.device)
        weights = (1 - (position[:, None] - knots).abs()).clamp(min=0).to(values.dtype)
        equation = ("cajk,ia->cijk", "cibk,jb->cijk", "cijl,kl->cijk")[axis]
        values = torch.einsum(equation, values, weights)
    return values


def apply_affine(affine: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (n, 3) through a matrix (4, 4)."""
    return np.asarray(points @ affine[:3, :3].T + affine[:3, 3], dtype=np.float64)


def at_points(maps: Tensor, grid: Grid, points_mm: Tensor) -> Tensor:
    """Maps (channel, i, j, k) at points (3, a, b, c), linearly, the edge repeated; shape (channel, a, b, c)."""
    # grid_sample wants the last axis first, each coordinate scaled to -1..1.
    scaled = [
        (points_mm[axis] - grid.origin_mm[axis]) * (2 / (grid.spacing_mm[axis] * (grid.shape[axis] - 1))) - 1
        for axis in (2, 1, 0)
    ]
    found: Tensor = torch.nn.functional.grid_sample(
        maps[None], torch.stack(scaled, dim=-1)[None], padding_mode="border", align_corners=True
    )[0]
    return found


def exponential(velocity_mm: Tensor, grid: Grid) -> Tensor:
    """Displacement of the flow along a velocity field for unit time: scaling and squaring (Arsigny et al. 2006).

    Args:
        velocity_mm: shape (3, *grid.shape), zero or small at the edges.
        grid: its grid.
    """
    displacement: Tensor = velocity_mm / 2**SQUARINGS
    here = torch.stack(torch.meshgrid(*[axis.float() for axis in grid.axes_mm(velocity_mm.device)], indexing="ij"))
    for _ in range(SQUARINGS):
        displacement = displacement + at_points(displacement, grid, here + displacement)
    return displacement


def place(template: Template, person: Person, protocol: Protocol, device: torch.device, spacing_mm: float) -> Placement:
    """Lay a person's head into the axes of a protocol's volume; the grid covers all of it."""
    to_scan = _template_to_scan(template, person, protocol)
    outline = apply_affine(to_scan, template.outline_mm)
    low, high = outline.min(axis=0) - MARGIN_MM, outline.max(axis=0) + MARGIN_MM
    shape = tuple(_fast_length(math.ceil(length / spacing_mm) + 1) for length in high - low)
    grid = Grid(shape, (spacing_mm,) * 3, tuple(float(value) for value in low))  # type: ignore[arg-type]
    matrix = np.asarray(np.linalg.inv(to_scan), dtype=np.float64)
    coarse = coarse_grid(grid)
    there = torch.stack(torch.meshgrid(*[axis.float() for axis in coarse.axes_mm(device)], indexing="ij"))
    turn = torch.as_tensor(matrix, dtype=torch.float32, device=device)
    there = torch.einsum("rc,cijk->rijk", turn[:3, :3], there) + turn[:3, 3, None, None, None]
    field_grid = coarse_grid(template.grid)
    displacement = exponential(velocity(template, person, field_grid, device), field_grid)
    texture = smooth_field(torch.as_tensor(person.texture, device=device), coarse.shape)
    return Placement(grid, matrix, coarse, torch.cat([at_points(displacement, field_grid, there), texture]))


def velocity(template: Template, person: Person, grid: Grid, device: torch.device) -> Tensor:
    """What a person's shape adds to the template, template millimetres a unit of time, shape (3, *grid.shape)."""
    total = smooth_field(torch.as_tensor(person.warp_mm, device=device), grid.shape)
    # Single gyri move, skull and scalp over them do not.
    total = total + smooth_field(torch.as_tensor(person.fold_mm, device=device), grid.shape) * template.within.to(
        device
    )
    pull = template.ventricle_pull
    if pull is not None:
        total = total + person.ventricle_pull_mm * pull.to(device)
    # The fields span the template: one smaller than a head is bent as strongly by smaller displacements.
    extent_mm = sum(n * step for n, step in zip(grid.shape, grid.spacing_mm, strict=True)) / 3
    return total * min(1.0, extent_mm / COMMON_EXTENT_MM)


def _template_to_scan(template: Template, person: Person, protocol: Protocol) -> NDArray[np.float64]:
    """Template millimetres to the millimetres of the volume's axes, shape (4, 4)."""
    # Only the turn of the map to MNI152 is kept: a person's own size and proportions stay.
    u, _, vt = np.linalg.svd(template.to_mni[:3, :3])
    linear = _rotation(person.rotation_rad) @ np.diag(person.scale) @ (u @ vt) * template.size
    from_mni = np.asarray(np.linalg.inv(template.to_mni), dtype=np.float64)
    own_centre = apply_affine(from_mni, np.array([HEAD_CENTRE_MM]))[0]
    upright = np.eye(4)
    upright[:3, :3] = linear
    upright[:3, 3] = np.add(HEAD_CENTRE_MM, person.shift_mm) - linear @ own_centre
    # An oblique slab keeps its middle where it was; the head is turned about it instead.
    back = np.array(protocol.to_scanner).T
    tilt = np.eye(4)
    tilt[:3, :3] = back
    tilt[:3, 3] = np.array(protocol.centre_mm) - back @ protocol.centre_mm
    return np.asarray(tilt @ upright, dtype=np.float64)


def _rotation(angles_rad: tuple[float, float, float]) -> NDArray[np.float64]:
    """Turns by pitch, roll and yaw, shape (3, 3)."""
    pitch, roll, yaw = angles_rad
    about_x = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    about_y = np.array([[math.cos(roll), 0, math.sin(roll)], [0, 1, 0], [-math.sin(roll), 0, math.cos(roll)]])
    about_z = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, dtype=np.float64)


def _fast_length(n: int) -> int:
    """The next multiple of 8 without a prime factor above 5, on which Fourier transforms are quick."""
    n = 8 * math.ceil(n / 8)
    rest = n
    for prime in (2, 3, 5):
        while rest % prime == 0:
            rest //= prime
    return n if rest == 1 else _fast_length(n + 1)
