"""Pictures of a finished pretraining."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cmb_autoseg.networks.residual_unet import ResidualEncoder
from cmb_autoseg.pretraining.curves import draw_pretraining_curves
from cmb_autoseg.pretraining.neighbors import draw_neighbors, draw_pairs, find_neighbors, mean_features, middle_features
from cmb_autoseg.pretraining.patches import CasePatches, PretrainingCase
from cmb_autoseg.pretraining.setup import PretrainingSetup, build_encoder
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
    data: str = "",
) -> None:
    """`progress.png`, and `neighbors.png` where a case has two sequences.

    Args:
        encoder: what was learned.
        cases: learned from.
        setup: of the pretraining.
        plan: with the network of the recipe.
        rows: of the curves.
        folder: where the pictures go.
        title: of the encoder.
        seed: of its first weights, and of the places that are shown.
        data: the kind of data, such as `simulated`.
    """
    method = setup.settings.method
    told = f" ({data} data)" if data else ""
    draw_pretraining_curves(rows, folder / "progress.png", f"{title}: {method.replace('_', ' ')}{told}")
    present = CasePatches(cases, setup.patch_shape, setup.settings.brain).present
    pairs = draw_pairs(cases, setup.channels, present, setup.patch_shape, np.random.default_rng(seed))
    if pairs is None:
        log(f"{title}: no case has two sequences, so there is no picture of neighbours across them")
        return
    log(f"{title}: looks for {len(pairs.first)} places of one sequence in another, for neighbors.png")
    twins = setup.settings.barlow_twins
    voxels = method == "barlow_twins" and twins.places == "voxels"
    after, before = (
        find_neighbors(pairs, middle_features(each, twins.voxel_level) if voxels else mean_features(each))
        for each in (encoder, build_encoder(len(setup.channels), setup.topology, seed))
    )
    backward = [plan.transpose_forward.index(axis) for axis in range(3)]
    draw_neighbors(pairs, after, before, folder / "neighbors.png", backward, plan.spacing_mm)
