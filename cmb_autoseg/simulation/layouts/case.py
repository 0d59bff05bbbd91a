"""What a layout is given to write, and what it offers the cohort."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import numpy as np
import yaml
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.simulation.contents.microbleeds import Aetiology
from cmb_autoseg.simulation.profiles import Scanner
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.scan import SimulatedScan

__all__ = [
    "T1W_ECHO_MS",
    "T1W_FLIP_DEG",
    "T1W_REPETITION_MS",
    "Case",
    "Layout",
    "Plan",
    "card_head",
    "counted_names",
    "grey_values",
    "visible_centres",
    "visible_centres_mm",
]


T1W_REPETITION_MS, T1W_ECHO_MS, T1W_FLIP_DEG = 8.0, 3.0, 18.0
"""Nominal timing of T1w, a 3D spoiled gradient echo, for headers; a little of it varies from person to person."""


@dataclass(frozen=True)
class Plan:
    """One person of a cohort before the scan."""

    index: int
    """Counted from 0."""
    subject: str
    """As the layout calls the person."""
    group: str
    """`train` or `test`."""
    scanner: Scanner
    protocol: Protocol
    lesion_free: bool
    aetiology: Aetiology
    """What makes this person's microbleeds; of lesion-free people, what would."""
    site: int
    """Number of the place where the person is scanned."""
    session: str | None
    """As the layout's card calls the visit; None: it has no word for one."""
    anatomy: str
    """Whose head it is: a label map's name, or the average head with this person's own warp."""
    labelled: bool


@dataclass(frozen=True)
class Case:
    """One person of a cohort after the scan; small, since a cohort keeps all of them."""

    plan: Plan
    age: int
    sex: str
    centre_voxels: NDArray[np.float64]
    """Centres of the visible microbleeds as voxel indices of the scan from 0, shape (n, 3)."""

    @property
    def participant(self) -> dict[str, Any]:
        """The person's row of participants.tsv."""
        protocol = self.plan.protocol
        return {
            "participant_id": self.plan.subject,
            "age": self.age,
            "sex": self.sex,
            "group": self.plan.group,
            "site": self.plan.site,
            "vendor": self.plan.scanner.vendor,
            "scanner": self.plan.scanner.model,
            "field_strength_t": f"{protocol.field_strength_t:.1f}",
            "protocol": protocol.name,
            "echo_time_ms": protocol.echo_time_ms,
            "anatomy": self.plan.anatomy,
        }


class Layout(Interface):
    """A module of this package."""

    @property
    def OWN_NAMES(self) -> re.Pattern[str]:
        """Names in the cohort's folder that only this layout writes."""
        ...

    @property
    def IMAGES(self) -> tuple[str, ...]:
        """Those of a scan's images that are written."""
        ...

    @property
    def SESSION(self) -> str | None:
        """What the card calls the only visit of each person; None where names have no word for it."""
        ...

    def subject_names(self, protocols: Sequence[Protocol], mix: Sequence[Protocol]) -> list[str]:
        """Names of people by their protocols; the name of one does not hang on those who come later.

        Args:
            protocols: of each person, in order.
            mix: all protocols that the cohort may use.

        Raises:
            InputError: more people than the layout has names for.
        """
        ...

    def write_scan(self, out: Path, plan: Plan, scan: SimulatedScan) -> None:
        """Write one person's images, and labels if the plan says so."""
        ...

    def finish(self, out: Path, cases: Sequence[Case], labelled: bool, name: str) -> None:
        """Write what describes all people, the card last: a folder with a card is a complete cohort.

        Args:
            out: the cohort's folder.
            cases: everybody.
            labelled: whether there are masks, points or boxes.
            name: of the cohort.
        """
        ...


def card_head(name: str) -> str:
    """The first lines of every layout's card: what the cohort is called, and that nobody was scanned for it."""
    quoted = yaml.safe_dump({"name": name})  # a name such as 2024 or no is a text in quotes alone
    return f"# Simulated data: no person was scanned for it.\nschema: 1\n{quoted}simulated: true\n"


def counted_names(protocols: Sequence[Protocol], pattern: str, first: int, last: int) -> list[str]:
    """People numbered in order, as `pattern` formats a number from `first` to `last`.

    Raises:
        InputError: more people than numbers.
    """
    most = last - first + 1
    if len(protocols) > most:
        raise InputError(f"-n: found {len(protocols)}, expected 1..{most} for this layout and protocol")
    return [pattern.format(first + index) for index in range(len(protocols))]


def grey_values(image: NDArray[np.float32]) -> NDArray[np.int16]:
    """Whole numbers, as from a scanner."""
    return np.clip(np.rint(image), -32768, 32767).astype(np.int16)


def visible_centres(scan: SimulatedScan) -> NDArray[np.float64]:
    """Centres of the microbleeds that a reader could see, shape (n, 3), voxel indices."""
    centres = [mark.voxels.mean(axis=0) for mark in scan.marks if mark.visible]
    return np.array(centres, dtype=np.float64).reshape(-1, 3)


def visible_centres_mm(scan: SimulatedScan) -> NDArray[np.float64]:
    """The same as RAS millimetres, shape (n, 3)."""
    return scan.to_ras(scan.grid.to_mm(visible_centres(scan)))
