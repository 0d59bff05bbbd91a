"""Co-registration of simulated T1w scans to SWI and gradient-echo scans of the same head: error, seconds, bounds.

    python benchmarks/registration.py simulate PAIRS [--anatomy LABEL_MAPS] [-n 10]     (two minutes a head)
    python benchmarks/registration.py settings PAIRS [-s NAME ...] [--pairs 0 1 2]
    python benchmarks/registration.py nonsense PAIRS
    python benchmarks/registration.py twice PAIRS

A pair is one head, scanned as SWI (0.9 x 1.1 x 2 mm, even numbers) or as 2D gradient echo (1 x 1 x 3 mm, odd ones),
and as T1w on 1 mm cubes after a rigid movement: axis and direction at random, up to 10 degrees about the middle of
the slab and up to 10 mm. With fewer heads than pairs, heads come again with another movement. The error is the
distance between where the voxels of the brain are put and where they lie, mean
over the brain; in voxels, distances along the axes are divided by the voxel's edges first.
"""

import argparse
import hashlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing.ants_alignment import Stage, ants_image, ras_matrix
from cmb_autoseg.preprocessing.registration import SCHEDULE, Registration, Schedule, register, working_copy

SEED = 2026
FARTHEST_MM, FARTHEST_DEG = 10.0, 10.0
T1_SHAPE = (176, 240, 256)
OFF_CENTRE_MM = (3.3, -4.2, 5.1)
"""Of the T1w's field of view, so that no two voxels coincide."""


@dataclass(frozen=True)
class Pair:
    fixed: Volume
    moving: Volume
    brain: NDArray[np.bool_]
    truth: NDArray[np.float64]

    def error(self, matrix: NDArray[np.float64]) -> tuple[float, float]:
        """Millimetres and voxels, mean over the brain."""
        points = self.fixed.to_ras_mm(np.argwhere(self.brain)[::20])
        off = (points @ matrix[:3, :3].T + matrix[:3, 3]) - (points @ self.truth[:3, :3].T + self.truth[:3, 3])
        axes = self.fixed.affine[:3, :3] / np.array(self.fixed.spacing_mm) ** 2
        return float(np.linalg.norm(off, axis=1).mean()), float(np.linalg.norm(off @ axes, axis=1).mean())


def simulate(folder: Path, number: int, anatomy: Path | None) -> None:
    import torch

    from cmb_autoseg.simulation.acquisition.t1w import draw_t1w, t1_weighted
    from cmb_autoseg.simulation.anatomy.label_files import find_label_maps, load_label_map
    from cmb_autoseg.simulation.anatomy.mni152 import load_mni152
    from cmb_autoseg.simulation.grids import Grid
    from cmb_autoseg.simulation.person import scan_head, simulate_head
    from cmb_autoseg.simulation.protocols import PROTOCOLS

    swi = replace(
        PROTOCOLS["swi_15t"],
        spacing_mm=(0.9, 1.1, 2.0),
        matrix=(192, 196, 56),
        field_strength_t=3.0,
        echo_times_ms=(20.0,),
        snr=25.0,
        name="swi",
    )
    gre = replace(PROTOCOLS["valdo_3"], name="gre", matrix=(168, 208, 44))
    protocol, image = ((swi, "swi"), (gre, "mag"))[number % 2]
    maps = find_label_maps(anatomy) if anatomy else []
    template = load_label_map(maps[number]) if number < len(maps) else load_mni152()
    anatomic, scanner, drawn = np.random.default_rng([SEED, number]).spawn(3)
    head = simulate_head(template, protocol, anatomic, False, torch.device("cpu"))
    scan = scan_head(head, protocol, scanner, images=(image,))
    fixed = Volume(scan.last_echo(image), scan.affine)
    truth = movement(drawn, fixed.to_ras_mm((np.array([fixed.shape]) - 1) / 2)[0])
    whole = head.head.grid
    middle = np.array(whole.origin_mm) + (np.array(whole.shape) - 1) * whole.spacing_mm / 2 + OFF_CENTRE_MM
    x, y, z = (float(v) for v in middle - (np.array(T1_SHAPE) - 1) / 2)
    grid = Grid(T1_SHAPE, (1.0, 1.0, 1.0), (x, y, z))
    t1 = 300 * t1_weighted(head.head, head.values, head.contents, grid, 3.0, draw_t1w(drawn), truth)
    np.savez_compressed(
        folder / f"pair{number:02d}.npz",
        fixed=fixed.data.astype(np.float32),
        fixed_affine=fixed.affine,
        moving=t1.numpy().astype(np.float32),
        moving_affine=grid.affine,
        truth=truth,
        brain=scan.brain,
    )


def movement(rng: np.random.Generator, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    axis = rng.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    angle = np.deg2rad(rng.uniform(0, FARTHEST_DEG))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(4)
    matrix[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    direction = rng.normal(size=3)
    shift = direction / np.linalg.norm(direction) * rng.uniform(0, FARTHEST_MM)
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + shift
    return matrix


def load(folder: Path, number: int) -> Pair:
    """Numbers beyond the heads are heads again, moved anew by the T1w's header."""
    heads = len(list(folder.glob("pair*.npz")))
    with np.load(folder / f"pair{number % heads:02d}.npz") as held:
        fixed = Volume(held["fixed"], held["fixed_affine"], name=f"pair {number} fixed")
        truth, affine = held["truth"], held["moving_affine"]
        if number >= heads:
            centre = fixed.to_ras_mm((np.array([fixed.shape]) - 1) / 2)[0]
            anew = movement(np.random.default_rng([SEED, number]), centre)
            truth, affine = anew, anew @ np.linalg.inv(truth) @ affine
        return Pair(fixed, Volume(held["moving"], affine, name=f"pair {number} moving"), held["brain"], truth)


def ours(schedule: Schedule, method: str = "affine") -> Callable[[Pair], NDArray[np.float64]]:
    def run(pair: Pair) -> NDArray[np.float64]:
        found = register(pair.fixed, pair.moving, pair.brain, method, schedule)
        print(f"    {figures(found)}", flush=True)
        return found.matrix

    return run


def stock(kind: str, working_mm: float | None = None) -> Callable[[Pair], NDArray[np.float64]]:
    """ANTsPy's own settings, which start from the centres of mass."""

    def run(pair: Pair) -> NDArray[np.float64]:
        import ants

        fixed, moving = pair.fixed, pair.moving
        if working_mm:
            fixed, moving = working_copy(fixed, working_mm), working_copy(moving, working_mm)
        images = [ants_image(volume.data, volume.affine) for volume in (fixed, moving)]
        with tempfile.TemporaryDirectory() as folder:
            found = ants.registration(*images, kind, outprefix=f"{folder}/", random_seed=1)
            return ras_matrix(ants.read_transform(found["fwdtransforms"][0]))

    return run


RIGID = Stage("Rigid", (40, 15, 8), (4, 2, 1), (4.0, 2.0, 1.0))
SETTINGS = {
    "chosen": ours(SCHEDULE),
    "chosen, rigid": ours(SCHEDULE, "rigid"),
    "margin 8 mm": ours(replace(SCHEDULE, margin_mm=8.0)),
    "short": ours(replace(SCHEDULE, rigid=Stage("Rigid", (30, 10), (4, 2), (4.0, 2.0)))),
    "1.5 mm": ours(replace(SCHEDULE, working_mm=1.5)),
    "3 mm": ours(replace(SCHEDULE, working_mm=3.0)),
    "3 mm, two levels": ours(
        Schedule(3.0, 0.0, Stage("Rigid", (40, 20), (2, 1), (4.0, 2.0)), Stage("Affine", (30,), (1,), (1.0,)))
    ),
    "short affine": ours(replace(SCHEDULE, affine=Stage("Affine", (20,), (1,), (1.0,)))),
    "affine at 4 mm": ours(replace(SCHEDULE, affine=Stage("Affine", (40,), (2,), (1.0,)))),
    "Affine, 2 mm": stock("Affine", 2.0),
    "AffineFast, 2 mm": stock("AffineFast", 2.0),
    "TRSAA, 2 mm": stock("TRSAA", 2.0),
    "Rigid, 2 mm": stock("Rigid", 2.0),
    "Affine": stock("Affine"),
    "AffineFast": stock("AffineFast"),
}


def settings(folder: Path, names: list[str], numbers: list[int]) -> None:
    for name in names:
        rows = []
        for number in numbers:
            pair = load(folder, number)
            wall, busy = time.perf_counter(), time.process_time()
            matrix = SETTINGS[name](pair)
            seconds = time.perf_counter() - wall, time.process_time() - busy
            rows.append((*pair.error(matrix), *seconds))
            print(f"  {name}: pair {number} " + summary([rows[-1]]), flush=True)
        print(f"{name}, {len(rows)} pairs: " + summary(rows), flush=True)


def summary(rows: list[tuple[float, ...]]) -> str:
    mm, voxels, wall, busy = np.array(rows).T
    return (
        f"error {np.median(mm):.2f} (most {mm.max():.2f}) mm, {np.median(voxels):.2f} (most {voxels.max():.2f}) "
        f"voxels, {np.median(wall):.1f} s, {np.median(busy):.1f} processor seconds"
    )


def nonsense(folder: Path, numbers: list[int]) -> None:
    """What the bounds look at, for true pairs and for pairs that are none."""
    for number in numbers:
        pair, other = load(folder, number), load(folder, number + 2)
        for name, moving in {"true": pair.moving, **absurd(pair, other)}.items():
            try:
                told = figures(register(pair.fixed, moving, pair.brain))
            except ValueError as error:
                told = str(error)
            print(f"{name}: pair {number}: {told}", flush=True)


def absurd(pair: Pair, other: Pair) -> dict[str, Volume]:
    moving, rng = pair.moving, np.random.default_rng(SEED)
    box = np.zeros(moving.shape, np.float32)
    box[40:140, 60:180, 80:200] = 100
    flat = moving.data[moving.data > 50]
    return {
        "another person": other.moving,
        "another person's SWI": other.fixed,
        "upside down": moving.with_data(np.ascontiguousarray(moving.data[:, :, ::-1])),
        "front to back": moving.with_data(np.ascontiguousarray(moving.data[:, ::-1])),
        "left to right": moving.with_data(np.ascontiguousarray(moving.data[::-1])),
        "neck only": Volume(moving.data[:, :, :70], moving.affine, name="neck"),
        "phantom": moving.with_data(box + rng.normal(0, 5, box.shape).astype(np.float32) ** 2),
        "noise": moving.with_data(rng.permutation(np.resize(flat, moving.data.size)).reshape(moving.shape)),
    }


def figures(found: Registration) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in found.figures.items())


def digest(folder: Path) -> str:
    pair = load(folder, 0)
    return hashlib.sha256(register(pair.fixed, pair.moving, pair.brain).matrix.tobytes()).hexdigest()


def twice(folder: Path) -> None:
    for _ in range(2):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            print(process.submit(digest, folder).result(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("simulate", "settings", "nonsense", "twice"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--anatomy", type=Path, help="folder of label maps, one a head; default the MNI152 average")
    parser.add_argument("-n", type=int, default=20)
    parser.add_argument("-s", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--pairs", type=int, nargs="+")
    args = parser.parse_args()
    # Before ITK starts, also for the settings that are not ours.
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    args.folder.mkdir(parents=True, exist_ok=True)
    numbers = args.pairs or list(range(args.n))
    if args.what == "simulate":
        for number in numbers:
            simulate(args.folder, number, args.anatomy)
    elif args.what == "settings":
        settings(args.folder, args.s, numbers)
    elif args.what == "nonsense":
        nonsense(args.folder, numbers)
    else:
        twice(args.folder)


if __name__ == "__main__":
    main()
