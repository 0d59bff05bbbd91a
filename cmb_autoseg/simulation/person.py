"""One simulated person: drawn, built, scanned and marked."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.simulation.acquisition.fields import head_field
from cmb_autoseg.simulation.acquisition.receiver import coil, draw_receiver, receive, written_phase
from cmb_autoseg.simulation.acquisition.signal import acquire, draw_texture, scan_grid
from cmb_autoseg.simulation.acquisition.t1w import draw_t1w, t1_weighted
from cmb_autoseg.simulation.anatomy.head import Head, build_head
from cmb_autoseg.simulation.anatomy.person import Person, draw_person
from cmb_autoseg.simulation.anatomy.template import Template
from cmb_autoseg.simulation.contents.draw import draw_contents
from cmb_autoseg.simulation.contents.microbleeds import Habits
from cmb_autoseg.simulation.contents.sources import Contents
from cmb_autoseg.simulation.contents.visibility import mark_visible
from cmb_autoseg.simulation.derived.qsm import quantitative_susceptibility
from cmb_autoseg.simulation.derived.swi import minimum_intensity_projection, susceptibility_weighted
from cmb_autoseg.simulation.grids import resample_linear
from cmb_autoseg.simulation.profiles import Demographics
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.scan import IMAGES, SimulatedScan
from cmb_autoseg.simulation.tissue import TissueValues, draw_tissue, white_matter_signal

__all__ = ["SimulatedHead", "scan_head", "simulate_head", "simulate_person"]

MISALIGNED_DEG = 2.5
"""Largest turn about each axis of a T1w that is deliberately misaligned."""
MISALIGNED_MM = 4.0
"""Largest shift along each axis."""
GAIN = (250.0, 700.0)
"""Grey value of white matter in the written magnitude."""


@dataclass(frozen=True)
class SimulatedHead:
    """A person's head with all that is in it, in the axes of one slab orientation; ready for any scan."""

    person: Person
    values: TissueValues
    head: Head
    field_ppm: Tensor
    """Of the tissues after shimming, on the head's grid."""
    contents: Contents
    texture: Tensor


def simulate_person(
    template: Template,
    protocol: Protocol,
    seed: int,
    index: int,
    lesion_free: bool,
    device: torch.device,
    habits: Habits | None = None,
    demographics: Demographics | None = None,
    images: Collection[str] = IMAGES,
    misalign: bool = False,
) -> SimulatedScan:
    """Simulate one person's scan. The same seed and index give the same person, whatever the cohort.

    Args:
        template: the anatomy that the person's head is drawn from.
        protocol: how the person is scanned.
        seed: of the cohort.
        index: the person's number in it.
        lesion_free: without any microbleed.
        device: to compute on.
        habits: what occurs in people's heads; by default as in the VALDO challenge.
        demographics: ages and sexes.
        images: which of `IMAGES` to make.
        misalign: turn and shift the head a little for the T1w.

    Raises:
        InputError: the protocol's field of view holds no brain.
    """
    anatomy, scanner = np.random.default_rng([seed, index]).spawn(2)
    head = simulate_head(template, protocol, anatomy, lesion_free, device, habits, demographics)
    return scan_head(head, protocol, scanner, images, misalign)


def simulate_head(
    template: Template,
    protocol: Protocol,
    rng: np.random.Generator,
    lesion_free: bool,
    device: torch.device,
    habits: Habits | None = None,
    demographics: Demographics | None = None,
) -> SimulatedHead:
    """Draw a person and all that is in the head, lying in the scanner as the protocol's slab is tilted."""
    habits, who = habits or Habits(), demographics or Demographics()
    for_person, for_tissue, for_contents = rng.spawn(3)
    person = draw_person(for_person, who.mean_age, who.age_sd, share_female=who.female_share)
    values = draw_tissue(for_tissue, person)
    head = build_head(template, person, protocol, device)
    return SimulatedHead(
        person,
        values,
        head,
        head_field(head, values, protocol.b0_direction),
        draw_contents(for_contents, head, person, protocol, habits, lesion_free),
        draw_texture(for_tissue),
    )


def scan_head(
    simulated: SimulatedHead,
    protocol: Protocol,
    rng: np.random.Generator,
    images: Collection[str] = IMAGES,
    misalign: bool = False,
) -> SimulatedScan:
    """Scan a head and mark what can be seen of its microbleeds; arguments as for `simulate_person`.

    The protocol has the tilt that the head was simulated for; everything else about it is free.
    """
    grid, values, head = scan_grid(protocol), simulated.values, simulated.head
    device = simulated.field_ppm.device
    for_receiver, for_gain, for_t1w = rng.spawn(3)
    acquired = acquire(head, simulated.field_ppm, simulated.contents, protocol, values, simulated.texture)
    receiver = draw_receiver(for_receiver, protocol)
    gain = float(for_gain.uniform(*GAIN)) / white_matter_signal(values, protocol)
    noise_sd = white_matter_signal(values, protocol) / protocol.snr
    brain = resample_linear(head.brain, head.grid, grid) > 0.5
    sensitivity = coil(receiver, grid.shape, device).abs()
    with_lesions, without_lesions = (
        (image[-1].abs() * sensitivity).cpu().numpy() for image in (acquired.with_lesions, acquired.without_lesions)
    )
    marks = mark_visible(
        with_lesions,
        without_lesions,
        brain.cpu().numpy(),
        simulated.contents.microbleeds,
        grid,
        noise_sd,
    )
    echoes = receive(acquired.with_lesions, receiver, protocol, noise_sd) * gain
    t1w_shift = _draw_shift(for_t1w) if misalign else np.eye(4)
    made = _susceptibility_images(echoes, protocol, brain, images)
    if "t1w" in images:
        made["t1w"] = _t1w(simulated, protocol, t1w_shift, for_t1w)
    return SimulatedScan(
        simulated.person,
        protocol,
        grid,
        {name: image.cpu().numpy() for name, image in made.items()},
        brain.cpu().numpy(),
        marks,
        simulated.contents,
        noise_sd * gain,
        with_lesions * np.float32(gain),
        without_lesions * np.float32(gain),
        t1w_shift,
    )


def _susceptibility_images(
    echoes: Tensor, protocol: Protocol, brain: Tensor, images: Collection[str]
) -> dict[str, Tensor]:
    """Those of the images that are wanted and come from the received echoes (echo, i, j, k)."""
    made = {}
    if "mag" in images:
        made["mag"] = echoes.abs().permute(1, 2, 3, 0)
    if "phase" in images:
        made["phase"] = written_phase(echoes, protocol).permute(1, 2, 3, 0)
    if "swi" in images or "minip" in images:
        made["swi"] = susceptibility_weighted(echoes[-1], protocol.spacing_mm)
    if "minip" in images:
        made["minip"] = minimum_intensity_projection(made["swi"], protocol.minip_slices)
    if "qsm" in images:
        made["qsm"] = quantitative_susceptibility(
            echoes,
            protocol.echo_times_ms,
            protocol.field_strength_t,
            protocol.spacing_mm,
            protocol.b0_direction,
            brain,
        )
    return {name: made[name] for name in images if name in made}


def _t1w(simulated: SimulatedHead, protocol: Protocol, shift: NDArray[np.float64], rng: np.random.Generator) -> Tensor:
    """T1-weighted image on the scan's grid; `shift` is in RAS, the head in the volume's axes."""
    turn = np.eye(4)
    turn[:3, :3] = protocol.to_scanner
    image = t1_weighted(
        simulated.head,
        simulated.values,
        simulated.contents,
        scan_grid(protocol),
        protocol.field_strength_t,
        draw_t1w(rng),
        turn.T @ shift @ turn,
    )
    return image * float(rng.uniform(*GAIN))


def _draw_shift(rng: np.random.Generator) -> NDArray[np.float64]:
    """A small rigid movement, RAS millimetres to RAS millimetres, shape (4, 4)."""
    shift = np.eye(4)
    for axis, angle in enumerate(np.deg2rad(rng.uniform(-MISALIGNED_DEG, MISALIGNED_DEG, 3))):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(4)
        turn[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        shift = shift @ turn
    shift[:3, 3] = rng.uniform(-MISALIGNED_MM, MISALIGNED_MM, 3)
    return shift
