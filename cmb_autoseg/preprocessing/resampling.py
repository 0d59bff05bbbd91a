"""Images, brain masks and lesions on the grid of another sequence.

`matrix` is (4, 4), RAS millimetres of the reference to RAS millimetres of the volume, as a
`Registration` holds it; None where both are in the same scanner coordinates.

A voxel of the reference that is larger than those of the volume takes the mean over its extent, not
the value at its centre: this is what a scanner with such voxels would measure, and it is the
low-pass filter that keeps fine structure from turning into stripes.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.errors import GeometryError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions import find_components, move_lesions, sample_offsets

__all__ = ["resample_brain", "resample_image", "resample_lesions_to"]

ROUNDING = 1e-6
"""Voxels by which a point may lie beyond the edge, since affines are rounded."""
COARSER = 1.3
"""A voxel is averaged over along an axis where it is this many times as long as the old ones."""
MASK_SHARE = 0.5
NAMED_LESIONS = 3
"""So many lesions are named in a message, the others counted."""


def resample_image(volume: Volume, reference: Volume, matrix: NDArray[np.float64] | None = None) -> Volume:
    """Interpolate an image trilinearly on the grid of `reference`; zero where the volume does not reach.

    Args:
        volume: any axes, finite.
        reference: gives shape and affine only.
        matrix: see the module.

    Returns:
        float32, with the reference's header and the volume's name. A volume that is on that grid
        already keeps its values to the bit.
    """
    to_volume = _to_voxels_of(volume, reference, matrix)
    if volume.shape == reference.shape and np.allclose(to_volume, np.eye(4), rtol=0, atol=ROUNDING):
        return _on(reference, volume.data.astype(np.float32), volume.name)
    data = np.ascontiguousarray(volume.data, dtype=np.float32)
    offsets = sample_offsets(_samples(to_volume))
    total = np.zeros(reference.shape, dtype=np.float32)
    for offset in offsets:
        total += _sampled(data, to_volume, reference.shape, offset)
    return _on(reference, total / np.float32(len(offsets)), volume.name)


def resample_brain(mask: Volume, reference: Volume, matrix: NDArray[np.float64] | None = None) -> Volume:
    """Bring a brain mask to the grid of `reference`: the voxels of which it fills at least half.

    Returns:
        uint8, 0 or 1.
    """
    share = resample_image(mask.with_data((mask.data > 0).astype(np.float32)), reference, matrix)
    return share.with_data((share.data >= MASK_SHARE - ROUNDING).astype(np.uint8))


def resample_lesions_to(
    label: Volume, reference: Volume, matrix: NDArray[np.float64] | None = None
) -> tuple[Volume, tuple[str, ...]]:
    """Bring a mask of microbleeds to the grid of `reference`, lesion by lesion, so that none is lost.

    Every 26-connected component stays exactly one: where half of a voxel is too much to ask for, less
    is enough, and at the least the voxel that holds most of it. Neighbours keep a gap of one voxel.

    Args:
        label: non-zero in microbleeds.
        reference: gives shape and affine only.
        matrix: see the module.

    Returns:
        The mask (uint8, 0 or 1, the reference's header), and what the conversion log should say.

    Raises:
        GeometryError: a lesion lies outside the reference, or two would become one; names them by
            their centre in RAS millimetres of the label's file.
    """
    components = find_components(label.data > 0)
    count = len(components)
    to_label = _to_voxels_of(label, reference, matrix)
    if label.shape == reference.shape and np.allclose(to_label, np.eye(4), rtol=0, atol=ROUNDING):
        return _on(reference, (label.data > 0).astype(np.uint8), label.name), ()
    samples = _samples(to_label)
    moved = move_lesions(components.labels, count, reference.shape, to_label, preserve=True, samples=samples)
    if moved.lost:
        places = label.to_ras_mm(components.centres)
        _refuse(label, reference, [(n, places[n - 1]) for n in moved.lost], moved.outside)
    before_mm3 = components.sizes.sum() * label.voxel_volume_mm3
    after_mm3 = np.count_nonzero(moved.mask) * reference.voxel_volume_mm3
    notes = [f"label: resampled to the image's grid, {count} lesions kept, {before_mm3:.3g} mm3 as {after_mm3:.3g} mm3"]
    if moved.helped:
        notes.append(
            f"label: {len(moved.helped)} of {count} lesions are too small or too near to others for that grid; "
            "they have the voxels that hold most of them"
        )
    return _on(reference, moved.mask, label.name), tuple(notes)


def _refuse(
    label: Volume, reference: Volume, lost: list[tuple[int, NDArray[np.float64]]], outside: tuple[int, ...]
) -> None:
    """Say which lesions have no place of their own on the new grid, and what to do."""
    away = [place for number, place in lost if number in outside]
    if away:
        raise GeometryError(
            f"{label.name}: {_lesions(away)} outside {reference.name}; check that the mask belongs to this scan, and "
            "its affine"
        )
    raise GeometryError(
        f"{label.name}: {_lesions([place for _, place in lost])} would merge with a neighbour on the grid of "
        f"{reference.name}; mark the lesions on that grid, or give them as points"
    )


def _lesions(places: list[NDArray[np.float64]]) -> str:
    """`2 lesions at (1.0, 2.0, 3.0), (4.0, 5.0, 6.0) mm RAS`."""
    named = ", ".join("(" + ", ".join(f"{x:.1f}" for x in place) + ")" for place in places[:NAMED_LESIONS])
    more = f" and {len(places) - NAMED_LESIONS} more" if len(places) > NAMED_LESIONS else ""
    return f"{len(places)} lesion{'s' * (len(places) > 1)} at {named} mm RAS{more}"


def _on(reference: Volume, data: NDArray[np.generic], name: str) -> Volume:
    return Volume(data, reference.affine, reference.header, name)


def _to_voxels_of(volume: Volume, reference: Volume, matrix: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """(4, 4): voxel indices of the reference to voxel indices of the volume."""
    between = np.eye(4) if matrix is None else matrix
    to_volume: NDArray[np.float64] = np.linalg.inv(volume.affine) @ between @ reference.affine
    return to_volume


def _samples(to_volume: NDArray[np.float64]) -> tuple[int, int, int]:
    """How many old voxels a new one spans along each of its axes; 1 where it is hardly longer."""
    spans = np.linalg.norm(to_volume[:3, :3], axis=0)
    i, j, k = (int(np.ceil(span - 1e-3)) if span > COARSER else 1 for span in spans)
    return i, j, k


def _sampled(
    data: NDArray[np.float32], to_volume: NDArray[np.float64], shape: tuple[int, int, int], offset: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Trilinear values at one point of every new voxel.

    A voxel reaches half its size beyond its centre: so far the outermost values go on, further out is 0.
    """
    matrix = to_volume[:3, :3]
    start = matrix @ offset + to_volume[:3, 3]
    values: NDArray[np.float32] = ndimage.affine_transform(
        data, matrix, start, output_shape=shape, order=1, mode="nearest", output=np.float32
    )
    i, j, k = (np.arange(n, dtype=np.float64) for n in shape)
    for axis, length in enumerate(data.shape):
        a, b, c = matrix[axis]
        at = (start[axis] + a * i)[:, None, None] + (b * j)[None, :, None] + (c * k)[None, None, :]
        values[(at < -0.5 - ROUNDING) | (at > length - 0.5 + ROUNDING)] = 0
    return values
