"""What a label says of itself and of the scan that it is drawn on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions.components import find_components
from cmb_autoseg.quality_control._blocks import brain_box
from cmb_autoseg.quality_control.case_quality import LabelQuality, LesionQuality
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role

__all__ = ["measure_label"]

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Spacing = tuple[float, float, float]
GAP_VOXELS = 1
"""Between a lesion and what counts as its surroundings: its blurred edge."""
SHELL_MM = 3.0
MOST_LESIONS = 200
"""Contrast is measured on the largest ones only."""
LEAST, MOST = -5.0, 10.0
"""One odd lesion must not decide a mean."""
FEWEST_AROUND = 8
THICK = 1.5
"""Axes with voxels longer than this many of the shortest ones are across slices."""
STEPS = (4, -4)
"""Voxels by which a label is moved within the slices, to see whether it fits there better."""


@dataclass(frozen=True)
class Place:
    """Where one lesion and its surroundings are, as voxel indices of shape (n, 3)."""

    lesion: IntArray
    around: IntArray


Move = Callable[[IntArray], IntArray]


def measure_label(volumes: Mapping[Role, Volume], reference: Role, brain: BoolArray, label: Volume) -> LabelQuality:
    """Number, size, place and darkness of the lesions of a canonical label on the volumes' grid."""
    marked = label.data > 0
    components = find_components(marked)
    if not len(components):
        return LabelQuality(lesions=(), outside_brain=0.0, contrast=None)
    places = _places(components.labels, label.spacing_mm, len(components))
    shown = {role: volumes[role].data for role in SUSCEPTIBILITY_ROLES if role in volumes}
    contrasts: list[dict[Role, float]] = [{} for _ in components.sizes]
    for contrast, place in zip(contrasts, places, strict=False):
        found = {role: _contrast(role, data, place) for role, data in shown.items()}
        contrast.update({role: round(value, 3) for role, value in found.items() if value is not None})
    lesions = tuple(
        LesionQuality(
            volume_mm3=round(float(size) * label.voxel_volume_mm3, 3),
            diameter_mm=round(float(6 * size * label.voxel_volume_mm3 / np.pi) ** (1 / 3), 3),
            contrast=contrast,
        )
        for size, contrast in zip(components.sizes, contrasts, strict=True)
    )
    data = volumes[reference].data
    elsewhere: dict[str, float] = {}
    for name, move in _moves(marked.shape, brain):
        value = _mean_contrast(reference, data, places, move)
        if value is not None:
            elsewhere[name] = max(value, elsewhere.get(name, LEAST))
    outside = float(np.count_nonzero(marked & ~brain) / np.count_nonzero(marked))
    return LabelQuality(
        lesions=lesions,
        outside_brain=round(outside, 4),
        contrast=_mean_contrast(reference, data, places),
        contrast_elsewhere=elsewhere,
    )


def _places(labels: NDArray[np.int32], spacing_mm: Spacing, count: int) -> list[Place]:
    """Voxels of the largest lesions, and of a shell around each within the slices, without other lesions."""
    in_plane = [mm < THICK * min(spacing_mm) for mm in spacing_mm]
    reach = [max(1, round(SHELL_MM / mm)) if flat else 0 for mm, flat in zip(spacing_mm, in_plane, strict=True)]
    gap = [GAP_VOXELS if n else 0 for n in reach]
    places = []
    for number, box in enumerate(ndimage.find_objects(labels, max_label=min(count, MOST_LESIONS)), start=1):
        starts = [max(s.start - r - GAP_VOXELS, 0) for s, r in zip(box, reach, strict=True)]
        wide = tuple(slice(start, s.stop + r + GAP_VOXELS) for start, s, r in zip(starts, box, reach, strict=True))
        inside = labels[wide]
        lesion = inside == number
        near = _dilated(lesion, gap)
        shell = _dilated(near, reach) & ~near & (inside == 0)
        places.append(Place(np.argwhere(lesion) + starts, np.argwhere(shell) + starts))
    return places


def _dilated(mask: BoolArray, reach: list[int]) -> BoolArray:
    if not any(reach):
        return mask
    grids = np.meshgrid(*[np.arange(-n, n + 1) / max(n, 1) for n in reach], indexing="ij")
    ball = np.asarray(sum(grid**2 for grid in grids) <= 1.01)
    grown: BoolArray = ndimage.binary_dilation(mask, ball)
    return grown


def _contrast(role: Role, data: FloatArray, place: Place, move: Move | None = None) -> float | None:
    """How much darker a lesion is than its surroundings within the slices, in their robust deviations."""
    values, around = (_values(data, move(voxels) if move else voxels) for voxels in (place.lesion, place.around))
    if around.size < FEWEST_AROUND or not values.size:
        return None
    middle = float(np.median(around))
    scale = 1.4826 * float(np.median(np.abs(around - middle))) or float(around.std())
    if scale <= 0:
        return None
    # The darker half of a lesion: its edge is blurred, and balls around points are too large for small ones.
    values = np.sort(values)
    core = values[len(values) // 2 :] if role is Role.QSM else values[: (len(values) + 1) // 2]
    darker = (middle - float(core.mean())) / scale
    return float(np.clip(-darker if role is Role.QSM else darker, LEAST, MOST))


def _values(data: FloatArray, voxels: IntArray) -> FloatArray:
    """Values at those of the voxels that lie in the volume."""
    there = ((voxels >= 0) & (voxels < data.shape)).all(axis=1)
    i, j, k = voxels[there].T
    found: FloatArray = data[i, j, k]
    return found


def _mean_contrast(role: Role, data: FloatArray, places: list[Place], move: Move | None = None) -> float | None:
    found = [value for place in places if (value := _contrast(role, data, place, move)) is not None]
    return round(float(np.mean(found)), 3) if found else None


def _moves(shape: tuple[int, ...], brain: BoolArray) -> list[tuple[str, Move]]:
    """Mirrored in the volume, mirrored in the brain's box, and moved within the slices."""
    box = brain_box(brain)
    moves: list[tuple[str, Move]] = []
    for axis, name in enumerate(("left-right", "front-back", "top-bottom")):
        for last in (shape[axis] - 1, box[axis].start + box[axis].stop - 1):
            moves.append((name, _mirror(axis, last)))
    for axis in (0, 1):
        for step in STEPS:
            moves.append(("moved", _shift(axis, step)))
    return moves


def _mirror(axis: int, last: int) -> Move:
    sign = np.where(np.arange(3) == axis, -1, 1)
    offset = np.where(np.arange(3) == axis, last, 0)
    return lambda voxels: voxels * sign + offset


def _shift(axis: int, step: int) -> Move:
    offset = np.where(np.arange(3) == axis, step, 0)
    return lambda voxels: voxels + offset
