"""Pictures of a finished pretraining."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cmb_autoseg.networks.residual_unet import ResidualEncoder
from cmb_autoseg.pretraining.curves import draw_pretraining_curves
from cmb_autoseg.pretraining.neighbors import draw_neighbors, draw_pairs, find_neighbors, mean_features, middle_features
from cmb_autoseg.pretraining.patches import CasePatches, PretrainingCase
from cmb_autoseg.pretraining.setup import PretrainingSetup
from cmb_autoseg.progress import log
from cmb_autoseg.records import Plan

__all__ = ["draw_pictures"]


def draw_pictures(
    encoder: ResidualEncoder,
    cases: Sequence[PretrainingCase],
    setup: PretrainingSetup,
    plan: Plan,
    rows: Sequence[Mapping[str, float]],
    folder: Path,
    title: str,
    seed: int,
) -> None:
    """`progress.png`, and `neighbors.png` where a case has two sequences."""
    method = setup.settings.method
    draw_pretraining_curves(rows, folder / "progress.png", f"{title}: {method.replace('_', ' ')}")
    present = CasePatches(cases, setup.patch_shape, setup.settings.brain).present
    pairs = draw_pairs(cases, setup.channels, present, setup.patch_shape, np.random.default_rng(seed))
    if pairs is None:
        log(f"{title}: no case has two sequences, so there is no picture of neighbours across them")
        return
    twins = setup.settings.barlow_twins
    voxels = method == "barlow_twins" and twins.places == "voxels"
    embed = middle_features(encoder, twins.voxel_level) if voxels else mean_features(encoder)
    backward = [plan.transpose_forward.index(axis) for axis in range(3)]
    draw_neighbors(pairs, find_neighbors(pairs, embed), folder / "neighbors.png", backward, plan.spacing_mm)
