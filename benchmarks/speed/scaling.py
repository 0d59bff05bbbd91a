"""Seconds and memory of `cmb_predict` against voxels, sequences, folds and cases.

    python benchmarks/speed/scaling.py [--only voxels sequences folds cases] [--many 1000] [-o OUT]

Synthetic scans with six dark dots, networks of 8 to 64 features that have learned to find them, each line a run of the
whole command. Scans have the grid of the plan, so that the network sees every voxel of the brain. Of many cases each
is a small one (48 x 48 x 16).
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import command, save
from synthetic import make_dataset, make_model

from cmb_autoseg.workspace import DatasetFolders

SHAPES = ((128, 128, 32), (256, 256, 64), (512, 512, 150), (1024, 1024, 176))
SPACING_MM = (0.5, 0.5, 1.0)


class Bench:
    """A model for so many sequences, and scans of any shape for it."""

    def __init__(self, scratch: Path, n_sequences: int = 1, n_folds: int = 5) -> None:
        self.scratch, self.n_sequences = scratch, n_sequences
        folders = DatasetFolders(scratch / f"plan_{n_sequences}_{n_folds}", "Dataset901_TIMING")
        make_dataset(folders, max(n_folds, 5), (128, 128, 48), SPACING_MM, n_sequences)
        self.model = make_model(folders, n_folds, (8, 16, 32, 64))

    def row(self, what: str, n_cases: int, shape: tuple[int, int, int], *more: object) -> dict[str, Any]:
        folder = self.scratch / "scans" / f"{self.n_sequences}_{n_cases}_{shape[0]}"
        scans = DatasetFolders(folder, "Dataset901_TIMING")
        if not scans.raw.is_dir():
            make_dataset(scans, n_cases, shape, SPACING_MM, self.n_sequences)
        out = Path(tempfile.mkdtemp(dir=self.scratch))
        words = ["cmb_predict", "-i", scans.raw / "imagesTr", "-o", out, "-m", self.model, "--operating-point", 0.5]
        run = command([*words, "-device", "cpu", *more])
        row = {"": what, "cases": n_cases, "seconds": f"{run.seconds:.1f}", "GiB": f"{run.peak_gib:.2f}"}
        print(row, flush=True)
        return row


def measured(scratch: Path, only: list[str], many: int) -> Iterator[dict[str, Any]]:
    bench = Bench(scratch)
    if "voxels" in only:
        for shape in SHAPES:
            yield bench.row(" x ".join(map(str, shape)), 1, shape)
    if "sequences" in only:
        for n_sequences in (1, 2, 3):
            yield Bench(scratch, n_sequences).row(f"{n_sequences} sequences of 256 x 256 x 64", 1, (256, 256, 64))
    if "folds" in only:
        ten = Bench(scratch, 1, 10)
        for n_folds in (1, 2, 3, 5, 10):
            yield ten.row(f"{n_folds} folds, 256 x 256 x 64", 1, (256, 256, 64), "-f", *range(n_folds))
    if "cases" in only:
        for n_cases in (n for n in (1, 10, 100, 1000) if n <= many):
            yield bench.row(f"{n_cases} of 48 x 48 x 16", n_cases, (48, 48, 16))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ["voxels", "sequences", "folds", "cases"]
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("-o", type=Path, default=Path("scaling"), help="name of the results, without .json and .md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = list(measured(Path(name), args.only, args.many))
    save(args.o, "Time and memory of prediction", "One run each, from start to end of the command.", rows, {})


if __name__ == "__main__":
    main()
