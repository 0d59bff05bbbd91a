"""A model that finds boxes in axial slices.

All folds have the same anchors. What they say of an anchor is joined: the mean of their scores, and the mean of their
boxes weighted by score; then repetitions are dropped once. Boxes of neighboring slices are linked to lesions.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.box_maps import draw_boxes
from cmb_autoseg.inference.ensemble import Ensemble, Prediction, SliceBox
from cmb_autoseg.inference.linking import link_boxes
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from cmb_autoseg.networks.ssd import Detections, SingleShotDetector
    from cmb_autoseg.preprocessing.slices import SliceInput

__all__ = ["BoxEnsemble"]

SLICES_AT_ONCE = {"cuda": 8, "cpu": 1}
"""More only take more memory."""


class BoxEnsemble(Ensemble):
    """The folds of a detector."""

    def _load(self) -> None:
        from cmb_autoseg.inference.slice_networks import load_networks
        from cmb_autoseg.trainers.boxes.networks import build_detector

        settings = Recipe.model_validate(self.plans["cmb_autoseg"]["recipe"]).boxes
        if settings is None:
            raise ValueError("the recipe has no part boxes")
        self._settings = settings
        self._networks = load_networks(self, lambda: build_detector(settings, len(self.plan.channels)))

    @property
    def n_parameters(self) -> int:
        """See `Ensemble.n_parameters`."""
        return sum(parameter.numel() for parameter in self._networks[0].parameters())

    def predict(self, volumes: Mapping[Role, Volume]) -> Prediction:
        """See `Ensemble.predict`."""
        from cmb_autoseg.preprocessing.slices import slice_input

        known = self.known(volumes)
        size = (self._settings.size, self._settings.size)
        made = slice_input(known, self.plan.channels, self._settings.pictures, size)
        some = next(iter(known.values()))
        boxes = self._boxes(made, some.name)
        return Prediction(some.with_data(draw_boxes(boxes, some.shape)), boxes)

    def _boxes(self, made: "SliceInput", name: str) -> tuple[SliceBox, ...]:
        """All boxes of a scan, slice by slice, on its own grid."""
        slices, corners, scores = [np.zeros(0, np.int64)], [np.zeros((0, 4))], [np.zeros(0)]
        for index, found in self._detections(made, name):
            pixels = found.boxes.cpu().numpy().astype(np.float64) - 0.5
            low, high = made.frame.scan_of(pixels[:, :2]), made.frame.scan_of(pixels[:, 2:])
            # A picture may reach beyond the scan's slices.
            limits = np.array(made.frame.scan[::-1]) - 0.5
            corners.append(np.concatenate([low.clip(-0.5, limits), high.clip(-0.5, limits)], axis=1))
            scores.append(found.scores.cpu().numpy().astype(np.float64))
            slices.append(np.full(len(pixels), index))
        where, what, sure = np.concatenate(slices), np.concatenate(corners), np.concatenate(scores)
        there = (what[:, 2:] > what[:, :2]).all(axis=1)
        where, what, sure = where[there], what[there], sure[there]
        lesions = link_boxes(where, what, sure, self._settings.linking)
        rows = zip(where.tolist(), what.tolist(), sure.tolist(), lesions.tolist(), strict=True)
        return tuple(SliceBox(k, x, y, x_max, y_max, score, n) for k, (x, y, x_max, y_max), score, n in rows)

    def _detections(self, made: "SliceInput", name: str) -> "list[tuple[int, Detections]]":
        """Of every slice that shows anything, in pixels."""
        import torch

        from cmb_autoseg.inference.slice_networks import shown_slices
        from cmb_autoseg.networks.ssd import suppressed

        settings, found = self._settings, []
        at_once = SLICES_AT_ONCE[self.device]
        for indices, pictures in shown_slices(made, settings.pictures.neighbors, self.device, at_once):
            with torch.inference_mode():
                boxes, scores = self._joined(pictures)
                if not bool(torch.isfinite(scores).all()):
                    raise InputError(f"{name}: the model gives no finite score; check the scan's grey values")
                for index, own_boxes, own_scores in zip(indices, boxes, scores, strict=True):
                    kept = suppressed(
                        own_boxes,
                        own_scores,
                        settings.size,
                        settings.min_score,
                        settings.nms_iou,
                        settings.boxes_per_slice,
                    )
                    found.append((int(index), kept))
        return found

    def _joined(self, pictures: "Tensor") -> "tuple[Tensor, Tensor]":
        """Boxes (b, n, 4) and scores (b, n) of all anchors, over the folds."""
        import torch

        total, weighted = torch.zeros(()), torch.zeros(())
        for network in self._networks:
            boxes, scores = _decoded(network, pictures)
            total = total.to(scores.device) + scores
            weighted = weighted.to(scores.device) + scores[..., None] * boxes
        return weighted / total.clamp(min=1e-12)[..., None], total / len(self._networks)


def _decoded(network: "SingleShotDetector", pictures: "Tensor") -> "tuple[Tensor, Tensor]":
    from cmb_autoseg.networks.ssd import decode

    logits, places = network(pictures)
    return decode(logits, places, network.anchors)
