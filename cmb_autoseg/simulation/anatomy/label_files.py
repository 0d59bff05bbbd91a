"""Whole-head templates from people's label maps: files that FreeSurfer, SynthSeg or SimNIBS wrote."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import nibabel.filebasedimages
import nibabel.spatialimages
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cmb_autoseg.errors import InputError
from cmb_autoseg.progress import log
from cmb_autoseg.simulation.anatomy.average_head import add_shapes, crop_structure
from cmb_autoseg.simulation.anatomy.freesurfer import (
    MNI_LANDMARKS,
    OUTSIDE_CODES,
    STRUCTURE_CODES,
    tissue_table,
)
from cmb_autoseg.simulation.anatomy.nuclei import SHAPES, falx_share
from cmb_autoseg.simulation.anatomy.outside import distance_mm, surround
from cmb_autoseg.simulation.anatomy.shapes import mni_points
from cmb_autoseg.simulation.anatomy.template import TISSUES, Structure, Template, as_bytes
from cmb_autoseg.simulation.grids import Grid

__all__ = ["check_label_map", "find_label_maps", "load_label_map"]

SUFFIXES = (".nii.gz", ".nii", ".mgz")
SPACING_MM = (0.6, 1.65)
"""Voxels that a head is drawn from: finer ones cost memory, coarser ones have no cortex."""
LEAST_BRAIN_ML, MOST_BRAIN_ML = 400.0, 2500.0
MOST_UNKNOWN = 0.05
HIGHEST_CODE = 15000
EDGE_MM = 0.7
"""Standard deviation of the blur that makes a label's hard edge a soft one."""
SHARPNESS = 1.5
OWN_ATROPHY = 0.8
"""A person's label map has that person's sulci; what is drawn is relative to this."""
CLOSED_MM = 4.0
"""Skull stripping keeps the fluid of sulci up to twice this wide."""
AROUND_MM = 30.0
"""Of the neck below the brain, and room for a skull where the labels have none."""
OUTSIDE_ML = 150.0
"""Bone and soft tissue from which on a map is taken to hold the whole head."""


def find_label_maps(folder: Path) -> list[Path]:
    """The label maps of a folder, by name.

    Raises:
        InputError: there is no such folder or no image in it.
    """
    if not folder.is_dir():
        raise InputError(
            f"--anatomy: {folder} is not a folder; name one that holds label maps (*.nii.gz, *.nii, *.mgz)"
        )
    found = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES) and not path.name.startswith("."))
    if not found:
        raise InputError(f"--anatomy: {folder} holds no label map; expected files *.nii.gz, *.nii or *.mgz")
    return found


def check_label_map(path: Path) -> str:
    """Refuse what `load_label_map` would refuse, in a fraction of its time.

    Returns:
        A digest of the labels and of their voxels' size and place: the same for the same head in another
        file format, compressed otherwise, or with its axes stored in another order.

    Raises:
        InputError: the file is no label map of a brain.
    """
    labelled = _read(path)
    _check(path, labelled)
    _landmarks(path, labelled)
    digest = hashlib.sha256(repr((labelled.index.shape, labelled.codes.tolist())).encode())
    place = [*labelled.grid.spacing_mm, *labelled.grid.origin_mm]
    digest.update(np.rint(np.array(place) * 100).astype(np.int64).tobytes())
    digest.update(np.ascontiguousarray(labelled.index).tobytes())
    return digest.hexdigest()


def load_label_map(path: Path) -> Template:
    """One person's head from a FreeSurfer-style label map, in that person's size.

    What the labels lack is added: red nucleus, substantia nigra and dentate by position, and where
    there are no labels outside the brain, skull, scalp, air and sinuses around it.

    Raises:
        InputError: the file is no label map of a brain.
    """
    labelled = _read(path)
    ignored = _check(path, labelled)
    if ignored:
        log(f"{path.name}: unknown label codes {', '.join(map(str, ignored))} are taken as soft tissue")
    labelled = _cropped(labelled)
    to_mni = _to_mni(path, labelled)
    return _template(labelled, to_mni, ignored)


@dataclass(frozen=True)
class _Labelled:
    """Labels as indices into a list of codes."""

    index: NDArray[np.int16]
    codes: NDArray[np.int64]
    grid: Grid

    def where(self, members: tuple[int, ...]) -> NDArray[np.bool_]:
        """Voxels that have one of the codes."""
        chosen: NDArray[np.bool_] = np.isin(self.codes, members)[self.index]
        return chosen

    def tissue(self, *names: str) -> NDArray[np.bool_]:
        """Voxels of some tissues."""
        chosen: NDArray[np.bool_] = np.array([name in names for name in tissue_table(self.codes)])[self.index]
        return chosen

    @property
    def voxel_ml(self) -> float:
        return float(np.prod(self.grid.spacing_mm)) / 1000


def _read(path: Path) -> _Labelled:
    try:
        image = nib.load(path)
        data = np.asarray(image.dataobj)
    except (OSError, EOFError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise InputError(f"{path}: cannot be read as an image ({' '.join(str(error).split())}); replace it") from error
    data = data.reshape(data.shape[:3]) if data.ndim > 3 and set(data.shape[3:]) == {1} else data
    if data.ndim != 3:
        raise InputError(f"{path}: has {data.ndim} axes, expected a label map of 3; leave out images over time")
    if not np.isfinite(data).all() or not np.array_equal(np.rint(data), data):
        raise InputError(f"{path}: is no label map: its values are not whole numbers; give a segmentation such as aseg")
    if data.min() < 0 or data.max() > HIGHEST_CODE:
        raise InputError(
            f"{path}: is no label map: it has values from {data.min():g} to {data.max():g}, expected codes from 0 to "
            f"{HIGHEST_CODE}; give a segmentation such as FreeSurfer's aseg"
        )
    oriented = nib.as_closest_canonical(nib.spatialimages.SpatialImage(data.astype(np.int32), image.affine))
    spacing = np.sqrt((oriented.affine[:3, :3] ** 2).sum(axis=0))
    if min(spacing) < SPACING_MM[0] or max(spacing) > SPACING_MM[1]:
        size = " x ".join(f"{step:.2f}" for step in spacing)
        raise InputError(f"{path}: has voxels of {size} mm, expected {SPACING_MM[0]:.1f} to 1.6 mm; resample it")
    labels = np.asarray(oriented.dataobj)
    codes = np.flatnonzero(np.bincount(labels.reshape(-1)))
    order = np.zeros(int(codes[-1]) + 1, dtype=np.int16)
    order[codes] = np.arange(len(codes))
    i, j, k = labels.shape
    x, y, z = (float(value) for value in oriented.affine[:3, 3])
    grid = Grid((i, j, k), (float(spacing[0]), float(spacing[1]), float(spacing[2])), (x, y, z))
    return _Labelled(order[labels], codes, grid)


def _check(path: Path, labelled: _Labelled) -> tuple[int, ...]:
    """The unknown codes, few enough to go on."""
    volume = labelled.tissue("grey", "white").sum() * labelled.voxel_ml
    unknown = [
        int(code)
        for code, tissue in zip(labelled.codes, tissue_table(labelled.codes), strict=True)
        if code and not tissue
    ]
    share = labelled.where(tuple(unknown)).sum() * labelled.voxel_ml / max(volume, 1.0)
    if share > MOST_UNKNOWN:
        raise InputError(
            f"{path}: unknown labels {', '.join(map(str, unknown[:8]))}{' ...' if len(unknown) > 8 else ''} fill "
            f"{share:.0%} of the brain's volume; give FreeSurfer codes (FreeSurferColorLUT)"
        )
    if not LEAST_BRAIN_ML < volume < MOST_BRAIN_ML:
        raise InputError(
            f"{path}: its labels hold {volume:.0f} ml of grey and white matter, expected {LEAST_BRAIN_ML:.0f} to "
            f"{MOST_BRAIN_ML:.0f}; give FreeSurfer codes (2, 3, 41, 42, ...) of a whole brain"
        )
    return tuple(unknown)


def _cropped(labelled: _Labelled) -> _Labelled:
    """Cut or pad to the head, with a neck of `AROUND_MM` below the brain."""
    room = np.ceil(AROUND_MM / np.array(labelled.grid.spacing_mm)).astype(int)
    brain = _bounds(labelled.tissue("grey", "white"))
    low, high = brain[0] - room, brain[1] + room
    if _whole_head(labelled):
        head = _bounds(~labelled.where((0,)))
        low, high = np.array([*(head[0][:2] - 3), max(low[2], head[0][2])]), head[1] + 3
    codes = np.union1d(labelled.codes, [0])
    index = np.searchsorted(codes, labelled.codes).astype(np.int16)[labelled.index]
    before, after = np.maximum(-low, 0), np.maximum(high - index.shape, 0)
    padded = np.pad(index, list(zip(before, after, strict=True)))
    first, last = low + before, high + before
    cut = np.ascontiguousarray(padded[first[0] : last[0], first[1] : last[1], first[2] : last[2]])
    x, y, z = (float(value) for value in labelled.grid.to_mm(low))
    i, j, k = cut.shape
    return _Labelled(cut, codes, Grid((i, j, k), labelled.grid.spacing_mm, (x, y, z)))


def _bounds(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First voxel and the one past the last of a mask along each axis."""
    low, high = [], []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        low.append(filled[0])
        high.append(filled[-1] + 1)
    return np.array(low), np.array(high)


def _whole_head(labelled: _Labelled) -> bool:
    return bool(labelled.tissue("bone", "soft").sum() * labelled.voxel_ml > OUTSIDE_ML)


def _to_mni(path: Path, labelled: _Labelled) -> NDArray[np.float64]:
    """The affine map that brings centroids and the outline of a person's brain onto those of MNI152."""
    here, there = _landmarks(path, labelled)
    for point, goal in _outline(labelled):
        here.append(point)
        there.append(goal)
    return _affine(np.array(here), np.array(there))


def _landmarks(path: Path, labelled: _Labelled) -> tuple[list[NDArray[np.float64]], list[tuple[float, float, float]]]:
    """Middles of the deep structures, and where MNI152 has them."""
    here: list[NDArray[np.float64]] = []
    there: list[tuple[float, float, float]] = []
    for codes, goal in MNI_LANDMARKS.items():
        voxels = np.argwhere(labelled.where(codes))
        if len(voxels):
            here.append(labelled.grid.to_mm(voxels.mean(axis=0)))
            there.append(goal)
    if len(here) < 4:
        raise InputError(
            f"{path}: has only {len(here)} of the deep structures by which a head is laid into MNI152 space "
            "(thalamus 10, caudate 11, putamen 12, ...), at least 4 are needed; give a whole aseg"
        )
    return here, there


def _outline(labelled: _Labelled) -> list[tuple[NDArray[np.float64], tuple[float, float, float]]]:
    """Middles of the cerebrum's upper, front and rear tenth and of its halves, and where MNI152 has them."""
    left, right = (
        labelled.grid.to_mm(np.argwhere(labelled.where(codes) | _parcels(labelled, first)))
        for codes, first in (((2, 3), 1000), ((41, 42), 2000))
    )
    if not len(left) or not len(right):
        return []
    both = np.concatenate([left, right])
    y, z = both[:, 1], both[:, 2]
    return [
        (left.mean(axis=0), (-29.8, -17.3, 16.0)),
        (right.mean(axis=0), (29.8, -17.3, 16.0)),
        (both[z > np.quantile(z, 0.9)].mean(axis=0), (0.0, -23.0, 62.6)),
        (both[y > np.quantile(y, 0.9)].mean(axis=0), (0.0, 51.8, 7.4)),
        (both[y < np.quantile(y, 0.1)].mean(axis=0), (0.0, -84.0, 11.7)),
    ]


def _parcels(labelled: _Labelled, first: int) -> NDArray[np.bool_]:
    """Cortex and its white matter where they are parcelled: `first` is 1000 on the left, 2000 on the right."""
    code = labelled.codes % 10000
    side = ((code >= first) & (code < first + 1000)) | ((code >= first + 2000) & (code < first + 3000))
    chosen: NDArray[np.bool_] = side[labelled.index]
    return chosen


def _affine(here: NDArray[np.float64], there: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares affine map between points (n, 3), shape (4, 4)."""
    solution, *_ = np.linalg.lstsq(np.column_stack([here, np.ones(len(here))]), there, rcond=None)
    affine = np.eye(4)
    affine[:3] = solution.T
    return affine


def _template(labelled: _Labelled, to_mni: NDArray[np.float64], ignored: tuple[int, ...]) -> Template:
    grid = labelled.grid
    brain = _brain(labelled)
    shares = {name: _soft(labelled.tissue(name), grid) for name in ("grey", "white", "fluid", "plexus", "eyes")}
    shares["fluid"] = shares["fluid"] + shares.pop("plexus")
    if _whole_head(labelled):
        shares |= {name: _soft(labelled.tissue(name), grid) for name in ("bone", "air", "blood")}
        shares["soft"] = _soft(labelled.tissue("soft") | labelled.where(ignored), grid)
        shares["fluid"] = shares["fluid"] + shares["eyes"]
        shares["air"] = torch.maximum(shares["air"], _soft(_enclosed(labelled), grid))
    else:
        tissue = shares["grey"] + shares["white"] + shares["fluid"]
        around = surround(brain, grid, to_mni)
        shares["fluid"] = shares["fluid"] + (brain - tissue).clamp(min=0)
        free = (1 - shares["grey"] - shares["white"] - shares["fluid"]).clamp(min=0)
        shares["fluid"] = shares["fluid"] + free * around["fluid"]
        shares |= {name: free * around[name] for name in ("bone", "soft", "air", "blood")}
    elsewhere = 1 - _soft(labelled.where(STRUCTURE_CODES["ventricles"]), grid)
    falx = falx_share(mni_points(grid, to_mni)) * shares["fluid"] * elsewhere
    shares["fluid"], shares["soft"] = shares["fluid"] - falx, shares["soft"] + falx
    # The edge of the head stays soft towards the air outside it.
    total = torch.stack([shares[name] for name in TISSUES]).sum(dim=0).clamp(min=1)
    maps = torch.stack([as_bytes(shares[name] / total) for name in TISSUES] + [as_bytes(brain)])
    structures = _structures(labelled, grid, to_mni) | _only({"falx": crop_structure(as_bytes(falx), grid)})
    return Template(maps, grid, structures, to_mni, sharpness=SHARPNESS, atrophy=OWN_ATROPHY)


def _soft(mask: NDArray[np.bool_], grid: Grid) -> Tensor:
    """Partial volume of a hard label: its indicator, blurred a little."""
    soft = np.zeros(mask.shape, dtype=np.float32)
    if mask.any():
        low, high = _bounds(mask)
        box = tuple(slice(max(a - 3, 0), b + 3) for a, b in zip(low, high, strict=True))
        sigma = [EDGE_MM / step for step in grid.spacing_mm]
        soft[box] = ndimage.gaussian_filter(mask[box].astype(np.float32), sigma, truncate=2.5, mode="nearest")
    return torch.from_numpy(soft)


def _brain(labelled: _Labelled) -> Tensor:
    """What skull stripping keeps, 0..1: tissue, ventricles, and the fluid of sulci."""
    inside = torch.from_numpy(
        labelled.tissue("grey", "white", "plexus") | labelled.where(STRUCTURE_CODES["ventricles"])
    )
    grown = distance_mm(inside, labelled.grid, CLOSED_MM + 3) > CLOSED_MM
    closed = distance_mm(grown, labelled.grid, CLOSED_MM + 3) > CLOSED_MM
    mask = (closed.numpy() & ~labelled.tissue(*OUTSIDE_CODES)) | inside.numpy()
    return _soft(mask, labelled.grid)


def _enclosed(labelled: _Labelled) -> NDArray[np.bool_]:
    """Background inside the head: air in sinuses that nobody labelled."""
    empty = labelled.where((0,))
    head = ~empty
    hull: NDArray[np.bool_] = np.zeros_like(head)
    for k in range(head.shape[2]):
        hull[:, :, k] = ndimage.binary_fill_holes(head[:, :, k])
    return hull & empty


def _structures(labelled: _Labelled, grid: Grid, to_mni: NDArray[np.float64]) -> dict[str, Structure]:
    found = _only(
        {
            name: crop_structure(as_bytes(_soft(labelled.where(codes), grid)), grid)
            for name, codes in STRUCTURE_CODES.items()
        }
    )
    return found | add_shapes(grid, to_mni, tuple(name for name in SHAPES if name not in found))


def _only(structures: dict[str, Structure | None]) -> dict[str, Structure]:
    return {name: structure for name, structure in structures.items() if structure is not None}
