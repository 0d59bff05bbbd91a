"""From the scanner's files to volumes that training and prediction see alike."""

from cmb_autoseg.preprocessing.chain import PreparedCase, prepare_case

__all__ = ["PreparedCase", "prepare_case"]
