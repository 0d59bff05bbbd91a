"""Best and worst cases drawn from the files that were scored."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.inputs.loading import ListSettings
from cmb_autoseg.evaluation.inputs.sides import CaseFiles
from cmb_autoseg.evaluation.reporting.backgrounds import find_gradcam, read_background
from cmb_autoseg.evaluation.reporting.cases import view_cases
from cmb_autoseg.evaluation.reporting.page import CaseView

__all__ = ["view_files"]


def view_files(
    cases: Sequence[CaseScore],
    protocol: str,
    files: Mapping[str, CaseFiles],
    images: Path | None = None,
    explanations: Sequence[Path] = (),
    lists: ListSettings | None = None,
) -> list[CaseView]:
    """The worst and the best cases; reads their images again, one case at a time.

    Args:
        cases: all that were scored.
        protocol: by which lesions are missed, false or found.
        files: of every scored case, by its name.
        images: folder of scans, named as nnU-Net names them; without one the marks are on the probability map or mask.
        explanations: folders that may hold `<case>_gradcam.png`, the first one that has it counts.
        lists: as for scoring.

    Raises:
        InputError: a file is unreadable by now.
        GeometryError: volumes of a case are not on one grid.
    """

    def gradcam(case: str) -> Path | None:
        found = (find_gradcam(folder, case) for folder in explanations)
        return next((path for path in found if path is not None), None)

    return view_cases(cases, protocol, lambda case: read_background(files[case], images, lists), gradcam)
