"""A model whose network segments axial slices.

The folds' logits are averaged; their probability is brought back from the pictures to the prepared grid. Slices in
which there is nothing, and places that no picture shows, are 0.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.ensemble import Ensemble, Prediction
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from cmb_autoseg.preprocessing.slices import SliceInput

__all__ = ["SliceEnsemble"]

SLICES_AT_ONCE = {"cuda": 16, "cpu": 4}
"""More only take more memory."""


class SliceEnsemble(Ensemble):
    """The folds of a network of slices."""

    def _load(self) -> None:
        from cmb_autoseg.inference.slice_networks import load_networks
        from cmb_autoseg.trainers.slices.networks import build_slice_network

        settings = Recipe.model_validate(self.plans["cmb_autoseg"]["recipe"]).slices
        if settings is None:
            raise ValueError("the recipe has no part slices")
        self._settings = settings
        self._networks = load_networks(self, lambda: build_slice_network(settings, len(self.plan.channels)))

    @property
    def n_parameters(self) -> int:
        """See `Ensemble.n_parameters`."""
        return sum(parameter.numel() for parameter in self._networks[0].parameters())

    def predict(self, volumes: Mapping[Role, Volume]) -> Prediction:
        """See `Ensemble.predict`."""
        from cmb_autoseg.preprocessing.slices import slice_input

        known = self.known(volumes)
        pictures = self._settings.pictures
        made = slice_input(known, self.plan.channels, pictures, pictures.size)
        probability = made.frame.to_scan(self._pictures(made)).transpose(2, 1, 0)
        some = next(iter(known.values()))
        if not np.isfinite(probability).all():
            raise InputError(f"{some.name}: the model gives no finite probability; check the scan's grey values")
        return Prediction(some.with_data(np.ascontiguousarray(probability.clip(0, 1))))

    def _pictures(self, made: "SliceInput") -> NDArray[np.float32]:
        """Probability (slice, h, w) of every picture."""
        import torch

        from cmb_autoseg.inference.slice_networks import shown_slices

        result = np.zeros((len(made.data), *made.frame.size), dtype=np.float32)
        neighbors, at_once = self._settings.pictures.neighbors, SLICES_AT_ONCE[self.device]
        for indices, pictures in shown_slices(made, neighbors, self.device, at_once):
            with torch.inference_mode():
                result[indices] = torch.sigmoid(self._logits(pictures)).cpu().numpy()
        return result

    def _logits(self, pictures: "Tensor") -> "Tensor":
        """(batch, h, w), mean over the folds."""
        import torch

        return torch.stack([network(pictures)[:, 0].float() for network in self._networks]).mean(dim=0)
