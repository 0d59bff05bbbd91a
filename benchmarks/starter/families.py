"""Simulated people of four families of protocols, whose heads, protocols and seeds no training ever saw.

    python benchmarks/starter/families.py OUT [--part test|choice] [--people 20] [--anatomy FOLDER]

`test` is for the figures that are told, `choice` for choosing between trainings: other heads, other protocols, other
seeds. A third of the people has no microbleed. With `--anatomy` the first people have the heads of its label maps.
Each family becomes a folder with scans, masks and a card; people that are there already are left as they are.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import yaml

from cmb_autoseg.files import atomic_path, write_json
from cmb_autoseg.progress import log
from cmb_autoseg.simulation.anatomy.label_files import find_label_maps, load_label_map
from cmb_autoseg.simulation.anatomy.mni152 import load_mni152
from cmb_autoseg.simulation.cohort import is_lesion_free
from cmb_autoseg.simulation.person import simulate_person
from cmb_autoseg.simulation.protocols import Protocol

ROLES = {"swi": "swi", "mag": "gre_mag", "qsm": "qsm"}
LESION_FREE_SHARE = 0.35
SEEDS = {"test": 770_000, "choice": 550_000}


def protocol(field_t: float, echo_ms: float, spacing_mm: tuple[float, float, float], **more: object) -> Protocol:
    """A scan of the whole brain."""
    matrix = tuple(2 * round(size / step / 2) for size, step in zip((172, 212, 124), spacing_mm, strict=True))
    base = Protocol("family", field_t, (echo_ms,), spacing_mm, matrix, (0.0, -18.0, 12.0), snr=28.0)  # type: ignore[arg-type]
    return replace(base, **more)  # type: ignore[arg-type]


FAMILIES: dict[str, tuple[tuple[str, ...], dict[str, list[Protocol]]]] = {
    "swi_3t": (
        ("swi",),
        {
            "test": [
                protocol(3.0, 20.0, (0.5, 0.5, 2.0), repetition_time_ms=28.0, acquired_mm=(0.75, 0.75, 2.0), snr=24.0),
                protocol(3.0, 22.5, (0.5, 0.5, 1.0), repetition_time_ms=32.0, acquired_mm=(0.7, 0.7, 1.0), snr=20.0),
            ],
            "choice": [protocol(3.0, 21.0, (0.52, 0.52, 1.6), repetition_time_ms=29.0, snr=23.0)],
        },
    ),
    "gre_3t": (
        ("mag",),
        {
            "test": [
                protocol(3.0, 18.0, (0.9, 0.9, 2.0), repetition_time_ms=34.0),
                protocol(3.0, 20.0, (0.9, 0.9, 3.0), repetition_time_ms=800.0, flip_angle_deg=20.0, snr=34.0),
            ],
            "choice": [protocol(3.0, 19.0, (0.88, 0.88, 2.5), repetition_time_ms=36.0)],
        },
    ),
    "gre_15t": (
        ("mag",),
        {
            "test": [protocol(1.5, 36.0, (1.0, 1.0, 4.0), repetition_time_ms=1000.0, flip_angle_deg=20.0, snr=30.0)],
            "choice": [protocol(1.5, 33.0, (0.97, 0.97, 4.2), repetition_time_ms=900.0, flip_angle_deg=20.0)],
        },
    ),
    "multi_3t": (
        ("swi", "mag", "qsm"),
        {
            "test": [
                protocol(3.0, 22.0, (0.8, 0.8, 1.6), echo_times_ms=(11.0, 22.0), repetition_time_ms=38.0),
                protocol(3.0, 23.0, (0.75, 0.75, 2.0), repetition_time_ms=36.0),
            ],
            "choice": [protocol(3.0, 21.0, (0.82, 0.82, 1.8), repetition_time_ms=35.0)],
        },
    ),
}


def write_person(folder: Path, family: str, part: str, index: int, maps: list[Path]) -> None:
    """Simulate one person unless it is there."""
    images, protocols = FAMILIES[family][0], FAMILIES[family][1][part]
    name = f"p{index:03d}"
    record = folder / "truth" / f"{name}.json"
    if record.is_file():
        return
    template = load_label_map(maps[index]) if index < len(maps) else load_mni152()
    number = SEEDS[part] + 1000 * list(FAMILIES).index(family) + index
    free = is_lesion_free(index, LESION_FREE_SHARE)
    chosen = protocols[index % len(protocols)]
    scan = simulate_person(template, chosen, number, index, free, torch.device("cpu"), images=images)
    for image in images:
        values = scan.images[image]
        save(folder / "images" / f"{name}_{ROLES[image]}.nii.gz", values[..., -1] if values.ndim == 4 else values, scan)
    save(folder / "labels" / f"{name}.nii.gz", scan.mask, scan)
    head = maps[index].name if index < len(maps) else "average"
    lesions = sum(mark.visible for mark in scan.marks)
    write_json(record, {"lesions": lesions, "too_faint": len(scan.marks) - lesions, "head": head, "free": free})
    log(f"{folder.name} {name}: {lesions} lesions")


def save(path: Path, values: np.ndarray, scan: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        image = nib.Nifti1Image(values, scan.affine)  # type: ignore[attr-defined]
        image.to_filename(temporary)


def write_card(folder: Path, family: str, part: str) -> None:
    images = {
        image: {"role": ROLES[image], "path": f"images/{{sub:p\\d+}}_{ROLES[image]}.nii.gz"}
        for image in FAMILIES[family][0]
    }
    card = {
        "schema": 1,
        "name": f"SIM_{family}_{part}".replace("_", "").upper(),
        "status": "verified",
        "root": ".",
        "licence": {"id": "CC0-1.0", "redistribute": True},
        "images": images,
        "labels": {"cmb": {"kind": "mask", "path": "labels/{sub:p\\d+}.nii.gz", "values": {"cmb": 1}}},
    }
    (folder / "card.yaml").write_text("# Simulated data: no person was scanned for it.\n" + yaml.safe_dump(card))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", choices=list(SEEDS), default="test")
    parser.add_argument("--people", type=int, default=20, help="of each family")
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--anatomy", type=Path, help="folder of label maps that no training saw")
    parser.add_argument("--turn", type=int, nargs=2, default=(0, 1), help="this process and how many there are")
    args = parser.parse_args()
    torch.set_num_threads(1)
    maps = find_label_maps(args.anatomy) if args.anatomy else []
    for index in range(args.people):
        for family in args.families:
            folder = args.out / args.part / family
            folder.mkdir(parents=True, exist_ok=True)
            write_card(folder, family, args.part)
            if index % args.turn[1] == args.turn[0]:
                write_person(folder, family, args.part, index, maps)


if __name__ == "__main__":
    main()
