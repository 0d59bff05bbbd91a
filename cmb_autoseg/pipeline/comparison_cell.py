"""One cell of a comparison: trained, predicted in all views, counted."""

import time
from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.comparison.case_scores import CellScores, ScoredView, ScoreRow, TrainingFacts, score_view, write_scores
from cmb_autoseg.comparison.cells import Cell, subsets_of, view_name
from cmb_autoseg.geometry import Volume, read_volume
from cmb_autoseg.inference.ensemble import Ensemble
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.inference.operating_points import ScoredCase
from cmb_autoseg.leakage import subject_of
from cmb_autoseg.pipeline.comparison_jobs import Job, steps_of
from cmb_autoseg.pipeline.comparison_members import cell_model, forget_older
from cmb_autoseg.pipeline.comparison_times import counted_seconds, seconds_of
from cmb_autoseg.pipeline.members import find_members, sees, sequences_seen
from cmb_autoseg.pipeline.stored import brain_of, images_of
from cmb_autoseg.progress import track
from cmb_autoseg.raw_dataset import RawCase, RawDataset
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, FoldModel, Plan, Role
from cmb_autoseg.trainers.fold_settings import FoldSettings
from cmb_autoseg.trainers.train import fold_folder, train_fold

__all__ = ["CellRun", "scores_path", "train_and_judge", "validation_cases", "views_of"]


@dataclass(frozen=True)
class CellRun:
    """What all cells of one call share."""

    raw: RawDataset
    plan: Plan
    out: Path
    device: str
    subsets: bool
    singles: bool
    """Whether each sequence alone is predicted from, too."""
    full_budget: float
    """The largest; only there the tables show what parts of the sequences give."""
    n_folds: int
    """Of the dataset."""

    def model(self, cell: Cell) -> Path:
        return cell_model(self.out, self.plan.dataset, cell)


def scores_path(out: Path, cell: str) -> Path:
    return out / "scores" / f"{cell}.json"


def train_and_judge(job: Job, run: CellRun) -> CellScores:
    """Train what is left of a cell's fold, judge it on the cases that it has not seen, and write the scores.

    Raises:
        InputError, LeakageError: as `train_fold`, or the trained fold is not this cell's.
    """
    cell, raw, model = job.cell, run.raw, run.model(job.cell)
    settings = FoldSettings(run.device, seed=cell.seed, budget=cell.budget)
    members = find_members(raw, run.plan, job.recipe, model, run.device)
    built_on = {member.recipe: member.identity for member in members}
    forget_older(cell, model, built_on, run.out)
    fold = fold_folder(model, cell.fold)
    with counted_seconds(fold):
        record = train_fold(raw, run.plan, job.recipe, model, cell.fold, settings, members)
    cases = validation_cases(job, run)
    job.refuse_other_model(record, {subject_of(case) for case in cases}, model)
    ensemble = load_ensemble(model, (cell.fold,), run.device)
    title = f"Judging fold {cell.fold}"
    took: list[float] = []
    views = [view for case in track(cases, title, slow=True) for view in _judged(case, job, run, ensemble, took)]
    seconds_per_case = round(sum(took) / len(took), 4) if took else None
    times = {"training_seconds": seconds_of(fold), "seconds_per_case": seconds_per_case}
    facts = _facts(record, job, raw, ensemble).model_copy(update=times)
    return write_scores(scores_path(run.out, cell.name), cell, job.with_members(built_on).made_of, facts, views)


def _facts(record: FoldModel, job: Job, raw: RawDataset, ensemble: Ensemble) -> TrainingFacts:
    trained = {*record.training_cases}
    encoder = record.encoder
    return TrainingFacts(
        steps=steps_of(job.recipe),
        n_parameters=ensemble.n_parameters,
        n_training_cases=len(trained),
        n_training_subjects=len({subject_of(case) for case in raw.cases if case.name in trained}),
        n_unlabelled_cases=len(record.unlabelled_cases),
        encoder=f"{encoder.name} ({encoder.weights.removeprefix('sha256:')[:8]})" if encoder else None,
        checkpoint=record.checkpoint,
    )


def validation_cases(job: Job, run: CellRun) -> list[RawCase]:
    """Cases of the fold that can be predicted, by name."""
    return [case for case in run.raw.cases if case.name in job.validation and views_of(case, job, run)]


def views_of(case: RawCase, job: Job, run: CellRun) -> list[tuple[Role, ...]]:
    """Sets of sequences that a case is predicted from, all that the model may see first; none where it sees none."""
    visible = [role for role in run.plan.channels if role in SUSCEPTIBILITY_ROLES and role in case.sequences]
    if job.cell.trained_on is not None:
        return [(role,) for role in visible]
    model = run.model(job.cell)
    seen = sequences_seen(job.recipe, run.plan, model)
    has = tuple(role for role in run.plan.channels if role in seen and role in case.sequences)
    if not sees(job.recipe, run.plan, model, has):
        return []
    if job.cell.budget < run.full_budget:
        return [has]
    alone = [(role,) for role in visible if role in seen] if run.singles else []
    views = dict.fromkeys([has, *alone, *(subsets_of(has) if run.subsets else ())])
    return [view for view in views if sees(job.recipe, run.plan, model, view)]


def _judged(case: RawCase, job: Job, run: CellRun, ensemble: Ensemble, took: list[float]) -> list[ScoredView]:
    """The case in all views; how many seconds the prediction of the first one took is added to `took`."""
    images = images_of(case, run.raw, run.plan.channels)
    brain, reference = brain_of(case, run.raw), read_volume(case.label, dtype="uint8")
    views = views_of(case, job, run)
    whole = (job.cell.trained_on,) if job.cell.trained_on else views[0]
    result = []
    for view in views:
        start = time.monotonic()
        probability = ensemble.probability(_given(images, view, job))
        if view == views[0]:
            took.append(time.monotonic() - start)
        row = ScoreRow(case=case.name, subject=subject_of(case), sequences=view_name(whole), view=view_name(view))
        with_histogram = view == whole or len(view) == 1
        scored = ScoredCase(case.name, probability, reference, brain)
        # Curves are drawn of what is predicted from everything, and not of the matrix.
        with_candidates = view == whole and job.cell.trained_on is None
        result.append(score_view(row, scored, with_histogram, with_candidates))
    return result


def _given(images: dict[Role, Volume], view: tuple[Role, ...], job: Job) -> dict[Role, Volume]:
    """The sequences of a view; a model of one sequence gets another one in the place of its own."""
    if job.cell.trained_on is not None:
        return {job.cell.trained_on: images[view[0]]}
    return {role: images[role] for role in view}
