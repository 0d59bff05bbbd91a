"""The same lesions, however they are marked, become the same components."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy.io import savemat

from cmb_autoseg.dataset_conversion.labels import read_label
from cmb_autoseg.records import LabelSource, TableRows

from .conftest import boxes, coco, components, grid_of, voc, workbook, write, yolo

BOXES = (((2, 3, 1), (4, 5, 1)), ((8, 2, 4), (10, 4, 6)), ((10, 9, 7), (14, 11, 9)), ((5, 9, 3), (5, 9, 3)))
"""First and last voxel of each lesion; its middle is a voxel."""
MIDDLES = np.array(sorted(((np.array(low) + high) / 2).tolist() for low, high in BOXES))


def in_space(space, grid):
    if space == "voxel0":
        return MIDDLES
    if space == "voxel1":
        return MIDDLES + 1
    return grid.to_ras_mm(MIDDLES) * ((-1, -1, 1) if space == "lps_mm" else (1, 1, 1))


def mask(folder, grid):
    data = np.zeros(grid.shape, np.uint8)
    for low, high in BOXES:
        data[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = 1
    nib.save(nib.Nifti1Image(data, grid.affine), folder / "m.nii.gz")
    return LabelSource(kind="mask", path=str(folder / "m.nii.gz"), values={"cmb": 1})


def points(space, suffix):
    def make(folder, grid):
        rows = in_space(space, grid)
        settings = {}
        path = folder / f"points{suffix}"
        if suffix == ".tsv":
            write(path, "x\ty\tz\n" + "".join("\t".join(f"{v:.6f}" for v in row) + "\n" for row in rows))
        elif suffix == ".json":
            write(path, json.dumps(rows.tolist()))
        elif suffix == ".mat":
            savemat(path, {"cen": rows})
            settings = {"variable": "cen"}
        elif suffix == ".xlsx":
            workbook(path, [("x", "y", "z"), *([str(v) for v in row] for row in rows)])
        else:
            path = workbook(folder / "wide.xlsx", [("name", "x1"), ("other", 1, 1, 1), ("me", *rows.ravel())])
            settings = {"rows": TableRows(column="name", equals="me", wide=True)}
        return LabelSource(kind="points", path=str(path), space=space, radius_mm=1.2, **settings)

    return make


def yolo_3d(folder, grid):
    return boxes(write(folder / "b.txt", yolo(BOXES)), "yolo")


def voc_3d(folder, grid):
    return boxes(write(folder / "b.xml", voc(BOXES)), "voc")


def coco_3d(folder, grid):
    path = write(folder / "b.json", coco({"other.nii.gz": [], "scan.nii.gz": BOXES}))
    return boxes(path, "coco", pictures=("/data/scan.nii.gz",))


def sliced(form):
    def make(folder, grid):
        flat = {k: [(low[:2], high[:2]) for low, high in BOXES if low[2] <= k <= high[2]] for k in range(grid.shape[2])}
        pictures = tuple(f"/data/p_{k:03d}.jpg" for k in flat)
        if form == "coco":
            path = write(folder / "c.json", coco({f"p_{k:03d}.jpg": here for k, here in flat.items()}))
            return boxes(path, "coco", pictures=pictures)
        text = {"yolo": yolo, "voc": voc}[form]
        files = tuple(str(write(folder / f"{k}.{form}", text(here))) if here else "" for k, here in flat.items())
        return boxes(folder, form, files=files, pictures=pictures)

    return make


def table(space):
    def make(folder, grid):
        fields = ["x_min", "x_max", "y_min", "y_max", "z_min", "z_max", "class"]
        rows = []
        for low, high in BOXES:
            if space.startswith("voxel"):
                faces = np.array([low, high]) + (space == "voxel1")
            else:
                middle = grid.to_ras_mm((np.array([low]) + high) / 2)[0] * ((-1, -1, 1) if space == "lps_mm" else 1)
                faces = np.array([middle - 1.2, middle + 1.2])
            rows.append([*(f"{v:.6f}" for v in faces.T.ravel()), "cmb"])
        text = "\n".join("\t".join(row) for row in [fields, *rows])
        return boxes(write(folder / "b.tsv", text), "table", space=space)

    return make


WAYS = {
    "mask": mask,
    **{f"points {s} {f}": points(s, f) for s in ("ras_mm", "lps_mm", "voxel0", "voxel1") for f in (".tsv", ".mat")},
    "points voxel1 .xlsx": points("voxel1", ".xlsx"),
    "points ras_mm .json": points("ras_mm", ".json"),
    "points voxel1 wide": points("voxel1", "wide"),
    "yolo 3D": yolo_3d,
    "voc 3D": voc_3d,
    "coco 3D": coco_3d,
    **{f"{form} slices": sliced(form) for form in ("yolo", "voc", "coco")},
    **{f"table {space}": table(space) for space in ("ras_mm", "lps_mm", "voxel0", "voxel1")},
}


@pytest.mark.parametrize("kind", ["straight", "flipped", "oblique"])
@pytest.mark.parametrize("way", WAYS)
def test_the_same_lesions_in_every_form(way, kind, tmp_path):
    grid = grid_of(kind)
    result = read_label(WAYS[way](tmp_path, grid), grid)
    found = components(result.volume)
    assert result.n_lesions == len(found) == len(MIDDLES)
    assert np.abs(found - MIDDLES).max() <= 0.5
    assert result.volume.affine is grid.affine
    assert result.volume.data.dtype == np.uint8
