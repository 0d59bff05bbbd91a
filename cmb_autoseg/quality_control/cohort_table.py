"""Table 1: what the cohorts of a dataset are made of."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from cmb_autoseg.files import write_text, write_tsv

__all__ = ["COHORT_COLUMNS", "cohort_rows", "write_cohort_table"]

Row = Mapping[str, str]
COHORT_COLUMNS = (
    *("cohort", "centers", "sequences", "field_strengths_t", "years", "scans", "labelled", "test", "subjects"),
    *("scans_with_lesions", "lesions", "age", "sex", "missing"),
)
TITLES = {
    "cohort": "Cohort", "centers": "Centers", "sequences": "Sequences (scans)",
    "field_strengths_t": "Field strength (T)", "years": "Years",
    "scans": "Scans", "labelled": "Labelled", "test": "Test", "subjects": "Subjects",
    "scans_with_lesions": "Scans with lesions", "lesions": "Lesions", "age": "Age, mean (SD), range", "sex": "Sex",
    "missing": "Missing values (scans)",
}  # fmt: skip
MISSING = ("", "n/a", "nan", "none", "unknown")
AGE, SEX, YEAR = (
    ("age", "age_years", "age_at_scan"),
    ("sex", "gender"),
    ("year", "scan_year", "study_year", "date", "study_date"),
)
"""Names that such a column of cases.tsv may have, the first that is there."""
SEXES = {"f": "F", "female": "F", "w": "F", "m": "M", "male": "M", "o": "O", "other": "O"}


def cohort_rows(rows: Sequence[Row]) -> list[dict[str, str]]:
    """One row a cohort, and one for all if there are several, of the rows of cases.tsv.

    Age and sex are those of subjects (at their first scan), everything else is of scans. Columns that the
    cohort's card fills for nobody are `n/a`; values that some scans lack are counted under `missing`.
    """
    names = sorted({row["cohort"] for row in rows})
    table = [_row(name, [row for row in rows if row["cohort"] == name]) for name in names]
    return [*table, _row("all", rows)] if len(names) > 1 else table


def write_cohort_table(rows: Sequence[Row], tsv: Path, markdown: Path | None = None) -> None:
    """Write `cohorts.tsv`, and the same table as Markdown where asked."""
    table = cohort_rows(rows)
    write_tsv(tsv, COHORT_COLUMNS, table)
    if markdown is not None:
        cells = [[TITLES[column] for column in COHORT_COLUMNS], ["---"] * len(COHORT_COLUMNS)]
        cells += [[row[column].replace("|", "\\|") for column in COHORT_COLUMNS] for row in table]
        lines = ["| " + " | ".join(line) + " |" for line in cells]
        write_text(markdown, "\n".join(lines) + "\n")


def _row(name: str, rows: Sequence[Row]) -> dict[str, str]:
    first_of = {(row["cohort"], row["subject"]): row for row in reversed(rows)}
    subjects = [first_of[key] for key in sorted(first_of)]
    labelled = [row for row in rows if row.get("labelled") in ("1", "True", "true")]
    counts = [int(row["n_lesions"]) for row in labelled if _known(row.get("n_lesions")).isdigit()]
    return {
        "cohort": name,
        "centers": _centers(rows),
        "sequences": _tally([role for row in rows for role in row.get("sequences", "").split(",") if role]),
        "field_strengths_t": _tally([_strength(row) for row in rows if _strength(row)]),
        "years": _years(rows),
        "scans": str(len(rows)),
        "labelled": str(len(labelled)),
        "test": str(sum(row.get("split") == "test" for row in rows)),
        "subjects": str(len(subjects)),
        "scans_with_lesions": str(sum(count > 0 for count in counts)) if counts else "n/a",
        "lesions": str(sum(counts)) if counts else "n/a",
        "age": _age(subjects),
        "sex": _tally([_sex(row) for row in subjects if _sex(row)]),
        "missing": _missing(rows),
    }


def _known(value: str | None) -> str:
    text = (value or "").strip()
    return "" if text.lower() in MISSING else text


def _first(row: Row, names: Sequence[str]) -> str:
    by_name = {key.lower(): value for key, value in row.items() if isinstance(value, str)}
    return next((_known(by_name[name]) for name in names if _known(by_name.get(name))), "")


def _number(text: str) -> float | None:
    try:
        # Ages of DICOM are 072Y.
        return float(text.rstrip("Yy"))
    except ValueError:
        return None


def _tally(values: Sequence[str]) -> str:
    counts = {value: values.count(value) for value in sorted(set(values))}
    return ", ".join(f"{value} ({count})" for value, count in counts.items()) or "n/a"


def _centers(rows: Sequence[Row]) -> str:
    sites = {(row["cohort"], _known(row.get("site"))) for row in rows if _known(row.get("site"))}
    return str(len(sites)) if sites else "n/a"


def _strength(row: Row) -> str:
    value = _number(_known(row.get("field_strength_t")).rstrip("Tt "))
    return "" if value is None else f"{value:g}"


def _years(rows: Sequence[Row]) -> str:
    years = sorted({text[:4] for row in rows if (text := _first(row, YEAR))[:4].isdigit() and len(text) >= 4})
    return "n/a" if not years else years[0] if len(years) == 1 else f"{years[0]}-{years[-1]}"


def _age(subjects: Sequence[Row]) -> str:
    ages = [age for row in subjects if (age := _number(_first(row, AGE))) is not None]
    if not ages:
        return "n/a"
    deviation = f" ({statistics.stdev(ages):.1f})" if len(ages) > 1 else ""
    return f"{statistics.mean(ages):.1f}{deviation}, {min(ages):g}-{max(ages):g}"


def _sex(row: Row) -> str:
    text = _first(row, SEX)
    return SEXES.get(text.lower(), text)


def _missing(rows: Sequence[Row]) -> str:
    """Scans without a value, of what at least one scan of the cohort has."""
    asked = (
        ("age", lambda row: _first(row, AGE)), ("sex", lambda row: _first(row, SEX)),
        ("year", lambda row: _first(row, YEAR)), ("site", lambda row: _known(row.get("site"))),
        ("field strength", _strength),
    )  # fmt: skip
    found = []
    for name, read in asked:
        lacking = sum(not read(row) for row in rows)
        if 0 < lacking < len(rows):
            found.append(f"{name} ({lacking})")
    return ", ".join(found) or "none"
