"""Seconds and memory of `cmb_evaluate` on scans of 512 x 512 x 150 voxels with probability maps.

    python benchmarks/evaluation_large.py [--scans 5 10 20] [--out benchmarks/evaluation_large.md]

Made-up scans of 0.45 x 0.45 x 1 mm: 5 to 30 lesions each, of which some are missed, false positives, and a background
of smooth noise that is almost 0 and nowhere 0. A few scans are written and linked under the names of the cases, so
each is read anew while the disk stays small. Every evaluation is a process of its own; its processor time and its
greatest memory are what the system says of it. `--noisy` adds a map with a third of its voxels above 0.1.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.special import expit

from cmb_autoseg.files import write_json, write_text
from cmb_autoseg.progress import track

SHAPE = (512, 512, 150)
SPACING_MM = (0.45, 0.45, 1.0)
N_FILES = 3
BACKGROUND_LOGIT, BACKGROUND_SPREAD = -9.0, 1.0
NOISY_LOGIT, NOISY_SPREAD = -3.05, 2.0
RUN = "import sys; from cmb_autoseg.cli.evaluate import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True)
class Measured:
    """One run of the command."""

    n_scans: int
    map: str
    wall_s: float
    processor_s: float
    peak_gib: float


def made_up_scan(
    rng: np.random.Generator, shape: tuple[int, int, int] = SHAPE, noisy: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Probability map (float32) and reference mask of one scan."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 1.0)
    level, spread = (NOISY_LOGIT, NOISY_SPREAD) if noisy else (BACKGROUND_LOGIT, BACKGROUND_SPREAD)
    logits = level + noise * (spread / noise.std())
    reference = np.zeros(shape, np.uint8)
    n_lesions = int(rng.integers(5, 31))
    for number in range(n_lesions + int(rng.integers(0, 10))):
        radius_mm, centre = rng.uniform(1, 4), rng.uniform(0.1, 0.9, 3) * shape
        box = tuple(
            slice(max(0, int(at - 10 / mm)), int(at + 10 / mm)) for at, mm in zip(centre, SPACING_MM, strict=True)
        )
        axes = np.ogrid[box]
        away_mm = np.sqrt(sum(((x - at) * mm) ** 2 for x, at, mm in zip(axes, centre, SPACING_MM, strict=True)))
        if number < n_lesions:
            reference[box] |= away_mm <= radius_mm
        if rng.random() < 0.8:
            peak = rng.uniform(-1, 6) - level
            logits[box] += peak * expit(3 * (radius_mm - away_mm))
    return expit(logits), reference


def write_scans(folder: Path, n: int, seed: int, shape: tuple[int, int, int] = SHAPE, noisy: bool = False) -> None:
    """Write `prob<n>`, `mask<n>` and `truth<n>`."""
    nib.openers.Opener.default_compresslevel = 1
    for number in track(range(n), "Writing scans"):
        probability, reference = made_up_scan(np.random.default_rng([seed, number]), shape, noisy)
        named = {"prob": probability, "mask": (probability >= 0.5).astype(np.uint8), "truth": reference}
        for name, data in named.items():
            image = nib.Nifti1Image(data, np.diag([*SPACING_MM, 1.0]))
            image.header.set_xyzt_units("mm")
            nib.save(image, folder / f"{name}{number}.nii.gz")


def link_cases(files: Path, folder: Path, n_cases: int, n_files: int) -> tuple[Path, Path]:
    """Give the files the names of so many cases; the folders of predictions and references."""
    predicted, reference = folder / "predicted", folder / "reference"
    predicted.mkdir(parents=True)
    reference.mkdir()
    for case in range(n_cases):
        number = case % n_files
        os.link(files / f"prob{number}.nii.gz", predicted / f"case{case:02d}_prob.nii.gz")
        os.link(files / f"mask{number}.nii.gz", predicted / f"case{case:02d}_mask.nii.gz")
        os.link(files / f"truth{number}.nii.gz", reference / f"case{case:02d}.nii.gz")
    return predicted, reference


def measure(predicted: Path, reference: Path, out: Path, n_scans: int, kind: str) -> Measured:
    """Run the command and ask the system what it took.

    Raises:
        RuntimeError: the command failed.
    """
    sides = ["-p", str(predicted), "--reference", str(reference), "-o", str(out)]
    start = time.perf_counter()
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", RUN, *sides], one_thread)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"cmb_evaluate left with {os.waitstatus_to_exitcode(status)}")
    return Measured(n_scans, kind, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


def seconds_per_scan(rows: Sequence[Measured]) -> tuple[float, float, float]:
    """Processor seconds of a scan and of a run, and the greatest distance from that line as a share of the time."""
    n_scans, seconds = (np.array([getattr(row, name) for row in rows]) for name in ("n_scans", "processor_s"))
    slope, start = np.polyfit(n_scans, seconds, 1)
    return float(slope), float(start), float(np.max(np.abs(slope * n_scans + start - seconds) / seconds))


def as_markdown(rows: Sequence[Measured], seed: int) -> str:
    """The page with the table."""
    usual = [row for row in rows if row.map == "usual"]
    lines = [
        "# cmb_evaluate on scans of 512 x 512 x 150",
        "",
        f"Seed {seed}; {N_FILES} made-up scans under the names of all cases; mask, float32 map and reference, gzip "
        "level 1; 1,000 draws, HTML page and all; one thread.",
        "",
        "| map | scans | wall seconds | processor seconds | per scan | peak memory, GiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row.map} | {row.n_scans} | {row.wall_s:.0f} | {row.processor_s:.0f} | {row.processor_s / row.n_scans:.1f} "
        f"| {row.peak_gib:.2f} |"
        for row in rows
    ]
    if len({row.n_scans for row in usual}) > 2:
        slope, start, gap = seconds_per_scan(usual)
        lines += [
            "",
            f"Line through the usual maps: {slope:.1f} processor seconds a scan and {start:.0f} a run; no run is "
            f"further from it than {100 * gap:.0f} %.",
        ]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", nargs="*", type=int, default=[5, 10, 20])
    parser.add_argument("--noisy", action="store_true", help="also one scan whose map is noise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, help="folder for the scans (1 GiB), kept")
    parser.add_argument("--out", type=Path, help="page to write, .md; a .json beside it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = args.scratch or Path(temporary)
        runs = [("usual", n, N_FILES) for n in args.scans] + ([("noise", 1, 1)] if args.noisy else [])
        rows = []
        for kind, n_scans, n_files in runs:
            files = scratch / kind
            if not files.exists():
                files.mkdir(parents=True)
                write_scans(files, n_files, args.seed, noisy=kind == "noise")
            with tempfile.TemporaryDirectory(dir=scratch) as own:
                sides = link_cases(files, Path(own), n_scans, n_files)
                rows.append(measure(*sides, Path(own) / "out", n_scans, kind))
            print(rows[-1], flush=True)
    page = as_markdown(rows, args.seed)
    print(page)
    if args.out:
        write_text(args.out, page)
        write_json(args.out.with_suffix(".json"), [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
