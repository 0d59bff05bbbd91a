"""Digest and thumbnail of a scan, by which copies and scans that look unlike the others are found."""

import base64
import hashlib
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.blocks import block_factors, block_mean
from cmb_autoseg.geometry import Volume, to_canonical

__all__ = [
    "SIDE",
    "TURNS",
    "Picture",
    "Turn",
    "decode_thumbnail",
    "fine_detail",
    "inner",
    "standardized",
    "thumbnail",
    "turned",
    "turned_back",
    "value_digest",
]

SIDE = 16
"""Points of a thumbnail along each axis."""
REACH = 1.9
"""Half its width, in mean standard deviations of where the head is."""
BLOCK_MM = 3.5
STEPS = 20000
"""Grey values of a digest: fewer than differ by rounding of a rescaled copy, more than two scans share."""
FINE_SIGMA = 1.2

INNER = 0.55
"""Radius of the ball of brain, of half the thumbnail's width."""
Picture = NDArray[np.float32]
Turn = tuple[tuple[int, int, int], tuple[int, int, int]]
TURNS: tuple[Turn, ...] = tuple(
    ((a, b, c), (x, y, z)) for a, b, c in permutations(range(3)) for x, y, z in product((1, -1), repeat=3)
)
"""All 48 ways to permute and flip three axes; the first changes nothing."""


def value_digest(volume: Volume) -> str:
    """SHA-256 of the values in canonical order, in 20000 steps from the least to the largest.

    Copies that were stored with other axes, another datatype or another scale have the same digest.
    """
    data = to_canonical(volume).data
    finite = np.where(np.isfinite(data), data, 0)
    low, high = float(finite.min()), float(finite.max())
    steps = np.rint((finite - low) * (STEPS / max(high - low, 1e-30))).astype(np.uint16)
    return hashlib.sha256(str(steps.shape).encode() + steps.tobytes()).hexdigest()[:32]


def thumbnail(volume: Volume, signed: bool) -> str:
    """A scan in 16 x 16 x 16 values of int8, base64.

    The points stand around the center of the head, as far apart as it is large, along the canonical
    axes: a copy with another margin has the same thumbnail, and a flipped one the same one flipped.
    """
    upright = to_canonical(volume)
    data = np.nan_to_num(np.asarray(upright.data, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    factors = block_factors(upright.spacing_mm, BLOCK_MM)
    grey = block_mean(data, factors, "left out")
    block_mm = np.array(upright.spacing_mm) * factors
    strength = block_mean(np.abs(data - np.median(data)), factors, "left out") if signed else grey
    there = strength > 0.2 * np.percentile(strength, 98)
    if not there.any():
        there = np.ones_like(there)
    places = np.argwhere(there) * block_mm
    center, reach = places.mean(axis=0), REACH * float(np.sqrt(places.var(axis=0).mean()))
    steps = np.linspace(-reach, reach, SIDE)
    points = [(center[axis] + steps) / block_mm[axis] for axis in range(3)]
    grid = np.stack(np.meshgrid(*points, indexing="ij"))
    # What lies beyond the volume is its own border, not a value that would look like a cut.
    sampled = ndimage.map_coordinates(grey, grid, order=1, mode="nearest")
    low, high = np.percentile(sampled, (1, 99))
    scaled = np.clip((sampled - low) / max(float(high - low), 1e-30), 0, 1) * 254 - 127
    return base64.b64encode(np.rint(scaled).astype(np.int8).tobytes()).decode()


def decode_thumbnail(text: str) -> NDArray[np.float32]:
    """The (16, 16, 16) values of `thumbnail`."""
    return np.frombuffer(base64.b64decode(text), dtype=np.int8).reshape(SIDE, SIDE, SIDE).astype(np.float32)


def fine_detail(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is left of a thumbnail when its smooth part is taken away: what tells one head from another."""
    fine: NDArray[np.float32] = picture - ndimage.gaussian_filter(picture, FINE_SIGMA, mode="nearest")
    return fine


def standardized(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean 0 and norm 1 as a vector, so that products are correlations; all 0 for a constant."""
    vector = picture.ravel() - picture.mean()
    norm = float(np.linalg.norm(vector))
    result: NDArray[np.float32] = (vector / norm if norm > 0 else vector).astype(np.float32)
    return result


def inner(picture: Picture) -> Picture:
    """The values in the middle ball of a thumbnail, where there is brain whatever the scan."""
    steps = np.linspace(-1, 1, SIDE)
    squares = sum(axis**2 for axis in np.meshgrid(steps, steps, steps, indexing="ij", sparse=True))
    return picture[squares <= INNER**2]


def turned(picture: Picture, turn: Turn) -> Picture:
    """Permute and then flip the axes of a thumbnail."""
    order, signs = turn
    return picture.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]


def turned_back(vector: Picture, turn: Turn) -> Picture:
    """Undo `turned` for the values of a thumbnail in one row, as `standardized` gives them."""
    order, signs = turn
    flipped = vector.reshape(SIDE, SIDE, SIDE)[tuple(slice(None, None, sign) for sign in signs)]
    return np.ascontiguousarray(flipped.transpose(np.argsort(order))).ravel()
