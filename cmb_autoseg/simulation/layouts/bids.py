"""A BIDS 1.10 raw dataset with masks as a derivative (https://bids-specification.readthedocs.io).

Scans of one echo are `T2starw`, of several `MEGRE`, each as magnitude and phase in radians; the susceptibility-weighted
image is a `T2starw` with `acq-swi`, its minimum-intensity projection has `rec-mIP`.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.files import write_json, write_text
from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.simulation.layouts.case import (
    T1W_ECHO_MS,
    T1W_FLIP_DEG,
    T1W_REPETITION_MS,
    Case,
    Plan,
    card_head,
    counted_names,
    grey_values,
)
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.scan import SimulatedScan

__all__ = ["IMAGES", "OWN_NAMES", "SESSION", "finish", "subject_names", "write_scan"]

OWN_NAMES = re.compile(r"sub-\d{4}|dataset_description\.json|participants\.json|README|\.bidsignore|derivatives")
IMAGES = ("mag", "phase", "swi", "minip", "qsm", "t1w")
SESSION = None
BIDS_VERSION = "1.10.0"
MASKS = Path("derivatives") / "microbleeds"


def subject_names(protocols: Sequence[Protocol], mix: Sequence[Protocol]) -> list[str]:  # noqa: ARG001
    return counted_names(protocols, "sub-{:04d}", 1, 9999)


def write_scan(out: Path, plan: Plan, scan: SimulatedScan) -> None:
    """Write every sequence with its sidecar, and the mask as a derivative."""
    folder = out / plan.subject / "anat"
    for name, image, sidecar in _images(scan):
        stem = f"{plan.subject}_{name}"
        dtype = np.int16 if image.dtype == np.int16 else np.float32
        write_volume(folder / f"{stem}.nii.gz", Volume(image, scan.affine), dtype)
        write_json(folder / f"{stem}.json", {**_scanner(plan), **sidecar})
    if plan.labelled:
        stem = f"{plan.subject}_label-CMB_mask"
        target = out / MASKS / plan.subject / "anat"
        write_volume(target / f"{stem}.nii.gz", Volume(scan.mask, scan.affine), np.uint8)
        sources = [f"bids::{plan.subject}/anat/{plan.subject}_{name}.nii.gz" for name in _magnitudes(scan.protocol)]
        write_json(
            target / f"{stem}.json",
            {
                "Description": "What a reader could see of simulated microbleeds: 1 in each visible region.",
                "Type": "Lesion",
                "Sources": sources,
                "RawSources": sources,
                "SpatialReference": sources[-1],
            },
        )


def _magnitudes(protocol: Protocol) -> list[str]:
    if len(protocol.echo_times_ms) == 1:
        return ["part-mag_T2starw"]
    return [f"echo-{number}_part-mag_MEGRE" for number in range(1, len(protocol.echo_times_ms) + 1)]


def _images(scan: SimulatedScan) -> Iterator[tuple[str, NDArray[Any], dict[str, Any]]]:
    """Name after the subject, array and sidecar of each file."""
    protocol = scan.protocol
    for echo, (name, time_ms) in enumerate(zip(_magnitudes(protocol), protocol.echo_times_ms, strict=True)):
        timing = _timing(protocol, time_ms)
        yield name, grey_values(scan.images["mag"][..., echo]), timing
        phase = scan.images["phase"][..., echo]
        yield name.replace("part-mag", "part-phase"), phase, {**timing, "Units": "rad"}
    last = _timing(protocol, protocol.echo_time_ms)
    yield "acq-swi_T2starw", grey_values(scan.images["swi"]), {**last, "ImageType": ["DERIVED", "PRIMARY", "SWI"]}
    projection = {"ImageType": ["DERIVED", "PRIMARY", "MINIMUM", "MNIP"], "SlicesProjected": protocol.minip_slices}
    yield "acq-swi_rec-mIP_T2starw", grey_values(scan.images["minip"]), {**last, **projection}
    yield "Chimap", scan.images["qsm"], {"MagneticFieldStrength": protocol.field_strength_t, "Units": "ppm"}
    t1w = _spoiled_echo(T1W_ECHO_MS, T1W_REPETITION_MS, T1W_FLIP_DEG, False)
    yield "T1w", grey_values(scan.images["t1w"]), {"MagneticFieldStrength": protocol.field_strength_t, **t1w}


def _scanner(plan: Plan) -> dict[str, Any]:
    return {
        "Manufacturer": plan.scanner.vendor,
        "ManufacturersModelName": plan.scanner.model,
        "Instructions": "Simulated; no person was scanned.",
    }


def _timing(protocol: Protocol, echo_time_ms: float) -> dict[str, Any]:
    return {
        "MagneticFieldStrength": protocol.field_strength_t,
        **_spoiled_echo(echo_time_ms, protocol.repetition_time_ms, protocol.flip_angle_deg, protocol.is_2d),
        "ProtocolName": protocol.name,
    }


def _spoiled_echo(echo_time_ms: float, repetition_time_ms: float, flip_angle_deg: float, is_2d: bool) -> dict[str, Any]:
    return {
        "EchoTime": round(echo_time_ms / 1000, 6),
        "RepetitionTimeExcitation": round(repetition_time_ms / 1000, 6),
        "FlipAngle": flip_angle_deg,
        "MRAcquisitionType": "2D" if is_2d else "3D",
        "ScanningSequence": "GR",
        "PulseSequenceType": "Spoiled gradient echo",
    }


def finish(out: Path, cases: Sequence[Case], labelled: bool, name: str) -> None:
    write_json(out / "dataset_description.json", _description("raw", f"{name}: simulated microbleeds"))
    if labelled:
        derived = {
            **_description("derivative", f"{name}: visible simulated microbleeds"),
            "SourceDatasets": [{"URL": "bids::"}],
        }
        write_json(out / MASKS / "dataset_description.json", derived)
    write_json(out / "participants.json", PARTICIPANT_COLUMNS)
    write_text(out / "README", README.format(name=name, people=len(cases)))
    write_text(out / ".bidsignore", "card.yaml\ntruth\ntruth/**\nlogs\nlogs/**\nmontage\nmontage/**\n")
    write_text(out / "card.yaml", card_head(name) + CARD + ("" if labelled else "labels: {}\n"))


def _description(kind: str, name: str) -> dict[str, Any]:
    return {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": kind,
        "License": "CC0",
        "Authors": ["cmb_simulate"],
        "GeneratedBy": [{"Name": "cmb_simulate"}],
    }


README = """\
{name}: simulated cerebral microbleeds of {people} people who never existed, scanned by a simulated scanner.
Made by cmb_simulate. truth/ has the true place of every microbleed and of everything that looks like one.
"""

PARTICIPANT_COLUMNS: dict[str, dict[str, Any]] = {
    "age": {"Description": "Age of the simulated person", "Units": "year"},
    "sex": {"Description": "Sex of the simulated person", "Levels": {"F": "female", "M": "male"}},
    "group": {"Description": "Part of the cohort", "Levels": {"train": "for training", "test": "for the test"}},
    "site": {"Description": "Number of the site"},
    "vendor": {"Description": "Manufacturer of the simulated scanner"},
    "scanner": {"Description": "Model of the simulated scanner"},
    "field_strength_t": {"Description": "Field strength", "Units": "T"},
    "protocol": {"Description": "Name of the simulated protocol"},
    "echo_time_ms": {"Description": "Last echo time", "Units": "ms"},
    "anatomy": {"Description": "Whose head it is; no two people share one"},
}

CARD = r"""status: verified
extends: bids
root: .
licence: {id: CC0-1.0, redistribute: true}
images: {swi: null, SWI_magnitude: null, T2w: null, FLAIR: null}  # not simulated under these names
meta:
  participants: {path: participants.tsv, key: sub}
  split: {from: group}
ignore: ["*_part-phase_*", "*_rec-mIP_*", "truth/*"]
"""
