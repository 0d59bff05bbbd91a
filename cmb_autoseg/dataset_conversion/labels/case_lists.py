"""Whether a file of many cases speaks of one of them."""

from cmb_autoseg.dataset_conversion.labels.box_files import coco_lists
from cmb_autoseg.dataset_conversion.labels.tables import case_names
from cmb_autoseg.records import LabelSource

__all__ = ["is_listed"]


def is_listed(source: LabelSource) -> bool:
    """Whether somebody looked at the case: always, where it has a file of its own.

    In a table of many it needs a row, in a COCO file the entry of at least one picture.

    Raises:
        InputError: the table or COCO file is unreadable, or lacks the column that names the cases.
    """
    paths = list(source.raters.values()) or [source.path]
    if source.rows is not None:
        rows = source.rows
        return any(rows.equals in case_names(path, source.sheet, rows) for path in paths)
    if source.format == "coco":
        return any(coco_lists(path, picture) for path in paths for picture in source.pictures if picture)
    return True
