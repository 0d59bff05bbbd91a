"""A first card for a folder, guessed from the names of its files and, of DICOM, from the series' descriptions."""

from cmb_autoseg.dataset_conversion.draft.drafting import draft_card

__all__ = ["draft_card"]
