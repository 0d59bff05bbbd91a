"""What a lesion is: connected components of a mask, and the table that lists them."""

from cmb_autoseg.lesions.components import label_components
from cmb_autoseg.lesions.table import LESION_COLUMNS, lesion_mask, tabulate

__all__ = ["LESION_COLUMNS", "label_components", "lesion_mask", "tabulate"]
