"""Microbleeds of one case, from masks, points, boxes or a reading without any, on the grid they are marked on.

Whatever the source, one lesion is one 26-connected component of the result.
"""

from cmb_autoseg.dataset_conversion.labels.reading import no_lesion_warning, read_label
from cmb_autoseg.dataset_conversion.labels.result import LabelResult, count_lesions

__all__ = ["LabelResult", "count_lesions", "no_lesion_warning", "read_label"]
