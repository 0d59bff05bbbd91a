"""Stock nnU-Net trained on a fixed cohort of the people that the model of the package learned from, for the same time.

    python benchmarks/starter/stock.py cohort --scratch FOLDER --anatomy LABEL_MAPS [--turn 0 1]
    python benchmarks/starter/stock.py train --scratch FOLDER [--hours 2.64] [--threads 1] [--seed 1]
    python benchmarks/starter/stock.py judge --scratch FOLDER --people PEOPLE [--each 6] [-o RESULTS]

`cohort` scans each of the 44 people whole, by the protocols of the families `swi_3t` and `gre_3t` in turn; one
channel, the SWI or the magnitude. `train` is nnU-Net's own planner, preprocessing and trainer on the CPU; hours are
those of its training times its threads, 2.64 being what one seed of the model of the package took on one. Let it have
no more cores than threads. `judge` predicts the first people of each family of `test` by nnU-Net's own predictor
(without mirroring, which costs eight times as long), of several sequences the first one; the model of the package
reads all of them. Who is predicted already is left as is. Both get the threshold that suits them best on all these
people, so that none is punished for its calibration.
"""

import argparse
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from judge import in_shares, row_of, save_rows, share_of_model

from cmb_autoseg.evaluation.matching.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from cmb_autoseg.files import atomic_path, read_json, write_json
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.inference.model_choice import STARTER_MODEL
from cmb_autoseg.inference.operating_points import ScoredCase, Sweep, count_case, counting_threshold
from cmb_autoseg.progress import log
from cmb_autoseg.records import Case
from cmb_autoseg.starter.__main__ import LEARN_FROM, heads_of
from cmb_autoseg.starter.families import FAMILIES, cases_of, families_in, label_of
from cmb_autoseg.starter.judging import pooled
from cmb_autoseg.starter.simulated_blocks import scan_person

sys.path.insert(0, str(Path(__file__).parents[1] / "speed"))
from common import command
from race import FINAL_CHECKPOINT, NNUNETS, aside

NAME = "Dataset703_STOCK"
CONTAINED = ("swi_3t", "gre_3t")
"""Families in the cohort."""
N_PEOPLE = 44
RACE = Path(__file__).parents[1] / "speed" / "race.py"


def cohort(args: argparse.Namespace) -> None:
    raw = args.scratch / "raw" / NAME
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True, exist_ok=True)
    templates = list(heads_of(args.anatomy, LEARN_FROM, average=True).values())
    for person in range(args.turn[0], N_PEOPLE, args.turn[1]):
        label = raw / "labelsTr" / f"p{person:03d}.nii.gz"
        if label.is_file():  # written last
            continue
        family = FAMILIES[CONTAINED[person % 2]]
        scan = scan_person(templates, 0, person, family.protocols["choice"][0], family.images)
        (image,) = family.images
        nib.Nifti1Image(scan.last_echo(image), scan.affine).to_filename(raw / "imagesTr" / f"p{person:03d}_0000.nii.gz")
        with atomic_path(label) as path:
            nib.Nifti1Image(scan.mask, scan.affine).to_filename(path)
        log(f"person {person}: {sum(mark.visible for mark in scan.marks)} microbleeds")


def environment(scratch: Path) -> dict[str, str]:
    return {f"nnUNet_{kind}": str(scratch / kind) for kind in ("raw", "preprocessed", "results")}


def train(args: argparse.Namespace) -> None:
    raw, prepared = args.scratch / "raw" / NAME, args.scratch / "preprocessed" / NAME
    people = sorted(path.name.removesuffix(".nii.gz") for path in (raw / "labelsTr").glob("*.nii.gz"))
    content = {"channel_names": {"0": "SWI_or_magnitude"}, "labels": {"background": 0, "cmb": 1}}
    write_json(raw / "dataset.json", {**content, "numTraining": len(people), "file_ending": ".nii.gz"})
    shutil.rmtree(args.scratch / "predicted", ignore_errors=True)  # by another training
    command(["nnUNetv2_plan_and_preprocess", "-d", "703", "-c", NNUNETS, "-np", 2], environment(args.scratch))
    write_json(prepared / "splits_final.json", [{"train": people, "val": people[:2]}])  # nobody is kept back
    variables = {**os.environ, **environment(args.scratch), "OMP_NUM_THREADS": str(args.threads)}
    seconds = 3600 * args.hours / args.threads
    words = [sys.executable, RACE, "--be-nnunet", args.scratch, NAME, args.seed, seconds]
    with (args.scratch / "train.log").open("wb") as said:  # a session of its own: it ends by killing its workers, too
        subprocess.run(list(map(str, words)), env=variables, stdout=said, stderr=said, start_new_session=True)
    kept = aside(args.scratch, "nnU-Net", args.seed, seconds)
    if not (kept / FINAL_CHECKPOINT).is_file():
        raise SystemExit((args.scratch / "train.log").read_text()[-3000:])
    facts = {"steps": read_json(kept / "steps.json"), "hours": args.hours, "threads": args.threads}
    write_json(args.scratch / "trained.json", {"fold": str(kept), **facts})
    log(f"{kept}: {facts}")


def sweeps_of_stock(folder: Path, cases: list[Case], scratch: Path, model: Path) -> list[Sweep]:
    """Counts at every threshold of some people of a family."""
    images, out, sweeps = scratch / "judged" / folder.name, scratch / "predicted" / folder.name, []
    images.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    for case in cases:
        source = Path(case.images[case.reference_role].path)
        place = images / f"{case.name}_0000.nii.gz"
        place.unlink(missing_ok=True)
        place.symlink_to(source.resolve())
    where = ["-i", images, "-o", out, "-m", model, "-f", 0, "-device", "cpu"]
    settings = ["--disable_tta", "--save_probabilities", "--continue_prediction", "-npp", 1, "-nps", 1]
    command(["nnUNetv2_predict_from_modelfolder", *where, *settings], environment(scratch))
    for case in cases:
        values = np.load(out / f"{case.name}.npz")["probabilities"][1].transpose(2, 1, 0)
        reference = read_volume(label_of(folder, case), dtype="uint8")
        scored = ScoredCase(case.name, reference.with_data(values.astype(np.float32)), reference)
        sweeps.append(count_case(scored, PROTOCOLS[DEFAULT_PROTOCOL]))
    return sweeps


def judge(args: argparse.Namespace) -> None:
    facts = read_json(args.scratch / "trained.json")
    model, prepared = Path(facts["fold"]).parent, args.scratch / "preprocessed" / NAME
    (model / "plans.json").write_bytes((prepared / "nnUNetPlans.json").read_bytes())
    (model / "dataset.json").write_bytes((prepared / "dataset.json").read_bytes())
    families = families_in(args.people / "test")
    cases = {family: cases_of(family)[: args.each] for family in families}
    shares = partial(in_shares, families=families, processes=args.processes, most=args.each)
    arms = {
        "stock nnU-Net": {f.name: sweeps_of_stock(f, own, args.scratch, model) for f, own in cases.items()},
        "the package's first seed": shares(partial(share_of_model, STARTER_MODEL, folds=[0])),
        "the package's": shares(partial(share_of_model, STARTER_MODEL)),
    }
    rows = []
    for arm, by_family in arms.items():
        everybody = [person for people in by_family.values() for person in people]
        best = counting_threshold(pooled(everybody))
        groups = {
            **by_family,
            "not in the cohort": [p for name, people in by_family.items() if name not in CONTAINED for p in people],
        }
        rows += [{"model": arm, **row_of(name, people, best)} for name, people in groups.items()]
    told = (
        f"Stock nnU-Net made {facts['steps']} steps in {facts['hours']:.2f} hours of a core; its cohort has "
        f"{' and '.join(CONTAINED)}. Each has the threshold that is best on all of these people. Of multi_3t "
        "it reads the SWI, the package's model all three. All simulated."
    )
    save_rows(args.o, "Beside stock nnU-Net", told, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    stages = parser.add_subparsers(required=True, metavar="cohort|train|judge")
    for run in (cohort, train, judge):
        stage = stages.add_parser(run.__name__)
        stage.set_defaults(run=run)
        stage.add_argument("--scratch", type=Path, required=True)
        if run is cohort:
            stage.add_argument("--anatomy", type=Path, required=True)
            stage.add_argument("--turn", type=int, nargs=2, default=(0, 1), help="this process and how many there are")
        elif run is train:
            stage.add_argument("--hours", type=float, default=2.64)
            stage.add_argument("--threads", type=int, default=1)
            stage.add_argument("--seed", type=int, default=1)
        else:
            stage.add_argument("--people", type=Path, required=True)
            stage.add_argument("--each", type=int, default=6, help="people of a family")
            stage.add_argument("--processes", type=int, default=2)
            stage.add_argument("-o", type=Path, help="name of the results, without .json and .md")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
