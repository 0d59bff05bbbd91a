"""One person's head on a grid: tissues, nuclei, regions and landmarks, drawn from a template."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cmb_autoseg.simulation.anatomy.nuclei import GREY_MATTER_PPM, NUCLEUS_PPM
from cmb_autoseg.simulation.anatomy.person import Person
from cmb_autoseg.simulation.anatomy.placement import Placement, at_points, place
from cmb_autoseg.simulation.anatomy.regions import division
from cmb_autoseg.simulation.anatomy.shapes import Box
from cmb_autoseg.simulation.anatomy.template import TISSUES, Structure, Template
from cmb_autoseg.simulation.grids import Grid, box_blur
from cmb_autoseg.simulation.protocols import Protocol

__all__ = ["Head", "build_head"]

SLAB = 16
"""Planes that are sampled at once, which bounds the memory."""
SULCUS_LOGIT, WHITE_LOGIT, ATROPHY_LOGIT = 1.0, 0.8, 1.3
"""What a texture of 1 and an atrophy of 1 add to the logits of fluid and of white matter."""
NUCLEUS_LOGIT = 1.0
"""What a texture of 1 adds to the logit of a nucleus: its edge moves by about half a millimetre."""
LEAST_SHARE = 0.004
PLEXUS_SHARE = 0.7
"""Of choroid plexus in the fluid where it lies."""


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
    """Scalp, muscle, fat, mucosa, meninges, choroid plexus."""
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
    """Places by name, as bool maps: nuclei, `ventricles`, `choroid plexus`, `pineal`, `falx`."""


def build_head(
    template: Template, person: Person, protocol: Protocol, device: torch.device, spacing_mm: float = 1.0
) -> Head:
    """Draw a person's head from a template, posed and turned as the protocol's slab asks.

    Nothing is random here: everything that differs between people is in `person`.
    """
    placement = place(template, person, protocol, device, spacing_mm)
    tissues, mni_mm = _sample(template, person, placement)
    shares = {name: _share(structure, placement) for name, structure in template.structures.items()}
    nuclei, iron_ppm = _add_nuclei(person, shares, tissues)
    if "choroid plexus" in shares:
        box, share = shares["choroid plexus"]
        plexus = PLEXUS_SHARE * share * tissues["fluid"][box]
        tissues["fluid"][box] -= plexus
        tissues["soft"][box] += plexus
    infratentorial = shares.pop("infratentorial", None)
    below = _painted(infratentorial[0], infratentorial[1] > 0.5, placement.grid) if infratentorial else None
    landmarks = {name: _painted(box, share > 0.5, placement.grid) for name, (box, share) in shares.items()}
    return Head(
        placement.grid,
        **tissues,
        depth=_depth(tissues["brain"], spacing_mm),
        iron_ppm=iron_ppm,
        nuclei=nuclei,
        mni_mm=mni_mm,
        regions=division(tissues["brain"], nuclei, mni_mm, below),
        landmarks=landmarks,
    )


def _sample(template: Template, person: Person, placement: Placement) -> tuple[dict[str, Tensor], Tensor]:
    """Shares of `TISSUES` and `brain` by name, and MNI152 millimetres."""
    device = placement.smooth.device
    source = template.maps.to(device).float()
    turn = torch.as_tensor(template.to_mni, dtype=torch.float32, device=device)
    n_i, n_j, n_k = placement.grid.shape
    maps = torch.empty((len(source), n_i, n_j, n_k), device=device)
    mni_mm = torch.empty((3, n_i, n_j, n_k), device=device)
    for start in range(0, n_i, SLAB):
        box = (slice(start, min(start + SLAB, n_i)), slice(0, n_j), slice(0, n_k))
        points, lean = placement.points(box)
        part = at_points(source, template.grid, points).div_(255)
        _sharpen(part, lean, person.atrophy - template.atrophy, template.sharpness)
        maps[:, box[0]] = part
        mni_mm[:, box[0]] = torch.einsum("rc,cijk->rijk", turn[:3, :3], points) + turn[:3, 3, None, None, None]
    return dict(zip((*TISSUES, "brain"), maps, strict=True)), mni_mm


def _sharpen(maps: Tensor, lean: Tensor, atrophy: float, sharpness: float) -> None:
    """Turn averaged shares of grey, white and fluid into one person's, in place; their sum is kept."""
    total = maps[:3].sum(dim=0)
    grey, white, fluid = (maps[:3] + LEAST_SHARE).log_().mul_(sharpness)
    spread = min(1.0, sharpness - 1)
    fluid += SULCUS_LOGIT * spread * lean[0] + ATROPHY_LOGIT * atrophy
    white += WHITE_LOGIT * spread * lean[1]
    maps[:3] = torch.stack([grey, white, fluid]).softmax(dim=0).mul_(total)


def _share(structure: Structure, placement: Placement) -> tuple[Box, Tensor]:
    """A structure's share 0..1 and the part of the head in which it lies."""
    box = placement.box_of(structure.grid)
    points, lean = placement.points(box)
    share = at_points(structure.map[None].to(points.device).float() / 255, structure.grid, points)[0]
    wobbled = torch.sigmoid(torch.logit(share, eps=0.01) + NUCLEUS_LOGIT * lean[1])
    return box, torch.where(share > 0.02, wobbled, share)


def _painted(box: Box, values: Tensor, grid: Grid) -> Tensor:
    whole = torch.zeros(grid.shape, dtype=values.dtype, device=values.device)
    whole[box] = values
    return whole


def _add_nuclei(
    person: Person, shares: dict[str, tuple[Box, Tensor]], tissues: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Share of nuclei and their susceptibility above grey matter in ppm; white matter in them becomes grey."""
    nuclei = torch.zeros_like(tissues["brain"])
    iron_ppm = torch.zeros_like(nuclei)
    for name in (name for name in NUCLEUS_PPM if name in shares):
        box, share = shares[name]
        within = share * (tissues["grey"][box] + tissues["white"][box])
        nuclei[box] = torch.maximum(nuclei[box], within)
        above = within * (NUCLEUS_PPM[name] * person.iron[name] - GREY_MATTER_PPM)
        iron_ppm[box] = torch.where(above.abs() > iron_ppm[box].abs(), above, iron_ppm[box])
    moved = nuclei * tissues["white"]
    tissues["grey"] += moved
    tissues["white"] -= moved
    return nuclei, iron_ppm


def _depth(brain: Tensor, spacing_mm: float) -> Tensor:
    """The brain blurred over about 6 mm, see `Head`."""
    step = max(1, round(2 / spacing_mm))  # so smooth a map needs no finer grid
    pooled = torch.nn.functional.avg_pool3d(brain[None, None], step, ceil_mode=True, count_include_pad=False)[0, 0]
    blurred = box_blur(box_blur(pooled, 3), 3)[None, None]
    return torch.nn.functional.interpolate(blurred, size=brain.shape, mode="trilinear")[0, 0]
