"""What the second stage learns: to find boxes about a candidate, or to say whether it is right."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.metrics.ranking import pooled_precision
from cmb_autoseg.networks.candidate_detector import CandidateDetector, detection_loss
from cmb_autoseg.trainers.candidates.fusion import fuse
from cmb_autoseg.trainers.candidates.neighborhoods import Neighborhood
from cmb_autoseg.trainers.candidates.pool import Pool
from cmb_autoseg.trainers.candidates.second_stage import build_network, network_input, second_scores
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.loop import Task
from cmb_autoseg.trainers.recipe import TwoStageSettings
from cmb_autoseg.trainers.slices.augmentation import SliceAugmentation

__all__ = ["CandidateTask", "ClassifierTask", "DetectorTask", "judged_precision", "make_task"]

Batch = tuple[Tensor, Tensor]
"""Input of the network, and what it is to say."""


@dataclass(frozen=True)
class _Example:
    """A neighborhood as it is drawn: (plane, channel, row, column), true boxes in pixels, what its middle is."""

    picture: NDArray[np.float32]
    boxes: NDArray[np.float32]
    is_right: bool


class CandidateTask(Task):
    """What both kinds of second stages share.

    Args:
        run: the fold.
        settings: of its recipe.
        training: places to learn from.
        validation: candidates of the validation cases.

    Raises:
        InputError: there is no microbleed to learn from, or nothing else.
    """

    figure: ClassVar[str] = "validation_average_precision"
    figure_title: ClassVar[str] = "average precision of validation candidates"

    def __init__(self, run: FoldRun, settings: TwoStageSettings, training: Pool, validation: Pool) -> None:
        _refuse_one_kind(run, training)
        assert run.recipe.batch_size is not None
        self.settings, self.device, self.batch_size = settings, run.settings.device, run.recipe.batch_size
        self.right, self.false, self.watched = training.right, training.false, validation.places
        self.augmentation = SliceAugmentation(settings.augmentation, run.plan.channels)
        self.network = build_network(settings, len(run.plan.channels)).to(self.device)

    def batch(self, rng: np.random.Generator) -> Batch:
        """Draw places, right ones with the recipe's share, and change each at random."""
        return self._collated([self._changed(self._drawn(rng), rng) for _ in range(self.batch_size)])

    def _drawn(self, rng: np.random.Generator) -> Neighborhood:
        side = self.right if rng.random() < self.settings.positive_share else self.false
        return side[int(rng.integers(len(side)))]

    def _changed(self, place: Neighborhood, rng: np.random.Generator) -> "_Example":
        picture = place.picture()
        change = self.augmentation.draw(rng, (picture.shape[2], picture.shape[3]))
        flat = change.image(picture.reshape(-1, *picture.shape[2:]))
        return _Example(flat.reshape(picture.shape), change.boxes(place.boxes), place.is_right)

    @abstractmethod
    def _collated(self, examples: Sequence["_Example"]) -> Batch: ...

    def validate(self) -> dict[str, float]:
        """Loss, and how well both stages together tell right candidates from false ones."""
        second = second_scores(self.settings, self.network, self.watched, self.device)
        first = np.array([place.first for place in self.watched])
        fused = fuse(first, second, self.settings.fusion)
        is_right = np.array([place.is_right for place in self.watched], dtype=bool)
        return {"validation_loss": self._watched_loss(), self.figure: judged_precision(fused, is_right)}

    def _watched_loss(self) -> float:
        """Mean over the validation candidates; NaN without any."""
        losses, size = [], self.batch_size
        for start in range(0, len(self.watched), size):
            some = self.watched[start : start + size]
            examples = [_Example(place.picture(), place.boxes, place.is_right) for place in some]
            losses.append(float(self.loss(self._collated(examples))) * len(some))
        return sum(losses) / len(self.watched) if self.watched else float("nan")


class DetectorTask(CandidateTask):
    """Boxes of all microbleeds in the neighborhood."""

    loss_title: ClassVar[str] = "cross-entropy of objects + complete IoU of boxes"
    network: CandidateDetector

    def _collated(self, examples: Sequence["_Example"]) -> Batch:
        most = max(len(example.boxes) for example in examples)
        boxes = np.full((len(examples), most, 4), np.nan, dtype=np.float32)
        for number, example in enumerate(examples):
            boxes[number, : len(example.boxes)] = example.boxes
        return network_input(self.settings, [example.picture for example in examples]), torch.from_numpy(boxes)

    def loss(self, batch: Batch) -> Tensor:
        """See `detection_loss`."""
        x, boxes = batch
        return detection_loss(self.network.cells(x.to(self.device)), boxes.to(self.device))


class ClassifierTask(CandidateTask):
    """Right or false."""

    loss_title: ClassVar[str] = "cross-entropy"

    def _collated(self, examples: Sequence["_Example"]) -> Batch:
        right = torch.tensor([float(example.is_right) for example in examples])
        return network_input(self.settings, [example.picture for example in examples]), right

    def loss(self, batch: Batch) -> Tensor:
        """Binary cross-entropy."""
        x, right = batch
        logits: Any = self.network(x.to(self.device))
        return functional.binary_cross_entropy_with_logits(logits.float(), right.to(self.device))


def make_task(run: FoldRun, settings: TwoStageSettings, training: Pool, validation: Pool) -> CandidateTask:
    """The task of the recipe's `second`; arguments and errors as of `CandidateTask`."""
    kind = DetectorTask if settings.second == "yolo" else ClassifierTask
    return kind(run, settings, training, validation)


def judged_precision(scores: NDArray[np.float64], is_right: NDArray[np.bool_]) -> float:
    """Average precision of candidates; NaN where none is right.

    Args:
        scores: (n,), 0 to 1.
        is_right: (n,).
    """
    return pooled_precision(scores, is_right, int(is_right.sum()))


def _refuse_one_kind(run: FoldRun, training: Pool) -> None:
    if not training.right:
        raise InputError(
            f"fold {run.fold}: no microbleed in its {training.n_cases} training cases, so {run.recipe.name} cannot "
            "learn what to confirm; add labelled cases with microbleeds"
        )
    if not training.false:
        raise InputError(
            f"fold {run.fold}: {run.members[0].recipe} proposes nothing wrong in its {training.n_cases} training "
            f"cases, so {run.recipe.name} cannot learn what to veto; lower two_stage.threshold, or set "
            "two_stage.random_places"
        )
