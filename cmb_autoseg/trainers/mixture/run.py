"""Train a fold of a mixture: learn its members' thresholds and weights, and keep copies of their models."""

from dataclasses import replace
from typing import Any

from cmb_autoseg.files import file_digest, write_tsv
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.leakage import subject_of
from cmb_autoseg.locking import own_folder
from cmb_autoseg.progress import log, track
from cmb_autoseg.raw_dataset import RawCase
from cmb_autoseg.run_log import open_log
from cmb_autoseg.tensor_file import write_tensors
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.loop import write_model_files
from cmb_autoseg.trainers.members import Member
from cmb_autoseg.trainers.mixture.judging import (
    JudgedCase,
    aligned_volume,
    draws_of_cases,
    judge,
    least_seen,
    member_threshold,
)
from cmb_autoseg.trainers.mixture.mixing import Mixing, member_copy, middle_of
from cmb_autoseg.trainers.mixture.search import Figures, Searched, Weights, equal_weights, search_weights
from cmb_autoseg.trainers.model_copy import copy_fold
from cmb_autoseg.trainers.recipe import MixtureSettings
from cmb_autoseg.workspace import FINAL_CHECKPOINT

__all__ = ["train_mixture"]


def train_mixture(run: FoldRun) -> None:
    """Learn the thresholds and weights of one fold's members from the out-of-fold maps of its training cases.

    The fold's validation cases play no part, so that they judge it fairly. Writes `weights.tsv`, with all weights that
    were tried, and last `checkpoint_final.pth`; the members' models are copied to `members/` of the model's folder.

    Args:
        run: the fold; its `members` are finished models.

    Raises:
        InputError: the model's folder holds folds of other settings.
        OutputError: the members cannot be copied.
    """
    settings = run.recipe.mixture
    assert settings is not None
    open_log(run.raw.folders.workspace)
    thresholds = tuple(_threshold(run, member) for member in run.members)
    names = tuple(member.recipe for member in run.members)
    equal = Mixing(settings.combine, names, equal_weights(len(names)), thresholds, middle_of(*thresholds))
    searched = _search(run, settings, equal)
    mixing = replace(equal, weights=searched.chosen)
    columns = (*names, "average_precision")
    rows = [dict(zip(columns, (*weights, found[0]), strict=True)) for weights, found in searched.figures.items()]
    write_tsv(run.folder / "weights.tsv", columns, rows)
    _tell(run, mixing, searched)
    write_model_files(run)
    with own_folder(run.model, "a fold of a mixture", wait_s=60, nested=False):
        for member in run.members:
            copy_fold(member.folder, member_copy(run.model, member.recipe), run.fold)
    write_tensors(run.folder / FINAL_CHECKPOINT, _checkpoint(run, mixing))


def _threshold(run: FoldRun, member: Member) -> float:
    known = [case for case in run.cases.training if case.name in member.maps]
    title = f"Threshold of {member.recipe}, fold {run.fold}"
    files = track([(member.maps[case.name], case.label) for case in known], title, slow=True)
    return member_threshold(files, member.identity)


def _search(run: FoldRun, settings: MixtureSettings, equal: Mixing) -> Searched:
    known = [
        (subject_of(case), judged)
        for case in track(run.cases.training, f"Maps of fold {run.fold}", slow=True)
        if (judged := _judged(run, case, equal)) is not None
    ]
    cases = [judged for _, judged in known]
    draws = draws_of_cases([subject for subject, _ in known], (run.settings.seed, run.fold))

    def figures(weights: Weights) -> Figures:
        return judge(cases, replace(equal, weights=weights), draws)

    if settings.weights == "equal":
        return Searched({equal.weights: figures(equal.weights)})
    return search_weights(figures, len(equal.members))


def _judged(run: FoldRun, case: RawCase, mixing: Mixing) -> JudgedCase | None:
    """None of a case of which no member has a map, since it lacks the sequences of all of them."""
    known = [index for index, member in enumerate(run.members) if case.name in member.maps]
    if not known:
        return None
    maps = [
        aligned_volume(run.members[index].maps[case.name], mixing.thresholds[index], mixing.common) for index in known
    ]
    return JudgedCase.of(maps, read_volume(case.label, dtype="uint8"), known, least_seen(mixing))


def _tell(run: FoldRun, mixing: Mixing, searched: Searched) -> None:
    parts = ", ".join(f"{name} {weight:.2g}" for name, weight in zip(mixing.members, mixing.weights, strict=True))
    equal = equal_weights(len(mixing.members))
    own, best, plain = (searched.figures[weights][0] for weights in (mixing.weights, searched.best, equal))
    log(
        f"fold {run.fold}: weights {parts}; average precision {own:.3f} on its training cases, with the best weights "
        f"{best:.3f}, with equal ones {plain:.3f}"
    )


def _checkpoint(run: FoldRun, mixing: Mixing) -> dict[str, Any]:
    copies = {name: member_copy(run.model, name) / f"fold_{run.fold}" / FINAL_CHECKPOINT for name in mixing.members}
    return {
        "mixing": {
            "combine": mixing.combine,
            "members": list(mixing.members),
            "weights": list(mixing.weights),
            "thresholds": list(mixing.thresholds),
            "common": mixing.common,
        },
        "checkpoints": {name: file_digest(path) for name, path in copies.items()},
        "settings": dict(run.shared),
        "fold": run.fold,
    }
