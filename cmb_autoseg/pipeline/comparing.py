"""Recipes, seeds and label budgets on identical folds: trains what is missing, judges it, draws the tables."""

import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.comparison.case_scores import (
    CellScores,
    ScoredView,
    ScoreRow,
    TrainingFacts,
    read_scores,
    read_views,
    score_view,
    write_scores,
)
from cmb_autoseg.comparison.cells import read_comparison, subsets_of, view_name
from cmb_autoseg.comparison.judging import Judge
from cmb_autoseg.comparison.table_files import as_markdown, headline, write_page
from cmb_autoseg.comparison.tables import all_tables
from cmb_autoseg.errors import InputError, InUseError
from cmb_autoseg.files import read_json, write_json
from cmb_autoseg.geometry import Volume, read_volume
from cmb_autoseg.inference.ensemble import Ensemble
from cmb_autoseg.inference.operating_points import ScoredCase
from cmb_autoseg.leakage import subject_of
from cmb_autoseg.locking import is_owned, own_folder
from cmb_autoseg.pipeline.comparison_jobs import CompareSettings, Job, ask, forget_recipes, refuse_other
from cmb_autoseg.pipeline.stored import brain_of, images_of, read_plan, refuse_stale_plan
from cmb_autoseg.progress import log, telling, track
from cmb_autoseg.raw_dataset import RawCase, RawDataset, check_folds, parse_folds, read_raw_dataset
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, FoldModel, Plan, Role
from cmb_autoseg.run_log import open_log
from cmb_autoseg.trainers.fold_cases import trained_sequences
from cmb_autoseg.trainers.fold_settings import FoldSettings
from cmb_autoseg.trainers.train import train_fold
from cmb_autoseg.workspace import DatasetFolders, model_folder_name

__all__ = ["compare", "redraw"]

WAIT_S = 60.0
"""For another run that writes tables into the same folder."""
COMMAND = "cmb_compare"


@dataclass(frozen=True)
class _Run:
    """What all cells of one call share."""

    raw: RawDataset
    plan: Plan
    out: Path
    device: str
    subsets: bool
    full_budget: float
    """The largest; only there the tables show what parts of the sequences give."""


def compare(folders: DatasetFolders, settings: CompareSettings, out: Path, preset: str | None, device: str) -> str:
    """Train and judge the cells that are missing in `out`, then draw the tables of all that was ever asked for there.

    Cells are independent: several calls, also on other machines, may share one `out`; a cell that another call
    works on is left to it.

    Returns:
        The paradigm table and where the rest is, as text.

    Raises:
        InputError: settings, dataset, encoders or earlier results do not fit; nothing has been trained then.
        LeakageError: an encoder has seen somebody whom its fold is judged on.
    """
    raw = read_raw_dataset(folders)
    if not any(case.labelled for case in raw.training_cases()):
        raise InputError(
            f"{folders.name}: has no labelled training case to learn from or to be judged on; convert a cohort with "
            f"labels (cmb_convert CARD -d {folders.number})"
        )
    plan = read_plan(folders, preset)
    refuse_stale_plan(raw, plan)
    folds = parse_folds(folders)
    check_folds(raw, folds)
    jobs, asked = ask(raw, plan, folds, settings, out)
    with own_folder(out, COMMAND, WAIT_S, nested=False):
        open_log(out)
        earlier = read_comparison(out)
        if earlier is not None:
            refuse_other(asked, earlier, out)
            forget_recipes(asked, earlier, out)
        comparison = asked if earlier is None else asked.joined_to(earlier)
        comparison.write(out / "comparison.json")
    full_budget = max(cell.budget for cell in comparison.cells)
    _run_missing(jobs, _Run(raw, plan, out, device, settings.subsets, full_budget))
    return redraw(out)


def redraw(out: Path, reference: str | None = None) -> str:
    """Draw tables, pictures and page anew from the stored scores.

    Raises:
        InputError: no comparison in the folder, no such recipe in it, or a damaged score file.
    """
    comparison = read_comparison(out)
    if comparison is None:
        raise InputError(f"-o {out}: holds no comparison.json; run cmb_compare -d DATASET -r RECIPE ... -o {out} first")
    if reference is not None:
        if reference not in comparison.recipes:
            raise InputError(f"--reference {reference}: not compared in {out}; choose {', '.join(comparison.recipes)}")
        comparison = comparison.model_copy(update={"reference": reference})
    paths = {cell.name: _scores_path(out, cell.name) for cell in comparison.cells}
    scores = {name: read_scores(path) for name, path in paths.items() if path.is_file()}
    with own_folder(out, COMMAND, WAIT_S, nested=False):
        open_log(out)
        if reference is not None:
            comparison.write(out / "comparison.json")
        judge = Judge(comparison.cells, scores, lambda name: read_views(paths[name]))
        with telling("drawing tables and pictures ..."):
            tables = all_tables(judge, comparison)
            write_page(tables, comparison, out)
    state = f"{len(scores)} of {len(comparison.cells)} cells are finished"
    return (
        f"{headline(comparison)}\n\n{as_markdown(tables[0])}\n{state}; all tables and pictures: {out / 'comparison.md'}"
    )


def _scores_path(out: Path, cell: str) -> Path:
    return out / "scores" / f"{cell}.json"


# What is missing


def _run_missing(jobs: Sequence[Job], run: _Run) -> None:
    missing = [job for job in jobs if not _is_finished(job, run)]
    log(f"{len(jobs)} cells: {len(jobs) - len(missing)} finished, {len(missing)} to train and judge")
    for number, job in enumerate(missing):
        log(f"cell {number + 1} of {len(missing)}: {job.cell.name}{_time_left(missing[number:], run.out)}")
        running = run.out / "running" / job.cell.name
        with ExitStack() as stack:
            try:
                stack.enter_context(own_folder(running, COMMAND, wait_s=0))
            except InUseError:
                log(f"{job.cell.name}: left to another run ({is_owned(running) or COMMAND})")
                continue
            if not _is_finished(job, run):
                start = time.monotonic()
                _train_and_judge(job, run)
                _note_seconds(run.out, job, time.monotonic() - start)
        _clear(running)


def _clear(running: Path) -> None:
    """Take away what says that a cell is worked on; a killed run may have left it, or two have made it at a time."""
    for folder in (running, running.parent):
        with suppress(OSError):  # Others work on cells, too.
            folder.rmdir()


def _is_finished(job: Job, run: _Run) -> bool:
    """Whether the scores are there with every view that is wanted.

    Raises:
        InputError: they are of other settings, or damaged.
    """
    path = _scores_path(run.out, job.cell.name)
    if not path.is_file():
        return False
    scores = read_scores(path)
    job.refuse_change(scores, path)
    there = {(row.case, row.view) for row in scores.rows}
    return all(
        (case.name, view_name(view)) in there for case in _validation_cases(job, run) for view in _views(case, job, run)
    )


def _time_left(jobs: Sequence[Job], out: Path) -> str:
    """By what earlier cells took, those of the same recipe first; nothing is known before the first."""
    known = _seconds(out)
    if not known:
        return ""
    by_recipe: dict[str, list[float]] = {}
    for name, seconds in known.items():
        by_recipe.setdefault(name.partition("-")[0], []).append(seconds)
    everything = [value for values in by_recipe.values() for value in values]
    left_s = 0.0
    for job in jobs:
        like = by_recipe.get(job.cell.recipe, everything)
        left_s += sum(like) / len(like)
    return f", about {left_s / 60:.0f} min left for this and what follows"


def _seconds(out: Path) -> dict[str, float]:
    try:
        content = read_json(out / "seconds.json")
    except InputError:
        return {}
    found = content.items() if isinstance(content, dict) else ()
    return {name: float(value) for name, value in found if isinstance(value, int | float)}


def _note_seconds(out: Path, job: Job, seconds: float) -> None:
    write_json(out / "seconds.json", {**_seconds(out), job.cell.name: round(seconds, 1)})


# One cell


def _train_and_judge(job: Job, run: _Run) -> CellScores:
    cell, raw = job.cell, run.raw
    model = run.out / "models" / run.plan.dataset / model_folder_name(cell.model)
    settings = FoldSettings(run.device, seed=cell.seed, budget=cell.budget)
    record = train_fold(raw, run.plan, job.recipe, model, cell.fold, settings)
    cases = _validation_cases(job, run)
    job.refuse_other_model(record, {subject_of(case) for case in cases}, model)
    ensemble = Ensemble(model, (cell.fold,), run.device)
    title = f"Judging fold {cell.fold}"
    views = [view for case in track(cases, title, slow=True) for view in _judged(case, job, run, ensemble)]
    facts = _facts(record, raw, ensemble)
    return write_scores(_scores_path(run.out, cell.name), cell, job.made_of, facts, views)


def _facts(record: FoldModel, raw: RawDataset, ensemble: Ensemble) -> TrainingFacts:
    trained = {*record.training_cases}
    encoder = record.encoder
    return TrainingFacts(
        steps=record.epochs * record.steps_per_epoch,
        n_parameters=sum(p.numel() for _, network in ensemble.networks() for p in network.parameters()),
        n_training_cases=len(trained),
        n_training_subjects=len({subject_of(case) for case in raw.cases if case.name in trained}),
        n_unlabelled_cases=len(record.unlabelled_cases),
        encoder=f"{encoder.name} ({encoder.weights.removeprefix('sha256:')[:8]})" if encoder else None,
        checkpoint=record.checkpoint,
    )


def _validation_cases(job: Job, run: _Run) -> list[RawCase]:
    """Cases of the fold that can be predicted, by name."""
    return [case for case in run.raw.cases if case.name in job.validation and _views(case, job, run)]


def _views(case: RawCase, job: Job, run: _Run) -> list[tuple[Role, ...]]:
    """Sets of sequences that a case is predicted from, all that the model may see first; none where it sees none."""
    visible = [role for role in run.plan.channels if role in SUSCEPTIBILITY_ROLES and role in case.sequences]
    if job.cell.trained_on is not None:
        return [(role,) for role in visible]
    seen = trained_sequences(run.plan, job.recipe)
    has = tuple(role for role in seen if role in case.sequences)
    if not set(has) & set(SUSCEPTIBILITY_ROLES):
        return []
    if job.cell.budget < run.full_budget:
        return [has]
    alone = ((role,) for role in visible if role in seen)
    return list(dict.fromkeys([has, *alone, *(subsets_of(has) if run.subsets else ())]))


def _judged(case: RawCase, job: Job, run: _Run, ensemble: Ensemble) -> list[ScoredView]:
    images = images_of(case, run.raw, run.plan.channels)
    brain, reference = brain_of(case, run.raw), read_volume(case.label, dtype="uint8")
    views = _views(case, job, run)
    whole = (job.cell.trained_on,) if job.cell.trained_on else views[0]
    result = []
    for view in views:
        probability = ensemble.probability(_given(images, view, job))
        row = ScoreRow(case=case.name, subject=subject_of(case), sequences=view_name(whole), view=view_name(view))
        with_histogram = view == whole or len(view) == 1
        result.append(score_view(row, ScoredCase(case.name, probability, reference, brain), with_histogram))
    return result


def _given(images: dict[Role, Volume], view: tuple[Role, ...], job: Job) -> dict[Role, Volume]:
    """The sequences of a view; a model of one sequence gets another one in the place of its own."""
    if job.cell.trained_on is not None:
        return {job.cell.trained_on: images[view[0]]}
    return {role: images[role] for role in view}
