"""The layout of the VALDO challenge's Task 2: skull-stripped NIfTI, one folder a subject.

`card.yaml` makes the folder a cohort for `cmb_convert`; participants and truth lie beside it.
"""

from pathlib import Path

import numpy as np

from cmb_autoseg.files import write_text
from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.simulation.person import SimulatedScan
from cmb_autoseg.simulation.protocols import Protocol

__all__ = ["max_people", "subject_name", "write_card", "write_scan"]


def max_people(protocol: Protocol) -> int:
    """Three digits, of which the first says the site, leave room for this many."""
    return 1000 - (100 * protocol.site + 1)


def subject_name(index: int, protocol: Protocol) -> str:
    """Person 0 of site 1 is `sub-101`."""
    return f"sub-{100 * protocol.site + 1 + index}"


def write_scan(out: Path, subject: str, scan: SimulatedScan) -> None:
    """Write magnitude, SWI and mask of one subject; grey values are whole numbers, as from a scanner."""
    folder = out / subject
    images = {
        "desc-masked_T2S": (np.rint(scan.magnitude), np.int16),
        "desc-masked_SWI": (np.rint(scan.swi), np.int16),
        "CMB": (scan.mask, np.uint8),
    }
    for name, (data, dtype) in images.items():
        write_volume(folder / f"{subject}_space-T2S_{name}.nii.gz", Volume(data, scan.grid.affine), dtype)


def write_card(out: Path, protocol: Protocol) -> None:
    """Write the card, last of all: a folder with a card is a complete cohort."""
    write_text(out / "card.yaml", CARD.format(tesla=protocol.field_strength_t))


CARD = """\
# Simulated data: no person was scanned for it.
schema: 1
name: SIMULATED
status: verified
extends: valdo
root: .
licence: {{id: CC0-1.0, redistribute: true}}
images:
  T1: null
  T2: null
  SWI: {{role: swi, optional: true, path: "{{sub:sub-\\\\d{{3}}}}/{{sub}}_space-T2S_desc-masked_SWI.nii.gz"}}
meta:
  participants: {{path: participants.tsv, key: sub}}
  field_strength_t: {{value: {tesla}}}
  split: {{from: group}}
"""
