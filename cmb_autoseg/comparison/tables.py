"""The tables of a comparison, as data; how they are written is `table_files.py`, how drawn `drawings.py`."""

from cmb_autoseg.comparison.case_scores import CellScores
from cmb_autoseg.comparison.cells import Comparison
from cmb_autoseg.comparison.judging import Judge
from cmb_autoseg.comparison.label_tables import annotation_efficiency, differences, paradigms
from cmb_autoseg.comparison.paired_tests import paired_tests
from cmb_autoseg.comparison.sequence_tables import cross_sequence, dropping, per_sequence, subsets
from cmb_autoseg.comparison.system_tables import costs, froc
from cmb_autoseg.comparison.table import table_of
from cmb_autoseg.reporting.tables import Row, Table

__all__ = ["all_tables"]


def all_tables(judge: Judge, comparison: Comparison, whole: Comparison | None = None) -> list[Table]:
    """Every table that something was asked for.

    Args:
        judge: with the scores of all that was ever asked for.
        comparison: what is drawn, as `drawn_folds.drawn_of` gives it.
        whole: all that was ever asked for, which the list of cells shows; None where that is drawn.
    """
    tables = [paradigms(judge, comparison), froc(judge, comparison), costs(judge, comparison)]
    tables.append(differences(judge, comparison))
    if len({cell.budget for cell in comparison.cells}) > 1:
        tables.append(annotation_efficiency(judge, comparison))
    tables.append(per_sequence(judge, comparison))
    if comparison.subsets:
        tables += [dropping(judge, comparison), subsets(judge, comparison)]
    if any(cell.trained_on for cell in comparison.cells):
        tables.append(cross_sequence(judge, comparison))
    tables.append(paired_tests(judge, comparison))
    return [table for table in tables if table.rows] + [cell_list(judge, whole or comparison)]


def cell_list(judge: Judge, comparison: Comparison) -> Table:
    rows = []
    for cell in comparison.cells:
        found = judge.scores.get(cell.name)
        row: Row = {
            "recipe": cell.recipe,
            "budget": cell.budget,
            "seed": cell.seed,
            "fold": cell.fold,
            "trained_on": cell.trained_on.value if cell.trained_on else "all",
            "state": "finished" if found else "not run yet",
            "steps": comparison.steps.get(cell.recipe),
        }
        rows.append(row | (_facts(found) if found else {}))
    columns = ("recipe", "budget", "seed", "fold", "trained_on", "state", "steps", "labelled_subjects")
    more = ("labelled_scans", "unlabelled_scans", "scans", "parameters", "encoder")
    notes = ("One row a trained fold; scans: those that it is judged on.",)
    return table_of("cells", "What was trained", (*columns, *more), rows, notes)


def _facts(scores: CellScores) -> Row:
    training = scores.training
    return {
        "steps": training.steps,
        "labelled_subjects": training.n_training_subjects,
        "labelled_scans": training.n_training_cases,
        "unlabelled_scans": training.n_unlabelled_cases,
        "scans": len({row.case for row in scores.rows}),
        "parameters": training.n_parameters,
        "encoder": training.encoder or "random",
    }
