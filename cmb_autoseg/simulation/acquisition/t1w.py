"""A T1-weighted image of the same head, in which vessels and bleeds hardly show.

Signal of a spoiled gradient echo with a short repetition time (7 to 9 ms at a flip angle near 18 degrees,
as in the 3D FSPGR and MPRAGE-like protocols of ageing studies), from T1 and M0 alone. Computed on the
head's 1 mm grid, which is the resolution of such scans, and then sampled on the grid that is asked for.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.simulation.contents.sources import Contents
from cmb_autoseg.simulation.grids import Grid, smooth_field
from cmb_autoseg.simulation.tissue import SIGNAL_TISSUES, TissueValues, spoiled_echo

if TYPE_CHECKING:
    from cmb_autoseg.simulation.anatomy.head import Head

__all__ = ["T1wDraw", "draw_t1w", "t1_weighted"]

BIAS_SD = 0.12
TEXTURE_SD = 0.025
BLEED_LOSS = 0.12
"""Share of the signal that a bleed takes from the voxels it fills: short echoes leave the rest."""
EMPTY_BONE = 0.05


@dataclass(frozen=True)
class T1wDraw:
    """Draws of one T1-weighted scan."""

    repetition_time_ms: float
    flip_angle_deg: float
    snr: float
    """White matter's signal divided by the noise of one channel."""
    log_gain: Tensor
    """Spline coefficients over the head, shape (5, 5, 5)."""
    texture: Tensor
    noise_seed: int


def draw_t1w(rng: np.random.Generator) -> T1wDraw:
    """Draw timing, coil and noise."""
    repetition_ms, flip_deg, snr = (float(v) for v in rng.uniform((7.0, 15.0, 18.0), (9.0, 20.0, 32.0)))
    gain = torch.from_numpy(BIAS_SD * rng.normal(size=(5, 5, 5))).float()
    texture = torch.from_numpy(TEXTURE_SD * rng.normal(size=(26, 30, 24))).float()
    return T1wDraw(repetition_ms, flip_deg, snr, gain, texture, int(rng.integers(2**62)))


def t1_weighted(
    head: "Head",
    values: TissueValues,
    contents: Contents,
    grid: Grid,
    field_strength_t: float,
    draw: T1wDraw,
    moved: NDArray[np.float64] | None = None,
) -> Tensor:
    """Magnitude of a T1-weighted scan, noise included; shape of `grid`, white matter about 1.

    Args:
        head: tissue maps.
        values: T1 and M0.
        contents: whose microbleeds and mimics leave faint traces.
        grid: to sample on, in the volume's own axes.
        field_strength_t: tesla.
        draw: timing, coil and noise.
        moved: where the head lay during this scan against its place in `head`, millimetres to millimetres
            of the volume's own axes, shape (4, 4); None: at its place.
    """
    volume = _tissue_image(head, values, field_strength_t, draw)
    _darken(volume, head.grid, contents)
    volume *= smooth_field(draw.log_gain.to(volume), head.grid.shape).exp_()
    rng = np.random.default_rng(draw.noise_seed)
    noise = torch.from_numpy(rng.standard_normal((2, *head.grid.shape), dtype=np.float32)).to(volume.device)
    noise /= draw.snr
    volume = torch.hypot(volume + noise[0], noise[1])
    return _sampled(volume, head.grid, grid, np.eye(4) if moved is None else moved)


def _tissue_image(head: "Head", values: TissueValues, field_strength_t: float, draw: T1wDraw) -> Tensor:
    signals = {
        name: spoiled_echo(
            values.tissues[name].m0,
            values.tissues[name].t1_at(field_strength_t),
            draw.repetition_time_ms,
            draw.flip_angle_deg,
        )
        for name in SIGNAL_TISSUES
    }
    volume = torch.full_like(head.iron_ppm, EMPTY_BONE) * head.bone
    for name, signal in signals.items():
        volume += getattr(head, name) * (signal / signals["white"])
    return volume * smooth_field(draw.texture.to(volume), head.grid.shape).exp_()


def _darken(volume: Tensor, grid: Grid, contents: Contents) -> None:
    """Take some of the signal of the voxels in which bleeds and calcifications lie, by the share they fill."""
    size = float(np.prod(grid.spacing_mm))
    for inclusion in [*contents.microbleeds, *contents.mimics]:
        loss = 1 - inclusion.water * (1 - BLEED_LOSS)
        for sphere in inclusion.spheres:
            reach = sphere.radius_mm + max(grid.spacing_mm)
            low = np.maximum(np.ceil(grid.to_voxels(np.array(sphere.centre_mm) - reach)), 0).astype(int)
            high = np.minimum(np.floor(grid.to_voxels(np.array(sphere.centre_mm) + reach)) + 1, grid.shape).astype(int)
            i, j, k = (slice(int(a), max(int(a), int(b))) for a, b in zip(low, high, strict=True))
            box = volume[i, j, k]
            x, y, z = (
                axis[part] - centre
                for axis, part, centre in zip(grid.axes_mm(volume.device), (i, j, k), sphere.centre_mm, strict=True)
            )
            distance = (x[:, None, None] ** 2 + y[None, :, None] ** 2 + z[None, None] ** 2).sqrt()
            near = (sphere.radius_mm + 0.5 - distance).clamp(0, 1)
            filled = near * min(1.0, 4 / 3 * np.pi * sphere.radius_mm**3 / (size * max(1e-6, float(near.sum()))))
            box *= (1 - loss * filled).to(box)


def _sampled(volume: Tensor, source: Grid, target: Grid, moved: NDArray[np.float64]) -> Tensor:
    """Linear interpolation where each point of `target` lay before the head moved; 0 outside the head's grid."""
    back = np.linalg.inv(moved)
    x, y, z = (axis.float() for axis in target.axes_mm(volume.device))
    points = []
    for axis in (2, 1, 0):
        a, b, c, shift = (float(value) for value in back[axis])
        at = a * x[:, None, None] + b * y[None, :, None] + c * z[None, None] + shift
        extent = source.spacing_mm[axis] * (source.shape[axis] - 1)
        points.append((at - source.origin_mm[axis]) * (2 / extent) - 1)
    sampled: Tensor = torch.nn.functional.grid_sample(
        volume[None, None], torch.stack(points, dim=-1)[None], align_corners=True
    )
    return sampled[0, 0]
