"""Axial slices of a prepared scan as a network's pictures, and their way back."""

from cmb_autoseg.preprocessing.slices.frame import SliceFrame
from cmb_autoseg.preprocessing.slices.slice_input import SliceInput, slice_input, with_neighbors
from cmb_autoseg.preprocessing.slices.slice_labels import IGNORED, SliceLabels, slice_labels

__all__ = ["IGNORED", "SliceFrame", "SliceInput", "SliceLabels", "slice_input", "slice_labels", "with_neighbors"]
