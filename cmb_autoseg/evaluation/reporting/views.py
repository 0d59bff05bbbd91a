"""Pictures of the best and worst cases of an evaluation, read from the files that were scored."""

from pathlib import Path

from cmb_autoseg.errors import CMBError
from cmb_autoseg.evaluation.evaluate import Predictions
from cmb_autoseg.evaluation.evaluation_report import EvaluationReport
from cmb_autoseg.evaluation.inputs.images import image_of
from cmb_autoseg.evaluation.inputs.sides import CaseFiles
from cmb_autoseg.evaluation.reporting.backgrounds import Background, find_gradcam, read_background
from cmb_autoseg.evaluation.reporting.cases import view_cases
from cmb_autoseg.evaluation.reporting.page import CaseView
from cmb_autoseg.geometry import grids_agree
from cmb_autoseg.progress import log

__all__ = ["views_of"]


def views_of(
    report: EvaluationReport, predictions: Predictions, images: Path | None, explanations: Path | None
) -> list[CaseView]:
    """The best and worst cases in pictures; one case in memory at a time.

    Args:
        report: of the predictions.
        predictions: whose files the pictures are drawn on, where no image is known.
        images: folder of scans; a case whose scan cannot be read has no picture, which is told.
        explanations: folder with `<case>_gradcam.png`.
    """
    files = {case.name: case for case in predictions.files}

    def background(case: str) -> Background | None:
        try:
            return read_background(files[case], _scan_of(files[case], images), predictions.lists)
        except CMBError as error:
            log(f"warning: {case}: no picture, since {' '.join(str(error).split())}")
            return None

    def gradcam(case: str) -> Path | None:
        path = None if explanations is None else find_gradcam(explanations, case)
        return path if path is None or _is_picture(path) else None

    return view_cases(report.cases, report.settings.protocol, background, gradcam)


def _scan_of(files: CaseFiles, images: Path | None) -> Path | None:
    """The case's scan, if it is on the grid of the case's mask; a scan of somebody else would mislead."""
    scan = image_of(files, images)
    if scan is None:
        if images is not None:
            log(f"warning: {files.name}: no scan in {images}; drawn on what was scored")
        return None
    masks = [side.path for side in (files.reference, files.predicted) if side.kind == "mask"]
    if masks and not grids_agree(scan, masks[0]):
        log(f"warning: {scan}: on another grid than {masks[0]}; {files.name} is drawn on what was scored")
        return None
    return scan


def _is_picture(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.verify()
    except Exception as error:  # a damaged picture meets each reader with an error of its own
        log(f"warning: {path}: not readable as a picture ({type(error).__name__}); left out")
        return False
    return True
