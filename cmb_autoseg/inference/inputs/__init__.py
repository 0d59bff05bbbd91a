"""What `cmb_predict -i` may be, and the cases in it."""

from cmb_autoseg.inference.inputs.bids import is_bids, refuse_raw_data
from cmb_autoseg.inference.inputs.common import InputFailure, InputSettings
from cmb_autoseg.inference.inputs.find import find_cases, is_single_file

__all__ = ["InputFailure", "InputSettings", "find_cases", "is_bids", "is_single_file", "refuse_raw_data"]
