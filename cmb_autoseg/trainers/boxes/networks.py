"""The detector that a recipe asks for, with the weights that it begins with."""

from pathlib import Path

from torch import Tensor

from cmb_autoseg.errors import InputError
from cmb_autoseg.networks.ssd import SingleShotDetector, SSDOptions
from cmb_autoseg.networks.ssd.weights import MismatchError, expected_file, give_weights
from cmb_autoseg.pretraining.encoder_file import are_weights
from cmb_autoseg.tensor_file import read_tensors
from cmb_autoseg.trainers.recipe import BoxSettings

__all__ = ["begin_from_file", "build_detector", "read_weights"]


def build_detector(settings: BoxSettings, n_channels: int) -> SingleShotDetector:
    """The network with random weights.

    Args:
        settings: of the recipe.
        n_channels: of one slice; neighbors come on top.
    """
    seen = n_channels * (2 * settings.pictures.neighbors + 1)
    return SingleShotDetector(_options(settings, seen))


def _options(settings: BoxSettings, channels: int) -> SSDOptions:
    return SSDOptions(channels, settings.size, settings.backbone, settings.width, settings.batch_norm, settings.anchors)


def read_weights(settings: BoxSettings) -> dict[str, Tensor] | None:
    """The weights that the recipe names; None where it names none.

    Raises:
        InputError: no such file, no weights, or a network of reduced width, for which no weights exist.
    """
    if settings.weights is None:
        return None
    path = Path(settings.weights).expanduser()
    if settings.width != 1:
        raise InputError(
            f"boxes.weights {path}: are of the full width, and boxes.width is {settings.width:g}; set it to 1, or "
            "leave weights out"
        )
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"boxes.weights {path}: {found}; {_cure(settings)}")
    try:
        weights = read_tensors(path, _cure(settings))
    except InputError as error:
        raise InputError(f"boxes.weights {error}") from None
    if not are_weights(weights):
        raise InputError(f"boxes.weights {path}: no plain list of tensors by name; {_cure(settings)}")
    return dict(weights)


def begin_from_file(network: SingleShotDetector, settings: BoxSettings, weights: dict[str, Tensor]) -> None:
    """Give the network's backbone the weights that `read_weights` has read.

    Raises:
        InputError: they are of another network.
    """
    try:
        give_weights(network, weights)
    except MismatchError as error:
        raise InputError(f"boxes.weights {settings.weights}: of another network ({error}); {_cure(settings)}") from None


def _cure(settings: BoxSettings) -> str:
    name = expected_file(_options(settings, 1))
    return f"give torchvision's {name} of https://download.pytorch.org/models, or leave weights out"
