"""Prepared volumes to network inputs: nnU-Net's own crop, z-score and resampling of the images,
our lesion-preserving resampling of the lesions.

Needs nnunetv2; call it inside `nnunet_environment`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg._nnunet import CONFIGURATION
from cmb_autoseg.files import atomic_path
from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions import resample_lesions
from cmb_autoseg.records import Role, Triple

__all__ = ["NetworkInput", "network_input", "save_network_input", "stack_channels"]

BRAIN_SAMPLES = 2000
"""Brain voxels kept a case, around which patches may be drawn."""


@dataclass(frozen=True)
class NetworkInput:
    """One case as the network sees it.

    `data` is (channel, z, y, x) float32; `seg` (1, z, y, x) is -1 outside the brain, else 0 or 1;
    `properties` is what nnU-Net needs to map a prediction back; `lost` are the numbers of the
    lesions that vanished or merged.
    """

    data: NDArray[np.float32]
    seg: NDArray[np.int8]
    properties: dict[str, Any]
    lost: tuple[int, ...]


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
    spacing_mm: list[float],
    plans: dict[str, Any],
    dataset_json: dict[str, Any],
    lesions: NDArray[np.integer] | None = None,
    preserve_lesions: bool = True,
) -> NetworkInput:
    """Crop, normalise and resample one case.

    Args:
        data: (channel, z, y, x) in canonical axes.
        spacing_mm: (z, y, x).
        plans: nnU-Net's plans.
        dataset_json: nnU-Net's dataset.json.
        lesions: (z, y, x), 0 outside, else the lesion's number as `label_components` gives it for
            the array in file order; None without a label.
        preserve_lesions: see `resample_lesions`.
    """
    manager = PlansManager(plans)
    properties: dict[str, Any] = {"spacing": spacing_mm}
    images, seg, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        data, None, properties, manager, manager.get_configuration(CONFIGURATION), dataset_json
    )
    lost: tuple[int, ...] = ()
    if lesions is not None:
        box = tuple(slice(start, stop) for start, stop in properties["bbox_used_for_cropping"])
        turned = lesions.transpose(manager.transpose_forward)[box]
        moved = resample_lesions(turned, int(lesions.max()), images.shape[1:], preserve_lesions)
        seg[0][moved.mask > 0] = 1
        lost = moved.lost
    return NetworkInput(images.astype(np.float32, copy=False), seg.astype(np.int8, copy=False), properties, lost)


def save_network_input(case: NetworkInput, folder: Path, name: str, patch_shape: Triple[int]) -> None:
    """Write `<case>.b2nd`, `<case>_seg.b2nd` and `<case>.pkl`, with the anchors that patches are drawn around."""
    labels, count = ndimage.label(case.seg[0] == 1, np.ones((3, 3, 3)))
    boxes = ndimage.find_objects(labels)
    lesions = [
        (np.argwhere(labels[box] == number) + [side.start for side in box]).astype(np.int16)
        for number, box in enumerate(boxes, 1)
    ]
    assert len(lesions) == count
    brain = np.argwhere(case.seg[0] >= 0).astype(np.int16)
    chosen = np.random.default_rng(0).choice(len(brain), min(BRAIN_SAMPLES, len(brain)), replace=False)
    properties = {
        **case.properties,
        "class_locations": {1: np.concatenate([np.c_[np.zeros(len(v), int), v] for v in lesions]) if lesions else []},
        "lesions": lesions,
        "brain": brain[np.sort(chosen)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    blocks, chunks = comp_blosc2_params(case.data.shape, tuple(patch_shape), case.data.itemsize)
    seg_blocks, seg_chunks = comp_blosc2_params(case.seg.shape, tuple(patch_shape), case.seg.itemsize)
    # nnU-Net derives three names from one stem; the image is renamed last, so that it marks a finished case.
    with (
        atomic_path(folder / f"{name}.b2nd") as image,
        atomic_path(folder / f"{name}_seg.b2nd") as seg,
        atomic_path(folder / f"{name}.pkl") as pickled,
    ):
        stem = str(image).removesuffix(".b2nd")
        assert (str(seg), str(pickled)) == (f"{stem}_seg.b2nd", f"{stem}.pkl")
        nnUNetDatasetBlosc2.save_case(case.data, case.seg, properties, stem, chunks, blocks, seg_chunks, seg_blocks)
