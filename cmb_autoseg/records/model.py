"""What was learned, from whom and for whom: encoders, folds, models."""

from collections.abc import Iterable
from typing import Any, Literal

from cmb_autoseg.records.plan import Topology, TrainingRange
from cmb_autoseg.records.record import Count, Record, Triple
from cmb_autoseg.records.roles import Role

__all__ = ["INTENDED_USE", "DataKind", "Encoder", "FoldModel", "Model", "intended_use_after", "joined_kinds"]


INTENDED_USE = "Research use. Not a medical device; not for diagnosis or treatment decisions."
"""Of every model whose card does not say more."""

DataKind = Literal["", "partly simulated", "simulated"]
"""What of the data is simulated; nothing where all may be of people."""


def joined_kinds(kinds: Iterable[DataKind | None]) -> DataKind:
    """Of all data together; what nobody has told of may be of people."""
    told = set(kinds)
    if told == {"simulated"}:
        return "simulated"
    return "partly simulated" if told & {"simulated", "partly simulated"} else ""


def intended_use_after(data: DataKind) -> str:
    """What a model is for that has learned from such data."""
    learned = {
        "simulated": "Trained on simulated data alone, never on a patient's scan. ",
        "partly simulated": "Trained partly on simulated data. ",
    }
    return learned.get(data, "") + INTENDED_USE


class Encoder(Record):
    """A pretrained encoder: what it fits and whom it has seen. Part of `encoder.pt`, and beside it for people."""

    name: str
    """Of the recipe that made it: its folder below `encoders/`."""
    method: Literal["barlow_twins", "masked_autoencoding", "imagenet", "segmentation"]
    """`segmentation`: it comes from a trained model, and the decoder with it."""
    datasets: tuple[str, ...]
    """The first one's plan gave channels, grid and network."""
    fold: int | None
    """The fold of the first dataset whose training subjects it saw too; None for unlabelled cases alone."""
    seed: int
    steps: int
    """Optimizer steps."""
    channels: tuple[Role, ...]
    """Of the input stem, in its order."""
    topology: Topology
    patch_shape: Triple[Count]
    subjects: tuple[str, ...]
    """`cohort/subject` of everyone that the weights have learned from, sorted."""
    n_cases: int
    weights: str
    """Digest of the weights."""
    parents: tuple[str, ...]
    """Digests of the plan and of the recipe; for `imagenet` of the weights' file too."""
    spacing_mm: Triple[float] | None = None
    """Of the plan's grid, in the order of its axes; None in files of earlier versions, as with what follows."""
    identity: str | None = None
    """Digest of plan, seed, datasets and recipe: what the encoders of one model's folds share."""
    recipe: dict[str, Any] | None = None
    """The part of the recipe that pretraining looks at, but for what changes memory and time alone."""
    data: DataKind | None = None
    """Of all that the weights have learned from."""


class FoldModel(Record):
    """One trained fold: what it learned from and what it must be judged on."""

    dataset: str
    recipe: str
    fold: int
    seed: int
    epochs: int
    steps_per_epoch: int
    training_cases: tuple[str, ...]
    validation_cases: tuple[str, ...]
    training_subjects: tuple[str, ...]
    """`cohort/subject` of everyone the weights have learned from, in pretraining and of unlabelled cases too."""
    unlabelled_cases: tuple[str, ...] = ()
    """Of semi-supervised training."""
    encoder: Encoder | None = None
    """What its encoder was before the first step; None for random weights."""
    budget: float = 1.0
    """Share of the fold's labelled training subjects that it was given."""
    validation_subjects: tuple[str, ...]
    data: DataKind | None = None
    """Of all that the weights have learned from, in pretraining too; None in files of earlier versions."""
    checkpoint: str
    """SHA-256 of `checkpoint_final.pth`."""
    parents: tuple[str, ...]
    """Digests of the plan and of the recipe, and of the encoder's weights where there was one."""


class Model(Record):
    """The finished folds of one recipe on one dataset: the model card, in `model.json`."""

    dataset: str
    recipe: str
    channels: tuple[Role, ...]
    folds: dict[int, str]
    """Digest of each fold's checkpoint."""
    seed: int
    n_cases: int
    n_subjects: int
    n_lesions: int
    training_range: TrainingRange
    intended_use: str = INTENDED_USE
    licence: str | None = None
    """Of the weights, by its SPDX name; None where nobody has said it."""
    parents: tuple[str, ...]
    """Digests of the plan and of the recipe."""
