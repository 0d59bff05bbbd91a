"""A small oblique and flipped grid, and writers of every format of labels."""

import json
from pathlib import Path

import numpy as np
from scipy import ndimage

from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import LabelSource

SHAPE = (16, 14, 10)
VOC = "<annotation><size><width>{w}</width><height>{h}</height><depth>3</depth></size>{objects}</annotation>"
VOC_OBJECT = "<object><name>{name}</name><bndbox>{box}</bndbox></object>"


def grid_of(kind: str = "oblique", shape=SHAPE, name: str = "scan.nii.gz") -> Volume:
    """Voxels of 0.9 x 1.1 x 2 mm; flipped and permuted axes, and for `oblique` turned by 20 and 10 degrees."""
    steps = np.zeros((3, 3))
    steps[1, 0], steps[0, 1], steps[2, 2] = -0.9, -1.1, 2.0
    if kind == "straight":
        steps = np.diag([0.9, 1.1, 2.0])
    if kind == "oblique":
        a, b = np.deg2rad([20, 10])
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
        steps = about_x @ about_z @ steps
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = steps, (12.0, -7.0, 31.0)
    return Volume(np.zeros(shape, np.uint8), affine, None, name)


def components(volume: Volume) -> np.ndarray:
    """Centres of mass of the 26-connected components in voxels, in the order of their indices."""
    labelled, count = ndimage.label(volume.data, np.ones((3, 3, 3)))
    centres = np.array(ndimage.center_of_mass(labelled > 0, labelled, range(1, count + 1))).reshape(-1, 3)
    return centres[np.lexsort(centres.T[::-1])]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def boxes(path: Path, form: str, **settings) -> LabelSource:
    values = {"cmb": {"yolo": 0, "table": "cmb"}.get(form, "microbleed")}
    return LabelSource(kind="boxes", path=str(path), format=form, **{"values": values, **settings})


def workbook(path: Path, rows, sheet: str = "Sheet1") -> Path:
    from openpyxl import Workbook

    book = Workbook()
    book.active.title = sheet
    for row in rows:
        book.active.append(list(row))
    book.save(path)
    return path


def voc(boxes_of_voxels, shape=SHAPE, name: str = "microbleed") -> str:
    """VOC of boxes ((low), (high)) by their first and last voxel from 0."""
    objects = []
    for low, high in boxes_of_voxels:
        axes = "xyz"[: len(low)]
        box = "".join(
            f"<{a}min>{lo + 1}</{a}min><{a}max>{hi + 1}</{a}max>" for a, lo, hi in zip(axes, low, high, strict=True)
        )
        objects.append(VOC_OBJECT.format(name=name, box=box))
    return VOC.format(w=shape[0], h=shape[1], objects="".join(objects))


def yolo(boxes_of_voxels, shape=SHAPE, number: int = 0) -> str:
    lines = []
    for low, high in boxes_of_voxels:
        sides = list(zip(low, high, shape, strict=False))
        centres = [(lo + hi + 1) / 2 / n for lo, hi, n in sides]
        sizes = [(hi + 1 - lo) / n for lo, hi, n in sides]
        lines.append(" ".join([str(number), *(f"{v:.6f}" for v in (*centres, *sizes))]))
    return "\n".join(lines) + "\n"


def coco(images, shape=SHAPE, category: str = "microbleed") -> str:
    """COCO of {file name: boxes of voxels}."""
    content = {"images": [], "annotations": [], "categories": [{"id": 7, "name": category}]}
    for n, (name, boxes_of_voxels) in enumerate(images.items(), 1):
        content["images"].append({"id": n, "file_name": name, "width": shape[0], "height": shape[1]})
        for low, high in boxes_of_voxels:
            bbox = [*map(float, low), *(float(hi + 1 - lo) for lo, hi in zip(low, high, strict=True))]
            content["annotations"].append({"image_id": n, "category_id": 7, "bbox": bbox})
    return json.dumps(content)
