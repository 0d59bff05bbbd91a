"""What a lesion is: connected components of a mask, the table that lists them, masks on other grids."""

from cmb_autoseg.lesions.components import Components, find_components, label_components
from cmb_autoseg.lesions.resampling import ResampledLesions, move_lesions, resample_lesions, sample_offsets
from cmb_autoseg.lesions.table import LESION_COLUMNS, describe, lesion_components, lesion_mask, tabulate

__all__ = [
    "LESION_COLUMNS",
    "Components",
    "ResampledLesions",
    "describe",
    "find_components",
    "label_components",
    "lesion_components",
    "lesion_mask",
    "move_lesions",
    "resample_lesions",
    "sample_offsets",
    "tabulate",
]
