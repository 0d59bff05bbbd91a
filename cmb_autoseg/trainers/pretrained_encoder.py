"""Pretrained weights that a training begins with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cmb_autoseg.records import Encoder

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["STARTER", "PretrainedEncoder", "encoder_identity", "option_for"]

STARTER = "starter"
"""What users call the model of the package."""


@dataclass(frozen=True)
class PretrainedEncoder:
    """An encoder as its file holds it."""

    path: Path
    weights: "dict[str, Tensor]"
    """By the names of `ResidualEncoder`'s state."""
    record: Encoder
    decoder: "dict[str, Tensor] | None" = None
    """Of a trained model, by the names of its decoder's state; None of an encoder alone."""

    @property
    def identity(self) -> dict[str, str]:
        """See `encoder_identity`."""
        return encoder_identity(self.record)


def encoder_identity(record: Encoder) -> dict[str, str]:
    """What the folds of one model share: the weights may differ where every fold has its own encoder.

    Folds with an encoder each, which has seen their training subjects, and folds that share one of unlabelled subjects
    alone are not of one model, however alike the encoders were made.
    """
    # Files of earlier versions do not say with what they were made, so only the very same weights go with them.
    made_with = record.identity or record.weights
    identity = {"name": record.name, "method": record.method, "settings": made_with}
    # Without the key where one encoder serves all folds, as in the settings of models that were trained before it.
    return identity if record.fold is None else {**identity, "serves": "one fold"}


def option_for(identity: Mapping[str, str] | None) -> str:
    """What to give `cmb_train` for weights of this identity; for random ones where there is none."""
    if not isinstance(identity, Mapping):
        return "--encoder none"
    name = identity.get("name")
    if identity.get("method") != "segmentation":
        return f"--encoder FILE (of {name}, made for {identity.get('serves', 'all folds')})"
    return f"--init {STARTER}, of the version that began it" if name == STARTER else f"--init MODEL_DIR (of {name})"
