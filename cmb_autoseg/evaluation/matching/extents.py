"""What predicted and reference lesions have in common: voxels, volumes of boxes, or a point that lies inside."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.lesions.components import Components

__all__ = ["Shared", "shared_extents"]

EXTENT_DECIMALS = 6
"""Of voxels: lengths of boxes are rounded, so that an affine's rounding makes no neighbours overlap."""


@dataclass(frozen=True)
class Shared:
    """Extents in voxels of the case's grid; indices are (predicted, reference)."""

    common: Mapping[tuple[int, int], float]
    """Of those pairs alone that share anything; 1 where one of the two is a point."""
    sizes: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    """(n_predicted,) and (n_reference,); None where a side consists of points, which have no size."""


def shared_extents(predicted: LesionSet, reference: LesionSet) -> Shared:
    """What each predicted lesion shares with each reference lesion, whatever both were marked with."""
    if "points" in (predicted.kind, reference.kind):
        return Shared(_points_inside(predicted, reference), None)
    sizes = (_sizes(predicted), _sizes(reference))
    if predicted.components is not None and reference.components is not None:
        return Shared(_common_voxels(predicted.components, reference.components), sizes)
    if predicted.components is not None:
        return Shared(_voxels_in_boxes(predicted.components, _boxes(reference)), sizes)
    if reference.components is not None:
        turned = _voxels_in_boxes(reference.components, _boxes(predicted))
        return Shared({(p, r): common for (r, p), common in turned.items()}, sizes)
    return Shared(_common_of_boxes(_boxes(predicted), _boxes(reference)), sizes)


def _sizes(lesions: LesionSet) -> NDArray[np.float64]:
    if lesions.components is not None:
        return lesions.components.sizes.astype(np.float64)
    extents: NDArray[np.float64] = np.prod(_length(*np.moveaxis(_boxes(lesions), 2, 0)), axis=1)
    return extents


def _boxes(lesions: LesionSet) -> NDArray[np.float64]:
    assert lesions.boxes is not None
    return lesions.boxes


def _common_voxels(predicted: Components, reference: Components) -> dict[tuple[int, int], float]:
    both = (predicted.labels > 0) & (reference.labels > 0)
    codes, counts = np.unique(
        (predicted.labels[both].astype(np.int64) - 1) * len(reference) + reference.labels[both] - 1, return_counts=True
    )
    return {divmod(int(code), len(reference)): float(n) for code, n in zip(codes, counts, strict=True)}


def _voxels_in_boxes(components: Components, boxes: NDArray[np.float64]) -> dict[tuple[int, int], float]:
    """What each component shares with each box, by (component, box); parts of voxels count as parts."""
    common: dict[tuple[int, int], float] = {}
    for b, faces in enumerate(boxes):
        covered = [_covered(low, high, n) for (low, high), n in zip(faces, components.labels.shape, strict=True)]
        window = tuple(np.flatnonzero(part) for part in covered)
        labels = components.labels[np.ix_(*window)]
        i, j, k = (part[inside] for part, inside in zip(covered, window, strict=True))
        shares = i[:, None, None] * j[:, None] * k
        for number in np.unique(labels[labels > 0]):
            common[int(number) - 1, b] = float(shares[labels == number].sum())
    return common


def _covered(low: float, high: float, n: int) -> NDArray[np.float64]:
    """(n,): the share of each voxel of an axis that lies between two faces."""
    voxels = np.arange(n)
    return _length(np.maximum(voxels - 0.5, low), np.minimum(voxels + 0.5, high))


def _length(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    length: NDArray[np.float64] = np.clip(np.round(high - low, EXTENT_DECIMALS), 0, None)
    return length


def _common_of_boxes(predicted: NDArray[np.float64], reference: NDArray[np.float64]) -> dict[tuple[int, int], float]:
    low = np.maximum(predicted[:, None, :, 0], reference[None, :, :, 0])
    high = np.minimum(predicted[:, None, :, 1], reference[None, :, :, 1])
    volumes = np.prod(_length(low, high), axis=2)
    return {(int(p), int(r)): float(volumes[p, r]) for p, r in np.argwhere(volumes > 0)}


def _points_inside(predicted: LesionSet, reference: LesionSet) -> dict[tuple[int, int], float]:
    """Pairs of a point and a lesion that it lies in; two points share nothing."""
    turned = predicted.kind != "points"
    points, others = (reference, predicted) if turned else (predicted, reference)
    if others.kind == "points" or others.affine is None:
        return {}
    inverse = np.linalg.inv(others.affine)
    places = np.round(points.centres_mm @ inverse[:3, :3].T + inverse[:3, 3], EXTENT_DECIMALS)
    if others.components is not None:
        inside = _components_at(others.components, places)
    else:
        faces = np.round(_boxes(others), EXTENT_DECIMALS)
        within = (places[:, None, :, None] * [1, -1] >= faces[None] * [1, -1]).all(axis=(2, 3))
        inside = [(int(point), int(box)) for point, box in np.argwhere(within)]
    return {(lesion, point) if turned else (point, lesion): 1.0 for point, lesion in inside}


def _components_at(components: Components, places: NDArray[np.float64]) -> list[tuple[int, int]]:
    """(point, component) of the points whose nearest voxel belongs to one."""
    voxels = np.rint(places).astype(np.int64)
    there = np.all((voxels >= 0) & (voxels < components.labels.shape), axis=1)
    numbers = np.zeros(len(voxels), dtype=np.int64)
    numbers[there] = components.labels[tuple(voxels[there].T)]
    return [(int(point), int(numbers[point]) - 1) for point in np.flatnonzero(numbers)]
