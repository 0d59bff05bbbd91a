"""What no real study has: where every bleed, and everything that looks like one, truly is.

All coordinates in the tables are RAS millimetres of the scan.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.files import write_tsv
from cmb_autoseg.geometry import Volume, write_volume
from cmb_autoseg.simulation.contents import raters
from cmb_autoseg.simulation.contents.sources import Kind
from cmb_autoseg.simulation.layouts.case import Plan
from cmb_autoseg.simulation.scan import SimulatedScan

__all__ = ["Tables", "lesion_rows", "mimic_rows", "person_truth", "write_readings", "write_tables"]

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
    "contrast",
    "aetiology",
    "place",
    "nearest_mimic",
    "nearest_mimic_mm",
]
MIMIC_COLUMNS = ["subject", "session", "kind", "x_mm", "y_mm", "z_mm", "radius_mm", "length_mm", "chi_ppm", "place"]
PEOPLE_COLUMNS = [
    "subject",
    "session",
    "group",
    "site",
    "age",
    "sex",
    "vendor",
    "scanner",
    "protocol",
    "field_strength_t",
    "echo_time_ms",
    "snr",
    "measured_snr",
    "anatomy",
    "aetiology",
    "n_lesions",
    "n_visible",
    "n_veins",
    "n_arteries",
    "n_calcifications",
    "n_other_mimics",
    "seed",
    "person",
]
TRANSFORM_COLUMNS = ["subject", "session", "image", *(f"m{row}{column}" for row in range(3) for column in range(4))]
POINT_COLUMNS = ["subject", "session", "x_mm", "y_mm", "z_mm", "i", "j", "k"]
BOX_COLUMNS = ["subject", "session", *(f"{axis}_{end}" for end in ("first", "last") for axis in "ijk")]

RATER_STREAM = 103
"""Keeps the raters' draws apart from the person's and the cohort's."""

Row = Mapping[str, Any]


Tables = dict[str, list[Row]]
"""Rows by table: those of `TABLES`."""

TABLES = {
    "lesions": ("lesions.tsv", LESION_COLUMNS),
    "mimics": ("mimics.tsv", MIMIC_COLUMNS),
    "people": ("people.tsv", PEOPLE_COLUMNS),
    "points": ("raters/points.tsv", POINT_COLUMNS),
    "boxes": ("raters/boxes.tsv", BOX_COLUMNS),
    "transforms": ("transforms.tsv", TRANSFORM_COLUMNS),
}


def person_truth(plan: Plan, scan: SimulatedScan, seed: int) -> Tables:
    """One person's rows of every table."""
    lesions = list(lesion_rows(plan, scan))
    rng = np.random.default_rng([seed, plan.index, RATER_STREAM])
    moved = not np.array_equal(scan.t1w_shift, np.eye(4))
    return {
        "lesions": lesions,
        "mimics": list(mimic_rows(plan, scan)),
        "people": [_person_row(plan, scan, lesions, seed)],
        "points": [
            {
                **_visit(plan),
                **_named(_ras(scan, point.point_mm)),
                **dict(zip("ijk", point.voxel, strict=True)),
            }
            for point in raters.points(rng, scan.marks, scan.grid)
        ],
        "boxes": [
            {**_visit(plan), **dict(zip(BOX_COLUMNS[2:], (*box.low, *box.high), strict=True))}
            for box in raters.boxes(rng, scan.marks, scan.grid)
        ],
        "transforms": [_transform_row(plan, scan.t1w_shift)] if moved else [],
    }


def write_readings(folder: Path, plan: Plan, scan: SimulatedScan) -> None:
    """Masks of a strict and of a generous rater, under `folder/raters`."""
    tight = raters.tight(scan.with_lesions, scan.without_lesions, scan.marks)
    loose = raters.loose(scan.with_lesions, scan.without_lesions, scan.brain, scan.marks)
    for name, mask in (("tight", tight), ("loose", loose)):
        write_volume(folder / "raters" / name / f"{plan.subject}.nii.gz", Volume(mask, scan.affine), np.uint8)


def write_tables(folder: Path, people: Sequence[Tables]) -> None:
    """Write all people's rows; the table of transforms only where there are some."""
    for name, (path, columns) in TABLES.items():
        rows = [row for tables in people for row in tables[name]]
        if rows or name != "transforms":
            write_tsv(folder / path, columns, rows)


def lesion_rows(plan: Plan, scan: SimulatedScan) -> Iterable[Row]:
    """One row a microbleed; `component` counts the mask's 26-connected components in array order from 1."""
    components, _ = ndimage.label(scan.mask, structure=np.ones((3, 3, 3)))
    for mark in scan.marks:
        lesion = mark.lesion
        visible = _centre_mm(scan, mark.voxels) if mark.visible else (None, None, None)
        nearest = raters.nearest_mimic(lesion, scan.contents)
        yield {
            **_visit(plan),
            **_named(_ras(scan, lesion.centre_mm)),
            **_named(visible, "visible_"),
            "radius_mm": lesion.radius_mm,
            "chi_ppm": lesion.chi_ppm,
            "volume_mm3": len(mark.voxels) * math.prod(scan.grid.spacing_mm),
            "visible": int(mark.visible),
            "component": int(components[tuple(mark.voxels[0])]) if mark.visible else 0,
            "region": lesion.region.value,
            "contrast": mark.contrast,
            "aetiology": plan.aetiology.value,
            "place": lesion.place,
            "nearest_mimic": nearest[0].value if nearest else None,
            "nearest_mimic_mm": nearest[1] if nearest else None,
        }


def mimic_rows(plan: Plan, scan: SimulatedScan) -> Iterable[Row]:
    """One row a mimic; a vessel is told by the middle of its course."""
    for mimic in scan.contents.mimics:
        yield {
            **_visit(plan),
            "kind": mimic.kind.value,
            **_named(_ras(scan, mimic.centre_mm)),
            "radius_mm": mimic.radius_mm,
            "chi_ppm": mimic.chi_ppm,
            "place": mimic.place,
        }
    for tube in scan.contents.tubes:
        yield {
            **_visit(plan),
            "kind": tube.kind.value,
            **_named(_ras(scan, tube.points_mm[len(tube.points_mm) // 2])),
            "radius_mm": float(tube.radius_mm.max()),
            "length_mm": float(np.linalg.norm(np.diff(tube.points_mm, axis=0), axis=1).sum()),
            "chi_ppm": tube.chi_ppm,
            "place": tube.family,
        }


def _person_row(plan: Plan, scan: SimulatedScan, lesions: list[Row], seed: int) -> Row:
    protocol = plan.protocol
    kinds = [mimic.kind for mimic in scan.contents.mimics]
    tubes = [tube.kind for tube in scan.contents.tubes]
    calcifications = kinds.count(Kind.CALCIFICATION)
    return {
        **_visit(plan),
        "group": plan.group,
        "site": plan.site,
        "age": scan.person.age,
        "sex": scan.person.sex,
        "vendor": plan.scanner.vendor,
        "scanner": plan.scanner.model,
        "protocol": protocol.name,
        "field_strength_t": f"{protocol.field_strength_t:.1f}",
        "echo_time_ms": protocol.echo_time_ms,
        "snr": protocol.snr,
        "measured_snr": float(np.median(scan.with_lesions[scan.brain])) / scan.noise_sd,
        "anatomy": plan.anatomy,
        "aetiology": plan.aetiology.value if lesions else None,
        "n_lesions": len(lesions),
        "n_visible": sum(row["visible"] for row in lesions),
        "n_veins": tubes.count(Kind.VEIN),
        "n_arteries": tubes.count(Kind.ARTERY),
        "n_calcifications": calcifications,
        "n_other_mimics": len(kinds) - calcifications,
        "seed": seed,
        "person": plan.index,
    }


def _visit(plan: Plan) -> Row:
    return {"subject": plan.subject, "session": plan.session}


def _transform_row(plan: Plan, transform: NDArray[np.float64]) -> Row:
    names = TRANSFORM_COLUMNS[3:]
    values = map(float, transform[:3].ravel())
    return {**_visit(plan), "image": "t1w", **dict(zip(names, values, strict=True))}


def _ras(scan: SimulatedScan, point_mm: Iterable[float]) -> NDArray[np.float64]:
    point_ras_mm: NDArray[np.float64] = scan.to_ras(np.array([list(point_mm)]))[0]
    return point_ras_mm


def _centre_mm(scan: SimulatedScan, voxels: NDArray[np.int64]) -> NDArray[np.float64]:
    return _ras(scan, scan.grid.to_mm(voxels).mean(axis=0))


def _named(point: Iterable[float | None], prefix: str = "") -> dict[str, float | None]:
    return {
        f"{prefix}{axis}_mm": None if value is None else float(value) for axis, value in zip("xyz", point, strict=True)
    }
