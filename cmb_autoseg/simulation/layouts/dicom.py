"""Classic MR DICOM series as trials and ADNI hand them out: one file a slice, one folder a series.

Magnitude and phase of the gradient echo, its SWI and minimum-intensity projection, and T1w. Images are stored as a
radiologist looks at them: columns run to the patient's left, rows to the back. Masks lie beside, as NIfTI.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from cmb_autoseg.files import atomic_path, write_text
from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.simulation.layouts.case import (
    T1W_ECHO_MS,
    T1W_FLIP_DEG,
    T1W_REPETITION_MS,
    Case,
    Plan,
    card_head,
    counted_names,
)
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.scan import SimulatedScan
from cmb_autoseg.simulation.tissue import GAMMA_HZ_PER_T

__all__ = ["IMAGES", "OWN_NAMES", "SESSION", "finish", "subject_names", "write_scan"]

OWN_NAMES = re.compile(r"SIMULATED|masks")
IMAGES = ("mag", "phase", "swi", "minip", "t1w")
ROOT = "SIMULATED"
SESSION = DATE = "20200101"
TIME = "120000"
WHITE = 4095
"""Largest grey value: 12 bits."""
MANUFACTURERS = {"Siemens": "SIEMENS", "GE": "GE MEDICAL SYSTEMS", "Philips": "Philips Medical Systems"}
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class _Series:
    """One DICOM series: the same kind of image at one or more echoes."""

    number: int
    description: str
    image_type: tuple[str, ...]
    stored: NDArray[np.uint16]
    """Shape (i, j, k, echo)."""
    slope: float = 1.0
    intercept: float = 0.0
    is_t1w: bool = False


@dataclass(frozen=True)
class _Visit:
    plan: Plan
    scan: SimulatedScan
    identity: str
    """Digest of the images: the same scan has the same identifiers, another one others."""

    def uid(self, *parts: str | int) -> UID:
        return _uid(self.plan.subject, self.identity, *parts)


def subject_names(protocols: Sequence[Protocol], mix: Sequence[Protocol]) -> list[str]:  # noqa: ARG001
    return counted_names(protocols, "099_S_{:04d}", 1, 9999)


def write_scan(out: Path, plan: Plan, scan: SimulatedScan) -> None:
    """Write all series of one visit, and the mask on their grid."""
    visit = _Visit(plan, scan, hashlib.sha256(scan.images["swi"].tobytes()).hexdigest())
    for series in _all_series(scan):
        folder = out / ROOT / plan.subject / series.description / "2020-01-01_12_00_00.0" / f"I{series.number}"
        for echo in range(series.stored.shape[3]):
            for k in range(series.stored.shape[2]):
                _write_slice(folder, visit, series, k, echo)
    if plan.labelled:
        mask = Volume(scan.mask, scan.affine)
        write_volume(out / "masks" / f"{plan.subject}_CMB.nii.gz", mask, np.uint8)


def _all_series(scan: SimulatedScan) -> Iterator[_Series]:
    images = scan.images
    # One factor for magnitude and what is derived from it, as the scanner has one gain.
    gain = min(1.0, WHITE / max(float(images["mag"].max()), 1.0))
    yield _Series(2, "Axial_T2_STAR", ("ORIGINAL", "PRIMARY", "M", "ND"), _stored(images["mag"] * gain))
    # As Siemens stores phase: whole numbers from 0, which stand for -4096 .. 4094 and thus for -pi .. pi.
    steps = np.rint((images["phase"] / np.pi * 4096 + 4096) / 2)
    yield _Series(
        3, "Axial_T2_STAR_Pha", ("ORIGINAL", "PRIMARY", "P", "ND"), _stored(np.mod(steps, 4096)), 2.0, -4096.0
    )
    swi = (images["swi"] * gain)[..., None]
    yield _Series(4, "SWI_Images", ("ORIGINAL", "PRIMARY", "M", "SWI", "NORM"), _stored(swi))
    minip = (images["minip"] * gain)[..., None]
    yield _Series(5, "mIP_Images_SW", ("DERIVED", "PRIMARY", "MNIP", "SWI"), _stored(minip))
    t1w = images["t1w"] * min(1.0, WHITE / max(float(images["t1w"].max()), 1.0))
    yield _Series(6, "T1_SPGR", ("ORIGINAL", "PRIMARY", "M", "ND"), _stored(t1w[..., None]), is_t1w=True)


def _stored(image: NDArray[Any]) -> NDArray[np.uint16]:
    stored: NDArray[np.uint16] = np.clip(np.rint(image), 0, WHITE).astype(np.uint16)
    return stored


def _write_slice(folder: Path, visit: _Visit, series: _Series, k: int, echo: int) -> None:
    number = echo * series.stored.shape[2] + k + 1
    uid = visit.uid(series.number, number)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("cmb_autoseg")
    dataset = Dataset()
    dataset.file_meta = meta
    described = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": uid,
        "InstanceNumber": number,
        **_patient(visit),
        **_study(visit, series),
        **_timing(visit.scan.protocol, series, echo),
        **_place(visit.scan, k),
        **_pixels(series),
    }
    for name, value in described.items():
        setattr(dataset, name, value)
    dataset.PixelData = np.ascontiguousarray(series.stored[::-1, ::-1, k, echo].T).astype("<u2").tobytes()
    with atomic_path(folder / f"{visit.plan.subject}_S{series.number}_{number:04d}.dcm") as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def _uid(*parts: str | int) -> UID:
    """A unique identifier under 2.25 (as of UUIDs), the same for the same parts."""
    text = "|".join(map(str, parts))
    return UID(f"2.25.{int(hashlib.sha256(text.encode()).hexdigest()[:30], 16)}")


def _patient(visit: _Visit) -> dict[str, Any]:
    return {
        "PatientName": f"SIMULATED^{visit.plan.subject}",
        "PatientID": visit.plan.subject,
        "PatientBirthDate": "",
        "PatientSex": visit.scan.person.sex,
        "PatientAge": f"{visit.scan.person.age:03d}Y",
        "PatientPosition": "HFS",
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "Simulated; no person was scanned",
    }


def _study(visit: _Visit, series: _Series) -> dict[str, Any]:
    scanner = visit.plan.scanner
    return {
        "SpecificCharacterSet": "ISO_IR 100",
        "ImageType": list(series.image_type),
        "StudyInstanceUID": visit.uid("study"),
        "SeriesInstanceUID": visit.uid(series.number),
        "FrameOfReferenceUID": visit.uid("frame"),
        "PositionReferenceIndicator": "",
        "StudyID": "1",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "StudyDate": DATE,
        "StudyTime": TIME,
        "SeriesDate": DATE,
        "SeriesTime": f"1200{series.number:02d}",
        "AcquisitionDate": DATE,
        "AcquisitionTime": TIME,
        "ContentDate": DATE,
        "ContentTime": TIME,
        "Modality": "MR",
        "Manufacturer": MANUFACTURERS.get(scanner.vendor, scanner.vendor),
        "ManufacturerModelName": scanner.model,
        "StudyDescription": "Simulated head",
        "SeriesDescription": series.description,
        "ProtocolName": series.description,
        "BodyPartExamined": "HEAD",
        "SeriesNumber": series.number,
        "AcquisitionNumber": 1,
    }


def _timing(protocol: Protocol, series: _Series, echo: int) -> dict[str, Any]:
    last = series.stored.shape[3] == 1
    time_ms = protocol.echo_time_ms if last else protocol.echo_times_ms[echo]
    is_2d = protocol.is_2d and not series.is_t1w
    return {
        "ScanningSequence": "GR",
        "SequenceVariant": "SP",
        "SequenceName": f"*fl{2 if is_2d else 3}d1",
        "ScanOptions": "",
        "MRAcquisitionType": "2D" if is_2d else "3D",
        "EchoTime": _ds(T1W_ECHO_MS if series.is_t1w else time_ms),
        "EchoNumbers": 1 if last else echo + 1,
        "EchoTrainLength": 1,
        "RepetitionTime": _ds(T1W_REPETITION_MS if series.is_t1w else protocol.repetition_time_ms),
        "FlipAngle": _ds(T1W_FLIP_DEG if series.is_t1w else protocol.flip_angle_deg),
        "MagneticFieldStrength": _ds(protocol.field_strength_t),
        "ImagingFrequency": _ds(GAMMA_HZ_PER_T * 1e-6 * protocol.field_strength_t),
        "ImagedNucleus": "1H",
        "NumberOfAverages": "1",
    }


def _place(scan: SimulatedScan, k: int) -> dict[str, Any]:
    """Orientation and position of one slice, LPS: column 0 is at the right, row 0 in front."""
    affine = scan.affine
    steps = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    first = affine @ [scan.grid.shape[0] - 1, scan.grid.shape[1] - 1, k, 1]
    along_row, along_column = RAS_TO_LPS @ -steps[:, 0], RAS_TO_LPS @ -steps[:, 1]
    position = RAS_TO_LPS @ first[:3]
    normal = np.cross(along_row, along_column)
    i_mm, j_mm, k_mm = scan.grid.spacing_mm
    return {
        "ImagePositionPatient": [_ds(value) for value in position],
        "ImageOrientationPatient": [_ds(value) for value in (*along_row, *along_column)],
        "SliceLocation": _ds(float(normal @ position)),
        "PixelSpacing": [_ds(j_mm), _ds(i_mm)],
        "SliceThickness": _ds(k_mm),
        "SpacingBetweenSlices": _ds(k_mm),
    }


def _ds(value: float) -> str:
    """A decimal string: at most 16 characters."""
    return f"{value:.9f}"[:16].rstrip("0").rstrip(".") if abs(value) > 1e-9 else "0"


def _pixels(series: _Series) -> dict[str, Any]:
    columns, rows = series.stored.shape[:2]
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "SmallestImagePixelValue": 0,
        "LargestImagePixelValue": WHITE,
        "WindowCenter": "600",
        "WindowWidth": "1200",
        "RescaleSlope": _ds(series.slope),
        "RescaleIntercept": _ds(series.intercept),
        "RescaleType": "US",
    }


def finish(out: Path, cases: Sequence[Case], labelled: bool, name: str) -> None:  # noqa: ARG001
    write_text(out / "card.yaml", card_head(name) + CARD + (LABELS if labelled else "labels: {}\n"))


CARD = r"""status: unverified
root: .
licence: {id: CC0-1.0, redistribute: true}
source: dicom
entities: {sub: PatientID, ses: StudyDate}
case: "{sub}"
images:
  SWI: {role: swi, dicom: {SeriesDescription: "^SWI_Images$"}}
  T2STAR: {role: gre_mag, optional: true, pick: first, dicom: {SeriesDescription: "^Axial_T2_STAR$"}}
  PHASE: {role: gre_phase, optional: true, pick: first, dicom: {SeriesDescription: "^Axial_T2_STAR_Pha$"}}
  T1: {role: t1, optional: true, dicom: {SeriesDescription: "^T1_SPGR$"}}
meta:
  participants: {path: participants.tsv, key: sub}
  split: {from: group}
ignore: ["*mIP_Images_SW*", "truth/*"]
"""
LABELS = r"""labels:
  cmb: {kind: mask, path: "masks/{sub:\\d{3}_S_\\d{4}}_CMB.nii.gz", values: {cmb: 1}}
"""
