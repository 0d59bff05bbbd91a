"""How long `cmb_predict -i scan.nii.gz -o out` takes from the command to the table, and in how much memory.

    python benchmarks/starter/first_scan.py --scratch FOLDER [-n 3] [-o RESULTS]

One simulated head of 256 x 256 x 64 voxels with skull, as SWI alone and as SWI, magnitude and QSM together, read by
the model of the package on all cores, each command from its start to its end.
"""

import argparse
import shutil
import sys
from pathlib import Path

import nibabel as nib
import torch

from cmb_autoseg.simulation.anatomy.mni152 import load_mni152
from cmb_autoseg.simulation.person import simulate_person
from cmb_autoseg.simulation.protocols import Protocol
from cmb_autoseg.starter.families import ROLES
from cmb_autoseg.starter.protocols import SLAB_CENTRE_MM

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))
from common import Run, command, save, spread

SHAPE = (256, 256, 64)
PROTOCOL = Protocol("first", 3.0, (20.0,), (0.85, 0.85, 2.0), SHAPE, SLAB_CENTRE_MM, 26.0, 35.0)
SEED = 990_000
ARMS = {"SWI": ("swi",), "SWI, magnitude and QSM": ("swi", "mag", "qsm")}


def simulate(folder: Path) -> None:
    """The images of one person, unless they are there."""
    if (folder / "qsm.nii.gz").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    scan = simulate_person(load_mni152(), PROTOCOL, SEED, 0, False, torch.device("cpu"), images=tuple(ROLES))
    for image in ROLES:
        last = scan.last_echo(image)
        assert last.shape == SHAPE
        nib.Nifti1Image(last, scan.affine).to_filename(folder / f"{image}.nii.gz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("-n", type=int, default=3, help="repeats")
    parser.add_argument("-o", type=Path, default=Path("first_scan"), help="name of the results")
    args = parser.parse_args()
    simulate(args.scratch / "images")
    rows, raw = [], {}
    for arm, images in ARMS.items():
        source = args.scratch / arm.replace(" ", "_")
        source.mkdir(exist_ok=True)
        for image in images:
            shutil.copy(args.scratch / "images" / f"{image}.nii.gz", source / f"head_{ROLES[image]}.nii.gz")
        (only,) = source.iterdir() if len(images) == 1 else (source,)
        runs: list[Run] = []
        for _ in range(args.n):
            out = args.scratch / "out"
            shutil.rmtree(out, ignore_errors=True)
            runs.append(command(["cmb_predict", "-i", only, "-o", out]))
            print(runs[-1], file=sys.stderr, flush=True)
        largest = max(run.peak_gib for run in runs)
        rows.append({"": arm, "seconds": spread([run.seconds for run in runs], 1), "GiB": f"{largest:.2f}"})
        raw[arm] = [vars(run) for run in runs]
    save(args.o, "The first scan", f"{' x '.join(map(str, SHAPE))} voxels, {args.n} runs each.", rows, {"runs": raw})


if __name__ == "__main__":
    main()
