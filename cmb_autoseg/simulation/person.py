"""One simulated person: drawn, built, scanned and marked."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.simulation.acquisition.scanner import (
    EXTRA_SLICES,
    acquire,
    dipole_field,
    scan_grid,
    signal_factors,
    susceptibility_weighted,
    tissue_grid,
    tissue_signal,
    white_matter_signal,
    with_spheres,
    with_veins,
)
from cmb_autoseg.simulation.anatomy.head import Anatomy, Person, Template, build_anatomy, draw_person
from cmb_autoseg.simulation.contents.draws import (
    Sphere,
    Surroundings,
    Vein,
    draw_calcifications,
    draw_microbleeds,
    draw_veins,
    survey,
    tissue_susceptibility,
)
from cmb_autoseg.simulation.contents.visibility import Mark, mark_visible
from cmb_autoseg.simulation.grids import Grid, resample_linear, smooth_field
from cmb_autoseg.simulation.protocols import Protocol

__all__ = ["Contents", "SimulatedScan", "draw_contents", "simulate_person"]

BIAS_SD = 0.12
TEXTURE_SD = 0.05
COIL_PHASE_SD_RAD = 0.8


@dataclass(frozen=True)
class Contents:
    """What is in a head besides tissue."""

    microbleeds: list[Sphere]
    calcifications: list[Sphere]
    veins: list[Vein]


@dataclass(frozen=True)
class SimulatedScan:
    """A person's scan with its truth; arrays have shape (i, j, k) of the grid and are zero outside the brain."""

    person: Person
    grid: Grid
    magnitude: NDArray[np.float32]
    swi: NDArray[np.float32]
    brain: NDArray[np.bool_]
    marks: list[Mark]
    contents: Contents

    @property
    def mask(self) -> NDArray[np.uint8]:
        """1 in the visible region of each microbleed."""
        mask = np.zeros(self.grid.shape, dtype=np.uint8)
        for mark in self.marks:
            mask[tuple(mark.voxels.T)] = 1
        return mask


def simulate_person(
    template: Template, protocol: Protocol, seed: int, index: int, lesion_free: bool, device: torch.device
) -> SimulatedScan:
    """Simulate one person's scan. The same seed and index give the same person, whatever the cohort."""
    rng = np.random.default_rng([seed, index])
    person = draw_person(rng)
    scan = scan_grid(protocol)
    anatomy = build_anatomy(template, person, tissue_grid(scan), device)
    contents = draw_contents(rng, survey(anatomy, scan), protocol, lesion_free)
    return _scan(rng, person, anatomy, contents, scan, protocol)


def draw_contents(rng: np.random.Generator, around: Surroundings, protocol: Protocol, lesion_free: bool) -> Contents:
    """Draw veins, microbleeds and calcifications; a lesion-free person has no microbleed."""
    # Far enough apart that blooming and thick slices do not join two lesions.
    apart_mm = 6.0 + 2 * max(protocol.spacing_mm)
    veins = draw_veins(rng, around)
    microbleeds = [] if lesion_free else draw_microbleeds(rng, around, apart_mm)
    return Contents(microbleeds, draw_calcifications(rng, around, microbleeds, apart_mm), veins)


def _scan(
    rng: np.random.Generator, person: Person, anatomy: Anatomy, contents: Contents, scan: Grid, protocol: Protocol
) -> SimulatedScan:
    factors = signal_factors(protocol)
    fine = scan.extended(EXTRA_SLICES).refined(factors)
    texture = 1 + TEXTURE_SD * torch.from_numpy(rng.normal(size=(24, 28, 18)))
    field = dipole_field(tissue_susceptibility(anatomy), anatomy.grid.spacing_mm, protocol.b0_direction)
    signal = tissue_signal(anatomy, field, fine, protocol, texture)
    signal = with_veins(signal, fine, contents.veins, protocol)
    signal = with_spheres(signal, fine, contents.calcifications, protocol)
    without = acquire(signal, factors)
    image = (
        acquire(with_spheres(signal, fine, contents.microbleeds, protocol), factors)
        if contents.microbleeds
        else without
    )

    noise_sd = white_matter_signal(protocol) / protocol.snr
    brain = resample_linear(anatomy.brain, anatomy.grid, scan) > 0.5
    coil = _coil(rng, scan, image.device)
    marks = mark_visible(
        (image * coil).abs().cpu().numpy(),
        (without * coil).abs().cpu().numpy(),
        brain.cpu().numpy(),
        contents.microbleeds,
        scan,
        noise_sd,
    )
    noisy = image * coil + noise_sd * _noise(rng, scan, image.device)
    gain = float(rng.uniform(250, 700)) / white_matter_signal(protocol)
    kept = brain * gain
    return SimulatedScan(
        person,
        scan,
        (noisy.abs() * kept).cpu().numpy(),
        (susceptibility_weighted(noisy, scan.spacing_mm) * kept).cpu().numpy(),
        brain.cpu().numpy(),
        marks,
        contents,
    )


def _coil(rng: np.random.Generator, grid: Grid, device: torch.device) -> Tensor:
    """Smooth complex receive sensitivity about 1, shape of the grid."""
    shape = (2, 5, 5, 4)
    log_gain, phase = torch.from_numpy(rng.normal(size=shape)).to(device, torch.float32) * torch.tensor(
        [BIAS_SD, COIL_PHASE_SD_RAD], device=device
    ).reshape(2, 1, 1, 1)
    return torch.polar(smooth_field(log_gain, grid.shape).exp(), smooth_field(phase, grid.shape))


def _noise(rng: np.random.Generator, grid: Grid, device: torch.device) -> Tensor:
    """Complex white noise with standard deviation 1 in each channel, shape of the grid."""
    # Drawn on the CPU, so that a seed means the same scan on every device.
    parts = torch.from_numpy(rng.standard_normal((*grid.shape, 2), dtype=np.float32))
    return torch.view_as_complex(parts).to(device)
