"""Scored cases made of a few numbers, without images."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from cmb_autoseg.evaluation.case_score import CaseScore, Matching, Pair, VoxelCounts
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet

ROOT = Path(__file__).parents[3]


def lesion_set(n, diameters_mm=None, regions=None, confidence=None, mean_probability=None, kind="mask"):
    diameters = np.full(n, 3.0) if diameters_mm is None else np.asarray(diameters_mm, float)
    return LesionSet(
        kind=kind,
        centres_mm=np.zeros((n, 3)),
        volumes_mm3=np.pi / 6 * diameters**3,
        regions=tuple(regions or ["unknown"] * n),
        confidence=None if confidence is None else np.asarray(confidence, float),
        mean_probability=None if mean_probability is None else np.asarray(mean_probability, float),
    )


def matching(pairs, ignored=()):
    return Matching(
        pairs=tuple(Pair(reference=r, predicted=p, distance_mm=0.0, dice=0.5) for r, p in pairs), ignored=tuple(ignored)
    )


@pytest.fixture
def scored():
    """Build one case: lesions by their number or sets, pairs of (reference, predicted), candidates by confidence."""

    def build(
        reference=0,
        predicted=0,
        pairs=(),
        ignored=(),
        confidence=None,
        mean_probability=None,
        candidate_pairs=None,
        candidates_ignored=(),
        voxels=None,
        name="case",
        **more,
    ):
        reference = lesion_set(reference) if isinstance(reference, int) else reference
        predicted = lesion_set(predicted) if isinstance(predicted, int) else predicted
        candidates = None
        if confidence is not None:
            mean = confidence if mean_probability is None else mean_probability
            candidates = lesion_set(len(confidence), confidence=confidence, mean_probability=mean)
        return CaseScore(
            case=name,
            subject=name,
            reference=reference,
            predicted=predicted,
            matchings={"valdo": matching(pairs, ignored)},
            candidates=candidates,
            candidate_matchings={"valdo": matching(candidate_pairs or (), candidates_ignored)},
            voxels=None if voxels is None else VoxelCounts(**dict(zip(VoxelCounts.model_fields, voxels, strict=True))),
            **more,
        )

    build.lesions = lesion_set
    return build


@pytest.fixture(scope="session")
def parity():
    """The benchmark that compares with other libraries; it also makes random studies up."""
    pytest.importorskip("picai_eval")
    spec = importlib.util.spec_from_file_location("metrics_parity", ROOT / "benchmarks" / "metrics_parity.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["metrics_parity"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def random_cases(parity):
    """Build cases with ties among confidences, misses, empty references and empty predictions."""
    return lambda rng, n_cases: parity.random_study(rng, n_cases).cases


@pytest.fixture
def draws():
    """Integer weights of a bootstrap, and the cases that each draw holds, for references that take lists."""

    def build(rng, cases, n_draws=5):
        picked = rng.integers(0, len(cases), (n_draws, len(cases)))
        weights = np.stack([np.bincount(row, minlength=len(cases)) for row in picked]).astype(float)
        return weights, [[cases[i] for i in row] for row in picked]

    return build
