"""`cmb_plan_preprocess` beside `nnUNetv2_plan_and_preprocess`, and beside the least that has to be done.

    python benchmarks/speed/preparation.py [--cases 20] [--shape 256 256 64] [-n REPEATS] [-o OUT]

Synthetic cases of two sequences, each on the same grid, planned and preprocessed by both in turn, each from nothing.
nnU-Net runs with its defaults, for the 3D configuration alone (without `-c` it would prepare two more). The limit is
reading all sequences, one linear interpolation of each (to a grid of as many voxels), and writing, one after the other.
Lesions are counted in the masks of both as 26-connected components, before and after.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import blosc2
import nibabel as nib
import numpy as np
from common import Run, alternate, command, paired_rows, save
from scipy import ndimage
from synthetic import make_dataset

from cmb_autoseg.workspace import DatasetFolders

LEAST_CASES = 5
CONNECTED_26 = np.ones((3, 3, 3))


def ours(folders: DatasetFolders) -> Run:
    shutil.rmtree(folders.workspace / "preprocessed", ignore_errors=True)
    return command(["cmb_plan_preprocess", "-d", folders.number, "--workspace", folders.workspace, "-device", "cpu"])


def nnunets(folders: DatasetFolders, scratch: Path) -> Run:
    shutil.rmtree(scratch / "preprocessed", ignore_errors=True)
    places = {"nnUNet_raw": folders.workspace / "raw", "nnUNet_preprocessed": scratch / "preprocessed"}
    variables = {name: str(path) for name, path in {**places, "nnUNet_results": scratch / "results"}.items()}
    return command(["nnUNetv2_plan_and_preprocess", "-d", folders.number, "-c", "3d_fullres"], variables)


def limit(folders: DatasetFolders, scratch: Path) -> Run:
    """Read every sequence, change its grid once, write it: nothing else."""
    import torch

    begun = time.perf_counter()
    for path in sorted((folders.raw / "imagesTr").glob("*.nii.gz")):
        data = np.asarray(nib.load(path).dataobj, dtype=np.float32)
        x = torch.from_numpy(data)[None, None]
        x = torch.nn.functional.interpolate(x, tuple(data.shape), mode="trilinear")
        out = scratch / "limit.b2nd"
        out.unlink(missing_ok=True)
        blosc2.asarray(x[0, 0].numpy(), urlpath=str(out), cparams={"codec": blosc2.Codec.LZ4, "clevel": 5})
    return Run(time.perf_counter() - begun)


def components(folder: Path) -> int:
    """In the masks of a preprocessed folder."""
    masks = [blosc2.open(str(path))[:][0] for path in sorted(folder.rglob("*_seg.b2nd"))]
    return sum(ndimage.label(mask == 1, CONNECTED_26)[1] for mask in masks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--shape", type=int, nargs=3, default=(256, 256, 64))
    parser.add_argument("-n", type=int, default=5)
    parser.add_argument("-o", type=Path, default=Path("preparation"), help="name of the results, without .json and .md")
    args = parser.parse_args()
    if args.cases < LEAST_CASES:
        parser.error(f"--cases: found {args.cases}, expected at least {LEAST_CASES}, one for each fold")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folders = DatasetFolders(scratch / "workspace", "Dataset901_TIMING")
        make_dataset(folders, args.cases, tuple(args.shape), (0.8, 0.8, 2.0))
        labels = sorted((folders.raw / "labelsTr").glob("*.nii.gz"))
        before = sum(ndimage.label(np.asarray(nib.load(path).dataobj) > 0, CONNECTED_26)[1] for path in labels)
        runs = alternate(
            {
                "cmb_plan_preprocess": lambda _: ours(folders),
                "nnUNetv2_plan_and_preprocess": lambda _: nnunets(folders, scratch),
                "limit: read, interpolate, write": lambda _: limit(folders, scratch),
            },
            args.n,
        )
        after = components(folders.preprocessed), components(scratch / "preprocessed")
    rows = paired_rows(runs, "cmb_plan_preprocess")
    for row, count in zip(rows, (*after, before), strict=True):
        row["lesions after"] = count
    told = (
        f"{args.cases} synthetic cases of {' x '.join(map(str, args.shape))} voxels, two sequences, {before} lesions; "
        f"{args.n} runs each, alternating, each from nothing. Median, least and most."
    )
    raw = {"seconds": {arm: [run.seconds for run in own] for arm, own in runs.items()}, "lesions": [before, *after]}
    save(args.o, "Planning and preprocessing", told, rows, raw)


if __name__ == "__main__":
    main()
