"""A template from grey-matter, white-matter and brain maps alone; the rest is added by position."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.simulation.anatomy.nuclei import SHAPES, falx_share, nucleus_share
from cmb_autoseg.simulation.anatomy.outside import surround
from cmb_autoseg.simulation.anatomy.shapes import mni_points, part_of
from cmb_autoseg.simulation.anatomy.template import TISSUES, Structure, Template, as_bytes
from cmb_autoseg.simulation.grids import Grid, box_blur

__all__ = ["add_shapes", "crop_structure", "template_from_brain_maps"]

AROUND_MM = ((20.0, 20.0), (20.0, 30.0), (30.0, 20.0))
"""Room for what lies outside the brain, before and after it along each axis."""
VENTRICLE_BOX_MNI = ((-44.0, 44.0), (-60.0, 42.0), (-20.0, 34.0))
FOURTH_BOX_MNI = ((-14.0, 14.0), (-62.0, -36.0), (-48.0, -18.0))


def template_from_brain_maps(maps: Tensor, grid: Grid, size: float = 1.0, sharpness: float = 1.0) -> Template:
    """Make a template of maps that lie in MNI152 space.

    Args:
        maps: grey matter, white matter and brain, each 0..1, shape (3, i, j, k).
        grid: their grid, MNI152 millimetres.
        size: multiplies lengths, see `Template`.
        sharpness: see `Template`.
    """
    maps, grid = _framed(maps.float(), grid)
    grey, white, brain = maps
    total = (grey + white).clamp(min=1)
    grey, white = grey / total, white / total
    fluid = (brain - grey - white).clamp(min=0)
    around = surround(brain, grid, np.eye(4))
    within = 1 - around["blood"]
    tissues = {
        "grey": grey * within,
        "white": white * within,
        "fluid": fluid * within + around["fluid"],
        **{name: around[name] for name in ("bone", "soft", "air", "blood")},
    }
    points = mni_points(grid, np.eye(4))
    falx = falx_share(points) * tissues["fluid"]
    tissues["fluid"], tissues["soft"] = tissues["fluid"] - falx, tissues["soft"] + falx
    stacked = torch.stack([as_bytes(tissues[name]) for name in TISSUES] + [as_bytes(brain)])
    structures = add_shapes(grid, np.eye(4), tuple(SHAPES))
    # What is fluid in the middle of the brain is a ventricle; the outermost fluid is not.
    deep = box_blur(box_blur(brain, 7), 7) > 0.9
    boxes = torch.maximum(_in_box(points, VENTRICLE_BOX_MNI), _in_box(points, FOURTH_BOX_MNI))
    sheet = crop_structure(as_bytes(falx), grid)
    if sheet is not None:
        structures["falx"] = sheet
    ventricles = crop_structure(as_bytes(fluid * boxes * deep), grid)
    if ventricles is not None:
        structures["ventricles"] = ventricles
    return Template(stacked, grid, structures, size=size, sharpness=sharpness)


def add_shapes(grid: Grid, to_mni: NDArray[np.float64], names: tuple[str, ...]) -> dict[str, Structure]:
    """Nuclei and small structures by position, each on its own part of the grid."""
    found = {name: crop_structure(as_bytes(nucleus_share(name, grid, to_mni)), grid) for name in names}
    return {name: structure for name, structure in found.items() if structure is not None}


def crop_structure(share: Tensor, grid: Grid) -> Structure | None:
    """Cut a map (uint8) to where it is not zero, with two voxels around that end in zeros; None where it is nowhere."""
    box = _bounding_box(share > 12)
    if box is None:
        return None
    room = tuple(slice(max(part.start - 2, 0), min(part.stop + 2, n)) for part, n in zip(box, share.shape, strict=True))
    i, j, k = room
    cut = share[i, j, k].clone()
    for axis in range(3):  # zero at the edge, so that it is zero beyond it too
        cut.select(axis, 0).zero_()
        cut.select(axis, -1).zero_()
    return Structure(cut, part_of(grid, (i, j, k)))


def _bounding_box(inside: Tensor) -> tuple[slice, slice, slice] | None:
    parts = []
    for others in ((1, 2), (0, 2), (0, 1)):
        filled = torch.nonzero(inside.any(dim=others[1]).any(dim=others[0]))
        if not len(filled):
            return None
        parts.append(slice(int(filled[0]), int(filled[-1]) + 1))
    i, j, k = parts
    return i, j, k


def _in_box(points: Tensor, box: tuple[tuple[float, float], ...]) -> Tensor:
    inside = torch.ones_like(points[0])
    for along, (low, high) in zip(points, box, strict=True):
        inside *= (along >= low) & (along <= high)
    return inside


def _framed(maps: Tensor, grid: Grid) -> tuple[Tensor, Grid]:
    """Cut or pad maps so that the brain has room around it."""
    box = _bounding_box(maps[2] > 0.5)
    if box is None:
        raise ValueError("the brain map is empty")
    pads: list[int] = []
    starts, lengths = [], []
    for part, (before, after), n, step in zip(box, AROUND_MM, grid.shape, grid.spacing_mm, strict=True):
        low, high = part.start - math.ceil(before / step), part.stop + math.ceil(after / step)
        pads = [max(-low, 0), max(high - n, 0), *pads]
        starts.append(low)
        lengths.append(high - low)
    padded = torch.nn.functional.pad(maps, pads)
    for axis, (low, length) in enumerate(zip(starts, lengths, strict=True)):
        padded = padded.narrow(axis + 1, max(low, 0), length)
    x, y, z = (float(v) for v in grid.to_mm(np.array(starts)))
    return padded.contiguous(), Grid((lengths[0], lengths[1], lengths[2]), grid.spacing_mm, (x, y, z))
