"""One person's head on a grid: tissues, nuclei, regions and landmarks, drawn from a template."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmb_autoseg.simulation.anatomy.nuclei import GREY_MATTER_PPM, NUCLEUS_PPM
from cmb_autoseg.simulation.anatomy.person import Person
from cmb_autoseg.simulation.anatomy.placement import Placement, at_points, place
from cmb_autoseg.simulation.anatomy.shapes import Box, part_of
from cmb_autoseg.simulation.anatomy.template import TISSUES, Template, coarse_grid
from cmb_autoseg.simulation.grids import Grid, box_blur, resample_linear, smooth_field
from cmb_autoseg.simulation.protocols import Protocol

__all__ = ["Head", "build_head"]

SLAB = 16
"""Planes that are sampled at once, which bounds the memory."""
SULCUS_SPREAD, GYRUS_SPREAD = 1.0, 0.8
"""How far a person's texture moves the logits of fluid and of white matter in an averaged template."""
ATROPHY_LOGIT = 1.3
LEAST_SHARE = 0.004


@dataclass(frozen=True)
class Head:
    """A whole head in the axes of the protocol's volume; every map has the grid's shape (i, j, k).

    `grey`, `white`, `fluid`, `bone`, `soft`, `air` and `blood` are shares of the volume and sum to at
    most 1; what is missing is air outside the head.
    """

    grid: Grid
    grey: Tensor
    """Cortex and nuclei."""
    white: Tensor
    fluid: Tensor
    """Cerebrospinal fluid, in and around the brain, and the eyes."""
    bone: Tensor
    soft: Tensor
    """Scalp, muscle, fat, mucosa, meninges."""
    air: Tensor
    """Inside the head: sinuses, mastoid cells, ear canals, airways."""
    blood: Tensor
    """Dural sinuses."""
    brain: Tensor
    """What skull stripping keeps, 0..1: brain tissue, ventricles and the fluid of sulci."""
    depth: Tensor
    """The brain blurred over 6 mm: 0.5 at its surface, above 0.85 further than 3 mm inside, 1 beyond 6 mm."""
    iron_ppm: Tensor
    """Susceptibility of the nuclei above that of grey matter."""
    nuclei: Tensor
    """Share of deep nuclei."""
    mni_mm: Tensor
    """Where each voxel lies in the average head (MNI152 millimetres), shape (3, i, j, k)."""
    regions: Tensor
    """uint8: 1 lobar, 2 deep, 3 infratentorial, 0 outside the brain."""
    landmarks: dict[str, Tensor]
    """Places by name, as bool maps: `pallidum`, `choroid plexus`, `ventricles`, `falx`, `pineal`, ..."""


def build_head(
    template: Template, person: Person, protocol: Protocol, device: torch.device, spacing_mm: float = 1.0
) -> Head:
    """Draw a person's head from a template, posed and turned as the protocol's slab asks.

    Nothing is random here: everything that differs between people is in `person`.
    """
    placement = place(template, person, protocol, device, spacing_mm)
    maps = _tissues(template, person, placement, device)
    tissues = dict(zip((*TISSUES, "brain"), maps, strict=True))
    mni_mm = _mni(template, placement, device)
    nuclei, iron_ppm = _add_nuclei(template, person, placement, tissues)
    depth = box_blur(box_blur(tissues["brain"], 7), 7)
    landmarks = _landmarks(template, placement, tissues, mni_mm)
    return Head(
        placement.grid,
        **tissues,
        depth=depth,
        iron_ppm=iron_ppm,
        nuclei=nuclei,
        mni_mm=mni_mm,
        regions=_regions(tissues["brain"], mni_mm, nuclei),
        landmarks=landmarks,
    )


def _slabs(grid: Grid) -> list[Box]:
    n_i, n_j, n_k = grid.shape
    return [(slice(i, min(i + SLAB, n_i)), slice(0, n_j), slice(0, n_k)) for i in range(0, n_i, SLAB)]


def _tissues(template: Template, person: Person, placement: Placement, device: torch.device) -> Tensor:
    """Shares of `TISSUES` and `brain`, shape (8, i, j, k)."""
    source = template.maps.to(device).float()
    result = torch.empty((len(source), *placement.grid.shape), device=device)
    coarse = coarse_grid(placement.grid)
    texture = smooth_field(torch.as_tensor(person.texture, device=device), coarse.shape)
    for box in _slabs(placement.grid):
        maps = at_points(source, template.grid, placement.points(box)).div_(255)
        lean = resample_linear(texture, coarse, part_of(placement.grid, box))
        _sharpen(maps, lean, person, template.sharpness)
        result[(slice(None), *box)] = maps
    return result


def _sharpen(maps: Tensor, lean: Tensor, person: Person, sharpness: float) -> None:
    """Turn averaged shares of grey, white and fluid into one person's, in place; their sum is kept."""
    total = maps[:3].sum(dim=0)
    grey, white, fluid = (maps[:3] + LEAST_SHARE).log_().mul_(sharpness)
    spread = min(1.0, sharpness - 1)
    fluid += SULCUS_SPREAD * spread * lean[0] + ATROPHY_LOGIT * person.atrophy
    white += GYRUS_SPREAD * spread * lean[1]
    maps[:3] = torch.stack([grey, white, fluid]).softmax(dim=0).mul_(total)


def _mni(template: Template, placement: Placement, device: torch.device) -> Tensor:
    mni = torch.empty((3, *placement.grid.shape), device=device)
    turn = torch.as_tensor(template.to_mni, dtype=torch.float32, device=device)
    for box in _slabs(placement.grid):
        points = placement.points(box)
        mni[(slice(None), *box)] = torch.einsum("rc,cijk->rijk", turn[:3, :3], points) + turn[:3, 3, None, None, None]
    return mni


def _share(template: Template, name: str, placement: Placement) -> tuple[Box, Tensor] | None:
    """A structure's share 0..1 in the part of the head where it lies; None where the template has none."""
    structure = template.structures.get(name)
    if structure is None:
        return None
    box = placement.box_of(structure.grid)
    source = torch.nn.functional.pad(structure.map[None].float() / 255, (1,) * 6)
    grid = structure.grid
    origin = tuple(o - s for o, s in zip(grid.origin_mm, grid.spacing_mm, strict=True))
    wider = Grid(tuple(n + 2 for n in grid.shape), grid.spacing_mm, origin)  # type: ignore[arg-type]
    points = placement.points(box)
    return box, at_points(source.to(points.device), wider, points)[0]


def _add_nuclei(
    template: Template, person: Person, placement: Placement, tissues: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Share of nuclei and their susceptibility above grey matter in ppm; white matter in them becomes grey."""
    nuclei = torch.zeros_like(tissues["brain"])
    iron_ppm = torch.zeros_like(nuclei)
    for name, ppm in NUCLEUS_PPM.items():
        found = _share(template, name, placement)
        if found is None:
            continue
        box, share = found
        nuclei[box] = torch.maximum(nuclei[box], share)
        above = share * (ppm * person.iron[name] - GREY_MATTER_PPM)
        iron_ppm[box] = torch.where(above.abs() > iron_ppm[box].abs(), above, iron_ppm[box])
    tissue = tissues["grey"] + tissues["white"]
    tissues["grey"] += nuclei * tissues["white"]
    tissues["white"] *= 1 - nuclei
    return nuclei * tissue, iron_ppm * tissue


def _landmarks(
    template: Template, placement: Placement, tissues: dict[str, Tensor], mni_mm: Tensor
) -> dict[str, Tensor]:
    landmarks = {}
    for name in template.structures:
        found = _share(template, name, placement)
        if found is not None:
            place_ = torch.zeros(placement.grid.shape, dtype=torch.bool, device=mni_mm.device)
            place_[found[0]] = found[1] > 0.5
            landmarks[name] = place_
    x, y, z = mni_mm
    midline = (x.abs() < 1.2) & (tissues["brain"] > 0.5) & (tissues["fluid"] > 0.3)
    landmarks["falx"] = midline & (z > 0) & ((y > 40) | (y < -50) | (z > 40))
    landmarks["border"] = (tissues["grey"] > 0.3) & (tissues["white"] > 0.3)
    return landmarks


def _regions(brain: Tensor, mni_mm: Tensor, nuclei: Tensor) -> Tensor:
    """Below the tentorium, central nuclei and capsules, lobes: 3, 2, 1."""
    x, y, z = mni_mm[0].abs(), mni_mm[1], mni_mm[2]
    cerebellum = (y < -32) & (z < -20 - 0.1 * x)
    brainstem = (x < 16) & (y > -45) & (y < -8) & (z < -10)
    below = cerebellum | brainstem
    capsules = ((x / 31) ** 2 + ((y + 4) / 27) ** 2 + ((z - 5) / 18) ** 2) < 1
    deep = (nuclei > 0.5) | capsules
    region = torch.where(below, 3, torch.where(deep, 2, 1))
    return (region * (brain > 0.5)).to(torch.uint8)
