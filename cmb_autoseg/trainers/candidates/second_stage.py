"""The network of the second stage, what goes into it and what comes out: the same in training and in prediction."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cmb_autoseg.networks.candidate_classifier import CandidateClassifier
from cmb_autoseg.networks.candidate_detector import CandidateDetector, Cells, middle_scores
from cmb_autoseg.trainers.candidates.neighborhoods import Neighborhood, Window
from cmb_autoseg.trainers.recipe import TwoStageSettings

__all__ = ["build_network", "network_input", "scores_of_cells", "second_scores"]

PICTURES_AT_A_TIME = 64


def build_network(settings: TwoStageSettings, n_channels: int) -> nn.Module:
    """With random weights.

    Args:
        settings: of the recipe.
        n_channels: sequences of the plan.
    """
    if settings.second == "yolo":
        return CandidateDetector(n_channels * settings.slices, settings.features)
    return CandidateClassifier(n_channels, settings.features)


def network_input(settings: TwoStageSettings, pictures: Sequence[NDArray[np.float32]]) -> Tensor:
    """Pictures of (plane, channel, row, column) as one batch: planes are channels of `yolo`, the z axis of the cube."""
    batch = torch.from_numpy(np.stack(pictures))
    return batch.flatten(1, 2) if settings.second == "yolo" else batch.transpose(1, 2).contiguous()


def scores_of_cells(settings: TwoStageSettings, cells: Cells, window: Window) -> Tensor:
    """Scores (batch,) of the candidates in the middle of windows of equal pixels."""
    return middle_scores(cells, cells.boxes.new_tensor(window.middle), settings.near_mm / window.pixel_mm)


def second_scores(
    settings: TwoStageSettings, network: nn.Module, places: Sequence[Neighborhood], device: str
) -> NDArray[np.float64]:
    """What a network, in evaluation mode, says of each place, (n,), 0 to 1; a few pictures are in memory at a time."""
    scores = [np.zeros(0)]
    with torch.no_grad():
        for start in range(0, len(places), PICTURES_AT_A_TIME):
            some = places[start : start + PICTURES_AT_A_TIME]
            x = network_input(settings, [place.picture() for place in some]).to(device)
            if isinstance(network, CandidateDetector):
                found = scores_of_cells(settings, network.cells(x), some[0].window)
            else:
                found = network(x).float().sigmoid()
            scores.append(found.cpu().numpy().astype(np.float64))
    return np.concatenate(scores)
