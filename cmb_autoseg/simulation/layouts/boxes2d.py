"""Slices as JPEG with boxes, as collections for object detectors come.

`images/NAME_SSS.jpg` is one axial SWI slice as a radiologist looks at it: columns run to the patient's left, rows
to the back. `labels/NAME_SSS.txt` has one line a box: class, centre column, centre row, width and height as shares
of the picture (YOLO); it is empty where nothing is seen. `slices/NAME.tsv` says where each picture lies.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.files import atomic_path, write_text, write_tsv
from cmb_autoseg.simulation.layouts.case import Case, Plan, card_head, counted_names
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.scan import SimulatedScan

__all__ = ["IMAGES", "OWN_NAMES", "SESSION", "finish", "subject_names", "write_scan"]

OWN_NAMES = re.compile(r"images|labels|classes\.txt|slices")
IMAGES = ("swi",)
SESSION = None
QUALITY = 92
MARGIN_VOXELS = 1
"""Readers draw boxes around a lesion, not through its edge."""
LEAST_BRAIN = 0.02
"""Slices with a smaller share of brain are left out."""
SLICE_COLUMNS = ["image", "k", "x_mm", "y_mm", "z_mm", "pixel_mm", "slice_mm", "n_boxes"]
"""`x_mm y_mm z_mm`: middle of the slice, RAS."""


def subject_names(protocols: Sequence[Protocol], mix: Sequence[Protocol]) -> list[str]:  # noqa: ARG001
    return counted_names(protocols, "p{:04d}", 1, 9999)


def write_scan(out: Path, plan: Plan, scan: SimulatedScan) -> None:
    """Write the slices of one subject that show brain, with their boxes."""
    boxes = _boxes(scan) if plan.labelled else []
    white = float(np.percentile(scan.images["swi"][scan.brain], 99.5))
    pixels = np.clip(scan.images["swi"] * (255 / max(white, 1e-6)), 0, 255).astype(np.uint8)
    rows = []
    for k in np.flatnonzero(scan.brain.mean(axis=(0, 1)) >= LEAST_BRAIN):
        stem = f"{plan.subject}_{k:03d}"
        _write_jpeg(out / "images" / f"{stem}.jpg", pixels[::-1, ::-1, k].T)
        here = [box for slice_, box in boxes if slice_ == k]
        if plan.labelled:
            write_text(out / "labels" / f"{stem}.txt", "".join(f"0 {_yolo(box, scan)}\n" for box in here))
        middle = scan.affine @ [(scan.grid.shape[0] - 1) / 2, (scan.grid.shape[1] - 1) / 2, k, 1]
        where = dict(zip(("x_mm", "y_mm", "z_mm"), map(float, middle[:3]), strict=True))
        sizes = {"pixel_mm": scan.grid.spacing_mm[0], "slice_mm": scan.grid.spacing_mm[2]}
        seen = {"n_boxes": len(here)} if plan.labelled else {}
        rows.append({"image": f"{stem}.jpg", "k": int(k), **where, **sizes, **seen})
    write_tsv(out / "slices" / f"{plan.subject}.tsv", SLICE_COLUMNS, rows)


def _boxes(scan: SimulatedScan) -> list[tuple[int, NDArray[np.int64]]]:
    """Slice and in-plane box, ((i low, j low), (i high, j high)) inclusive, of each visible region in each slice."""
    boxes = []
    for mark in scan.marks:
        for k in np.unique(mark.voxels[:, 2]):
            plane = mark.voxels[mark.voxels[:, 2] == k][:, :2]
            low = np.maximum(plane.min(axis=0) - MARGIN_VOXELS, 0)
            high = np.minimum(plane.max(axis=0) + MARGIN_VOXELS, np.array(scan.grid.shape[:2]) - 1)
            boxes.append((int(k), np.stack([low, high])))
    return boxes


def _yolo(box: NDArray[np.int64], scan: SimulatedScan) -> str:
    """Centre column, centre row, width and height as shares of the picture, in which both axes run backwards."""
    size = np.array(scan.grid.shape[:2])
    low, high = box
    centre = (size - (low + high + 1) / 2) / size
    extent = (high + 1 - low) / size
    return " ".join(f"{value:.6f}" for value in (*centre, *extent))


def _write_jpeg(path: Path, pixels: NDArray[np.uint8]) -> None:
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, format="JPEG", quality=QUALITY)


def finish(out: Path, cases: Sequence[Case], labelled: bool, name: str) -> None:  # noqa: ARG001
    write_text(out / "classes.txt", "microbleed\n")
    write_text(out / "card.yaml", card_head(name) + CARD + (LABELS if labelled else "labels: {}\n"))


CARD = r"""status: verified
root: .
licence: {id: CC0-1.0, redistribute: true}
dim: 2
case: "{sub}"
group_by: [sub]
images:
  SWI:
    role: swi
    path: "images/{sub:p\\d{4}}_{slice:\\d{3}}.jpg"
    stack: slice
    axes: LPS
    slices: {path: "slices/{sub:p\\d{4}}.tsv"}
meta:
  participants: {path: participants.tsv, key: sub}
  split: {from: group}
ignore: ["truth/*", "participants.tsv", "classes.txt"]
"""
LABELS = r"""labels:
  cmb: {kind: boxes, format: yolo, path: "labels/{sub:p\\d{4}}_{slice:\\d{3}}.txt", values: {cmb: 0}}
"""
