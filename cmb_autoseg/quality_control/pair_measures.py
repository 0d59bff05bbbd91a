"""Whether two sequences of a case show the same head at the same place."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.blocks import block_factors, block_mean
from cmb_autoseg.geometry import Volume
from cmb_autoseg.quality_control._blocks import brain_box
from cmb_autoseg.quality_control.case_quality import PairQuality

__all__ = ["measure_pair"]

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
WORKING_MM = 2.5
DISPLACEMENT_MM = 8.0
BINS = 32


def measure_pair(reference: Volume, other: Volume, brain: BoolArray, registration: Mapping[str, float]) -> PairQuality:
    """Overlap, mutual information and agreement of edges of two sequences on one grid, within the brain."""
    box = brain_box(brain)
    factors = block_factors(reference.spacing_mm, WORKING_MM)
    spacing_mm = [mm * factor for mm, factor in zip(reference.spacing_mm, factors, strict=True)]
    one = block_mean(reference.data[box], factors, "left out")
    two = block_mean(other.data[box], factors, "left out")
    inside = block_mean(brain[box], factors, "left out") > 0.5
    if not inside.any():
        inside = np.ones_like(inside)
    values = two[inside]
    background, share = _commonest(values)
    overlap = float((values != background).mean()) if share > 0.02 else 1.0
    return PairQuality(
        overlap=round(overlap, 4),
        information=round(_information(one[inside], values), 4),
        match=round(_edge_match(one, two, inside, spacing_mm), 4),
        registration={name: float(figure) for name, figure in sorted(registration.items())},
    )


def _commonest(values: FloatArray) -> tuple[float, float]:
    distinct, counts = np.unique(values, return_counts=True)
    return float(distinct[np.argmax(counts)]), float(counts.max() / values.size)


def _information(one: FloatArray, two: FloatArray) -> float:
    """Normalized mutual information (H(a) + H(b)) / H(a, b) of equally filled bins (Studholme et al. 1999)."""
    joint = np.histogram2d(_ranks(one), _ranks(two), bins=BINS, range=((0, BINS), (0, BINS)))[0] / one.size
    total = _entropy(joint)
    return (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / total if total > 0 else 1.0


def _ranks(values: FloatArray) -> NDArray[np.int64]:
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    found: NDArray[np.int64] = np.searchsorted(edges, values, side="right")
    return found


def _entropy(shares: NDArray[np.float64]) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())


def _edge_match(one: FloatArray, two: FloatArray, inside: BoolArray, spacing_mm: list[float]) -> float:
    """Agreement of edges as they are, over its mean at displacements of 8 mm.

    Agreement is the squared cosine of the angle between both gradients (normalized gradient fields,
    Haber and Modersitzki 2006), weighted by both strengths; it asks for no like contrast.
    """
    first, second = _gradients(_scaled(one), spacing_mm), _gradients(_scaled(two), spacing_mm)
    here = _agreement(first, second, inside)
    moved = []
    for axis, mm in enumerate(spacing_mm):
        step = max(1, round(DISPLACEMENT_MM / mm))
        if inside.shape[axis] < 3 * step:
            continue
        for low, high in ((slice(step, None), slice(None, -step)), (slice(None, -step), slice(step, None))):
            a = tuple(low if other == axis else slice(None) for other in range(3))
            b = tuple(high if other == axis else slice(None) for other in range(3))
            moved.append(_agreement(first[(slice(None), *a)], second[(slice(None), *b)], inside[a] & inside[b]))
    apart = float(np.mean(moved)) if moved else 0.0
    return here / apart if apart > 0 else 1.0


def _scaled(data: FloatArray) -> FloatArray:
    """Divided by its largest value, whose square may overflow."""
    return data / max(float(np.abs(data).max()), float(np.finfo(np.float32).tiny))


def _gradients(data: FloatArray, spacing_mm: list[float]) -> FloatArray:
    """(3, i, j, k); an axis of one voxel has none."""
    parts = [
        np.gradient(data, mm, axis=axis) if data.shape[axis] > 1 else np.zeros_like(data)
        for axis, mm in enumerate(spacing_mm)
    ]
    return np.stack(parts).astype(np.float32)


def _agreement(first: FloatArray, second: FloatArray, inside: BoolArray) -> float:
    a, b = first[:, inside], second[:, inside]
    if not a.size:
        return 0.0
    strength_a, strength_b = (a**2).sum(axis=0), (b**2).sum(axis=0)
    floor_a, floor_b = float(np.median(strength_a)), float(np.median(strength_b))
    product = (a * b).sum(axis=0) ** 2
    # Strong edges count no more than others: the skull's are everywhere alike.
    score = product / np.maximum((strength_a + floor_a) * (strength_b + floor_b), 1e-30)
    return float(score.mean())
