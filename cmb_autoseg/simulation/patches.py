"""Endless labelled patches for training, simulated as they are drawn."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.utils.data import IterableDataset, get_worker_info

from cmb_autoseg.errors import InputError
from cmb_autoseg.simulation.anatomy.placement import HEAD_CENTRE_MM
from cmb_autoseg.simulation.anatomy.template import Template
from cmb_autoseg.simulation.contents.microbleeds import Habits
from cmb_autoseg.simulation.person import SimulatedHead, scan_head, simulate_head
from cmb_autoseg.simulation.protocols import PROTOCOLS, Protocol
from cmb_autoseg.simulation.scan import IMAGES, SimulatedScan

__all__ = ["SimulatedPatch", "SimulatedPatches"]

MARGIN_MM = 12.0
"""Scanned around a patch and cut off, so that filters and k-space see what lies beside it."""
LEAST_VOXELS = 8
"""Of a patch along each axis."""
JITTER = 0.35
"""A patch's middle lies at most this share of its size from the lesion that it is drawn for."""
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Variation:
    """How far patches depart from the protocols they are drawn from: relative, log-normal standard deviations."""

    spacing: float = 0.12
    echo_time: float = 0.12
    flip_angle: float = 0.15
    snr: float = 0.25
    tilt_deg: float = 8.0
    """Standard deviation of the slab's tilt, about both axes."""


@dataclass(frozen=True)
class SimulatedPatch:
    """One patch; arrays are in the volume's axes (i right, j front, k top of the slab)."""

    images: Tensor
    """Shape (sequence, i, j, k), float32, in the order that was asked for, as a scanner writes them:
    magnitudes in grey values, phase in radians, QSM in ppm."""
    mask: Tensor
    """1 in the visible region of microbleeds, shape (i, j, k), uint8."""
    brain: Tensor
    """Shape (i, j, k), bool."""
    protocol: Protocol
    """As varied: spacing, echo times, field strength, tilt."""
    brain_ml: float
    """Volume of the person's whole brain."""


class SimulatedPatches(IterableDataset[SimulatedPatch]):
    """An endless stream of patches with randomized anatomy, contents, protocol, contrast and noise.

    A person is simulated once and scanned `patches_per_person` times with different protocols. Each
    worker of a data loader and each process of a distributed training has a stream of its own; the same
    seed and numbers of both give the same patches. A stream never ends; whoever starts a new iterator
    gets the same stream again unless `set_epoch` was called. A data loader needs `collate_fn` or
    `batch_size=None`.

    Args:
        templates: anatomies to draw people from (`load_mni152`, `load_label_map`).
        patch_shape: voxels along i, j, k.
        sequences: which of `IMAGES`, one channel each; of several echoes the last.
        protocols: to draw from; by default all of `PROTOCOLS`.
        habits: what occurs in people's heads.
        lesion_share: of the patches of people with microbleeds, those drawn about one.
        lesion_free_share: of people without any.
        patches_per_person: before the next person is simulated.
        variation: of the protocols.
        seed: of every random choice.
        device: to compute on; the patches stay there.
        patch_mm: size along i, j, k instead of `patch_shape`, so that thick slices are fewer; at least 8 voxels.

    Raises:
        InputError: an unknown sequence, no template, or a patch shape below 8 voxels.
    """

    def __init__(
        self,
        templates: Sequence[Template],
        patch_shape: Triple = (64, 64, 32),
        sequences: Sequence[str] = ("mag", "swi"),
        protocols: Sequence[Protocol] = tuple(PROTOCOLS.values()),
        habits: Habits | None = None,
        lesion_share: float = 0.6,
        lesion_free_share: float = 0.2,
        patches_per_person: int = 16,
        variation: Variation | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        patch_mm: tuple[float, float, float] | None = None,
    ) -> None:
        unknown = [name for name in sequences if name not in IMAGES]
        if unknown or not sequences:
            raise InputError(f"sequences: found {', '.join(unknown) or 'none'}, legal are {', '.join(IMAGES)}")
        if not templates:
            raise InputError("templates: found none, expected at least one anatomy such as load_mni152()")
        if min(patch_shape) < LEAST_VOXELS:
            raise InputError(
                f"patch_shape: found {patch_shape}, expected at least {LEAST_VOXELS} voxels along each axis"
            )
        if patch_mm is not None and not min(patch_mm) > 0:
            raise InputError(f"patch_mm: found {patch_mm}, expected millimetres above 0")
        if not protocols:
            raise InputError("protocols: found none, expected at least one")
        self._templates = list(templates)
        self._fixed_shape = patch_shape
        self._size_mm = patch_mm
        self._sequences = tuple(sequences)
        self._protocols = tuple(protocols)
        self._habits = habits
        self._lesion_share = lesion_share
        self._lesion_free_share = lesion_free_share
        self._per_person = patches_per_person
        self._variation = variation or Variation()
        self._seed = seed
        self._device = torch.device(device)
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the streams that the next iterators draw."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[SimulatedPatch]:
        worker = get_worker_info()
        rank = distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
        rng = self.stream(rank, 0 if worker is None else worker.id)
        while True:
            yield from self._of_one_person(rng)

    def stream(self, rank: int = 0, worker: int = 0) -> np.random.Generator:
        """The source of every draw of one process and worker."""
        return np.random.default_rng([self._seed, self._epoch, rank, worker])

    def simulate_next_head(self, rng: np.random.Generator) -> tuple[SimulatedHead, Protocol]:
        """The next person of a stream, and the protocol whose tilt the head lies in.

        Args:
            rng: of the stream.
        """
        template = self._templates[int(rng.integers(len(self._templates)))]
        tilt = rng.normal(0, self._variation.tilt_deg, 2)
        whole = replace(self._draw_protocol(rng), tilt_deg=(float(tilt[0]), float(tilt[1])))
        lesion_free = bool(rng.random() < self._lesion_free_share)
        head = simulate_head(template, _whole_head(whole), rng, lesion_free, self._device, self._habits)
        return head, whole

    def _of_one_person(self, rng: np.random.Generator) -> Iterator[SimulatedPatch]:
        head, whole = self.simulate_next_head(rng)
        inside = torch.nonzero(head.head.brain > 0.5).cpu().numpy()
        brain_ml = len(inside) * math.prod(head.head.grid.spacing_mm) / 1000
        for _ in range(self._per_person):
            protocol = replace(self._varied(self._draw_protocol(rng), rng), tilt_deg=whole.tilt_deg)
            middle = self._draw_middle(rng, head, inside, protocol)
            yield self._patch(scan_head(head, self._around(protocol, middle), rng, self._sequences), brain_ml)

    def _draw_protocol(self, rng: np.random.Generator) -> Protocol:
        return self._protocols[int(rng.integers(len(self._protocols)))]

    def _varied(self, protocol: Protocol, rng: np.random.Generator) -> Protocol:
        """Timing, voxels and noise departed from; what is not scaled stays."""
        by = self._variation
        in_plane, slices, echo, flip, snr = np.exp(
            rng.normal(0, (by.spacing, by.spacing, by.echo_time, by.flip_angle, by.snr))
        )
        grid = np.array([in_plane, in_plane, slices])
        acquired = None if protocol.acquired_mm is None else _triple(grid * protocol.acquired_mm)
        last = min(protocol.echo_time_ms * float(echo), 0.9 * protocol.repetition_time_ms)
        return replace(
            protocol,
            spacing_mm=_triple(grid * protocol.spacing_mm),
            acquired_mm=acquired,
            echo_times_ms=tuple(time * last / protocol.echo_time_ms for time in protocol.echo_times_ms),
            flip_angle_deg=protocol.flip_angle_deg * float(flip),
            snr=protocol.snr * float(snr),
        )

    def _draw_middle(
        self, rng: np.random.Generator, head: SimulatedHead, inside: NDArray[np.int64], protocol: Protocol
    ) -> tuple[float, float, float]:
        """The patch's middle: near a microbleed, or anywhere in the brain; volume axes, millimetres."""
        lesions = head.contents.microbleeds
        if lesions and rng.random() < self._lesion_share:
            size = np.array(self._shape(protocol)) * protocol.spacing_mm
            middle = lesions[int(rng.integers(len(lesions)))].centre_mm + size * rng.uniform(-JITTER, JITTER, 3)
        else:
            middle = head.head.grid.to_mm(inside[int(rng.integers(len(inside)))])
        return _triple(np.asarray(middle))

    def _shape(self, protocol: Protocol) -> Triple:
        """Voxels of a patch."""
        if self._size_mm is None:
            return self._fixed_shape
        i, j, k = (
            max(LEAST_VOXELS, round(size / step)) for size, step in zip(self._size_mm, protocol.spacing_mm, strict=True)
        )
        return i, j, k

    def _around(self, protocol: Protocol, middle_mm: tuple[float, float, float]) -> Protocol:
        """The protocol with a field of view of the patch and its margin."""
        matrix = tuple(n + 2 * m for n, m in zip(self._shape(protocol), _margin(protocol), strict=True))
        return replace(protocol, matrix=matrix, centre_mm=middle_mm)  # type: ignore[arg-type]

    def _patch(self, scan: SimulatedScan, brain_ml: float) -> SimulatedPatch:
        i, j, k = (slice(m, m + n) for m, n in zip(_margin(scan.protocol), self._shape(scan.protocol), strict=True))
        images = [scan.images[name][i, j, k] for name in self._sequences]
        channels = [image[..., -1] if image.ndim == 4 else image for image in images]
        return SimulatedPatch(
            torch.from_numpy(np.stack(channels)).to(self._device),
            torch.from_numpy(scan.mask[i, j, k]).to(self._device),
            torch.from_numpy(scan.brain[i, j, k]).to(self._device),
            scan.protocol,
            brain_ml,
        )


def _margin(protocol: Protocol) -> Triple:
    i, j, k = (math.ceil(MARGIN_MM / step) for step in protocol.spacing_mm)
    return i, j, k


def _whole_head(protocol: Protocol) -> Protocol:
    """The protocol with a field of view that holds the whole brain."""
    return replace(protocol, spacing_mm=(1.0, 1.0, 1.0), matrix=(180, 220, 190), centre_mm=HEAD_CENTRE_MM)


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
