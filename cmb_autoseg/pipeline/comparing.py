"""Recipes, seeds and label budgets on identical folds: trains what is missing, judges it, draws the tables."""

import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from cmb_autoseg.comparison.case_scores import read_scores, read_views
from cmb_autoseg.comparison.cells import Comparison, read_comparison, view_name
from cmb_autoseg.comparison.drawn_folds import drawn_of
from cmb_autoseg.comparison.judging import Judge
from cmb_autoseg.comparison.table_files import as_markdown, headline, write_page
from cmb_autoseg.comparison.tables import all_tables
from cmb_autoseg.errors import InputError, InUseError
from cmb_autoseg.files import read_json, write_json
from cmb_autoseg.locking import is_owned, own_folder
from cmb_autoseg.pipeline.comparison_cell import CellRun, scores_path, train_and_judge, validation_cases, views_of
from cmb_autoseg.pipeline.comparison_jobs import CompareSettings, Job, ask, forget_recipes, refuse_other
from cmb_autoseg.pipeline.comparison_members import identities, is_trained
from cmb_autoseg.pipeline.stored import read_plan, refuse_stale_plan
from cmb_autoseg.progress import log, telling
from cmb_autoseg.raw_dataset import check_folds, parse_folds, read_raw_dataset
from cmb_autoseg.run_log import open_log
from cmb_autoseg.workspace import DatasetFolders

__all__ = ["compare", "redraw"]

WAIT_S = 60.0
"""For another run that writes tables into the same folder."""
COMMAND = "cmb_compare"


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
    _run_missing(jobs, CellRun(raw, plan, out, device, settings.subsets, settings.singles, full_budget, len(folds)))
    return redraw(out)


def redraw(out: Path, reference: str | None = None, folds: Sequence[int] | None = None) -> str:
    """Draw tables, pictures and page anew from the stored scores.

    Args:
        out: the comparison's folder.
        reference: name of the recipe that the others are tested against from now on; None for the one so far.
        folds: draw these; an empty list for all of the dataset, None for those that all recipes share.

    Raises:
        InputError: no comparison in the folder, no such recipe or fold in it, or a damaged score file.
    """
    comparison = read_comparison(out)
    if comparison is None:
        raise InputError(f"-o {out}: holds no comparison.json; run cmb_compare -d DATASET -r RECIPE ... -o {out} first")
    if reference is not None:
        if reference not in comparison.recipes:
            raise InputError(f"--reference {reference}: not compared in {out}; choose {', '.join(comparison.recipes)}")
        comparison = comparison.model_copy(update={"reference": reference})
    drawn = drawn_of(comparison, _wanted(comparison, folds))
    paths = {cell.name: scores_path(out, cell.name) for cell in comparison.cells}
    scores = {name: read_scores(path) for name, path in paths.items() if path.is_file()}
    with own_folder(out, COMMAND, WAIT_S, nested=False):
        open_log(out)
        if reference is not None:
            comparison.write(out / "comparison.json")
        judge = Judge(drawn.cells, scores, lambda name: read_views(paths[name]))
        with telling("drawing tables and pictures ..."):
            tables = all_tables(judge, drawn, comparison)
            write_page(tables, drawn, out, comparison)
    state = f"{len(scores)} of {len(comparison.cells)} cells are finished"
    left_out = len({*comparison.cells} - {*drawn.cells})
    if left_out:
        state += f", {left_out} are of folds that are left out here, so that all recipes are judged on the same scans"
    return f"{headline(drawn)}\n\n{as_markdown(tables[0])}\n{state}; all tables and pictures: {out / 'comparison.md'}"


def _wanted(comparison: Comparison, folds: Sequence[int] | None) -> Sequence[int] | None:
    """The folds to draw, an empty list being all.

    Raises:
        InputError: the dataset has no such fold.
    """
    strange = next((fold for fold in folds or () if fold >= comparison.n_folds), None)
    if strange is not None:
        raise InputError(
            f"-f: found {strange}, but {comparison.dataset} has {comparison.n_folds} folds; name some of 0 to "
            f"{comparison.n_folds - 1}, or all"
        )
    return folds if folds is None or folds else range(comparison.n_folds)


# What is missing


def _run_missing(jobs: Sequence[Job], run: CellRun) -> None:
    missing = [job for job in jobs if not _is_finished(job, run)]
    log(f"{len(jobs)} cells: {len(jobs) - len(missing)} finished, {len(missing)} to train and judge")
    for number, job in enumerate(missing):
        log(f"cell {number + 1} of {len(missing)}: {job.cell.name}{_time_left(missing[number:], run.out)}")
        if identities(job.recipe, run.model(job.cell), run.n_folds) is None:
            log(
                f"{job.cell.name}: left out as long as another run trains {', '.join(job.recipe.members)}, on which it "
                "is built; call again then"
            )
            continue
        running = run.out / "running" / job.cell.name
        with ExitStack() as stack:
            try:
                stack.enter_context(own_folder(running, COMMAND, wait_s=0))
            except InUseError:
                log(f"{job.cell.name}: left to another run ({is_owned(running) or COMMAND})")
                continue
            if not _is_finished(job, run):
                start = time.monotonic()
                train_and_judge(job, run)
                _note_seconds(run.out, job, time.monotonic() - start)
        _clear(running)


def _clear(running: Path) -> None:
    """Take away what says that a cell is worked on; a killed run may have left it, or two have made it at a time."""
    for folder in (running, running.parent):
        with suppress(OSError):  # Others work on cells, too.
            folder.rmdir()


def _is_finished(job: Job, run: CellRun) -> bool:
    """Whether the scores are there with every view that is wanted, made of the models that there are.

    Raises:
        InputError: they are of other settings, or damaged.
    """
    path, model = scores_path(run.out, job.cell.name), run.model(job.cell)
    built_on = identities(job.recipe, model, run.n_folds)
    if not path.is_file() or built_on is None or (job.is_built_on and not is_trained(model, job.cell.fold)):
        return False
    scores = read_scores(path)
    job.refuse_change(scores, path)
    if job.with_members(built_on).differences(scores):
        return False
    there = {(row.case, row.view) for row in scores.rows}
    return all(
        (case.name, view_name(view)) in there
        for case in validation_cases(job, run)
        for view in views_of(case, job, run)
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
