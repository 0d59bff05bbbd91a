"""DICOM frames sorted into stacks: one volume of one echo and one part (magnitude, phase) each.

The grid of a stack is the one that dcm2niix will give it, computed from positions and orientations.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.readers.dicom_frames import Frame, Vector

__all__ = ["Stack", "find_stacks"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
GAP_TOLERANCE = 0.1
"""Share of the slice distance by which slices may be off their even places."""
DRIFT_TOLERANCE_MM = 0.5
"""By which the line through the slices' first pixels may leave the normal of the slices, over the whole stack."""
SAME_PLACE_MM = 0.01

Affine = NDArray[np.float64]


@dataclass(frozen=True)
class Stack:
    """One volume of a DICOM series."""

    frames: tuple[Frame, ...]
    """In the order of slices, along the normal of the first."""
    echo: int
    """Of the volumes that its series has of this part, from 1."""
    n_echoes: int
    n_doubled: int = 0
    """Files that were there a second time."""

    @property
    def first(self) -> Frame:
        return self.frames[0]

    @property
    def files(self) -> tuple[str, ...]:
        """Each once, sorted by name."""
        return tuple(sorted({frame.file for frame in self.frames}))

    @property
    def title(self) -> str:
        """What messages call it, beside its series' folder; nothing in it tells who was scanned."""
        echo = f" echo {self.echo}" if self.n_echoes > 1 else ""
        return f"series {self.first.series_number}{echo}{f' {self.first.part}' if self.first.part else ''}"

    @cached_property
    def fault(self) -> str:
        """Why it is no volume, in a few words; '' where it is one."""
        first = self.first
        if first.colours != 1:
            return "its images are in colour"
        if "MOSAIC" in first.image_type:
            return "its images are mosaics of slices, which only echo-planar series are; convert it to NIfTI"
        if first.orientation is None or first.spacing_mm is None or min(first.spacing_mm) <= 0:
            return "its headers do not say how the slices lie"
        if any(frame.position_mm is None for frame in self.frames):
            return "its headers do not say where the slices lie"
        if len(self.frames) < 2:
            return "it has a single slice"
        return _unevenness(self._positions_mm, self._normal)

    @cached_property
    def _positions_mm(self) -> NDArray[np.float64]:
        return np.array([frame.position_mm for frame in self.frames])

    @cached_property
    def _normal(self) -> NDArray[np.float64]:
        assert self.first.orientation is not None
        return np.cross(*_directions(self.first.orientation))

    @property
    def step_mm(self) -> float:
        """Distance of neighbouring slices."""
        return float(np.linalg.norm(self._positions_mm[-1] - self._positions_mm[0])) / (len(self.frames) - 1)

    @cached_property
    def grid(self) -> tuple[tuple[int, int, int], Affine]:
        """Shape and affine (voxel indices to RAS millimetres) of the volume that dcm2niix makes of it.

        Only of a stack without `fault`.
        """
        first = self.first
        assert first.spacing_mm is not None
        assert first.orientation is not None
        shape = (first.columns, first.rows, len(self.frames))
        row, column = _directions(first.orientation)
        between_rows, between_columns = first.spacing_mm
        affine = np.eye(4)
        affine[:3, 0] = LPS_TO_RAS @ row * between_columns
        affine[:3, 1] = LPS_TO_RAS @ column * between_rows
        affine[:3, 2] = LPS_TO_RAS @ (self._positions_mm[-1] - self._positions_mm[0]) / (len(self.frames) - 1)
        affine[:3, 3] = LPS_TO_RAS @ self._positions_mm[0]
        # dcm2niix turns the rows round, so that they count up from the bottom of the picture.
        affine = affine @ _flip(1, shape[1])
        is_turned = first.acquisition == "3D" and "EP" not in first.scanning_sequence
        return _turned(shape, affine) if is_turned else (shape, affine)


def _directions(orientation: Vector) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors in which columns and rows count up, LPS."""
    return np.array(orientation[:3]), np.array(orientation[3:])


def find_stacks(frames: Iterable[Frame], apart: Sequence[int] = ()) -> list[Stack]:
    """Sort frames into volumes; of a file that is there twice the first by name is kept.

    Series of several people may be mixed: identifiers keep them apart. Frames of one series are apart by
    part, kind of image, size, orientation and echo time; several at one place of one echo time are
    volumes that follow each other in time, which are numbered like echoes.

    Args:
        frames: in any order.
        apart: numbers of tags whose values, too, keep frames apart; they must have been asked for when the frames
            were read. Anonymization may give several people the same identifiers of study, series and image.
    """
    volumes: defaultdict[tuple[object, ...], list[Frame]] = defaultdict(list)
    seen: set[tuple[object, ...]] = set()
    doubled: defaultdict[tuple[object, ...], int] = defaultdict(int)
    for frame in sorted(frames, key=lambda frame: (frame.file, frame.index or 0)):
        whose = tuple(frame.tags.get(tag, "") for tag in apart)
        key = (*whose, *_key(frame))
        identity = (frame.instance_uid or frame.file, frame.index, *whose)
        if identity in seen:
            doubled[key] += 1
            continue
        seen.add(identity)
        volumes[key].append(frame)
    return [stack for key, volume in volumes.items() for stack in _split(volume, doubled[key])]


def _key(frame: Frame) -> tuple[object, ...]:
    orientation = None if frame.orientation is None else tuple(np.round(frame.orientation, 2) + 0.0)
    spacing = None if frame.spacing_mm is None else tuple(np.round(frame.spacing_mm, 3))
    return (
        *(frame.study_uid, frame.series_number, frame.series_uid, frame.sop_class, frame.image_type, frame.part or ""),
        *(frame.rows, frame.columns, frame.colours, spacing, orientation),
    )


def _split(frames: Sequence[Frame], doubled: int) -> list[Stack]:
    """The stacks of one part of one series, in the order of echo times, or of time."""
    by_echo: defaultdict[float, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_echo[-1.0 if frame.echo_time_ms is None else round(frame.echo_time_ms, 2)].append(frame)
    echo_times = sorted(by_echo)
    volumes = [volume for echo_time in echo_times for volume in _by_time(by_echo[echo_time])]
    numbers = [volume[0].echo_number for volume in volumes]
    distinct = len(set(numbers)) == len(volumes) and None not in numbers
    echoes = [number or 1 for number in numbers] if distinct else list(range(1, len(volumes) + 1))
    return [
        Stack(tuple(volume), echo, len(volumes), doubled if echo == echoes[0] else 0)
        for echo, volume in zip(echoes, volumes, strict=True)
    ]


def _by_time(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames of one echo time as volumes: the n-th frame at every place belongs to the n-th."""
    placed = _along_normal(frames)
    if placed is None:
        return [sorted(frames, key=lambda frame: frame.order)]
    places: list[list[Frame]] = []
    last_mm = -np.inf
    for at_mm, frame in placed:
        if at_mm - last_mm > SAME_PLACE_MM:
            places.append([])
        places[-1].append(frame)
        last_mm = at_mm
    for place in places:
        place.sort(key=lambda frame: (frame.echo_number or 0, *frame.order))
    count = max(map(len, places))
    return [[place[n] for place in places if n < len(place)] for n in range(count)]


def _along_normal(frames: Sequence[Frame]) -> list[tuple[float, Frame]] | None:
    """Frames with their places along the normal in millimetres, sorted; None where headers do not say."""
    orientation = frames[0].orientation
    if orientation is None:
        return None
    normal = np.cross(*_directions(orientation))
    placed: list[tuple[float, Frame]] = []
    for frame in frames:
        if frame.position_mm is None:
            return None
        placed.append((float(normal @ frame.position_mm), frame))
    return sorted(placed, key=lambda item: item[0])


def _unevenness(positions_mm: NDArray[np.float64], normal: NDArray[np.float64]) -> str:
    """What is wrong with the places of the slices; '' where they are even and straight."""
    steps_mm = np.diff(positions_mm @ normal)
    step_mm = float(np.median(steps_mm))
    # With few slices the median itself may span a gap.
    step_mm = float(steps_mm.min()) if len(steps_mm) < 4 else step_mm
    if np.abs(steps_mm - step_mm).max() > GAP_TOLERANCE * step_mm:
        missing = int(np.sum(np.maximum(np.rint(steps_mm / step_mm) - 1, 0)))
        found = f"{missing} of {len(positions_mm) + missing} slices are missing" if missing else "slices lie unevenly"
        return f"{found} (distances from {steps_mm.min():.3g} to {steps_mm.max():.3g} mm); export the series again"
    along = positions_mm[-1] - positions_mm[0]
    drift_mm = float(np.linalg.norm(along - (along @ normal) * normal))
    if drift_mm > DRIFT_TOLERANCE_MM:
        return f"its slices are not stacked straight (shifted sideways by {drift_mm:.3g} mm in all)"
    return ""


def _flip(axis: int, size: int) -> Affine:
    flip = np.eye(4)
    flip[axis, axis] = -1
    flip[axis, 3] = size - 1
    return flip


def _turned(shape: tuple[int, int, int], affine: Affine) -> tuple[tuple[int, int, int], Affine]:
    """The grid with axes to right, front and top, as dcm2niix turns 3D acquisitions (`nii_setOrtho`).

    Its rule differs from nibabel's for steep oblique slices: flips make the first voxel the corner that is
    nearest to the box around the volume; then axes are ordered by the largest sum of the diagonal.
    """
    corners = list(itertools.product((0, 1), repeat=3))
    far = np.array(corners) * (np.array(shape) - 1)
    places_mm = far @ affine[:3, :3].T
    nearest = corners[int(np.argmin(np.sum((places_mm - places_mm.min(axis=0)) ** 2, axis=1)))]
    for axis in range(3):
        if nearest[axis]:
            affine = affine @ _flip(axis, shape[axis])
    order = max(itertools.permutations(range(3)), key=lambda order: sum(affine[n, order[n]] for n in range(3)))
    i, j, k = (shape[axis] for axis in order)
    return (i, j, k), affine[:, [*order, 3]]
