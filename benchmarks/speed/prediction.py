"""`cmb_predict` beside nnU-Net's prediction with its defaults and with its fastest setting, and beside the limit.

    python benchmarks/speed/prediction.py --model MODEL_DIR --images IMAGES_DIR [--labels LABELS_DIR] [--cases 10]
        [-n REPEATS] [--arms ours default fastest limit] [-o OUT]

All predict the same prepared scans (`imagesTr` of a raw dataset, or `imagesTs`) with all folds of one model, as
commands from their start to their end, alternating. nnU-Net's command is `nnUNetv2_predict_from_modelfolder`, which
does what `nnUNetv2_predict` does; `fastest` adds `--disable_tta`. Without a model, networks that have learned dark dots
and synthetic scans are timed, and nothing is said of lesions.

The limit is what the networks alone take: windows of the patch's size that cover the brain once without overlap, each
through all folds, by the engine of `cmb_predict`, in a process that has loaded everything already.

With labels the lesions of all at probability 0.5 are compared: lesion F1 (VALDO's rule), and how many lesions of ours
and of nnU-Net's touch one of the other.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import Run, alternate, command, paired_rows, save
from numpy.typing import NDArray
from scipy import ndimage
from synthetic import make_dataset, make_model

from cmb_autoseg.evaluation.matching.match import match_components
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.inference.patches import PatchEnsemble
from cmb_autoseg.inference.tiles import nnunet_windows, pad_to
from cmb_autoseg.lesions import find_components
from cmb_autoseg.workspace import DatasetFolders

CONNECTED_26 = np.ones((3, 3, 3))
ARMS = {"ours": "cmb_predict", "default": "nnU-Net, defaults", "fastest": "nnU-Net, --disable_tta", "limit": "limit"}


def ours(model: Path, images: Path, out: Path) -> Run:
    shutil.rmtree(out, ignore_errors=True)
    return command(["cmb_predict", "-i", images, "-o", out, "-m", model, "--operating-point", 0.5, "-device", "cpu"])


def nnunets(model: Path, images: Path, out: Path, more: Sequence[str]) -> Run:
    shutil.rmtree(out, ignore_errors=True)
    folds = sorted(path.name.removeprefix("fold_") for path in model.glob("fold_*"))
    words = ["nnUNetv2_predict_from_modelfolder", "-i", images, "-o", out, "-m", model, "-f", *folds, "-device", "cpu"]
    return command([*words, *more])


class Limit:
    """The windows of all scans, ready for the networks."""

    def __init__(self, model: Path, images: Path) -> None:
        import torch

        self.ensemble = PatchEnsemble(model, None, "cpu")
        self.windows = []
        for case in cases_of(images):
            roles = enumerate(self.ensemble.channels)
            volumes = {role: read_volume(images / f"{case}_{channel:04d}.nii.gz") for channel, role in roles}
            inputs, size = self.ensemble.network_input(volumes), self.ensemble.patch_shape
            data, _ = pad_to(inputs.data, size)
            for place in nnunet_windows(pad_to(inputs.brain, size)[0], size, step=1.0).places:
                box = tuple(slice(n, n + side) for n, side in zip(place, size, strict=True))
                self.windows.append(torch.from_numpy(data[(slice(None), *box)].copy()))

    def run(self) -> Run:
        import torch

        engine = self.ensemble.engine
        begun = time.perf_counter()
        for first in range(0, len(self.windows), engine.batch):
            batch = torch.stack(self.windows[first : first + engine.batch])
            for fold in range(len(self.ensemble.folds)):
                engine.foreground(fold, batch)
        return Run(time.perf_counter() - begun)


def cases_of(images: Path) -> list[str]:
    return sorted(path.name.removesuffix("_0000.nii.gz") for path in images.glob("*_0000.nii.gz"))


def lesion_rows(images: Path, labels: Path, masks: dict[str, Path]) -> dict[str, dict[str, str]]:
    """Of each arm, by its folder of masks: F1, and the lesions that it has in common with ours."""
    counts = {arm: np.zeros(3, int) for arm in masks}
    common = {arm: np.zeros(2, int) for arm in masks}
    for case in cases_of(images):
        reference = read_volume(labels / f"{case}.nii.gz", dtype=np.uint8)
        true = find_components(reference.data > 0)
        found = {arm: read_mask(folder, case) for arm, folder in masks.items()}
        for arm, mask in found.items():
            own = find_components(mask)
            hits = len(match_components(own, true, reference, PROTOCOLS["valdo"]).pairs)
            counts[arm] += hits, len(own), len(true)
            common[arm] += shared(mask, found["ours"])
    rows = {}
    for arm, (hits, n_found, n_true) in counts.items():
        f1 = 2 * hits / max(n_found + n_true, 1)
        both, all_ = common[arm]
        rows[arm] = {"lesion F1": f"{f1:.3f}", "lesions": str(n_found), "in common with ours": f"{both} of {all_}"}
    return rows


def read_mask(folder: Path, case: str) -> NDArray[np.bool_]:
    path = next(path for name in (f"{case}_mask", case) if (path := folder / f"{name}.nii.gz").is_file())
    return np.asarray(read_volume(path, dtype=np.uint8).data > 0)


def shared(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[int, int]:
    """Lesions of both that touch one of the other, and all."""
    both, touched, total = one & other, 0, 0
    for mask in (one, other):
        labels, count = ndimage.label(mask, CONNECTED_26)
        touched, total = touched + len(np.unique(labels[both])), total + count
    return touched, total


def synthetic_model(scratch: Path, n_cases: int, shape: tuple[int, int, int]) -> tuple[Path, Path]:
    """A model and scans for timing alone."""
    folders = DatasetFolders(scratch / "workspace", "Dataset901_TIMING")
    make_dataset(folders, max(n_cases, 5), shape, (1.0, 1.0, 2.0))
    model = make_model(folders, features=(8, 16, 32, 64))
    return model, folders.raw / "imagesTr"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--shape", type=int, nargs=3, default=(160, 160, 48), help="of synthetic scans")
    parser.add_argument("-n", type=int, default=5)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("-o", type=Path, default=Path("prediction"), help="name of the results, without .json and .md")
    args = parser.parse_args()
    if (args.model is None) != (args.images is None):
        parser.error("--model and --images: give both, or neither for synthetic ones")
    if "ours" not in args.arms:
        parser.error("--arms: ours is missing, which the others are compared with")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        model, source = args.model, args.images
        if model is None:
            model, source = synthetic_model(scratch, args.cases, tuple(args.shape))
        images = scratch / "images"
        images.mkdir()
        chosen = cases_of(source)[: args.cases]
        for path in (path for case in chosen for path in source.glob(f"{case}_*.nii.gz")):
            (images / path.name).symlink_to(path.resolve())
        limit = Limit(model, images)
        out = {arm: scratch / arm for arm in ARMS}
        arms = {
            "ours": lambda _: ours(model, images, out["ours"]),
            "default": lambda _: nnunets(model, images, out["default"], []),
            "fastest": lambda _: nnunets(model, images, out["fastest"], ["--disable_tta"]),
            "limit": lambda _: limit.run(),
        }
        runs = alternate({arm: arms[arm] for arm in args.arms}, args.n)
        rows = paired_rows(runs, "ours")
        if args.labels is not None:
            masks = {arm: out[arm] for arm in args.arms if arm != "limit"}
            told = lesion_rows(images, args.labels, masks)
            columns = list(next(iter(told.values())))
            for row in rows:
                row.update(told.get(row[""], dict.fromkeys(columns, "")))
        n_folds, patch = len(limit.ensemble.folds), limit.ensemble.patch_shape
        shape = read_volume(images / f"{chosen[0]}_0000.nii.gz").shape
    for row in rows:
        row[""] = ARMS[row[""]]
    told = (
        f"{len(chosen)} {'synthetic ' if args.model is None else ''}scans (the first of "
        f"{' x '.join(map(str, shape))} voxels), {n_folds} folds, patch {' x '.join(map(str, patch))}, engine "
        f"{limit.ensemble.engine.name}; {args.n} runs each, alternating. Median, least and most. The limit: all "
        "folds once over the brain."
    )
    save(
        args.o, "Prediction", told, rows, {"seconds": {arm: [run.seconds for run in own] for arm, own in runs.items()}}
    )


if __name__ == "__main__":
    main()
