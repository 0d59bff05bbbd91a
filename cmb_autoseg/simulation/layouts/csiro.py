"""The layout of CSIRO's public set (Momeni et al. 2021, Comput Methods Programs Biomed 207:106127).

Skull-stripped SWI with voxel axes to the left, back and top; `rCMBInformationInfo.xlsx` has one row a scan: the
file's name, then x, y, z of each microbleed as voxels of the file, counted from 1. Scans
in the folder `NoCMBSubject` were read too, and have no row.
"""

import re
import zipfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.files import atomic_path, write_text
from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.simulation.layouts.case import (
    Case,
    Plan,
    card_head,
    counted_names,
    grey_values,
    visible_centres_mm,
)
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.scan import SimulatedScan

__all__ = ["IMAGES", "OWN_NAMES", "SESSION", "finish", "subject_names", "write_scan"]

SHARE = "PublicDataShare_2020"
WITH, WITHOUT, UNLABELLED = "rCMB_DefiniteSubject", "NoCMBSubject", "UnlabelledSubject"
OWN_NAMES = re.compile(SHARE)
IMAGES = ("swi",)
SESSION = None
LONG_AGO = datetime(2020, 1, 1)


def subject_names(protocols: Sequence[Protocol], mix: Sequence[Protocol]) -> list[str]:  # noqa: ARG001
    return counted_names(protocols, "{}", 1001, 9999)


def write_scan(out: Path, plan: Plan, scan: SimulatedScan) -> None:
    """Write one subject's SWI among those with or without microbleeds, and the points."""
    centres_mm = visible_centres_mm(scan)
    group = (WITH if len(centres_mm) else WITHOUT) if plan.labelled else UNLABELLED
    data = grey_values(scan.images["swi"] * scan.brain)
    volume = Volume(data[::-1, ::-1], scan.affine @ _flip(scan.grid.shape))
    write_volume(out / SHARE / group / f"{plan.subject}_SWI.nii.gz", volume, np.int16)


def _flip(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Voxel indices of the file, which run to the left and back, to those of the scan."""
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    flip[:2, 3] = shape[0] - 1, shape[1] - 1
    return flip


def finish(out: Path, cases: Sequence[Case], labelled: bool, name: str) -> None:
    if labelled:
        _write_workbook(out / SHARE / "rCMBInformationInfo.xlsx", cases)
    write_text(out / "card.yaml", card_head(name) + CARD + (LABELS if labelled else "labels: {}\n"))


def _write_workbook(path: Path, cases: Sequence[Case]) -> None:
    """One row a scan with microbleeds; three columns a microbleed."""
    from openpyxl import Workbook

    most = max((len(case.centre_voxels) for case in cases), default=0)
    book = Workbook()
    book.properties.creator = "cmb_simulate"
    book.properties.created = book.properties.modified = LONG_AGO
    sheet = book.active
    sheet.title = "rCMB"
    sheet.append(["NIFTI File Name", *[f"{axis}{number}" for number in range(1, most + 1) for axis in "xyz"]])
    for case in cases:
        if len(case.centre_voxels):
            stored = np.rint(case.centre_voxels)
            stored[:, :2] = np.array(case.plan.protocol.matrix[:2]) - 1 - stored[:, :2]
            sheet.append([f"{case.plan.subject}_SWI.nii.gz", *map(int, (stored + 1).ravel())])
    with atomic_path(path) as temporary:
        book.save(temporary)
        _forget_when(temporary)


def _forget_when(path: Path) -> None:
    """Take the hour out of a workbook, so that the same table is the same bytes."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            if name == "docProps/core.xml":
                content = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>2020-01-01T00:00:00Z", content)
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO.timetuple()[:6]), content)


CARD = r"""status: verified
root: .
licence: {id: CC0-1.0, redistribute: true}
images:
  SWI: {role: swi, path: "PublicDataShare_2020/{folder:\\w+Subject}/{sub:\\d{4}}_SWI.nii.gz"}
meta:
  participants: {path: participants.tsv, key: sub}
  split: {from: group}
prep: {brain: already_masked, nan: repair}
ignore: ["truth/*", "participants.tsv"]
"""
LABELS = r"""labels:
  cmb:
    kind: points
    path: "PublicDataShare_2020/rCMBInformationInfo.xlsx"
    rows: {column: NIFTI File Name, equals: "{sub}_SWI.nii.gz", wide: true}
    space: voxel1
    radius_mm: 1.5
  no_cmb: {from: folder, is: NoCMBSubject}
"""
