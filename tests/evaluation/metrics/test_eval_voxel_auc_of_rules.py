"""The AUC of all voxels counts the voxels that the other voxel figures count."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cmb_autoseg.evaluation.evaluate import evaluate_cases
from cmb_autoseg.evaluation.inputs.loading import LoadedCase
from cmb_autoseg.evaluation.inputs.sides import LoadedSide
from cmb_autoseg.evaluation.matching.protocols import LesionRule
from cmb_autoseg.evaluation.scoring import CaseFacts, ScoringSettings
from cmb_autoseg.geometry import Volume


class Source:
    """A case in memory: one lesion of 27 voxels, one of a single voxel."""

    name = "a"
    facts = CaseFacts(subject="a")

    def __init__(self):
        rng = np.random.default_rng(0)
        self.probability = rng.random((12, 12, 12)).astype(np.float32)
        self.marked = np.zeros((12, 12, 12), np.uint8)
        self.marked[2:5, 2:5, 2:5] = self.marked[9, 9, 9] = 1

    def load(self):
        probability = Volume(self.probability, np.eye(4), None, "probability")
        reference = Volume(self.marked, np.eye(4), None, "reference")
        return LoadedCase(
            self.name, LoadedSide("mask", probability), LoadedSide("mask", reference), probability, regions=None
        )


@pytest.mark.parametrize("rule", [LesionRule(), LesionRule(min_volume_mm3=5), LesionRule(diameter_mm=(0, 3))])
def test_lesions_that_the_rule_leaves_out_are_no_lesion_voxels(rule):
    source = Source()
    report = evaluate_cases([source], ScoringSettings(rule=rule))
    kept = source.marked.astype(bool)
    if rule.min_volume_mm3:
        kept[9, 9, 9] = False
    if rule.diameter_mm:
        kept[2:5, 2:5, 2:5] = False
    voxels = report.cases[0].voxels
    assert voxels.true_positive + voxels.false_negative == kept.sum()
    expected = roc_auc_score(kept.ravel(), source.probability.ravel())
    assert report.statistics["voxel"]["auc"].value() == pytest.approx(expected, abs=1e-12)
