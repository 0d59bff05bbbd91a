"""Steps per second of our training and of nnU-Net's, with the same network, patch and batch, and what they wait for.

    python benchmarks/speed/training.py [--steps 10] [-n REPEATS] [-o OUT]

Both trainers run in one process, in turn, so many steps each, on the same preprocessed cases, with the whole of their
own augmentation, loss and optimizer; the first steps, in which memory is laid out, are not counted. nnU-Net's stock
trainer has the worker processes that it takes by itself (`nnUNet_n_proc_DA` unset), and in a third arm none. The limit
is forward, backward and optimizer on one and the same batch. nnU-Net's workers go on filling their queue while the
other arms have their turn, which favours nnU-Net.
"""

import argparse
import copy
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import Run, alternate, paired_rows, save
from synthetic import make_dataset, make_model

from cmb_autoseg.files import read_json
from cmb_autoseg.raw_dataset import read_raw_dataset
from cmb_autoseg.trainers.fold_cases import FoldCases
from cmb_autoseg.trainers.recipe import read_recipe
from cmb_autoseg.workspace import CONFIGURATION, DatasetFolders

WORKERS = "nnUNet_n_proc_DA"


class Loop:
    """One trainer, ready to take steps."""

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.waited, self.total = trainer, 0.0, 0.0

    def steps(self, count: int) -> Run:
        begun, waited = time.perf_counter(), 0.0
        for _ in range(count):
            asked = time.perf_counter()
            batch = next(self.trainer.dataloader_train)
            waited += time.perf_counter() - asked
            self.trainer.train_step(batch)
        seconds = time.perf_counter() - begun
        self.waited, self.total = self.waited + waited, self.total + seconds
        return Run(seconds / count)

    def repeat_one(self, count: int) -> Run:
        """The same batch over and over: nothing but the network's own work."""
        batch = next(self.trainer.dataloader_train)
        begun = time.perf_counter()
        for _ in range(count):
            self.trainer.train_step(copy.copy(batch))
        return Run((time.perf_counter() - begun) / count)


def our_loop(plans: dict[str, Any], content: dict[str, Any], cases: FoldCases) -> Loop:
    import torch

    from cmb_autoseg.trainers.patches.cmb_trainer import CMBTrainer

    trainer = CMBTrainer({**plans, "continue_training": False}, CONFIGURATION, 0, content, torch.device("cpu"))
    trainer.cases = cases
    trainer.prepare()
    trainer.set_deep_supervision_enabled(True)
    trainer.on_train_epoch_start()
    return Loop(trainer)


def nnunets_loop(plans: dict[str, Any], content: dict[str, Any], names: list[str]) -> Loop:
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    trainer = nnUNetTrainer({**plans, "continue_training": False}, CONFIGURATION, 0, content, torch.device("cpu"))
    trainer.do_split = lambda: (names, names[:1])
    trainer.initialize()
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    trainer.set_deep_supervision_enabled(True)
    trainer.network.train()
    return Loop(trainer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("-n", type=int, default=5)
    parser.add_argument("-o", type=Path, default=Path("training"), help="name of the results, without .json and .md")
    args = parser.parse_args()
    os.environ.pop(WORKERS, None)
    with tempfile.TemporaryDirectory() as name:
        folders = DatasetFolders(Path(name) / "workspace", "Dataset901_TIMING")
        make_dataset(folders, 6, (160, 160, 48), (1.0, 1.0, 2.0))
        model, cases = make_model(folders, n_folds=2, steps=1), read_raw_dataset(folders).cases
        plans, content = read_json(model / "plans.json"), read_json(model / "dataset.json")
        recipe = read_recipe("supervised").model_copy(
            update={"batch_size": plans["configurations"][CONFIGURATION]["batch_size"]}
        )
        plans["cmb_autoseg"]["recipe"] = recipe.model_dump(mode="json")
        for kind in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{kind}"] = str(folders.workspace / kind)
        os.environ[WORKERS] = "0"
        own = our_loop(copy.deepcopy(plans), content, FoldCases(cases, cases[:1]))
        names = [case.name for case in cases]
        alone = nnunets_loop(copy.deepcopy(plans), content, names)
        del os.environ[WORKERS]
        stock = nnunets_loop(copy.deepcopy(plans), content, names)
        loops = {"ours": own, "nnU-Net": stock, "nnU-Net without worker processes": alone}
        for loop in loops.values():
            loop.steps(3)
            loop.waited = loop.total = 0.0
        arms: dict[str, Callable[[int], Run]] = {
            title: (lambda _, loop=loop: loop.steps(args.steps)) for title, loop in loops.items()
        }
        arms["limit: one batch over and over, by ours"] = lambda _: own.repeat_one(args.steps)
        runs = alternate(arms, args.n)
        for loop in loops.values():
            finish = getattr(loop.trainer.dataloader_train, "_finish", None)
            if finish is not None:
                finish()
    planned, rows = plans["configurations"][CONFIGURATION], paired_rows(runs, "ours")
    for row in rows:
        loop = loops.get(row[""])
        row["seconds a step"] = row.pop("seconds")
        row["waits for patches"] = "" if loop is None else f"{100 * loop.waited / loop.total:.1f} %"
        del row["largest process, GiB"]
    told = (
        f"Patch {' x '.join(map(str, planned['patch_size']))}, batch {planned['batch_size']}, features "
        f"{planned['architecture']['arch_kwargs']['features_per_stage']}; {args.n} turns of {args.steps} steps each. "
        "Median, least and most."
    )
    save(
        args.o,
        "Training steps",
        told,
        rows,
        {"seconds": {arm: [run.seconds for run in own] for arm, own in runs.items()}},
    )


if __name__ == "__main__":
    main()
