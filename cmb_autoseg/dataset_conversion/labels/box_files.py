"""Files of boxes: YOLO, Pascal VOC, COCO and tables."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.dataset_conversion.labels.box import (
    AXES,
    Box,
    Picture,
    box_in_voxels,
    check_middle,
    check_size,
    is_microbleed,
)
from cmb_autoseg.dataset_conversion.labels.files import json_content, label_text, remembered
from cmb_autoseg.dataset_conversion.labels.points import from_file_to_ras_mm
from cmb_autoseg.dataset_conversion.labels.tables import Row, check_column, number, read_table
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import LabelSource

__all__ = ["READERS_OF_BOXES", "coco_images", "coco_lists", "coco_named"]

YOLO_NUMBERS = {4: 2, 6: 3}
"""How many numbers follow the class, to dimensions."""
COCO_NUMBERS = {4: 2, 6: 3}
FIELDS = ("x_min", "x_max", "y_min", "y_max", "z_min", "z_max")


def yolo_boxes(source: LabelSource, picture: Picture, grid: Volume) -> list[Box]:
    """Lines `class cx cy w h`, or `class cx cy cz w h d`, as shares of the picture's or volume's size."""
    boxes = []
    for n, line in enumerate(label_text(picture.file).splitlines(), 1):
        where = f"{picture.file} line {n}"
        parts = line.split()
        if not parts:
            continue
        dimensions = YOLO_NUMBERS.get(len(parts) - 1)
        if dimensions is None:
            raise InputError(
                f"{where}: found {len(parts)} values, expected class cx cy w h (in 3D: class cx cy cz w h d); "
                "export boxes, neither outlines nor predictions"
            )
        if not re.fullmatch(r"\d+", parts[0]):
            raise InputError(f"{where}: class {parts[0]!r} is no whole number; write the number of the class")
        shares = _numbers(parts[1:], where)
        centre, size = shares[:dimensions], shares[dimensions:]
        extent = np.array(grid.shape[:dimensions])
        low, high = (centre - size / 2) * extent - 0.5, (centre + size / 2) * extent - 0.5
        if is_microbleed(int(parts[0]), None, source, where):
            boxes.append(box_in_voxels(where, low, high, picture, grid))
    return boxes


def voc_boxes(source: LabelSource, picture: Picture, grid: Volume) -> list[Box]:
    """Objects with `bndbox`: first and last pixel, counted from 1 as in VOC, or from 0 with `space: voxel0`."""
    text = label_text(picture.file)
    if not text:
        return []
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"{picture.file}: holds a DOCTYPE or ENTITY, which VOC files have no use for; remove it")
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError) as error:
        raise InputError(f"{picture.file}: not readable as XML ({error}); export it again") from None
    _check_voc_size(root, picture, grid)
    boxes = []
    for n, item in enumerate(root.iter("object"), 1):
        where = f"{picture.file} object {n}"
        name = (item.findtext("name") or "").strip()
        box = item.find("bndbox")
        if box is None:
            raise InputError(f"{where}: no bndbox; export boxes, not outlines")
        axes = AXES if box.find("zmin") is not None or box.find("zmax") is not None else AXES[:2]
        first = _numbers([_text(box, f"{axis}min", where) for axis in axes], where)
        last = _numbers([_text(box, f"{axis}max", where) for axis in axes], where)
        origin = 0 if source.space == "voxel0" else 1
        if is_microbleed(name, None, source, where):
            boxes.append(box_in_voxels(where, first - origin - 0.5, last - origin + 0.5, picture, grid))
    return boxes


def _text(box: ET.Element, name: str, where: str) -> str:
    text = box.findtext(name)
    if text is None:
        raise InputError(f"{where}: bndbox has no {name}; correct it")
    return text


def _check_voc_size(root: ET.Element, picture: Picture, grid: Volume) -> None:
    """`depth` is the number of colours and says nothing."""
    size = root.find("size")
    if size is not None and size.findtext("width") and size.findtext("height"):
        sides = [size.findtext(side) for side in ("width", "height")]
        width, height = _numbers(sides, f"{picture.file} size")
        if (width, height) != (0, 0):  # some programs write that for unknown
            _check_picture_size(f"{picture.file}: size", (width, height), grid)


def _check_picture_size(where: str, size: Sequence[float], grid: Volume) -> None:
    for found, there in zip(size, grid.shape, strict=False):
        if found != there:
            listed = " x ".join(f"{side:g}" for side in size)
            own = " x ".join(map(str, grid.shape[: len(size)]))
            raise InputError(f"{where} {listed} but the image has {own}; give the boxes of this image")


@dataclass(frozen=True)
class _Coco:
    """A COCO file by what is asked of it."""

    images: dict[str, list[dict[str, Any]]]
    """By the last part of `file_name`."""
    boxes: dict[Any, list[tuple[int, dict[str, Any]]]]
    """Annotations and their numbers by `image_id`."""
    classes: dict[Any, str]


def _coco(path: str) -> _Coco:
    content = json_content(path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise InputError(f"{path}: no COCO file: {{images: [...], annotations: [...], categories: [...]}} is expected")
    images: dict[str, list[dict[str, Any]]] = {}
    boxes: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
    classes: dict[Any, str] = {}
    for where, image in _entries(path, content, "images", "id", "file_name"):
        images.setdefault(PurePosixPath(str(image["file_name"]).replace("\\", "/")).name, []).append(image)
        if image["id"] in boxes:
            raise InputError(f"{where}: id {image['id']} is another image's too; export it as COCO again")
        boxes[image["id"]] = []
    for n, (where, annotation) in enumerate(_entries(path, content, "annotations", "image_id", "category_id"), 1):
        if annotation["image_id"] not in boxes:
            raise InputError(f"{where}: image_id {annotation['image_id']} is none of the images; correct it")
        boxes[annotation["image_id"]].append((n, annotation))
    for _, category in _entries(path, content, "categories", "id", "name"):
        classes[category["id"]] = str(category["name"])
    return _Coco(images, boxes, classes)


def _entries(path: str, content: dict[str, Any], name: str, *keys: str) -> list[tuple[str, dict[str, Any]]]:
    """The entries of one list of a COCO file, each with what messages call it; all have the keys."""
    listed = content.get(name) or []
    if not isinstance(listed, list):
        raise InputError(f"{path}: {name} is no list; export it as COCO again")
    entries = []
    for n, entry in enumerate(listed, 1):
        where = f"{path} {name} {n}"
        for key in keys:
            if not isinstance(entry, dict) or not isinstance(entry.get(key), int | str):
                raise InputError(f"{where}: no {key}, a number or text is needed; export it as COCO again")
        entries.append((where, entry))
    return entries


def _coco_image(path: str, image: str) -> dict[str, Any] | None:
    """The entry of a picture: by its file's name, and by folders where two have the same name."""
    listed = _named_alike(remembered(_coco, path), image)
    if len(listed) > 1:
        name = PurePosixPath(image).name
        raise InputError(f"{path}: {len(listed)} images called {name}; tell them apart by folders in file_name")
    return listed[0] if listed else None


def _named_alike(content: _Coco, image: str) -> list[dict[str, Any]]:
    """The entries that a picture may be; more than one where folders do not tell them apart."""
    parts = PurePosixPath(image.replace("!/", "/"))
    listed = content.images.get(parts.name, [])
    if len(listed) < 2:
        return listed
    named = [entry for entry in listed if f"/{parts.as_posix()}".endswith(f"/{entry['file_name']}")]
    return named if len(named) == 1 else listed


def coco_images(path: str) -> dict[int | str, tuple[str, str]]:
    """Of each image of a COCO file, by its id: the file name, and its place in the file.

    Raises:
        InputError: the file is no COCO file.
    """
    content = remembered(_coco, path)
    names = {entry["id"]: str(entry["file_name"]) for entries in content.images.values() for entry in entries}
    return {key: (names[key], f"images {n}") for n, key in enumerate(content.boxes, 1)}


def coco_named(path: str, pictures: Iterable[str]) -> Iterator[tuple[str, list[int | str]]]:
    """The ids of the images that each picture may be; "" stands for no picture and is left out.

    Raises:
        InputError: the file is no COCO file.
    """
    content = remembered(_coco, path)
    for picture in pictures:
        if picture:
            yield picture, [entry["id"] for entry in _named_alike(content, picture)]


def coco_lists(path: str, image: str) -> bool:
    """Whether somebody looked at this picture: it is among the images, with or without boxes.

    Raises:
        InputError: the file is no COCO file.
    """
    return _coco_image(path, image) is not None


def coco_boxes(source: LabelSource, picture: Picture, grid: Volume) -> list[Box]:
    """Annotations with `bbox`: x, y, width, height from the picture's corner, or x, y, z and three sizes."""
    entry = _coco_image(picture.file, picture.image)
    if entry is None:
        return []
    name = entry["file_name"]
    sizes = [entry[key] for key in ("width", "height", "depth") if entry.get(key)]
    _check_picture_size(f"{picture.file}: {name}", _numbers(sizes, f"{picture.file}: {name}").tolist(), grid)
    boxes = []
    content = remembered(_coco, picture.file)
    for n, annotation in content.boxes.get(entry["id"], ()):
        where = f"{picture.file} annotations {n} ({name})"
        bbox = annotation.get("bbox")
        dimensions = COCO_NUMBERS.get(len(bbox)) if isinstance(bbox, list) else None
        if not isinstance(bbox, list) or dimensions is None:
            raise InputError(f"{where}: found bbox {bbox!r}, expected 4 numbers, or 6 in 3D; correct it")
        numbers = _numbers(bbox, where)
        low, size = numbers[:dimensions] - 0.5, numbers[dimensions:]
        number_of_class = annotation["category_id"]
        if is_microbleed(number_of_class, content.classes.get(number_of_class), source, where):
            boxes.append(box_in_voxels(where, low, low + size, picture, grid))
    return boxes


def table_boxes(source: LabelSource, picture: Picture, grid: Volume) -> list[Box]:
    """Rows with x_min to z_max: faces in millimetres, or first and last voxel, by `space`."""
    table = read_table(picture.file)
    names = {field: source.columns.get(field, field) for field in FIELDS}
    flat = grid.shape[2] == 1 and names["z_min"] not in table.columns
    if table.columns:
        for field in FIELDS[: 4 if flat else 6]:
            check_column(table.columns, names[field], f"{table.path} header")
    to_file = np.linalg.inv(from_file_to_ras_mm(source.space, grid)) @ grid.affine
    boxes = []
    for row in table.rows:
        if not _is_cmb_row(row, source, table.columns):
            continue
        edges = np.array([number(row, names[field]) for field in FIELDS[: 4 if flat else 6]])
        low, high = edges[0::2], edges[1::2]
        if flat:
            first = to_file[2, 3]  # slice 0 in the file's coordinates
            low, high = np.append(low, first), np.append(high, first)
        if source.space in ("voxel0", "voxel1"):
            low, high = low - 0.5, high + 0.5
        elif flat:
            half = grid.spacing_mm[2] / 2
            low[2], high[2] = low[2] - half, high[2] + half
        check_size(row.where, low, high)
        box = Box(row.where, low, high, to_file)
        check_middle(box, grid)
        boxes.append(box)
    return boxes


def _is_cmb_row(row: Row, source: LabelSource, columns: Sequence[str]) -> bool:
    column = source.columns.get("class", "class")
    if column not in columns and "class" not in source.columns and not source.values:
        return True
    check_column(row.cells, column, row.where)
    return is_microbleed(str(row.cells[column]).strip(), None, source, row.where)


def _numbers(texts: Sequence[Any], where: str) -> NDArray[np.float64]:
    try:
        values = np.array([float(text) for text in texts], dtype=np.float64)
    except (TypeError, ValueError):
        values = np.array([np.nan])
    if not np.all(np.isfinite(values)):
        raise InputError(f"{where}: found {' '.join(map(str, texts))}, numbers are needed; correct it")
    return values


READERS_OF_BOXES: Mapping[str, Callable[[LabelSource, Picture, Volume], list[Box]]] = {
    "yolo": yolo_boxes,
    "voc": voc_boxes,
    "coco": coco_boxes,
    "table": table_boxes,
}
