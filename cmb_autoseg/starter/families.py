"""Simulated people of four families of protocols, by whom the starter model is chosen and judged.

People of `choice` set the operating points and decide between trainings, those of `test` give the figures that are
told. Heads, protocols and seeds of both are others than those that the model learns from, and others than each other's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import atomic_path, read_tsv, write_json, write_tsv
from cmb_autoseg.records import BrainMaskSource, Case, ImageSource, Role
from cmb_autoseg.simulation.anatomy.template import Template
from cmb_autoseg.simulation.cohort import is_lesion_free
from cmb_autoseg.simulation.contents.sources import Kind
from cmb_autoseg.simulation.person import simulate_person
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.simulation.scan import SimulatedScan
from cmb_autoseg.starter.protocols import SLAB_CENTRE_MM
from cmb_autoseg.starter.simulated_blocks import stripped_mask

__all__ = ["FAMILIES", "SEEDS", "Family", "cases_of", "families_in", "label_of", "simulate_one", "things_of"]

LESION_FREE_SHARE = 0.35
SEEDS = {"choice": 550_000, "test": 770_000}
"""Of the people of each part; those that blocks are made of have small ones."""
FIELD_OF_VIEW_MM = (172, 212, 124)
ROLES = {"swi": Role.SWI, "mag": Role.GRE_MAG, "qsm": Role.QSM}
"""Of the simulator's images."""
THING_COLUMNS = ("thing", "kind", "x_mm", "y_mm", "z_mm", "radius_mm", "n_voxels", "contrast")


@dataclass(frozen=True)
class Family:
    """Scans of one kind: what is made of a person, and by which protocols in each part."""

    images: tuple[str, ...]
    protocols: dict[str, tuple[Protocol, ...]]


def _protocol(
    field_t: float,
    echoes_ms: tuple[float, ...],
    spacing_mm: tuple[float, float, float],
    repetition_ms: float,
    snr: float,
    **more: object,
) -> Protocol:
    i, j, k = (2 * round(size / step / 2) for size, step in zip(FIELD_OF_VIEW_MM, spacing_mm, strict=True))
    base = Protocol("family", field_t, echoes_ms, spacing_mm, (i, j, k), SLAB_CENTRE_MM, snr, repetition_ms)
    return replace(base, **more)  # type: ignore[arg-type]


FAMILIES = {
    "swi_3t": Family(
        ("swi",),
        {
            "choice": (_protocol(3.0, (21.0,), (0.52, 0.52, 1.6), 29.0, 23.0),),
            "test": (
                _protocol(3.0, (20.0,), (0.5, 0.5, 2.0), 28.0, 24.0, acquired_mm=(0.75, 0.75, 2.0)),
                _protocol(3.0, (22.5,), (0.5, 0.5, 1.0), 32.0, 20.0, acquired_mm=(0.7, 0.7, 1.0)),
            ),
        },
    ),
    "gre_3t": Family(
        ("mag",),
        {
            "choice": (_protocol(3.0, (19.0,), (0.88, 0.88, 2.5), 36.0, 28.0),),
            "test": (
                _protocol(3.0, (18.0,), (0.9, 0.9, 2.0), 34.0, 28.0),
                _protocol(3.0, (20.0,), (0.9, 0.9, 3.0), 800.0, 34.0, flip_angle_deg=20.0),
            ),
        },
    ),
    "gre_15t": Family(
        ("mag",),
        {
            "choice": (_protocol(1.5, (33.0,), (0.97, 0.97, 4.2), 900.0, 28.0, flip_angle_deg=20.0),),
            "test": (_protocol(1.5, (36.0,), (1.0, 1.0, 4.0), 1000.0, 30.0, flip_angle_deg=20.0),),
        },
    ),
    "multi_3t": Family(
        ("swi", "mag", "qsm"),
        {
            "choice": (_protocol(3.0, (21.0,), (0.82, 0.82, 1.8), 35.0, 28.0),),
            "test": (
                _protocol(3.0, (11.0, 22.0), (0.8, 0.8, 1.6), 38.0, 28.0),
                _protocol(3.0, (23.0,), (0.75, 0.75, 2.0), 36.0, 28.0),
            ),
        },
    ),
}


def simulate_one(folder: Path, name: str, part: str, index: int, templates: Sequence[Template]) -> None:
    """Simulate one person of a family unless it is there.

    Writes `images/pNNN_ROLE.nii.gz`, `brains/pNNN.nii.gz`, `labels/pNNN.nii.gz`, `things/pNNN.tsv`
    (see `things_of`) and, last, `truth/pNNN.json`.

    Args:
        folder: of the family's people.
        name: of the family.
        part: `choice` or `test`.
        index: of the person; says which head, protocol, and whether there are microbleeds.
        templates: heads, taken in turn and warped anew for each person.
    """
    family, person = FAMILIES[name], f"p{index:03d}"
    record, things = folder / "truth" / f"{person}.json", folder / "things" / f"{person}.tsv"
    if record.is_file() and things.is_file():
        return
    seed = SEEDS[part] + 1000 * list(FAMILIES).index(name) + index
    head, protocols = index % len(templates), family.protocols[part]
    protocol, free = protocols[index % len(protocols)], is_lesion_free(index, LESION_FREE_SHARE)
    scan = simulate_person(templates[head], protocol, seed, index, free, torch.device("cpu"), images=family.images)
    for image in family.images:
        _write(folder / "images" / f"{person}_{ROLES[image]}.nii.gz", scan.last_echo(image), scan.affine)
    brain = stripped_mask(scan.brain, protocol.spacing_mm)
    _write(folder / "brains" / f"{person}.nii.gz", brain.astype(np.uint8), scan.affine)
    _write(folder / "labels" / f"{person}.nii.gz", scan.mask, scan.affine)
    write_tsv(things, THING_COLUMNS, _things(scan))
    visible = sum(mark.visible for mark in scan.marks)
    write_json(record, {"visible": visible, "invisible": len(scan.marks) - visible, "head": head})


def _write(path: Path, values: NDArray[np.generic], affine: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        nib.Nifti1Image(values, affine).to_filename(temporary)


def _things(scan: SimulatedScan) -> Iterator[Mapping[str, Any]]:
    for number, (kind, balls, seen) in enumerate(_balls_of_things(scan), 1):
        for x, y, z, radius in np.column_stack([scan.to_ras(balls[:, :3]), balls[:, 3]]).tolist():
            ball = {"x_mm": x, "y_mm": y, "z_mm": z, "radius_mm": radius}
            yield {"thing": number, "kind": kind.value, **ball, **seen}


def _balls_of_things(scan: SimulatedScan) -> Iterator[tuple[Kind, NDArray[np.float64], Mapping[str, Any]]]:
    """Of each thing its balls, (n, 4) millimetres of the scan's grid with the radius last, and what is seen."""
    for mark in scan.marks:
        middle = scan.grid.to_mm(mark.voxels).mean(axis=0) if mark.visible else mark.lesion.centre_mm
        seen = {"n_voxels": len(mark.voxels), "contrast": mark.contrast}
        yield mark.lesion.kind, np.array([[*middle, mark.lesion.radius_mm]]), seen
    for mimic in scan.contents.mimics:
        yield mimic.kind, np.array([[*sphere.centre_mm, sphere.radius_mm] for sphere in mimic.spheres]), {}
    for tube in scan.contents.tubes:
        yield tube.kind, np.column_stack([tube.points_mm, tube.radius_mm]), {}


def families_in(folder: Path) -> list[Path]:
    """Folders of the families of one part.

    Raises:
        InputError: there are none with finished people.
    """
    folders = [folder / name for name in sorted(FAMILIES) if any((folder / name / "truth").glob("*.json"))]
    if not folders:
        raise InputError(f"{folder}: holds no simulated people; python -m cmb_autoseg.starter people makes them")
    return folders


def cases_of(folder: Path, stripped: bool = False) -> list[Case]:
    """The people of a family that are finished, as cases; with masks of their brains if the skull is to be stripped."""
    cases = []
    for record in sorted((folder / "truth").glob("*.json")):
        person = record.stem
        paths = {role: folder / "images" / f"{person}_{role}.nii.gz" for role in ROLES.values()}
        images = {role: ImageSource(path=str(path)) for role, path in paths.items() if path.is_file()}
        mask = BrainMaskSource(source=ImageSource(path=str(folder / "brains" / f"{person}.nii.gz")))
        case = Case(name=person, cohort="SIMULATED", subject=person, images=images)
        cases.append(case.model_copy(update={"brain_mask": mask}) if stripped else case)
    return cases


def things_of(folder: Path, case: Case) -> list[dict[str, str]]:
    """What truly lies in a person's head, microbleeds and mimics, as balls in RAS millimetres of the scan.

    A vessel has one ball for each point of its course, a compact mimic one for each of its spheres, all with one
    number `thing`. A microbleed has one: its radius is that of its iron; its `n_voxels` are those that the reference
    marks, whose middle is the ball's (0 where a reader could not see it); its `contrast` is the share of its signal
    that the darkest voxel loses. Both are `n/a` of all others.

    Raises:
        InputError: there is no such table.
    """
    return read_tsv(folder / "things" / f"{case.name}.tsv")


def label_of(folder: Path, case: Case) -> Path:
    """The mask of a person's visible microbleeds."""
    return folder / "labels" / f"{case.name}.nii.gz"
