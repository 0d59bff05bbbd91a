"""Fast radial symmetry in 3D: how strongly the edges around a voxel point at it.

Loy and Zelinsky, IEEE TPAMI 25(8), 2003, taken from pixels to millimetres: every voxel with an edge
votes for the place that lies one radius down (dark) or up (bright) its gradient. A round dot gathers
the votes of its whole surface in one voxel; a vessel spreads them along its axis. No library that we
could use has it: scikit-image, MONAI and SciPy lack it, and ITK's radial voting
(`HoughTransformRadialVotingImageFilter`) is for bright cells, one radius range and isotropic voxels.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume

__all__ = ["DEFAULT_RADII_MM", "fast_radial_symmetry", "full_vote"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Triple = tuple[float, float, float]

DEFAULT_RADII_MM = (1.0, 1.5, 2.0, 2.5, 3.0)
"""Microbleeds bloom to 2-10 mm in diameter; larger ones still have edges at the radii that fit in."""
BLOCK = 1 << 18
"""Voters that are worked on at once: their places fit into the cache, and memory stays small."""


def fast_radial_symmetry(
    volume: Volume,
    radii_mm: Sequence[float] = DEFAULT_RADII_MM,
    brain: BoolArray | None = None,
    polarity: Literal["dark", "bright"] = "dark",
    alpha: float = 2.0,
    std_factor: float = 0.25,
) -> FloatArray:
    """Radial symmetry of each voxel, the mean over the radii.

    For one radius r, with V(p) the voters whose vote lands in voxel p and g their gradients in
    grey values a millimetre::

        S_r = G(std_factor * r) * [ sum_V |g| / k_r * min(|V| / k_r, 1) ** alpha ]

    where k_r (`full_vote`) is the number of votes at the centre of a perfect ball. A voter at x
    votes for x - r g/|g| (dark) or x + r g/|g| (bright), rounded to the nearest voxel. Gradients
    are central differences, one-sided at the border of the volume.

    Args:
        volume: grey values of shape (i, j, k), finite; voxels of any size, axes at right angles.
        radii_mm: of the dots to be found, in millimetres.
        brain: of the same shape; the edge of the brain does not vote (a voxel votes only if its six
            neighbours are inside too), and the result is 0 outside. None: every voxel votes.
        polarity: "dark" dots (SWI, GRE magnitude) or "bright" ones (QSM).
        alpha: radial strictness; the larger, the less is left of lines against dots.
        std_factor: of the Gaussian that gathers votes, as a share of the radius.

    Returns:
        float32 of shape (i, j, k), not negative, in grey values a millimetre.

    Raises:
        InputError: no radius, or one that is not positive and finite.
    """
    radii = tuple(float(radius) for radius in radii_mm)
    if not radii or not all(0 < radius < math.inf for radius in radii):
        raise InputError(f"frst_radii_mm: found {list(radii_mm)}, expected radii in mm above 0, such as [1, 2, 3]")
    places, unit, strength = _voters(volume, brain)
    if polarity == "dark":
        np.negative(unit, out=unit)
    total = np.zeros(volume.shape, dtype=np.float32)
    for radius_mm in radii:
        votes, weights = _cast(places, unit, strength, radius_mm, volume)
        full = full_vote(radius_mm, volume.spacing_mm)
        np.minimum(votes / np.float32(full), 1, out=votes)
        symmetry = weights / np.float32(full) * votes**alpha
        sigma = [std_factor * radius_mm / mm for mm in volume.spacing_mm]
        total += ndimage.gaussian_filter(symmetry.reshape(volume.shape), sigma, truncate=3.0, mode="constant")
    total /= len(radii)
    return total if brain is None else np.where(brain, total, np.float32(0))


def full_vote(radius_mm: float, spacing_mm: Triple) -> int:
    """Votes at the centre of a perfect ball: voxels whose point one radius inwards rounds to the centre."""
    reach = [int(radius_mm / mm + 1) + 1 for mm in spacing_mm]
    axes = np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij")
    steps = np.stack([axis.ravel() for axis in axes], axis=1).astype(np.float64)
    distance_mm = np.linalg.norm(steps * spacing_mm, axis=1)
    steps, distance_mm = steps[distance_mm > 0], distance_mm[distance_mm > 0]
    landed = steps * (1 - radius_mm / distance_mm)[:, None]
    return max(1, int((np.abs(landed) < 0.5).all(axis=1).sum()))


def _voters(volume: Volume, brain: BoolArray | None) -> tuple[NDArray[np.int32], FloatArray, FloatArray]:
    """Flat indices (n,) of voxels with an edge, the edge's direction (3, n) in mm, and its strength (n,)."""
    data = np.asarray(volume.data, dtype=np.float32)
    squared = np.zeros(volume.shape, dtype=np.float32)
    slopes = []
    for axis, mm in enumerate(volume.spacing_mm):
        slope = np.gradient(data, mm, axis=axis) if data.shape[axis] > 1 else np.zeros_like(data)
        slopes.append(slope.ravel())
        squared += slope**2
    voting = squared > 0
    if brain is not None:
        voting &= _with_neighbours(brain)
    places = np.flatnonzero(voting).astype(np.int32)
    strength = np.sqrt(squared.ravel()[places])
    unit = np.stack([slope[places] for slope in slopes])
    unit /= strength
    return places, unit, strength


def _with_neighbours(brain: BoolArray) -> BoolArray:
    """Brain voxels whose six neighbours are brain; what lies beyond the volume's border counts as brain."""
    inner: BoolArray = ndimage.binary_erosion(brain, border_value=1)
    return inner


def _cast(
    places: NDArray[np.int32], unit: FloatArray, strength: FloatArray, radius_mm: float, volume: Volume
) -> tuple[FloatArray, FloatArray]:
    """Number of votes and sum of the voters' strengths in every voxel, both flat; votes beyond the border are lost."""
    size = int(np.prod(volume.shape))
    votes = np.zeros(size, dtype=np.float32)
    weights = np.zeros(size, dtype=np.float32)
    for start in range(0, len(places), BLOCK):
        block = slice(start, start + BLOCK)
        targets, inside = _targets(places[block], unit[:, block], radius_mm, volume)
        low = int(targets.min(initial=size))
        # Voters of a block lie side by side, so that their votes fall into one short stretch.
        counted = np.bincount(targets - low)
        summed = np.bincount(targets - low, weights=strength[block][inside])
        votes[low : low + len(counted)] += counted
        weights[low : low + len(summed)] += summed
    return votes, weights


def _targets(
    places: NDArray[np.int32], unit: FloatArray, radius_mm: float, volume: Volume
) -> tuple[NDArray[np.int32], BoolArray]:
    """Flat indices of the voxels voted for, and which of the voters' votes land inside the volume."""
    inside = np.ones(len(places), dtype=bool)
    target = np.zeros(len(places), dtype=np.int32)
    for axis, (length, mm) in enumerate(zip(volume.shape, volume.spacing_mm, strict=True)):
        stride = int(np.prod(volume.shape[axis + 1 :]))
        at = (places // stride) % length + np.rint(unit[axis] * np.float32(radius_mm / mm)).astype(np.int32)
        inside &= (at >= 0) & (at < length)
        target += at * np.int32(stride)
    return target[inside], inside
