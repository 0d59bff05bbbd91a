"""Microbleeds marked by boxes: the ellipse inscribed in each on its slice, or the ellipsoid in a volume."""

from collections.abc import Sequence

import numpy as np

from cmb_autoseg.dataset_conversion.labels.box import Box, Picture
from cmb_autoseg.dataset_conversion.labels.box_files import READERS_OF_BOXES, coco_lists
from cmb_autoseg.dataset_conversion.labels.result import LabelResult, SliceFaces, count_lesions
from cmb_autoseg.dataset_conversion.labels.shapes import Shape, draw, rasterize, touch, unite
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions.linking import chain_boxes, pairs_across_slices
from cmb_autoseg.records import LabelSource

__all__ = ["read_boxes"]

VOXEL_FACE = 0.5
"""From the middle of voxel 0 to its face."""


def read_boxes(source: LabelSource, grid: Volume) -> LabelResult:
    """Ellipses and ellipsoids in the boxes of one case, on `grid`.

    Raises:
        InputError: an unreadable file; a class that is not listed; a box beyond the picture, without
            extent, or of a picture of another size.
    """
    assert source.format is not None
    pictures = _pictures(source, grid)
    read = READERS_OF_BOXES[source.format]
    boxes = [box for picture in pictures if picture.file for box in read(source, picture, grid)]
    lesions = _lesions(boxes, grid)
    data = draw(lesions, grid.shape)
    n_lesions = count_lesions(data)
    notes = [*_notes_on_pictures(source, pictures)]
    if len(lesions) != len(boxes):
        notes.append(
            f"{len(boxes)} boxes, of which those that overlap on neighbouring slices make {len(lesions)} lesions"
        )
    if n_lesions != len(lesions):
        notes.append(f"{len(lesions)} boxed lesions share or touch voxels and are counted as {n_lesions} lesions")
    return LabelResult(grid.with_data(data), n_lesions, tuple(notes), boxes=_faces(boxes))


def _faces(boxes: Sequence[Box]) -> tuple[SliceFaces, ...] | None:
    """Boxes in slices as they were drawn, slice by slice; None where one is of a volume."""
    faces: list[SliceFaces] = []
    for box in boxes:
        if box.slice is None:
            return None
        (x_min, y_min), (x_max, y_max) = ((side[:2] + VOXEL_FACE).tolist() for side in (box.low, box.high))
        faces.append((box.slice, x_min, y_min, x_max, y_max))
    return tuple(sorted(faces))


def _pictures(source: LabelSource, grid: Volume) -> list[Picture]:
    """What to read, slice by slice; one shared file or one file of a volume is read for the whole."""
    if not source.files and not source.pictures:
        return [Picture(source.path, grid.name, None)]
    slices = max(len(source.files), len(source.pictures))
    if slices == 1 and grid.shape[2] > 1:
        return [Picture((source.files or (source.path,))[0], (source.pictures or (grid.name,))[0], None)]
    if slices != grid.shape[2]:
        raise InputError(f"{source.path}: {slices} slices with boxes but the image has {grid.shape[2]}; check stack")
    files = source.files or tuple(source.path if picture else "" for picture in source.pictures)
    images = source.pictures or ("",) * slices
    return [Picture(file, image, n) for n, (file, image) in enumerate(zip(files, images, strict=True))]


def _notes_on_pictures(source: LabelSource, pictures: Sequence[Picture]) -> list[str]:
    """What is assumed of pictures that the boxes do not speak of."""
    there = [picture for picture in pictures if picture.image]
    if source.format == "coco":
        silent = sum(not coco_lists(picture.file, picture.image) for picture in there)
        lack = "are not listed among the COCO images"
    else:
        silent = sum(not picture.file for picture in there)
        lack = "have no file of boxes"
    return [f"{silent} of {len(there)} pictures {lack}; taken as read, without microbleed"] if silent else []


def _lesions(boxes: Sequence[Box], grid: Volume) -> list[Shape]:
    """Boxes of neighboring slices that overlap, and whose ellipses touch, are one lesion."""
    shapes = [rasterize(box.inscribed, grid.shape) for box in boxes]
    flat = [number for number, box in enumerate(boxes) if box.slice is not None]
    slices = np.array([boxes[number].slice for number in flat], dtype=np.int64)
    corners = np.array([[*boxes[number].low[:2], *boxes[number].high[:2]] for number in flat], dtype=np.float64)
    pairs = [
        pair._replace(lower=flat[pair.lower], upper=flat[pair.upper])
        for pair in pairs_across_slices(slices, corners.reshape(-1, 4))
    ]
    linked = [pair for pair in pairs if touch(shapes[pair.lower], shapes[pair.upper])]
    return [unite([shapes[number] for number in chain]) for chain in chain_boxes(len(boxes), linked)]
