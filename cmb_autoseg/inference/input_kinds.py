"""What `-i` may be, in words; imports nothing, so that a mistyped path is told at once."""

__all__ = ["WHAT_IN_MAY_BE"]

WHAT_IN_MAY_BE = (
    "-i takes a .nii or .nii.gz file, a folder of them (CASE_0000.nii.gz or any names), a BIDS folder, "
    "a DICOM folder, or a card (FILE.yaml, NAME=FOLDER)"
)
