"""How many microbleeds simulated people have, how large and dark they look, and the noise, by protocol.

    python benchmarks/simulated_distributions.py [PROTOCOL ...] [--people 100] [--log FILE]

Counts and cores are drawn as for whole people. What they look like is simulated by the same signal
equation, local grids and k-space, but in blocks of plain white matter of 18 mm about each lesion
instead of whole heads (100 heads of a protocol take hours on one core): no veins, sinuses or borders
are near. Finished people are kept in the log, so that a run can be taken up again.
"""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cmb_autoseg.simulation.acquisition.signal import acquire, draw_texture, scan_grid
from cmb_autoseg.simulation.anatomy.head import Head
from cmb_autoseg.simulation.anatomy.person import draw_person
from cmb_autoseg.simulation.contents.microbleeds import Habits, draw_aetiology, draw_core, draw_count
from cmb_autoseg.simulation.contents.sources import Contents, Inclusion, Kind, Region
from cmb_autoseg.simulation.contents.visibility import Mark, mark_visible
from cmb_autoseg.simulation.grids import Grid
from cmb_autoseg.simulation.profiles import PROFILES, Profile
from cmb_autoseg.simulation.protocols import PROTOCOLS, Protocol
from cmb_autoseg.simulation.tissue import draw_tissue, white_matter_signal

APART_MM, SIDE = 18.0, 3
PUBLISHED = """published (field.md): VALDO 50 of 72 with microbleeds (31 % free); median visible volume 10 mm3,
visible radius log-normal, median 1.4 mm (mean 1.50 +- 0.46), tail to 5 mm; median count about one, few have dozens"""
Row = dict[str, float | int | list[float]]


def plain_head(grid: Grid) -> Head:
    """White matter without end."""
    one, zero = torch.ones(grid.shape), torch.zeros(grid.shape)
    others = dict.fromkeys(("grey", "fluid", "bone", "soft", "air", "blood", "iron_ppm", "nuclei"), zero)
    return Head(
        grid=grid,
        white=one,
        brain=one,
        depth=one,
        mni_mm=torch.zeros(3, *grid.shape),
        regions=one.to(torch.uint8),
        landmarks={},
        **others,
    )


def block_protocol(protocol: Protocol, lesions: int) -> Protocol:
    """The protocol on a block that holds up to nine lesions in a layer."""
    columns, rows = min(lesions, SIDE), math.ceil(lesions / SIDE)
    sizes = (columns * APART_MM, rows * APART_MM, APART_MM)
    matrix = tuple(2 * math.ceil(size / step / 2) for size, step in zip(sizes, protocol.spacing_mm, strict=True))
    return replace(protocol, matrix=matrix, centre_mm=(0.0, 0.0, 0.0))


def block_marks(rng: np.random.Generator, protocol: Protocol, lesions: int, habits: Habits) -> list[Mark]:
    """Draw a block of lesions and find what can be seen of them."""
    person = draw_person(rng)
    block = block_protocol(protocol, lesions)
    grid = scan_grid(block)
    columns, rows = min(lesions, SIDE), math.ceil(lesions / SIDE)
    cores = []
    for number in range(lesions):
        middle = np.array([number % SIDE - (columns - 1) / 2, number // SIDE - (rows - 1) / 2, 0]) * APART_MM
        centre = middle + rng.uniform(-0.5, 0.5, 3) * protocol.spacing_mm
        cores.append(Inclusion(Kind.MICROBLEED, draw_core(rng, centre, habits), Region.LOBAR, "tissue"))
    far = [n * step / 2 + 8 for n, step in zip(block.matrix, block.spacing_mm, strict=True)]
    head = plain_head(Grid((8, 8, 8), tuple(2 * f / 7 for f in far), tuple(-f for f in far)))  # type: ignore[arg-type]
    values = draw_tissue(rng, person)
    texture = torch.ones_like(draw_texture(rng))
    acquired = acquire(head, torch.zeros(8, 8, 8), Contents(cores), block, values, texture)
    images = [image[-1].abs().numpy() for image in (acquired.with_lesions, acquired.without_lesions)]
    noise_sd = white_matter_signal(values, protocol) / protocol.snr
    return mark_visible(images[0], images[1], np.ones(grid.shape, dtype=bool), cores, grid, noise_sd)


def simulate(protocol: Protocol, profile: Profile, index: int) -> Row:
    """One person of a protocol: number of lesions, and volume, contrast and peak of each."""
    rng = np.random.default_rng([4, index])
    habits = profile.habits
    person = draw_person(rng, profile.demographics.mean_age, profile.demographics.age_sd)
    count = 0
    if rng.random() >= profile.lesion_free_share:
        count = draw_count(rng, person.age, draw_aetiology(rng, habits), habits)
    marks: list[Mark] = []
    while len(marks) < count:
        marks += block_marks(rng, protocol, min(count - len(marks), SIDE**2), habits)
    voxel = math.prod(protocol.spacing_mm)
    return {
        "person": index,
        "count": count,
        "visible": sum(mark.visible for mark in marks),
        "volumes": [len(mark.all_voxels) * voxel for mark in marks],
        "contrasts": [mark.contrast for mark in marks],
        "peaks": [mark.peak_drop_sds for mark in marks],
    }


def people(name: str, count: int, log: Path | None) -> list[Row]:
    """All people of a protocol; those already in the log are read from it."""
    profile = PROFILES["valdo"]
    done: dict[int, Row] = {}
    if log and log.exists():
        for line in log.read_text().splitlines():
            record = json.loads(line)
            if record.pop("protocol") == name:
                done[record["person"]] = record
    for index in range(count):
        if index not in done:
            done[index] = simulate(PROTOCOLS[name], profile, index)
            if log:
                with log.open("a") as file:
                    file.write(json.dumps({"protocol": name, **done[index]}) + "\n")
    return [done[index] for index in range(count)]


def summary(name: str, rows: list[Row]) -> str:
    counts = np.array([row["count"] for row in rows])
    some = counts[counts > 0]
    volumes, contrasts, peaks = (
        np.concatenate([row[key] for row in rows]) for key in ("volumes", "contrasts", "peaks")
    )  # type: ignore[arg-type]
    seen = (volumes > 0) & (peaks > 3)
    low, middle, high, tail = np.percentile(volumes[seen], (25, 50, 75, 98))
    radius = np.cbrt(3 * volumes[seen] / (4 * np.pi))
    return (
        f"{name:12s} {np.mean(counts == 0):5.0%} {np.median(some):5.0f} {some.mean():5.1f} {some.max():4d}"
        f" {np.mean(seen):5.0%} {middle:6.1f} ({low:.1f}-{high:.1f}) {tail:6.0f}"
        f" {np.median(radius):5.2f} {radius.max():5.1f}"
        f" {np.median(contrasts[seen]):5.2f} {PROTOCOLS[name].snr:5.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocols", nargs="*", default=["valdo_1", "valdo_2", "valdo_3"])
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    print(PUBLISHED)
    print("protocol      free  med.  mean  max  seen  volume mm3 (IQR)  98th  r mm  max  contrast SNR")
    for name in args.protocols:
        print(summary(name, people(name, args.people, args.log)), flush=True)


if __name__ == "__main__":
    main()
