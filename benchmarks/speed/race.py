"""What a lesion network has learned after the same time: our default recipe against stock nnU-Net.

    python benchmarks/speed/race.py --workspace WORKSPACE --dataset NUMBER --test DATASET_FOLDER [--minutes 20]
        [--looks 4] [--people 20] [--seeds 1 2] [--together] [-o OUT]

Both learn from the people of fold 0 of one raw dataset: ours by `cmb_plan_preprocess` and `cmb_train -r supervised`,
nnU-Net by its planner, its preprocessing and its trainer, in a process of its own. The clock runs from the start of
the training process; preparation is told apart. At equal times our weights are put aside, nnU-Net's at the last of
them, and in the end all of them predict the first people of another raw dataset, ours by `cmb_predict`, nnU-Net's by
its predictor with its defaults. The lesions at probability 0.5 are matched by VALDO's rule; the F1 at the best
threshold on these people is told beside.

With `--together` both run at a time with half of the cores each, workers and all; else one after the other with all of
them. Steps of the two are not alike: the table says how many patches each step has.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from common import command, save
from prediction import cases_of

from cmb_autoseg.evaluation.matching.match import match_components
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.files import read_json
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.lesions import find_components
from cmb_autoseg.workspace import CONFIGURATION, DatasetFolders, Workspace

ARMS = ("ours", "nnU-Net")
FINAL_CHECKPOINT, LATEST_CHECKPOINT = "checkpoint_final.pth", "checkpoint_latest.pth"
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
NNUNETS = "3d_fullres"
LONGEST_END_S = 1200
"""From the end of the time to the end of a process: a step of nnU-Net takes minutes on a CPU."""
CHECKPOINT_STEPS = 25
"""Of ours; fine enough for the times of the looks."""


def nnunets_environment(folders: DatasetFolders, scratch: Path) -> dict[str, str]:
    places = {
        "raw": folders.workspace / "raw",
        "preprocessed": scratch / "preprocessed",
        "results": scratch / "results",
    }
    return {f"nnUNet_{kind}": str(path) for kind, path in places.items()}


def prepare(folders: DatasetFolders, scratch: Path) -> dict[str, float]:
    """Plan and preprocess by both; seconds."""
    own = command(["cmb_plan_preprocess", "-d", folders.number, "--workspace", folders.workspace, "-device", "cpu"])
    words = ["nnUNetv2_plan_and_preprocess", "-d", folders.number, "-c", NNUNETS]
    other = command(words, nnunets_environment(folders, scratch))
    splits = "splits_final.json"  # fold 0 of both is the same
    shutil.copy(folders.preprocessed / splits, scratch / "preprocessed" / folders.name / splits)
    return {"ours": own.seconds, "nnU-Net": other.seconds}


# Training


def start(
    arm: str, folders: DatasetFolders, scratch: Path, seed: int, looks_s: list[float], cores: set[int]
) -> subprocess.Popen[bytes]:
    """A process that trains, on some cores."""
    if arm == "ours":
        program = str(Path(sys.executable).with_name("cmb_train"))
        shutil.rmtree(folders.results, ignore_errors=True)
        words = [program, "-d", folders.number, "-f", 0, "-device", "cpu", "--seed", seed]
        words += ["--workspace", folders.workspace, "--checkpoint-every", CHECKPOINT_STEPS]
    else:
        words = [sys.executable, __file__, "--be-nnunet", scratch, folders.name, seed, looks_s[-1]]
    variables = {**os.environ, **nnunets_environment(folders, scratch)}
    variables["OMP_NUM_THREADS"] = str(len(cores))
    with (scratch / f"{arm}_{seed}.log").open("wb") as said:
        process = subprocess.Popen(
            list(map(str, words)), env=variables, stdout=said, stderr=said, start_new_session=True
        )
    os.sched_setaffinity(process.pid, cores)  # which its workers inherit
    return process


def be_nnunet(scratch: Path, name: str, seed: int, seconds: float) -> None:
    """Stock training until so many seconds after this process began."""
    begun = time.time() - _age_s()
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - nnU-Net draws from it
    folder = scratch / "preprocessed" / name
    plans, content = read_json(folder / "nnUNetPlans.json"), read_json(folder / "dataset.json")
    plans["continue_training"] = False
    trainer = nnUNetTrainer(plans, NNUNETS, 0, content, torch.device("cpu"))
    steps, step = 0, trainer.train_step

    def watched(batch: dict[str, Any]) -> dict[str, Any]:
        nonlocal steps
        figures = dict(step(batch))
        steps += 1
        if time.time() - begun >= seconds:
            trainer.save_checkpoint(str(put_aside(scratch, "nnU-Net", seed, seconds, steps) / FINAL_CHECKPOINT))
            os.killpg(os.getpgid(0), signal.SIGKILL)  # its workers too
        return figures

    trainer.train_step = watched
    trainer.run_training()


def _age_s() -> float:
    """Seconds since this process was started."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return float(Path("/proc/uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def aside(scratch: Path, arm: str, seed: int, look_s: float) -> Path:
    return scratch / "aside" / f"{arm}_{seed}_{look_s:.0f}" / "fold_0"


def put_aside(scratch: Path, arm: str, seed: int, look_s: float, steps: int) -> Path:
    """The folder of a look, with the number of steps until then."""
    folder = aside(scratch, arm, seed, look_s)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "steps.json").write_text(json.dumps(steps))
    return folder


def watch(
    processes: dict[str, subprocess.Popen[bytes]],
    folders: DatasetFolders,
    scratch: Path,
    seed: int,
    looks_s: list[float],
) -> None:
    """Put ours aside at each look, and stop it after the last."""
    begun, left = time.monotonic(), list(looks_s)
    latest = folders.model("supervised", "adaptive") / "fold_0" / LATEST_CHECKPOINT
    try:
        while any(process.poll() is None for process in processes.values()):
            time.sleep(0.5)
            if "ours" in processes and left and time.monotonic() - begun >= left[0]:
                look_s = left.pop(0)
                if not left:
                    processes["ours"].terminate()
                    processes["ours"].wait(LONGEST_END_S)
                if latest.exists():
                    keep_ours(latest, put_aside(scratch, "ours", seed, look_s, 0))
            for arm, process in processes.items():
                killed_itself = (
                    process.poll() == -signal.SIGKILL
                    and (aside(scratch, arm, seed, looks_s[-1]) / FINAL_CHECKPOINT).exists()
                )  # else it was killed, as for want of memory
                if process.poll() not in (None, 0, 128 + signal.SIGTERM) and not killed_itself:
                    said = (scratch / f"{arm}_{seed}.log").read_text()[-3000:]
                    raise RuntimeError(f"{arm}: ended with {process.poll()}\n{said}")
            if time.monotonic() - begun > looks_s[-1] + LONGEST_END_S:
                raise RuntimeError(f"{', '.join(processes)}: goes on {LONGEST_END_S} s after its time")
    finally:
        for process in processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def keep_ours(latest: Path, folder: Path) -> None:
    import torch

    shutil.copy(latest, folder / FINAL_CHECKPOINT)
    for name in ("plans.json", "dataset.json"):
        shutil.copy(latest.parent.parent / name, folder.parent)
    state = torch.load(folder / FINAL_CHECKPOINT, weights_only=True)
    per_epoch = read_json(folder.parent / "plans.json")["cmb_autoseg"]["recipe"]["steps_per_epoch"]
    (folder / "steps.json").write_text(json.dumps(state["current_epoch"] * per_epoch + len(state["step_losses"])))


# Judging


def predict(arm: str, model: Path, images: Path, out: Path, folders: DatasetFolders, scratch: Path) -> None:
    if arm == "ours":
        where = ["-i", images, "-o", out, "-m", model, "-f", 0]
        command(["cmb_predict", *where, "--operating-point", 0.5, "-device", "cpu"])
        return
    prepared = scratch / "preprocessed" / folders.name
    shutil.copy(prepared / "nnUNetPlans.json", model / "plans.json")
    shutil.copy(prepared / "dataset.json", model)
    words = ["nnUNetv2_predict_from_modelfolder", "-i", images, "-o", out, "-m", model, "-f", 0, "-device", "cpu"]
    command([*words, "--save_probabilities"], nnunets_environment(folders, scratch))


def map_of(arm: str, out: Path, case: str) -> np.ndarray:
    """Probability (i, j, k)."""
    if arm == "ours":
        return np.asarray(nib.load(out / f"{case}_prob.nii.gz").dataobj, np.float32)
    return np.load(out / f"{case}.npz")["probabilities"][1].transpose(2, 1, 0)


def lesion_f1(arm: str, out: Path, images: Path, labels: Path) -> dict[float, float]:
    """By threshold, over all people."""
    counts = {threshold: np.zeros(2, int) for threshold in THRESHOLDS}
    for case in cases_of(images):
        reference = read_volume(labels / f"{case}.nii.gz", dtype=np.uint8)
        true, values = find_components(reference.data > 0), map_of(arm, out, case)
        assert values.shape == reference.data.shape
        for threshold in THRESHOLDS:
            own = find_components(values >= threshold)
            hits = len(match_components(own, true, reference, PROTOCOLS["valdo"]).pairs)
            counts[threshold] += 2 * hits, len(own) + len(true)
    return {threshold: twice / max(all_, 1) for threshold, (twice, all_) in counts.items()}


def judged(
    arm: str, folder: Path, images: Path, labels: Path, folders: DatasetFolders, scratch: Path
) -> dict[str, Any]:
    """Steps taken and F1 of the weights in a folder; none of ours where it had written no checkpoint by then."""
    if not (folder / FINAL_CHECKPOINT).exists():
        return {"steps": f"below {CHECKPOINT_STEPS}", "patches a step": "", "F1 at 0.5": "n/a", "best F1": "n/a"}
    out = folder.parent / "predicted"
    predict(arm, folder.parent, images, out, folders, scratch)
    f1 = lesion_f1(arm, out, images, labels)
    steps = json.loads((folder / "steps.json").read_text())
    configurations = read_json(folder.parent / "plans.json")["configurations"]
    batch = configurations[CONFIGURATION if arm == "ours" else NNUNETS]["batch_size"]
    return {
        **{"steps": steps, "patches a step": batch},
        **{"F1 at 0.5": f"{f1[0.5]:.3f}", "best F1": f"{max(f1.values()):.3f}"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--dataset", required=True, help="people to learn from")
    parser.add_argument("--test", type=Path, required=True, help="raw dataset of other people")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--looks", type=int, default=4)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--scratch", type=Path, help="keeps everything there (default: a temporary folder)")
    parser.add_argument("-o", type=Path, default=Path("race"), help="name of the results, without .json and .md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        race(args, (args.scratch or Path(name)).resolve())


def race(args: argparse.Namespace, scratch: Path) -> None:
    looks_s = [60 * args.minutes * (n + 1) / args.looks for n in range(args.looks)]
    source = Workspace.find(args.workspace).dataset(args.dataset)
    folders = DatasetFolders(scratch / "workspace", source.name)
    link(source.raw, folders.raw)
    images, labels = scratch / "images", args.test / "labelsTr"
    for case in cases_of(args.test / "imagesTr")[: args.people]:
        for path in (args.test / "imagesTr").glob(f"{case}_*.nii.gz"):
            link(path, images / path.name)
    prepared_s = prepare(folders, scratch)
    cores = sorted(os.sched_getaffinity(0))
    half = max(1, len(cores) // 2)
    shares = {"ours": set(cores[:half]), "nnU-Net": set(cores[-half:])}
    for seed in args.seeds:
        for arms in [ARMS] if args.together else [(arm,) for arm in ARMS]:
            processes = {
                arm: start(arm, folders, scratch, seed, looks_s, shares[arm] if args.together else set(cores))
                for arm in arms
            }
            watch(processes, folders, scratch, seed, looks_s)
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        looks = [(look_s, arm) for look_s in looks_s for arm in ARMS if arm == "ours" or look_s == looks_s[-1]]
        for look_s, arm in looks:
            rows.append({"seed": seed, "minutes": f"{look_s / 60:g}", "": arm})
            rows[-1].update(judged(arm, aside(scratch, arm, seed, look_s), images, labels, folders, scratch))
            print(rows[-1], file=sys.stderr, flush=True)
    last = {row["seed"]: row["F1 at 0.5"] for row in rows if row[""] == "nnU-Net"}
    for row in rows:
        # To three digits, as text; without a checkpoint nothing can be said.
        known = "n/a" not in (row["F1 at 0.5"], last[row["seed"]])
        row["has nnU-Net's last"] = ("yes" if row["F1 at 0.5"] >= last[row["seed"]] else "no") if known else "n/a"
    together = "at a time, each with half of the cores" if args.together else "one after the other"
    told = (
        f"Both learned from {len(cases_of(folders.raw / 'imagesTr'))} simulated people less fold 0, {together}; "
        f"preparation took {prepared_s['ours']:.0f} s and {prepared_s['nnU-Net']:.0f} s. Lesion F1 on "
        f"{len(cases_of(images))} other simulated people."
    )
    save(args.o, "The same time of training", told, rows, {"prepared_s": prepared_s})


def link(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(source.resolve())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--be-nnunet"]:
        be_nnunet(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
    else:
        main()
