"""One small picture a case: what a person looks at to believe or doubt a verdict."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions.components import find_components
from cmb_autoseg.quality_control._blocks import brain_box
from cmb_autoseg.quality_control.case_quality import SIGNED_ROLES
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role

__all__ = ["THUMBNAIL_SUFFIX", "draw_case"]

THUMBNAIL_SUFFIX = ".jpg"
TILE = 112
"""Height and width of one view in pixels."""
QUALITY = 78
OUTLINE = (90, 200, 120)
LESION = (255, 70, 60)
RING_PIXELS = 6
"""Radius of the ring around a lesion; the lesion itself stays visible."""
WINDOW = (1.0, 99.5)
"""Percentiles within the brain that are shown black and white."""


def draw_case(volumes: Mapping[Role, Volume], brain: Volume, label: Volume | None = None) -> bytes:
    """Views of a case: the reference in three planes with brain and lesions, an axial slice of each other sequence.

    The brain is outlined, lesions near the slice are ringed.

    Args:
        volumes: canonical axes, one grid, not stripped.
        brain: 0 or 1 on that grid.
        label: microbleeds on that grid.

    Returns:
        A JPEG of 112 pixels height; the same volumes make the same bytes. It holds no text.
    """
    from PIL import Image

    reference = next((role for role in SUSCEPTIBILITY_ROLES if role in volumes), next(iter(volumes)))
    inside = np.asarray(brain.data > 0)
    marked = np.zeros(inside.shape, dtype=bool) if label is None else np.asarray(label.data > 0)
    components = find_components(marked)
    box = brain_box(inside)
    center = components.centres[0] if len(components) else [(s.start + s.stop - 1) / 2 for s in box]
    place = [round(float(c)) for c in center]
    tiles = [_tile(reference, volumes[reference], inside, components.centres, axis, place[axis]) for axis in (2, 1, 0)]
    tiles += [
        _tile(role, volume, inside, components.centres[:0], 2, place[2])
        for role, volume in volumes.items()
        if role is not reference
    ]
    stream = BytesIO()
    Image.fromarray(np.concatenate(tiles, axis=1)).save(stream, "JPEG", quality=QUALITY, optimize=True)
    return stream.getvalue()


def _tile(
    role: Role, volume: Volume, inside: NDArray[np.bool_], centers: NDArray[np.float64], axis: int, index: int
) -> NDArray[np.uint8]:
    """One slice as a square of RGB, up is top or front, the patient's left on the right."""
    from PIL import Image

    across, up = (other for other in range(3) if other != axis)
    data = np.asarray(volume.data).take(index, axis)
    values = volume.data[inside] if inside.any() else volume.data
    low, high = (float(v) for v in np.percentile(values, WINDOW))
    if role in SIGNED_ROLES:
        low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
    least = max(1e-6 * max(abs(low), abs(high)), 1e-30)
    grey = np.clip((data - low) / max(high - low, least), 0, 1) * 255
    width_mm = data.shape[0] * volume.spacing_mm[across]
    height_mm = data.shape[1] * volume.spacing_mm[up]
    scale = TILE / max(width_mm, height_mm)
    size = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
    picture: Any = Image.fromarray(_displayed(grey).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    colored = np.repeat(np.asarray(picture)[:, :, None], 3, axis=2)
    shape: Any = Image.fromarray(_displayed(np.asarray(inside.take(index, axis))).astype(np.uint8) * 255)
    mask = np.asarray(shape.resize(size, Image.Resampling.NEAREST)) > 0
    if not inside.all():
        colored[mask & ~ndimage.binary_erosion(mask)] = OUTLINE
    for center in centers:
        if abs(center[axis] - index) <= 1.5 * max(1.0, 3.0 / volume.spacing_mm[axis]):
            column = size[0] - 1 - (center[across] + 0.5) / data.shape[0] * size[0]
            row = size[1] - 1 - (center[up] + 0.5) / data.shape[1] * size[1]
            colored[_ring(size, row, column)] = LESION
    tile = np.zeros((TILE, TILE, 3), dtype=np.uint8)
    top, left = (TILE - size[1]) // 2, (TILE - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = colored
    return tile


def _displayed(data: NDArray[Any]) -> NDArray[Any]:
    """Rows from the top down; columns from the patient's right, which is at the left as radiologists have it."""
    return data.T[::-1, ::-1]


def _ring(size: tuple[int, int], row: float, column: float) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: size[1], : size[0]]
    distance = np.hypot(rows - row, columns - column)
    ring: NDArray[np.bool_] = np.abs(distance - RING_PIXELS) <= 0.7
    return ring
