"""The layout of Dou et al. 2016 (IEEE Trans Med Imaging 35:1182): SWI as `.nii`, points as MATLAB files.

`ground_truth/NN.mat` holds `cen`, one row a microbleed: voxels (i, j, k) of the file, counted from 1.
"""

import re
from collections.abc import Sequence
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

OWN_NAMES = re.compile(r"nii|ground_truth")
IMAGES = ("swi",)
SESSION = None
MAT_TEXT = b"MATLAB 5.0 MAT-file, simulated by cmb_simulate"


def subject_names(protocols: Sequence[Protocol], mix: Sequence[Protocol]) -> list[str]:  # noqa: ARG001
    return counted_names(protocols, "{:02d}", 1, 99)


def write_scan(out: Path, plan: Plan, scan: SimulatedScan) -> None:
    """Write SWI with the whole head, and the points of one subject."""
    image = Volume(grey_values(scan.images["swi"]), scan.affine)
    write_volume(out / "nii" / f"{plan.subject}.nii", image, np.int16)
    if plan.labelled:
        centres = image.to_voxels(visible_centres_mm(scan))
        _write_mat(out / "ground_truth" / f"{plan.subject}.mat", np.rint(centres) + 1)


def _write_mat(path: Path, centres: NDArray[np.float64]) -> None:
    from scipy.io import savemat

    with atomic_path(path) as temporary:
        savemat(temporary, {"cen": centres}, appendmat=False)
        # The header's text names the day; without it the same points are the same bytes.
        with temporary.open("r+b") as stream:
            stream.write(MAT_TEXT.ljust(116))


def finish(out: Path, cases: Sequence[Case], labelled: bool, name: str) -> None:  # noqa: ARG001
    write_text(out / "card.yaml", card_head(name) + CARD + (LABELS if labelled else "labels: {}\n"))


CARD = r"""status: verified
root: .
licence: {id: CC0-1.0, redistribute: true}
images:
  SWI: {role: swi, path: "nii/{sub:\\d{2}}.nii"}
meta:
  participants: {path: participants.tsv, key: sub}
  split: {from: group}
ignore: ["truth/*", "participants.tsv"]
"""
LABELS = r"""labels:
  cmb: {kind: points, path: "ground_truth/{sub:\\d{2}}.mat", variable: cen, space: voxel1, radius_mm: 1.5}
"""
