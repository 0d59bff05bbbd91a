"""Blocks of simulated heads, each scanned by a protocol of its own.

Simulating takes longer than learning, so that each block is kept and looked at many times, each time resampled, blurred
and brightened anew (`views`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing.brain_mask import classical_mask_of_part
from cmb_autoseg.preprocessing.derived import local_phase
from cmb_autoseg.simulation.anatomy.template import Template
from cmb_autoseg.simulation.contents.microbleeds import Habits
from cmb_autoseg.simulation.patches import SimulatedPatch, SimulatedPatches, Variation
from cmb_autoseg.simulation.person import scan_head
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.scan import SimulatedScan
from cmb_autoseg.starter.blocks import MAGNITUDES, SEQUENCES, Block
from cmb_autoseg.starter.protocols import ProtocolRanges, draw_protocols

__all__ = ["scan_person", "simulate_blocks", "stripped_mask"]

BLOCK_MM = (76.0, 76.0, 54.0)
BLOCKS_PER_PERSON = 16
TISSUE_ABOVE = 0.3
"""Of the brain's median; with it, masks of blocks and of whole heads overlap by 0.97 (Dice, 12 simulated people)."""
SMOOTHED_MM = 1.5
"""Fissures and specks up to twice as wide are smoothed away."""
N_PROTOCOLS = 64
"""Drawn for a person, of which each block takes one."""
HABITS = Habits(mean_count=14.0)
"""More microbleeds than most have, so that a head is worth its simulation."""


def simulate_blocks(
    templates: Sequence[Template],
    seed: int,
    person: int,
    ranges: ProtocolRanges | None = None,
    device: str | torch.device = "cpu",
    n_blocks: int = BLOCKS_PER_PERSON,
    habits: Habits = HABITS,
) -> Iterator[Block]:
    """Simulate the blocks of one person; the same seed and number give the same person and blocks.

    Args:
        templates: anatomies to draw people from.
        seed: of all people.
        person: number of the person, from 0.
        ranges: of the protocols.
        device: to compute on.
        n_blocks: how many.
        habits: what occurs in heads.
    """
    stream = _stream_of(templates, seed, person, ranges, device, n_blocks, habits)
    for patch in islice(stream, n_blocks):
        yield _as_block(patch)


def scan_person(
    templates: Sequence[Template], seed: int, person: int, protocol: Protocol, images: Sequence[str]
) -> SimulatedScan:
    """A whole scan of the person that `simulate_blocks` makes blocks of.

    Args:
        templates: as there.
        seed: as there.
        person: as there.
        protocol: of the scan; the head lies in it as it does in the blocks.
        images: which ones (`cmb_autoseg.simulation.scan.IMAGES`).
    """
    stream = _stream_of(templates, seed, person, None, "cpu", BLOCKS_PER_PERSON, HABITS)
    rng = stream.stream()
    head, lies = stream.simulate_next_head(rng)
    return scan_head(head, replace(protocol, tilt_deg=lies.tilt_deg), rng, images)


def _stream_of(
    templates: Sequence[Template],
    seed: int,
    person: int,
    ranges: ProtocolRanges | None,
    device: str | torch.device,
    n_blocks: int,
    habits: Habits,
) -> SimulatedPatches:
    """Patches of which the first ones are a person's blocks."""
    stream = SimulatedPatches(
        templates,
        patch_mm=BLOCK_MM,
        sequences=SEQUENCES,
        protocols=draw_protocols(np.random.default_rng([seed, person, len("protocols")]), N_PROTOCOLS, ranges),
        habits=habits,
        patches_per_person=n_blocks,
        variation=Variation(spacing=0.0, echo_time=0.0, flip_angle=0.0, snr=0.0),  # the protocols vary enough
        seed=seed,
        device=device,
    )
    stream.set_epoch(person)
    return stream


def _as_block(patch: SimulatedPatch) -> Block:
    protocol, brain = patch.protocol, patch.brain.cpu()
    scaled = patch.images.cpu().clone()
    for channel, name in enumerate(SEQUENCES):
        if name in MAGNITUDES and brain.any():
            scaled[channel] /= scaled[channel][brain].median().clamp(min=1e-6)
        elif name == "phase":
            scaled[channel] = _local_phase(scaled[channel], brain, protocol)
    facts = {"field_strength_t": protocol.field_strength_t, "brain_ml": patch.brain_ml}
    head = _head_of(scaled[SEQUENCES.index("mag")], brain, protocol.spacing_mm)
    stripped = torch.from_numpy(stripped_mask(brain.numpy(), protocol.spacing_mm))
    return Block(scaled.half(), patch.mask.cpu(), stripped, head, protocol.spacing_mm, facts)


def stripped_mask(brain: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """A simulated brain as masks hold it, both of shape (i, j, k): smooth, without fissures, holes and specks."""
    reach = [max(1, round(SMOOTHED_MM / step)) for step in spacing_mm]
    element = np.ones([2 * n + 1 for n in reach], dtype=bool)
    around = np.pad(brain, [(2 * n, 2 * n) for n in reach], mode="edge")  # what lies beyond goes on
    smooth = ndimage.binary_opening(ndimage.binary_closing(around, element), element)
    filled = ndimage.binary_fill_holes(smooth)[tuple(slice(2 * n, -2 * n) for n in reach)]
    return np.ascontiguousarray(filled)


def _head_of(magnitude: Tensor, brain: Tensor, spacing_mm: tuple[float, float, float]) -> Tensor:
    """What preparation takes for the brain in a head, and the brain in any case; shape (i, j, k), bool."""
    volume = Volume(magnitude.float().numpy(), np.diag([*spacing_mm, 1.0]), None, "magnitude")
    return torch.from_numpy(classical_mask_of_part(volume, TISSUE_ABOVE)) | brain


def _local_phase(phase: Tensor, brain: Tensor, protocol: Protocol) -> Tensor:
    """As preparation makes it of a scan's phase."""
    affine = np.diag([*protocol.spacing_mm, 1.0])
    volume = Volume(phase.numpy(), affine, None, "phase")
    return torch.from_numpy(local_phase(volume, brain.numpy(), protocol.echo_time_ms))
