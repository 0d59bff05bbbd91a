"""Do plain nnU-Net and cmb_autoseg give the same probabilities for one model folder?

    python benchmarks/nnunet_parity.py MODEL_DIR IMAGES_DIR [-n CASES]

Runs `nnUNetv2_predict_from_modelfolder` with all folds of the model, as docs/how-to/plain-nnunet.md says,
on prepared images (`imagesTr` or `imagesTs` of the raw dataset), and compares its probabilities in the brain voxel
by voxel with those of our ensemble in the same windows. Exit code 1 where they differ by 1e-3 or more.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cmb_autoseg.geometry import read_volume
from cmb_autoseg.inference.model_choice import available_folds
from cmb_autoseg.inference.patches import PatchEnsemble
from cmb_autoseg.trainers.lookup import lookup_folder

LARGEST_DIFFERENCE = 1e-3
STEP = 0.5
"""Between windows, for both: what the model's recipe says of windows is left aside."""


def plain_nnunet(model: Path, images: Path, out: Path, folds: tuple[int, ...]) -> None:
    command = Path(sys.executable).with_name("nnUNetv2_predict_from_modelfolder")
    arguments = ["-i", images, "-o", out, "-m", model, "-f", *folds, "-device", "cpu", "--save_probabilities"]
    environment = {**os.environ, "nnUNet_extTrainer": str(lookup_folder())}
    arguments += ["-step_size", STEP, "--disable_tta", "-npp", 1, "-nps", 1]
    subprocess.run([command, *map(str, arguments)], env=environment, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("-n", type=int, default=2, help="cases to compare (default 2)")
    args = parser.parse_args()
    ensemble = PatchEnsemble(args.model, None, "cpu")
    ensemble.windowing = replace(ensemble.windowing, step=STEP, mirror=())
    cases = sorted({path.name[: -len("_0000.nii.gz")] for path in args.images.glob("*_0000.nii.gz")})[: args.n]
    channels = range(len(ensemble.channels))
    differences = {}
    with tempfile.TemporaryDirectory() as scratch:
        images, out = Path(scratch) / "images", Path(scratch) / "out"
        images.mkdir()
        files = {case: [args.images / f"{case}_{channel:04d}.nii.gz" for channel in channels] for case in cases}
        for path in (path for paths in files.values() for path in paths):
            shutil.copy(path, images)
        plain_nnunet(args.model, images, out, available_folds(args.model))
        for case in cases:
            theirs = np.load(out / f"{case}.npz")["probabilities"][1]
            volumes = {role: read_volume(path) for role, path in zip(ensemble.channels, files[case], strict=True)}
            ours = ensemble.probability(volumes).data.transpose(2, 1, 0)
            brain = np.any([volume.data.transpose(2, 1, 0) != 0 for volume in volumes.values()], axis=0)
            differences[case] = float(np.abs(ours - theirs)[brain].max())
    result = {
        "model": args.model.name,
        "folds": list(ensemble.folds),
        "torch": torch.__version__,
        "largest_difference": differences,
    }
    print(json.dumps(result, indent=2))
    return int(max(differences.values()) >= LARGEST_DIFFERENCE)


if __name__ == "__main__":
    sys.exit(main())
