"""Microbleeds of one case, from a mask or from points, on the grid of its reference sequence.

Whatever the source, one lesion is one 26-connected component of the result.
"""

import csv
import io
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.errors import GeometryError, InputError
from cmb_autoseg.geometry import Volume, check_same_grid, read_volume
from cmb_autoseg.records import LabelSource

__all__ = ["LabelResult", "count_lesions", "no_lesion_warning", "read_label"]

TWENTY_SIX = np.ones((3, 3, 3), dtype=bool)
NEIGHBOURS = tuple(step for step in itertools.product((-1, 0, 1), repeat=3) if step != (0, 0, 0))
Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class LabelResult:
    """A case's microbleeds."""

    volume: Volume
    """uint8, 1 in microbleeds, on the reference's grid and axes."""
    n_lesions: int
    notes: tuple[str, ...] = ()
    """What the conversion log should say, such as points counted as one lesion."""


def read_label(source: LabelSource, reference: Volume) -> LabelResult:
    """Read the microbleeds of one case.

    Args:
        source: the file and how it is to be understood.
        reference: the case's reference sequence as it came (own axes); only its grid is used.

    Raises:
        InputError: unreadable file, value outside the map, point outside the volume.
        GeometryError: the mask is on another grid and may not be resampled, or resampling would
            lose or merge a lesion.
    """
    if source.kind == "mask":
        return _read_mask(source, reference)
    return _read_points(source, reference)


def count_lesions(mask: NDArray[Any]) -> int:
    """Number of 26-connected components of the nonzero voxels."""
    return int(ndimage.label(mask != 0, TWENTY_SIX)[1])


def no_lesion_warning(cohort: str, sources: Sequence[LabelSource]) -> str:
    """What to say of a cohort whose labels were all read and hold no lesion; reads its masks once more.

    Raises:
        InputError: a mask has become unreadable.
    """
    found = f"{cohort}: no lesion in any of {len(sources)} labelled cases"
    masks = [source for source in sources if source.kind == "mask"]
    if not masks:
        return f"{found}; if there should be some, check labels.cmb.path and the files of points"
    values = {value for mask in masks for value in np.unique(read_volume(Path(mask.path), dtype=np.float64).data)}
    others = sorted(values - {0})
    if not others:
        return f"{found}: the masks that can be used hold nothing but 0; if that cannot be, check labels.cmb.path"
    occurring = f" ({', '.join(f'{value:g}' for value in others)} occur)" if len(others) > 1 else ""
    return f"{found}; if microbleeds have another value in the masks{occurring}, write values: {{cmb: {others[0]:g}}}"


def _read_mask(source: LabelSource, reference: Volume) -> LabelResult:
    volume = read_volume(Path(source.path), dtype=np.float64)
    legal = {0, *source.values.values()}
    foreign = [value for value in np.unique(volume.data) if value not in legal]
    if foreign:
        listed = ", ".join(f"{name} = {value}" for name, value in source.values.items())
        raise InputError(
            f"{source.path}: found label value {foreign[0]:g}, legal are 0 and {listed}; {_cure(foreign[0])}"
        )
    mask = volume.with_data((volume.data == source.values["cmb"]).astype(np.uint8))
    if source.resample == "refuse":
        check_same_grid(mask, reference, "set labels.cmb.resample: nearest to allow another grid")
        return LabelResult(reference.with_data(mask.data), count_lesions(mask.data))
    return _resample(mask, reference)


def _cure(value: float) -> str:
    """What to do about a value of a mask that the card does not list."""
    if not float(value).is_integer():
        return "correct the mask, only whole numbers can be listed under labels.cmb.values"
    return (
        f"if it is the microbleeds' value, write values: {{cmb: {value:g}}}; "
        "if it is something else, list it under another name in labels.cmb.values"
    )


def _resample(mask: Volume, reference: Volume) -> LabelResult:
    """Nearest neighbour, except that a lesion between the new voxels keeps one voxel."""
    components, before = ndimage.label(mask.data, TWENTY_SIX)
    to_mask = np.linalg.inv(mask.affine) @ reference.affine
    moved = ndimage.affine_transform(components, to_mask, output_shape=reference.shape, order=0, cval=0)
    survivors = set(np.unique(moved).tolist())
    for number, centre in enumerate(_inner_voxels(components, before), 1):
        if number not in survivors:
            i, j, k = _nearest_voxel(reference.to_voxels(mask.to_ras_mm(centre[None]))[0])
            if not _inside((i, j, k), reference.shape):
                raise GeometryError(f"{mask.name}: a lesion lies outside {reference.name}; align the mask to it")
            moved[i, j, k] = number
    data = (moved > 0).astype(np.uint8)
    after = count_lesions(data)
    if after != before:
        raise GeometryError(
            f"{mask.name}: {before} lesions before and {after} after resampling to {reference.name}; "
            "mark the lesions on the image's own grid, or give them as points"
        )
    return LabelResult(reference.with_data(data), after, ("the mask was resampled to the image's grid",))


def _inner_voxels(components: NDArray[Any], count: int) -> list[NDArray[np.float64]]:
    """For each component, its voxel nearest to its centre of mass."""
    found: list[NDArray[np.float64]] = []
    for number, box in enumerate(ndimage.find_objects(components, count), 1):
        voxels = np.argwhere(components[box] == number) + [part.start for part in box]
        distance = np.linalg.norm(voxels - voxels.mean(axis=0), axis=1)
        found.append(voxels[int(distance.argmin())].astype(np.float64))
    return found


@dataclass(frozen=True)
class _Point:
    voxel: NDArray[np.float64]
    """Fractional index on the reference's grid, shape (3,)."""
    radius_mm: float

    @property
    def centre(self) -> Voxel:
        return _nearest_voxel(self.voxel)


def _read_points(source: LabelSource, reference: Volume) -> LabelResult:
    points = [_locate(row, where, source, reference) for where, row in _rows(source)]
    owners = _balls(points, reference)
    data = np.zeros(reference.shape, dtype=np.uint8)
    if owners:
        data[tuple(np.array(list(owners)).T)] = 1
    n_lesions = count_lesions(data)
    notes: tuple[str, ...] = ()
    if n_lesions != len(points):
        notes = (f"{len(points)} points share or touch voxels and are counted as {n_lesions} lesions",)
    return LabelResult(reference.with_data(data), n_lesions, notes)


def _locate(row: dict[str, Any], where: str, source: LabelSource, reference: Volume) -> _Point:
    columns = {name: source.columns.get(name, name) for name in ("x", "y", "z", "radius_mm")}
    position = np.array([_number(row, columns[name], where) for name in ("x", "y", "z")])
    radius_mm = source.radius_mm
    if "radius_mm" in source.columns or row.get("radius_mm") not in (None, "", "n/a"):
        radius_mm = _number(row, columns["radius_mm"], where)
    if radius_mm <= 0:
        raise InputError(f"{where}: radius_mm {radius_mm:g} is not positive; correct it")
    voxel = _to_voxels(position, source.space, reference)
    if not _inside(_nearest_voxel(voxel), reference.shape):
        raise InputError(
            f"{where}: point ({', '.join(f'{value:g}' for value in position)}) lies outside {reference.name}; "
            f"check labels.cmb.space (now {source.space}) and the columns"
        )
    return _Point(voxel, radius_mm)


def _to_voxels(position: NDArray[np.float64], space: str, reference: Volume) -> NDArray[np.float64]:
    if space == "voxel0":
        return position
    if space == "voxel1":
        return position - 1
    ras_mm = position * (-1, -1, 1) if space == "lps_mm" else position
    voxel: NDArray[np.float64] = reference.to_voxels(ras_mm[None])[0]
    return voxel


def _check_column(row: dict[str, Any], column: str, where: str) -> None:
    if column not in row:
        raise InputError(
            f"{where}: no column {column} (there: {', '.join(map(str, row))}); name it in labels.cmb.columns"
        )


def _number(row: dict[str, Any], column: str, where: str) -> float:
    _check_column(row, column, where)
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: column {column} holds {row[column]!r}, a number is needed")
    return value


def _rows(source: LabelSource) -> list[tuple[str, dict[str, Any]]]:
    """The points of a file, each with what messages call it; a file without content has none."""
    path = Path(source.path)
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: not readable as text in UTF-8; save the points as .tsv, .csv or .json in UTF-8"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror}); restore the file") from None
    if not text:
        return []
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _json_rows(path, text)
    if suffix not in (".tsv", ".csv", ".txt"):
        raise InputError(f"{path}: points are read from .tsv, .csv and .json; save them as one of these")
    header = text.splitlines()[0]
    delimiter = "\t" if suffix == ".tsv" or "\t" in header else ";" if ";" in header and "," not in header else ","
    rows = csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    # Also where no row follows: a wrong column must not turn into "read, no lesion".
    for name in ("x", "y", "z"):
        _check_column(dict.fromkeys(rows.fieldnames or ()), source.columns.get(name, name), f"{path} header")
    return [(f"{path} line {rows.line_num}", dict(row)) for row in rows]


def _json_rows(path: Path, text: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); write the file anew") from None
    points = content.get("points") if isinstance(content, dict) else content
    if not isinstance(points, list):
        raise InputError(f'{path}: expected a list of points, or {{"points": [...]}}')
    rows: list[tuple[str, dict[str, Any]]] = []
    for number, point in enumerate(points, 1):
        where = f"{path} point {number}"
        if isinstance(point, list) and len(point) == 3:
            point = dict(zip("xyz", point, strict=True))
        if not isinstance(point, dict):
            raise InputError(f"{where}: found {point!r}, expected [x, y, z] or x, y and z by name")
        rows.append((where, point))
    return rows


def _balls(points: list[_Point], reference: Volume) -> dict[Voxel, int]:
    """The voxels of each point's ball, kept one voxel apart, as voxel -> number of its point.

    A voxel belongs to the nearest point whose ball covers it. Where two balls touch, the later one
    gives way, but nobody loses the voxel at its centre.
    """
    nearest: dict[Voxel, tuple[float, int]] = {}
    for number, point in enumerate(points):
        for voxel, distance_mm in _ball(point, reference):
            if voxel not in nearest or (distance_mm, number) < nearest[voxel]:
                nearest[voxel] = (distance_mm, number)
    centres = {point.centre for point in points}
    owners = {voxel: number for voxel, (_, number) in nearest.items()}
    for voxel in sorted(nearest, key=lambda voxel: (owners[voxel], voxel)):
        if voxel in centres:
            continue
        rivals = [
            neighbour
            for neighbour in _around(voxel)
            if owners.get(neighbour, owners[voxel]) != owners[voxel]
            and (neighbour in centres or owners[neighbour] < owners[voxel])
        ]
        if rivals:
            del owners[voxel]
    return _only_what_holds_its_centre(owners, points)


def _ball(point: _Point, reference: Volume) -> list[tuple[Voxel, float]]:
    """Voxels whose centre is within the radius, with the distance in mm; the nearest voxel always is."""
    reach = np.ceil(point.radius_mm / _smallest_steps_mm(reference)).astype(int) + 1
    low = np.maximum(np.array(point.centre) - reach, 0)
    high = np.minimum(np.array(point.centre) + reach + 1, reference.shape)
    voxels = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1).reshape(-1, 3)
    distance_mm = np.linalg.norm((voxels - point.voxel) @ reference.affine[:3, :3].T, axis=1)
    inside = (distance_mm <= point.radius_mm) | np.all(voxels == point.centre, axis=1)
    return [
        ((i, j, k), 0.0 if (i, j, k) == point.centre else float(distance))
        for (i, j, k), distance in zip(voxels[inside].tolist(), distance_mm[inside], strict=True)
    ]


def _smallest_steps_mm(reference: Volume) -> NDArray[np.float64]:
    """Distance in mm between neighbouring voxel planes along i, j, k; right for sheared grids too."""
    steps: NDArray[np.float64] = 1 / np.linalg.norm(np.linalg.inv(reference.affine[:3, :3]), axis=1)
    return steps


def _only_what_holds_its_centre(owners: dict[Voxel, int], points: list[_Point]) -> dict[Voxel, int]:
    """Drop crumbs that trimming cut off from the centre of their ball."""
    kept: dict[Voxel, int] = {}
    for point in points:
        number = owners[point.centre]
        waiting = [point.centre]
        while waiting:
            voxel = waiting.pop()
            if voxel not in kept:
                kept[voxel] = number
                waiting += [neighbour for neighbour in _around(voxel) if owners.get(neighbour) == number]
    return kept


def _around(voxel: Voxel) -> list[Voxel]:
    i, j, k = voxel
    return [(i + di, j + dj, k + dk) for di, dj, dk in NEIGHBOURS]


def _nearest_voxel(voxel: NDArray[np.float64]) -> Voxel:
    i, j, k = (math.floor(value + 0.5) for value in voxel)
    return i, j, k


def _inside(voxel: Voxel, shape: tuple[int, int, int]) -> bool:
    return all(0 <= index < size for index, size in zip(voxel, shape, strict=True))
