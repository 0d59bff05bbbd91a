"""The layout of the VALDO challenge's Task 2: skull-stripped NIfTI, one folder a subject.

`card.yaml` makes the folder a cohort for `cmb_convert`; participants and truth lie beside it.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import write_text
from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.simulation.layouts.case import Case, Plan, card_head, grey_values
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.scan import SimulatedScan

__all__ = ["IMAGES", "OWN_NAMES", "SESSION", "finish", "subject_names", "write_scan"]

OWN_NAMES = re.compile(r"sub-\d{3}")
IMAGES = ("mag", "swi", "t1w")
SESSION = None


def subject_names(protocols: Sequence[Protocol], mix: Sequence[Protocol]) -> list[str]:
    """The first digit says the site: the first person of site 1 is `sub-101`."""
    several = len({protocol.site for protocol in mix}) > 1
    names: list[str] = []
    counts: dict[int, int] = {}
    for index, protocol in enumerate(protocols):
        counts[protocol.site] = number = counts.get(protocol.site, 0) + 1
        # Three digits; beside other sites a site keeps to its own hundred.
        most = 99 if several else 999 - 100 * protocol.site
        if number > most:
            raise InputError(f"-n: found {len(protocols)}, expected 1..{index} for this layout and protocol")
        names.append(f"sub-{100 * protocol.site + number}")
    return names


def write_scan(out: Path, plan: Plan, scan: SimulatedScan) -> None:
    """Write magnitude (last echo), SWI, T1w and mask of one subject, zero outside the brain."""
    folder = out / plan.subject
    images = {
        "T2S": scan.images["mag"][..., -1],
        "SWI": scan.images["swi"],
        "T1": scan.images["t1w"],
    }
    for name, image in images.items():
        data = grey_values(image * scan.brain)
        write_volume(
            folder / f"{plan.subject}_space-T2S_desc-masked_{name}.nii.gz", Volume(data, scan.affine), np.int16
        )
    if plan.labelled:
        mask = Volume(scan.mask, scan.affine)
        write_volume(folder / f"{plan.subject}_space-T2S_CMB.nii.gz", mask, np.uint8)


def finish(out: Path, cases: Sequence[Case], labelled: bool, name: str) -> None:  # noqa: ARG001
    write_text(out / "card.yaml", card_head(name) + CARD + ("" if labelled else "labels: {}\n"))


CARD = r"""status: verified
extends: valdo
root: .
licence: {id: CC0-1.0, redistribute: true}
images:
  T2: null
  SWI: {role: swi, optional: true, path: "{sub:sub-\\d{3}}/{sub}_space-T2S_desc-masked_SWI.nii.gz"}
meta:
  participants: {path: participants.tsv, key: sub}
  split: {from: group}
ignore: ["truth/*"]
"""
