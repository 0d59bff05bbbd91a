"""What the records of a prediction say of the model that made it, for the report and the checklists."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.inputs.run_times import run_records
from cmb_autoseg.files import read_json
from cmb_autoseg.records import FoldModel, Model
from cmb_autoseg.simulated_cohorts import looks_simulated

__all__ = ["facts_of_run", "kind_of_cases"]


def facts_of_run(predicted: Path) -> dict[str, str]:
    """Facts of checklists from `run.json` beside predictions and from the model's records, as far as they are there.

    Args:
        predicted: folder of the predictions.
    """
    runs = run_records(predicted)
    if not runs or not isinstance(runs[-1]["model"], dict):
        return {}
    model: Mapping[str, Any] = runs[-1]["model"]
    folder, folds = Path(str(model.get("folder", ""))), [int(fold) for fold in model.get("folds", ())]
    listed = ", ".join(map(str, folds))
    facts = {
        "model": f"{folder.name}, folds {listed}, {model.get('digest', '')}",
        "explanation": "cmb_explain makes Grad-CAM maps of this model",
        "intended_use": str(model.get("intended_use", "")),
    }
    try:
        return {**facts, **_of_model(Model.read(folder / "model.json")), **_of_folds(folder, folds)}
    except InputError:  # moved, or of another version: the run's own record is what there is
        return facts


def _of_model(card: Model) -> dict[str, str]:
    return {
        "dataset": f"{card.dataset} ({card.n_cases} labelled cases of {card.n_subjects} subjects, {card.n_lesions} "
        "lesions)",
        "recipe": card.recipe,
        "sequences": ", ".join(role.value for role in card.channels),
        "seeds": f"{card.seed} (training)",
        "split": "folds are grouped by subject; predictions of subjects that a fold has learned from are refused",
    }


def _of_folds(folder: Path, folds: Sequence[int]) -> dict[str, str]:
    records = [FoldModel.read(folder / f"fold_{fold}" / "fold.json") for fold in folds]
    encoder = next((record.encoder for record in records if record.encoder is not None), None)
    cases = {case for record in records for case in (*record.training_cases, *record.validation_cases)}
    known = {
        "folds": f"{len(records)}, grouped by subject, stratified by cohort, sequences and number of lesions",
        "n_training_cases": str(len(cases)),
    }
    if encoder is not None:
        known["encoder"] = f"{encoder.name} ({encoder.method}), which has seen {len(encoder.subjects)} subjects"
    return known


def kind_of_cases(cases: Sequence[CaseScore], table: Path | None) -> str:
    """`simulated` where nobody was scanned for any case, `partly simulated`, or nothing where all may be real.

    Args:
        cases: with their columns.
        table: of the cases; a workspace's record beside it names simulated cohorts.
    """
    record = None if table is None else table.parent / "dataset_record.json"
    content = read_json(record) if record is not None and record.is_file() else {}
    told = set(content.get("simulated") or ()) if isinstance(content, dict) else set()
    made_up = {case.columns.get("cohort") in told or looks_simulated(case.columns) for case in cases}
    return "simulated" if made_up == {True} else "partly simulated" if True in made_up else ""
