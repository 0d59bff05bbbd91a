"""What the marks of a case are drawn on: its scan, else its probability map, else a mask."""

from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.evaluation.inputs.loading import ListSettings, load_case
from cmb_autoseg.evaluation.inputs.sides import CaseFiles
from cmb_autoseg.geometry import Volume, read_volume

__all__ = ["SCAN", "Background", "find_gradcam", "read_background"]

SCAN = "scan"
GRADCAM_NAME = "{case}_gradcam.png"


@dataclass(frozen=True)
class Background:
    """A volume, and what it is."""

    volume: Volume
    what: str
    """`SCAN`, `probability map`, `predicted mask` or `reference mask`."""


def read_background(files: CaseFiles, scan: Path | None, lists: ListSettings | None = None) -> Background | None:
    """Read the best there is to draw one case on; None where both sides are lists and there is no scan.

    Args:
        files: of the case.
        scan: see `inputs.images.image_of`.
        lists: as for scoring.

    Raises:
        InputError: a file is unreadable.
        GeometryError: volumes of the case are not on one grid.
    """
    if scan is not None:
        return Background(read_volume(scan), SCAN)
    loaded = load_case(files, lists)
    if loaded.probability is not None:
        return Background(loaded.probability, "probability map")
    if loaded.reference.volume is not None:
        return Background(loaded.reference.volume, "reference mask")
    return Background(loaded.predicted.volume, "predicted mask") if loaded.predicted.volume is not None else None


def find_gradcam(folder: Path, case: str) -> Path | None:
    """`<case>_gradcam.png` of `cmb_explain`."""
    path = folder / GRADCAM_NAME.format(case=case)
    return path if path.is_file() else None
