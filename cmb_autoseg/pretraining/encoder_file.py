"""`encoder.pt`: the weights of an encoder and the record of what they fit and whom they have seen.

A file of plain types and tensors, so that reading it runs no foreign code.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from cmb_autoseg.errors import InputError
from cmb_autoseg.records import Encoder
from cmb_autoseg.tensor_file import read_tensors, write_tensors

__all__ = ["are_weights", "read_encoder", "weights_digest", "write_encoder"]

FORMAT = "cmb_autoseg encoder 1"


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, kinds, shapes and values, in the names' order; where they were computed plays no part."""
    total = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.numpy().tobytes())
    return f"sha256:{total.hexdigest()}"


def write_encoder(path: Path, weights: Mapping[str, Tensor], record: Encoder) -> Encoder:
    """Write the weights with their record, and the record beside them as JSON.

    Args:
        path: `.../encoder.pt`; the JSON takes its name.
        weights: the state dict of a `ResidualEncoder`.
        record: what they are; its digest of the weights is filled in here.

    Returns:
        The record as written.
    """
    plain = {name: value.detach().cpu().clone() for name, value in weights.items()}
    record = record.model_copy(update={"weights": weights_digest(plain)})
    # The JSON first: whoever finds the weights finds both.
    record.write(path.with_suffix(".json"))
    write_tensors(path, {"format": FORMAT, "record": record.model_dump(mode="json"), "weights": plain})
    return record


def read_encoder(path: Path, made_here: bool = False) -> tuple[dict[str, Tensor], Encoder]:
    """The weights and record of an encoder file.

    Args:
        path: of the file.
        made_here: it lies where cmb_pretrain writes, so it may be deleted and made again; a file of somebody's own
            may be anything.

    Raises:
        InputError: no such file, a damaged one, or one that cmb_pretrain has not made.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {found}; give an encoder.pt, as cmb_pretrain makes it")
    cure = "delete it and run cmb_pretrain again" if made_here else "give an encoder.pt, as cmb_pretrain makes it"
    content = read_tensors(path, cure)
    if not isinstance(content, dict) or content.get("format") != FORMAT or not are_weights(content.get("weights")):
        raise InputError(f"{path}: no encoder file of this version; {cure}")
    record = Encoder.parse(content.get("record"), f"{path}: record")
    weights: dict[str, Tensor] = content["weights"]
    if weights_digest(weights) != record.weights:
        raise InputError(f"{path}: damaged (its weights are not those of its record); {cure}")
    return weights, record


def are_weights(value: object) -> bool:
    """Whether it is a network's tensors by name."""
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    )
