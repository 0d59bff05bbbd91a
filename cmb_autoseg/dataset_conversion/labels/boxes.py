"""Microbleeds marked by boxes: the ellipse inscribed in each on its slice, or the ellipsoid in a volume."""

from collections.abc import Sequence

from cmb_autoseg.dataset_conversion.labels.box import Box, Picture
from cmb_autoseg.dataset_conversion.labels.box_files import READERS_OF_BOXES, coco_lists
from cmb_autoseg.dataset_conversion.labels.result import LabelResult, count_lesions
from cmb_autoseg.dataset_conversion.labels.shapes import Shape, draw, rasterize, touch, unite
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import LabelSource

__all__ = ["read_boxes"]


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
    return LabelResult(grid.with_data(data), n_lesions, tuple(notes))


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
    """Boxes of neighbouring slices that overlap are one lesion; each has at most one box on a slice.

    Of several that overlap the pair with the largest overlap goes together first.
    """
    shapes = [rasterize(box.inscribed, grid.shape) for box in boxes]
    on_slice: dict[int | None, list[int]] = {}
    for number, box in enumerate(boxes):
        on_slice.setdefault(box.slice, []).append(number)
    pairs = sorted(
        (-overlap, one, other)
        for one, box in enumerate(boxes)
        if box.slice is not None
        for other in on_slice.get(box.slice + 1, ())
        if (overlap := _overlap(box, boxes[other])) > 0 and touch(shapes[one], shapes[other])
    )
    above: dict[int, int] = {}
    taken: set[int] = set()
    for _, one, other in pairs:
        if one not in above and other not in taken:
            above[one] = other
            taken.add(other)
    lowest = [number for number in range(len(boxes)) if number not in taken]
    return [unite([shapes[number] for number in _chain(number, above)]) for number in lowest]


def _chain(number: int, above: dict[int, int]) -> list[int]:
    chain = [number]
    while chain[-1] in above:
        chain.append(above[chain[-1]])
    return chain


def _overlap(one: Box, other: Box) -> float:
    """Shared area as a part of the joint one, of boxes on two slices."""
    low = [max(a, b) for a, b in zip(one.low[:2], other.low[:2], strict=True)]
    high = [min(a, b) for a, b in zip(one.high[:2], other.high[:2], strict=True)]
    width, height = high[0] - low[0], high[1] - low[1]
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return float(shared / (_area(one) + _area(other) - shared))


def _area(box: Box) -> float:
    return float((box.high[0] - box.low[0]) * (box.high[1] - box.low[1]))
