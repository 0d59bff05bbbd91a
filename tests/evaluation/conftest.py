from collections.abc import Callable

import numpy as np
import pytest

from cmb_autoseg.evaluation.evaluate import CaseSource, evaluate_cases
from cmb_autoseg.evaluation.evaluation_report import EvaluationReport
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.scoring import ScoringSettings
from cmb_autoseg.evaluation.statistics.intervals import Resampling
from cmb_autoseg.geometry import Volume
from cmb_autoseg.lesions.components import find_components


@pytest.fixture
def phantom() -> Callable[..., Volume]:
    """Build a small mask from boxes given as index expressions."""

    def build(*boxes, value=1.0, affine=None, shape=(20, 20, 20), name="phantom"):
        data = np.zeros(shape, dtype=np.float32)
        for box in boxes:
            data[box] = value
        return Volume(data, np.eye(4) if affine is None else affine, None, name)

    return build


@pytest.fixture
def lesions_of() -> Callable[[Volume], LesionSet]:
    """The lesions of a mask, or of a map that holds 0 and one other value."""

    def found(volume):
        mask = volume.data > 0
        probability = volume.data if np.any((volume.data > 0) & (volume.data < 1)) else None
        return LesionSet.of_components(find_components(mask), volume, probability)

    return found


@pytest.fixture
def evaluated() -> Callable[..., EvaluationReport]:
    """Evaluate masks (or maps) in memory: (case, predicted, reference) or with the subject as a fourth."""

    def judge(cases, n_resamples=0, **settings):
        sources = [
            CaseSource.of_volumes(name, *(subject or [name]), lambda p=predicted, r=reference: (p, r, _map_of(p)))
            for name, predicted, reference, *subject in cases
        ]
        return evaluate_cases(sources, ScoringSettings(**settings), Resampling(n_resamples=n_resamples))

    return judge


def _map_of(predicted):
    return predicted if np.any((predicted.data > 0) & (predicted.data < 1)) else None
