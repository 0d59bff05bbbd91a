"""The layout of UK Biobank's susceptibility-weighted bulk downloads: a zip archive a visit.

Field 20251 holds the susceptibility-weighted images, field 20252 T1; names within are those of the UK
Biobank's own pipeline (Alfaro-Almagro et al. 2018). Phase is in whole numbers from -4096 (-pi) to 4096.
UK Biobank has no microbleed masks; `readings/` stands for a reading of one's own.
"""

import gzip
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.files import atomic_path, write_text
from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.simulation.layouts.case import Case, Plan, card_head, counted_names, grey_values
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.scan import SimulatedScan

__all__ = ["IMAGES", "OWN_NAMES", "SESSION", "finish", "subject_names", "write_scan"]

OWN_NAMES = re.compile(r"\d{7}_2025[12]_2_0\.zip|readings")
IMAGES = ("mag", "phase", "swi", "t1w")
SESSION = "2"
"""The imaging visit, the third of all."""
PHASE_STEPS = 4096
"""A phase of pi."""


def subject_names(protocols: Sequence[Protocol], mix: Sequence[Protocol]) -> list[str]:  # noqa: ARG001
    return counted_names(protocols, "{:07d}", 9_000_001, 9_999_999)


def write_scan(out: Path, plan: Plan, scan: SimulatedScan) -> None:
    """Write the two archives of one visit, and the mask."""
    _write_zip(out / f"{plan.subject}_20251_{SESSION}_0.zip", _susceptibility(scan), scan)
    _write_zip(out / f"{plan.subject}_20252_{SESSION}_0.zip", [("T1/T1.nii.gz", scan.images["t1w"])], scan)
    if plan.labelled:
        path = out / "readings" / f"{plan.subject}_{SESSION}_0_CMB.nii.gz"
        write_volume(path, Volume(scan.mask, scan.affine), np.uint8)


def _susceptibility(scan: SimulatedScan) -> Iterator[tuple[str, NDArray[np.float32]]]:
    yield "SWI/SWI.nii.gz", scan.images["swi"]
    for echo in range(len(scan.protocol.echo_times_ms)):
        suffix = f"_TE{echo + 1}" if echo else ""
        yield f"SWI/SWI_TOTAL_MAG{suffix}.nii.gz", scan.images["mag"][..., echo]
        yield f"SWI/SWI_TOTAL_PHA{suffix}.nii.gz", scan.images["phase"][..., echo] * (PHASE_STEPS / np.pi)


def _write_zip(path: Path, members: Iterable[tuple[str, NDArray[np.float32]]], scan: SimulatedScan) -> None:
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, image in members:
            # A fixed date, so that the same scan is the same archive byte for byte.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), _nifti_gz(image, scan.affine))


def _nifti_gz(image: NDArray[np.float32], affine: NDArray[np.float64]) -> bytes:
    nifti = nib.Nifti1Image(grey_values(image), affine)
    nifti.set_qform(affine, 1)
    nifti.set_sform(affine, 1)
    return gzip.compress(nifti.to_bytes(), compresslevel=1, mtime=0)


def finish(out: Path, cases: Sequence[Case], labelled: bool, name: str) -> None:  # noqa: ARG001
    write_text(out / "card.yaml", card_head(name) + CARD + (LABELS if labelled else "labels: {}\n"))


CARD = r"""status: unverified
root: .
licence: {id: CC0-1.0, redistribute: true}
case: "{sub}_{ses}"
group_by: [sub]
images:
  SWI: {role: swi, path: "{sub:\\d{7}}_20251_{ses:\\d}_0.zip!/SWI/SWI.nii.gz"}
  MAG:
    role: gre_mag
    optional: true
    pick: latest
    path: "{sub:\\d{7}}_20251_{ses:\\d}_0.zip!/SWI/SWI_TOTAL_MAG{te:(?:_TE\\d)?}.nii.gz"
  PHA:
    role: gre_phase
    optional: true
    pick: latest
    path: "{sub:\\d{7}}_20251_{ses:\\d}_0.zip!/SWI/SWI_TOTAL_PHA{te:(?:_TE\\d)?}.nii.gz"
  T1: {role: t1, optional: true, path: "{sub:\\d{7}}_20252_{ses:\\d}_0.zip!/T1/T1.nii.gz"}
meta:
  participants: {path: participants.tsv, key: sub}
  split: {from: group}
ignore: ["truth/*"]
"""
LABELS = r"""labels:
  cmb: {kind: mask, path: "readings/{sub:\\d{7}}_{ses:\\d}_0_CMB.nii.gz", values: {cmb: 1}}
"""
