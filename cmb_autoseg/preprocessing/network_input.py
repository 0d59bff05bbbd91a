"""Prepared volumes to network inputs: crop, z-score and resampling as nnU-Net does them; no lesion is lost."""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.files import atomic_path
from cmb_autoseg.geometry import Volume, mask_box
from cmb_autoseg.lesions import resample_lesions
from cmb_autoseg.preprocessing.network_grid import NetworkGrid, network_grid
from cmb_autoseg.records import Role, Triple
from cmb_autoseg.timing import StepTimes

__all__ = ["NetworkInput", "network_input", "save_network_input", "stack_channels"]

BRAIN_SAMPLES = 2000
"""Brain voxels kept a case, around which patches may be drawn."""
LEAST_DEVIATION = 1e-8
"""Standard deviation that a channel is divided by at least: nnU-Net's, for blank ones."""


@dataclass(frozen=True)
class NetworkInput:
    """One case as the network sees it.

    `data` is (channel, a, b, c) float32 in the network's order of axes; `brain` (a, b, c) is where the scan is not
    blank, holes filled; `lesions` (a, b, c) is 0 or 1; `lost` are the numbers of the lesions that vanished or merged.
    """

    data: NDArray[np.float32]
    brain: NDArray[np.bool_]
    lesions: NDArray[np.uint8]
    grid: NetworkGrid
    lost: tuple[int, ...] = ()

    @property
    def seg(self) -> NDArray[np.int8]:
        """(1, a, b, c), as nnU-Net stores it: -1 outside the brain, else 0 or 1."""
        seg = np.where(self.brain, np.int8(0), np.int8(-1))
        seg[self.lesions > 0] = 1
        return seg[None]


def stack_channels(
    volumes: Mapping[Role, Volume], channels: tuple[Role, ...]
) -> tuple[NDArray[np.float32], list[float]]:
    """Channels (channel, z, y, x) in canonical axes, a missing one all zero, and the spacing (z, y, x)."""
    some = next(iter(volumes.values()))
    shape = some.shape[::-1]
    data = np.zeros((len(channels), *shape), dtype=np.float32)
    for index, role in enumerate(channels):
        if role in volumes:
            data[index] = volumes[role].data.transpose(2, 1, 0)
    # As many digits as NIfTI stores, so that nnU-Net, reading the same file, rounds to the same shape.
    return data, [float(np.float32(size)) for size in some.spacing_mm[::-1]]


def network_input(
    data: NDArray[np.float32],
    spacing_mm: Sequence[float],
    plans: Mapping[str, Any],
    lesions: NDArray[np.integer] | None = None,
    preserve_lesions: bool = True,
    times: StepTimes | None = None,
) -> NetworkInput:
    """Crop, normalize and resample one case.

    Args:
        data: (channel, z, y, x) in canonical axes, zero outside the brain.
        spacing_mm: (z, y, x).
        plans: nnU-Net's plans.
        lesions: (z, y, x), 0 outside, else the lesion's number as `label_components` gives it for
            the array in file order; None without a label.
        preserve_lesions: see `resample_lesions`.
        times: where seconds are counted; None to count none.
    """
    times = times or StepTimes()
    with times.step("crop and normalize"):
        grid, images = _normalized(data, spacing_mm, plans)
    with times.step("resample"):
        images = grid.onto(images)
        inside = grid.onto(grid.brain[None].astype(np.float32))[0] > 0.5
    if lesions is None:
        return NetworkInput(images, inside, np.zeros(grid.shape, np.uint8), grid)
    with times.step("lesions"):
        numbered = grid.crop(lesions)
        moved = resample_lesions(numbered, int(lesions.max()), grid.shape, preserve_lesions)
    return NetworkInput(images, inside, moved.mask, grid, moved.lost)


def _normalized(
    data: NDArray[np.float32], spacing_mm: Sequence[float], plans: Mapping[str, Any]
) -> tuple[NetworkGrid, NDArray[np.float32]]:
    """Channels (channel, a, b, c) of the box around the brain, each with mean 0 and deviation 1 in the brain."""
    grid = network_grid(np.asarray(data.any(axis=0)), spacing_mm, plans)
    images = np.ascontiguousarray(grid.crop(data))
    if np.shares_memory(images, data):
        images = images.copy()
    for image in images:
        values = image[grid.brain]
        image[grid.brain] = (values - values.mean()) / max(values.std(), LEAST_DEVIATION)
    return grid, images


def save_network_input(case: NetworkInput, folder: Path, name: str, patch_shape: Triple[int]) -> None:
    """Write `<case>.b2nd`, `<case>_seg.b2nd` and `<case>.pkl`, with the anchors that patches are drawn around.

    nnU-Net reads them as its own.
    """
    lesions = _lesion_voxels(case.lesions)
    brain = np.flatnonzero(case.brain | (case.lesions > 0))
    chosen = np.random.default_rng(0).choice(len(brain), min(BRAIN_SAMPLES, len(brain)), replace=False)
    properties = {
        **case.grid.nnunet_properties,
        "class_locations": {1: np.concatenate([np.c_[np.zeros(len(v), int), v] for v in lesions]) if lesions else []},
        "lesions": lesions,
        "brain": np.stack(np.unravel_index(brain[np.sort(chosen)], case.brain.shape), axis=1).astype(np.int16),
    }
    # The image is renamed last, so that it marks a finished case.
    with (
        atomic_path(folder / f"{name}.b2nd") as image,
        atomic_path(folder / f"{name}_seg.b2nd") as seg,
        atomic_path(folder / f"{name}.pkl") as pickled,
    ):
        _store(case.data, image, patch_shape)
        _store(case.seg, seg, patch_shape)
        pickled.write_bytes(pickle.dumps(properties, protocol=pickle.HIGHEST_PROTOCOL))


def _lesion_voxels(mask: NDArray[np.uint8]) -> list[NDArray[np.int16]]:
    """Voxels (n, 3) of each lesion of a mask (a, b, c)."""
    around = mask_box(mask > 0)
    if around is None:
        return []
    labels, _ = ndimage.label(mask[around], np.ones((3, 3, 3)))
    starts = [side.start for side in around]
    return [
        (np.argwhere(labels[box] == number) + [side.start for side in box] + starts).astype(np.int16)
        for number, box in enumerate(ndimage.find_objects(labels), 1)
    ]


def _store(values: NDArray[Any], path: Path, patch_shape: Triple[int]) -> None:
    """Write (channel, a, b, c) in blocks of half a patch's sides, so that a patch is read fast.

    LZ4 writes seven times as fast as Zstandard, is read four times as fast, and takes a third more space. A chunk is
    what is written at a time.
    """
    import blosc2

    blocks = (1, *(min(-(-side // 2), n) for side, n in zip(patch_shape, values.shape[1:], strict=True)))
    chunks = tuple(side * min(4, -(-n // side)) for side, n in zip(blocks, (1, *values.shape[1:]), strict=True))
    blosc2.asarray(
        np.ascontiguousarray(values),
        chunks=chunks,
        blocks=blocks,
        urlpath=str(path),
        cparams={"codec": blosc2.Codec.LZ4, "clevel": 5, "nthreads": 1},
        dparams={"nthreads": 1},  # stands in the file, and would else be what any library has set
    )
