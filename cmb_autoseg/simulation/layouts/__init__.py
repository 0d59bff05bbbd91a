"""Writers of simulated scans in the layouts of real cohorts; one module each."""

__all__ = ["LAYOUTS", "NOT_CONVERTED"]

LAYOUTS = ("valdo", "bids", "ukb", "dicom", "dou", "csiro", "boxes2d")
"""Names that `cmb_simulate --layout` understands; each is a module here."""

NOT_CONVERTED = {
    "ukb": "files inside archives",
}
"""Layouts whose card `cmb_convert` refuses as not supported yet, by what it does not read."""
