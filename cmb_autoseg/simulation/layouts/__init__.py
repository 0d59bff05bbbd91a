"""Writers of simulated scans in the layouts of real cohorts; one module each."""

__all__ = ["LAYOUTS"]

LAYOUTS = ("valdo", "bids", "ukb", "dicom", "dou", "csiro", "boxes2d")
"""Names that `cmb_simulate --layout` understands; each is a module here."""
