"""A model whose second stage confirms or vetoes what its first stage proposes."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.ensemble import Ensemble, Prediction, checkpoint_path
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.candidates.candidates import Candidates, propose
from cmb_autoseg.trainers.candidates.fusion import fuse, fused_map
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.workspace import FIRST_STAGE

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TwoStageEnsemble"]


class TwoStageEnsemble(Ensemble):
    """The folds of a second stage, behind the same folds of its first stage.

    The first stage's folds make one map and so one list of candidates; the second stage's folds each look at all of
    them, and their scores are averaged.
    """

    def _load(self) -> None:
        import torch

        from cmb_autoseg.inference.loading import load_inner
        from cmb_autoseg.trainers.candidates.second_stage import build_network

        settings = Recipe.model_validate(self.plans["cmb_autoseg"]["recipe"]).two_stage
        if settings is None:
            raise ValueError("its recipe has no two_stage")
        self.settings = settings
        self.first = load_inner(self, self.folder / FIRST_STAGE)
        self.second_channels = self.channels
        either = {*self.channels, *self.first.channels}
        self.channels = tuple(role for role in self.plan.channels if role in either)
        self.networks: list[nn.Module] = []
        for fold in self.folds:
            network = build_network(settings, len(self.plan.channels))
            content = self.checkpoint(fold)
            if self.first.digests[fold] != content["checkpoints"][settings.first]:
                path = checkpoint_path(self.first.folder, fold)
                raise InputError(f"{path}: another one than fold {fold} was made with; copy the model again, whole")
            network.load_state_dict(content["network_weights"])
            self.networks.append(network.to(torch.device(self.device)).eval())

    def predict(self, volumes: Mapping[Role, Volume]) -> Prediction:
        """See `Ensemble.predict`; the map is the first stage's, each candidate as high as both stages hold it for."""
        first = self.first.predict(volumes)
        candidates = propose(first.probability, self.settings.threshold, self.settings.candidates_per_case)
        known = {role: volume for role, volume in volumes.items() if role in self.second_channels}
        if not known:
            raise InputError(
                f"{first.probability.name}: has {', '.join(volumes)}, but the second stage has learned from "
                f"{', '.join(self.second_channels)} alone; take a model of all sequences"
            )
        second = self.second_scores(known, candidates)
        fused = fuse(candidates.confidence, second, self.settings.fusion)
        data = np.asarray(first.probability.data, dtype=np.float32)
        joined = fused_map(data, candidates, fused, self.settings.threshold)
        return replace(first, probability=first.probability.with_data(joined), boxes=None)

    def sees(self, roles: Collection[Role]) -> bool:
        """See `Ensemble.sees`; the first stage has to propose, and the second to see what it proposes."""
        return self.first.sees(roles) and bool(set(roles) & set(self.second_channels))

    def second_scores(self, volumes: Mapping[Role, Volume], candidates: Candidates) -> NDArray[np.float64]:
        """What the second stage alone says of each candidate, (n,), 0 to 1.

        Args:
            volumes: prepared sequences that it has learned from.
            candidates: on their grid.
        """
        from cmb_autoseg.trainers.candidates.neighborhoods import Neighborhood, Window, scaled_stack
        from cmb_autoseg.trainers.candidates.second_stage import second_scores

        stack = scaled_stack(volumes, self.plan.channels)
        window = Window.of(self.settings, next(iter(volumes.values())).spacing_mm)
        no_boxes = np.zeros((0, 4), dtype=np.float32)
        places = [
            Neighborhood(window, window.kept(stack, peak), False, no_boxes, float(confidence))
            for peak, confidence in zip(candidates.peaks, candidates.confidence, strict=True)
        ]
        scores = [second_scores(self.settings, network, places, self.device) for network in self.networks]
        mean: NDArray[np.float64] = np.mean(scores, axis=0)
        return mean

    @property
    def n_parameters(self) -> int:
        """Of one fold of both stages."""
        return self.first.n_parameters + sum(values.numel() for values in self.networks[0].parameters())
