"""A cohort of simulated people in a real cohort's layout, with the truth beside it."""

import math
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.errors import InputError, OutputError
from cmb_autoseg.files import write_json, write_tsv
from cmb_autoseg.locking import own_folder
from cmb_autoseg.progress import track
from cmb_autoseg.run_log import open_log
from cmb_autoseg.simulation.anatomy.head import Template
from cmb_autoseg.simulation.layouts import valdo
from cmb_autoseg.simulation.person import SimulatedScan, simulate_person
from cmb_autoseg.simulation.protocols import DEFAULT_PROTOCOL, PROTOCOLS, Protocol

__all__ = ["CohortSummary", "is_lesion_free", "simulate_cohort"]

LAYOUT_WRITERS: dict[str, ModuleType] = {"valdo": valdo}

LESION_COLUMNS = [
    "subject",
    "session",
    "x_mm",
    "y_mm",
    "z_mm",
    "visible_x_mm",
    "visible_y_mm",
    "visible_z_mm",
    "radius_mm",
    "chi_ppm",
    "volume_mm3",
    "visible",
    "component",
    "region",
]
MIMIC_COLUMNS = ["subject", "session", "kind", "x_mm", "y_mm", "z_mm", "radius_mm", "length_mm", "chi_ppm"]
PEOPLE_COLUMNS = [
    "subject",
    "session",
    "group",
    "site",
    "age",
    "sex",
    "protocol",
    "field_strength_t",
    "echo_time_ms",
    "snr",
    "n_lesions",
    "n_visible",
    "n_veins",
    "n_calcifications",
    "seed",
    "person",
]
PARTICIPANT_COLUMNS = ["participant_id", "age", "sex", "group", "site", "protocol", "field_strength_t", "echo_time_ms"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class CohortSummary:
    """What was simulated."""

    out: Path
    people: int
    test_people: int
    lesion_free: int
    visible: int
    invisible: int
    """Microbleeds that no reader could see; they are in the truth and not in the masks."""

    def __str__(self) -> str:
        return (
            f"{self.out}: {self.people} simulated people ({self.test_people} test, {self.lesion_free} lesion-free), "
            f"{self.visible} visible microbleeds and {self.invisible} too faint to see; simulated data, no real scans"
        )


def simulate_cohort(
    out: Path,
    people: int,
    test_people: int = 0,
    layout: str = "valdo",
    protocol: str | Protocol = DEFAULT_PROTOCOL,
    seed: int = 0,
    lesion_free_share: float = 0.33,
    device: str | None = None,
    on_case: Callable[[int, int], None] | None = None,
    template: Template | None = None,
) -> CohortSummary:
    """Simulate people and write their scans, masks, card and truth under `out`.

    Person k is the same in every cohort of the same seed, protocol and lesion-free share, however
    many people it has. The same arguments give the same bytes on the same kind of device.

    Args:
        out: a new or empty folder, or one that holds an earlier simulated cohort, which is replaced.
        people: how many in all.
        test_people: how many of them, the last ones, the card declares as test.
        layout: one of `layouts.LAYOUTS`.
        protocol: name of one of `PROTOCOLS`, or a protocol.
        seed: of every random choice.
        lesion_free_share: of people without any microbleed, 0..1; spread evenly over the cohort.
        device: `cpu` or `cuda`; by default cuda where there is one.
        on_case: called with (done, total) after each person.
        template: the average head; by default MNI152 as shipped in nilearn.

    Raises:
        InputError: an argument is out of range, or `out` holds something else.
        OutputError: `out` cannot be written.
    """
    chosen = _protocol(protocol)
    writer = _layout(layout)
    _check_numbers(people, test_people, lesion_free_share, writer.max_people(chosen))
    _refuse_foreign(out)
    if template is None:
        from cmb_autoseg.simulation.anatomy.mni152 import load_mni152

        template = load_mni152()
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with own_folder(out, "cmb_simulate"):
        _clear(out)
        open_log(out)
        tables = _Tables([], [], [], [])
        for index in track(range(people), "Simulating"):
            scan = simulate_person(template, chosen, seed, index, is_lesion_free(index, lesion_free_share), target)
            subject = writer.subject_name(index, chosen)
            writer.write_scan(out, subject, scan)
            tables.add(subject, scan, chosen, "test" if index >= people - test_people else "train", seed, index)
            if on_case:
                on_case(index + 1, people)
        tables.write(out)
        writer.write_card(out, chosen)
    return tables.summary(out, test_people)


def is_lesion_free(index: int, share: float) -> bool:
    """Whether person `index` has no microbleed: evenly spread, so that any run of people has its share."""
    return math.floor((index + 1) * share + 0.5) > math.floor(index * share + 0.5)


def _protocol(protocol: str | Protocol) -> Protocol:
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise InputError(f"--protocol: found {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol]


def _layout(layout: str) -> ModuleType:
    if layout not in LAYOUT_WRITERS:
        raise InputError(f"--layout: found {layout!r}, expected one of {', '.join(LAYOUT_WRITERS)}")
    return LAYOUT_WRITERS[layout]


def _check_numbers(people: int, test_people: int, lesion_free_share: float, max_people: int) -> None:
    if not 1 <= people <= max_people:
        raise InputError(f"-n: found {people}, expected 1..{max_people} for this layout and protocol")
    if not 0 <= test_people <= people:
        raise InputError(f"--n-test: found {test_people}, expected 0..{people} (they are counted in -n)")
    if not 0 <= lesion_free_share <= 1:
        raise InputError(f"--lesion-free-share: found {lesion_free_share}, expected 0..1")


MARKER = "truth/simulation.json"
OURS = re.compile(r"card\.yaml|participants\.tsv|truth|logs|sub-\d{3}")


def _refuse_foreign(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier simulated cohort."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"-o {out}: is a file; choose a new or empty folder")
    there = _contents(out)
    foreign = [name for name in there if not OURS.fullmatch(name)]
    if there and (foreign or not (out / MARKER).is_file()):
        name = (foreign or there)[0]
        raise InputError(f"-o {out}: holds {name}, which no earlier simulation wrote; choose a new or empty folder")


def _clear(out: Path) -> None:
    """Take away an earlier simulated cohort; without its card, which goes first, a half-cleared folder is none."""
    for name in sorted(_contents(out), key=lambda name: (name != "card.yaml", name == "truth")):
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_json(out / MARKER, {"simulated": True, "by": "cmb_simulate"})


def _contents(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) if out.is_dir() else []


@dataclass(frozen=True)
class _Tables:
    lesions: list[Row]
    mimics: list[Row]
    people: list[Row]
    participants: list[Row]

    def add(self, subject: str, scan: SimulatedScan, protocol: Protocol, group: str, seed: int, index: int) -> None:
        lesions = list(_lesion_rows(subject, scan))
        self.lesions.extend(lesions)
        self.mimics.extend(_mimic_rows(subject, scan))
        shared = {
            "group": group,
            "site": protocol.site,
            "age": scan.person.age,
            "sex": scan.person.sex,
            "protocol": protocol.name,
            "field_strength_t": protocol.field_strength_t,
            "echo_time_ms": protocol.echo_time_ms,
        }
        self.participants.append({"participant_id": subject, **shared})
        self.people.append(
            {
                "subject": subject,
                **shared,
                "snr": protocol.snr,
                "n_lesions": len(lesions),
                "n_visible": sum(row["visible"] for row in lesions),
                "n_veins": len(scan.contents.veins),
                "n_calcifications": len(scan.contents.calcifications),
                "seed": seed,
                "person": index,
            }
        )

    def write(self, out: Path) -> None:
        write_tsv(out / "truth" / "lesions.tsv", LESION_COLUMNS, self.lesions)
        write_tsv(out / "truth" / "mimics.tsv", MIMIC_COLUMNS, self.mimics)
        write_tsv(out / "truth" / "people.tsv", PEOPLE_COLUMNS, self.people)
        write_tsv(out / "participants.tsv", PARTICIPANT_COLUMNS, self.participants)

    def summary(self, out: Path, test_people: int) -> CohortSummary:
        visible = sum(row["visible"] for row in self.lesions)
        free = sum(row["n_lesions"] == 0 for row in self.people)
        return CohortSummary(out, len(self.people), test_people, free, visible, len(self.lesions) - visible)


def _lesion_rows(subject: str, scan: SimulatedScan) -> Iterable[Row]:
    """One row a microbleed; `component` counts the mask's 26-connected components in array order from 1."""
    components, _ = ndimage.label(scan.mask, structure=np.ones((3, 3, 3)))
    for mark in scan.marks:
        visible = _centre(scan, mark.voxels) if mark.visible else (None, None, None)
        yield {
            "subject": subject,
            **_named(mark.lesion.centre_mm),
            **_named(visible, "visible_"),
            "radius_mm": mark.lesion.radius_mm,
            "chi_ppm": mark.lesion.chi_ppm,
            "volume_mm3": len(mark.voxels) * math.prod(scan.grid.spacing_mm),
            "visible": int(mark.visible),
            "component": int(components[tuple(mark.voxels[0])]) if mark.visible else 0,
            "region": mark.lesion.region.value,
        }


def _mimic_rows(subject: str, scan: SimulatedScan) -> Iterable[Row]:
    for speck in scan.contents.calcifications:
        yield {
            "subject": subject,
            "kind": "calcification",
            **_named(speck.centre_mm),
            "radius_mm": speck.radius_mm,
            "chi_ppm": speck.chi_ppm,
        }
    for vein in scan.contents.veins:
        yield {
            "subject": subject,
            "kind": "vein",
            **_named(vein.points_mm[len(vein.points_mm) // 2]),
            "radius_mm": float(vein.radius_mm.max()),
            "length_mm": float(np.linalg.norm(np.diff(vein.points_mm, axis=0), axis=1).sum()),
            "chi_ppm": vein.chi_ppm,
        }


def _centre(scan: SimulatedScan, voxels: NDArray[np.int64]) -> NDArray[np.float64]:
    centre: NDArray[np.float64] = scan.grid.to_mm(voxels).mean(axis=0)
    return centre


def _named(point: Iterable[float | None], prefix: str = "") -> dict[str, float | None]:
    return {
        f"{prefix}{axis}_mm": None if value is None else float(value) for axis, value in zip("xyz", point, strict=True)
    }
