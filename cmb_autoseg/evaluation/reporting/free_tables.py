"""Tables whose columns are those of rows that come from elsewhere: tests of areas, power, readers."""

from collections.abc import Sequence

from cmb_autoseg.reporting.tables import Row, Table

__all__ = ["FREE_TITLES", "free_table"]

FREE_TITLES = {
    "delong": "Patient-level areas under the ROC curve, compared by DeLong's test",
    "power": "Power of the comparison of areas",
    "reader_verdicts": "Verdicts of readers",
    "reader_agreement": "Agreement of all readers",
    "reader_pairs": "Agreement of readers, pair by pair",
}
HEADINGS = {
    "auc": "AUC",
    "auc_low": "AUC, lower end",
    "auc_high": "AUC, upper end",
    "low": "difference, lower end",
    "high": "difference, upper end",
    "p_holm": "p (Holm)",
    "p_bh": "p (BH)",
    "rater": "reader",
    "other": "other reader",
    "n": "findings judged",
    "reader_verdicts.n": "verdicts",
    "reader_verdicts.n_cases": "scans",
    "reader_verdicts.n_findings": "findings",
    "correct_share": "share correct",
    "incorrect_share": "share incorrect",
    "missed_share": "share missed",
    "kappa": "Cohen's kappa",
    "n_positive": "cases with lesions",
    "n_negative": "cases without",
    "n_positive_needed": "cases with lesions needed",
    "n_negative_needed": "cases without needed",
}
NOTES = {
    "delong": (
        "Cases with a lesion against cases without, by the confidence of the surest finding; cases of one subject are "
        "taken together. Only cases of which every system with confidences has one, the same "
        "in all rows. Difference: system less the one it is held against."
    ),
    "power": (
        "Retrospective: the chance that a study of this size finds a difference as large as the one observed, the "
        "smallest difference it would have found with the target power, and the size that the observed one needs."
    ),
    "reader_verdicts": (
        "Correct: the finding is a microbleed; incorrect: it is none; missed: a microbleed that the system did not "
        "mark. Shares are of verdicts, those of all readers together in the last row."
    ),
    "reader_agreement": "Of the findings that all readers judged.",
    "reader_pairs": "Of the findings that both judged.",
}


def free_table(name: str, title: str, rows: Sequence[Row]) -> Table:
    """A table whose columns are the keys of its rows, in words; p values come last."""
    present = dict.fromkeys(key for row in rows for key in row)
    p_values = [key for key in present if key == "p" or key.startswith("p_")]
    repeated = {key for key in p_values if key != "p" and _repeats_p(key, rows)}
    keys = [*(key for key in present if key not in p_values), *sorted(set(p_values) - repeated)]
    columns = {key: _heading(name, key) for key in keys}
    notes = (NOTES[name],) if name in NOTES else ()
    return Table(name, title, columns, tuple(dict(row) for row in rows), notes, frozenset(keys))


def _heading(name: str, key: str) -> str:
    return HEADINGS.get(f"{name}.{key}") or HEADINGS.get(key) or key.replace("_", " ")


def _repeats_p(key: str, rows: Sequence[Row]) -> bool:
    """Whether a corrected p is that of a single comparison, which there is nothing to correct for."""
    return sum(row.get("p") is not None for row in rows) <= 1 and all(row.get(key) == row.get("p") for row in rows)
