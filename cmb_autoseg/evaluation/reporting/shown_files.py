"""Tables and figures as files beside the page."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from cmb_autoseg.evaluation.reporting.page import CaseView
from cmb_autoseg.evaluation.reporting.sections import SECTIONS
from cmb_autoseg.reporting.pictures import Picture, write_pictures
from cmb_autoseg.reporting.table_files import write_tables
from cmb_autoseg.reporting.tables import Table

__all__ = ["write_shown"]

TABLE_ENDINGS = (".tsv", ".json", ".md", ".tex")
CASE_PICTURES = ("case_*_slice_*.png", "case_*_gradcam.png")


def write_shown(
    tables: Sequence[Table], pictures: Sequence[Picture], views: Sequence[CaseView], folder: Path, data: str = ""
) -> None:
    """Write `tables/` and `figures/`, the pictures of cases among them.

    What an earlier evaluation in this folder had and this one does not is deleted; other files stay.

    Args:
        tables: of this evaluation.
        pictures: of this evaluation.
        views: whose pictures are of single cases.
        folder: of the evaluation.
        data: the kind of data, such as `simulated`.

    Raises:
        OutputError: a file cannot be written.
    """
    of_cases = [picture for view in views for picture in view.pictures]
    _forget(folder, {table.name for table in tables}, {picture.name for picture in (*pictures, *of_cases)})
    write_tables(tables, folder / "tables", data)
    write_pictures([*pictures, *of_cases], folder / "figures")


def _forget(folder: Path, tables: set[str], pictures: set[str]) -> None:
    known = {name for section in SECTIONS for name in (*section.tables, *section.folded)} - tables
    drawn = {name for section in SECTIONS for name in section.pictures} - pictures
    of_cases = chain.from_iterable((folder / "figures").glob(pattern) for pattern in CASE_PICTURES)
    old = [
        *(folder / "tables" / f"{name}{ending}" for name in sorted(known) for ending in TABLE_ENDINGS),
        *(folder / "figures" / f"{name}.png" for name in sorted(drawn)),
        *(path for path in of_cases if path.stem not in pictures),
    ]
    for path in old:
        path.unlink(missing_ok=True)
