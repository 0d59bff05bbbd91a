"""What one fold of a detector learns."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmb_autoseg.networks.feature_enhancement import enhancement_mask
from cmb_autoseg.networks.ssd import SingleShotDetector, decode, detection_loss, suppressed
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.boxes.average_precision import SliceDetections, average_precision
from cmb_autoseg.trainers.boxes.networks import begin_from_file, build_detector
from cmb_autoseg.trainers.loop import Task
from cmb_autoseg.trainers.recipe import BoxSettings, Recipe
from cmb_autoseg.trainers.slices.augmentation import SliceChange
from cmb_autoseg.trainers.slices.fold_slices import FoldSlices
from cmb_autoseg.trainers.slices.store import SliceCase

__all__ = ["BoxBatch", "BoxTask", "dark_picture", "edges_of", "middle_slice"]

DARK_ROLES = (Role.SWI, Role.GRE_MAG)
"""Sequences in which microbleeds are dark; in QSM they are bright, so that it is turned over."""


@dataclass(frozen=True)
class BoxBatch:
    """Pictures and boxes of one step, on the CPU."""

    pictures: Tensor
    """(batch, channel, h, w) float32."""
    truths: tuple[Tensor, ...]
    """Of each picture (n, 4): x_min, y_min, x_max, y_max in pixels, pixel 0 reaching from 0 to 1."""
    enhancement: Tensor | None = None
    """(batch, 1, h, w), of `enhancement_mask`; 0 outside the brain."""


class BoxTask(Task):
    """SSD's loss of slices drawn at random; judged by the average precision of boxes in the validation slices.

    Args:
        recipe: of the family of boxes.
        roles: of the channels of one slice.
        training: cases to learn from.
        validation: cases to watch.
        device: `cuda` or `cpu`.
        weights: that the backbone begins with; None for random ones.
    """

    figure = "validation_ap"
    figure_title = "average precision of boxes"
    loss_title = "cross-entropy and smooth L1"
    network: SingleShotDetector

    def __init__(
        self,
        recipe: Recipe,
        roles: Sequence[Role],
        training: Sequence[SliceCase],
        validation: Sequence[SliceCase],
        device: str,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        assert recipe.boxes is not None
        self.settings: BoxSettings = recipe.boxes
        self.device, self.roles = device, tuple(roles)
        self.slices = FoldSlices(recipe, self.settings, roles, training, validation)
        network = build_detector(self.settings, len(roles))
        if weights is not None:
            begin_from_file(network, self.settings, weights)
        self.network = network.to(device).to(memory_format=torch.channels_last)

    def batch(self, rng: np.random.Generator) -> BoxBatch:
        """See `Task.batch`."""
        drawn = list(self.slices.draw(rng))
        batch = self._stacked([(change.image(shown.picture), change.boxes(shown.boxes)) for shown, change in drawn])
        if not self.settings.feature_enhancement:
            return batch
        dark = torch.stack([dark_picture(picture, self.roles) for picture in batch.pictures])
        in_brain = torch.stack([self._brain(shown.picture, change) for shown, change in drawn])
        mask = enhancement_mask(dark, batch.truths, self.settings.enhancement_beta, in_brain)
        return BoxBatch(batch.pictures, batch.truths, mask)

    def loss(self, batch: BoxBatch) -> Tensor:
        """See `Task.loss`."""
        enhancement = None if batch.enhancement is None else batch.enhancement.to(self.device)
        logits, places = self.network(self._on_device(batch.pictures), enhancement)
        return self._loss(logits, places, batch)

    def validate(self) -> dict[str, float]:
        """See `Task.validate`; the loss is the mean over batches.

        Without a microbleed in the validation slices the average precision is not defined (NaN).
        """
        losses: list[float] = []
        judged: list[SliceDetections] = []
        for watched in self.slices.watched():
            batch = self._stacked([(shown.picture, shown.boxes) for shown in watched])
            logits, places = self.network(self._on_device(batch.pictures))
            losses.append(float(self._loss(logits, places, batch)))
            boxes, scores = decode(logits, places, self.network.anchors)
            judged += [self._judged(*item) for item in zip(boxes, scores, batch.truths, strict=True)]
        return {"validation_loss": float(np.mean(losses)), self.figure: average_precision(judged)}

    def _brain(self, picture: NDArray[np.float32], change: SliceChange) -> Tensor:
        """(h, w), where a picture has brain once it is changed; a blur makes pixels around the brain others than 0."""
        brain = middle_slice(torch.from_numpy(picture), self.roles).any(dim=0)
        return torch.from_numpy(change.mask(brain.numpy().astype(np.uint8)))

    def _loss(self, logits: Tensor, places: Tensor, batch: BoxBatch) -> Tensor:
        truths = [truth.to(self.device) for truth in batch.truths]
        return detection_loss(logits, places, self.network.anchors, truths)

    def _judged(self, boxes: Tensor, scores: Tensor, truth: Tensor) -> SliceDetections:
        settings = self.settings
        kept = suppressed(boxes, scores, settings.size, settings.min_score, settings.nms_iou, settings.boxes_per_slice)
        found, own_scores = (values.cpu().numpy().astype(np.float64) for values in (kept.boxes, kept.scores))
        return found, own_scores, truth.numpy().astype(np.float64)

    def _stacked(self, shown: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> BoxBatch:
        pictures = torch.from_numpy(np.stack([picture for picture, _ in shown]))
        return BoxBatch(pictures, tuple(edges_of(boxes, self.settings.least_box_pixels) for _, boxes in shown))

    def _on_device(self, pictures: Tensor) -> Tensor:
        return pictures.to(self.device).contiguous(memory_format=torch.channels_last)


def edges_of(boxes: NDArray[np.float32], least_side: float = 0.0) -> Tensor:
    """Boxes (n, 4) of continuous pixels as those of faces, pixel 0 reaching from 0 to 1.

    Args:
        boxes: x_min, y_min, x_max, y_max; pixel 0 reaches from -0.5 to 0.5.
        least_side: shorter sides are widened to it, about their middle.
    """
    edges = torch.from_numpy(np.ascontiguousarray(boxes, dtype=np.float32)) + 0.5
    middle = (edges[:, :2] + edges[:, 2:]) / 2
    half = ((edges[:, 2:] - edges[:, :2]) / 2).clamp(min=least_side / 2)
    return torch.cat((middle - half, middle + half), dim=1)


def dark_picture(picture: Tensor, roles: Sequence[Role]) -> Tensor:
    """The middle slice of the first sequence that is not blank and in which microbleeds are dark; QSM turned over.

    Args:
        picture: (n * channel, h, w), slice by slice, from 0 upwards.
        roles: of the channels of one slice.

    Returns:
        (h, w), from 0 upwards; 0 where no such sequence is there.
    """
    middle = middle_slice(picture, roles)
    for role in DARK_ROLES:
        if role in roles and bool(middle[roles.index(role)].any()):
            return middle[roles.index(role)]
    if Role.QSM in roles:
        bright = middle[roles.index(Role.QSM)]
        return bright.max() - bright
    return torch.zeros_like(middle[0])


def middle_slice(picture: Tensor, roles: Sequence[Role]) -> Tensor:
    """(channel, h, w) of a picture (n * channel, h, w); 0 outside the brain alone."""
    slices = picture.reshape(-1, len(roles), *picture.shape[1:])
    return slices[len(slices) // 2]
