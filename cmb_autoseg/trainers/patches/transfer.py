"""Weights of a pretrained encoder into the segmenter's, tensor by tensor, counted.

The input stem is the one tensor that hangs on which sequences there are. Its slices are taken by the
role of their sequence, so that the order of channels plays no part and a new sequence has a start.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cmb_autoseg.errors import InputError
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Encoder, Plan, Role, Topology
from cmb_autoseg.workspace import STARTER_DATASET

__all__ = ["LEAST_SHARE", "STEM", "Transfer", "adapt_stem", "parameter_groups", "transfer_encoder"]

STEM = "stem.0.weight"
"""The stem's convolution, (feature, channel, z, y, x)."""
LEAST_SHARE = 0.95
"""Of the segmenter's encoder tensors; with fewer it would be called pretrained and be random."""
SPACING_TOLERANCE = 0.1
"""Share of the plan's spacing along an axis from which on another one is told."""
MISFITS_NAMED = 2


@dataclass(frozen=True)
class Transfer:
    """What was loaded."""

    n_loaded: int
    n_tensors: int
    """Of the segmenter's encoder."""
    shared: tuple[Role, ...]
    """Sequences whose stem came from the file."""
    new: tuple[Role, ...]
    """Sequences whose stem began as the mean of others'."""
    other_grid: str = ""
    """Both spacings in words, where they differ."""

    def __str__(self) -> str:
        new = f"; new: {', '.join(self.new)}, as the mean of the susceptibility sequences" if self.new else ""
        grid = f"; {self.other_grid}" if self.other_grid else ""
        return f"{self.n_loaded} of {self.n_tensors} tensors loaded; sequences: {', '.join(self.shared)}{new}{grid}"


@torch.no_grad()
def transfer_encoder(
    encoder: nn.Module, plan: Plan, path: Path, weights: Mapping[str, Tensor], record: Encoder
) -> Transfer:
    """Copy every tensor that fits into a segmenter's encoder.

    Args:
        encoder: a `ResidualEncoder`; changed in place.
        plan: as the recipe changes it; gives the channels of the stem in their order, the levels and the grid.
        path: of the file, for messages.
        weights: by the names of the encoder's state.
        record: of the file.

    Raises:
        InputError: under 95 % of the encoder's tensors fit, the levels that both have differ in kernels or
            strides, or the file knows none of its sequences; the encoder is then as it was.
    """
    channels = plan.channels
    own = encoder.state_dict()
    given = dict(weights)
    if STEM in given:
        given[STEM] = adapt_stem(given[STEM], record.channels, channels, path)
    fitting = [name for name, tensor in own.items() if name in given and given[name].shape == tensor.shape]
    if len(fitting) < LEAST_SHARE * len(own):
        misfits = [_misfit(name, tensor, given) for name, tensor in own.items() if name not in fitting]
        raise InputError(
            f"{path}: fits {len(fitting)} of the encoder's {len(own)} tensors, at least 95 % are needed "
            f"({'; '.join(misfits[:MISFITS_NAMED])}; features of the file {_numbers(record)}); pretrain with this plan "
            "and these features, or begin with random weights (--encoder none, no --init)"
        )
    _refuse_other_levels(path, record.topology, plan.topology)
    for name in fitting:
        own[name].copy_(given[name])
    shared = tuple(role for role in channels if role in record.channels)
    new = tuple(role for role in channels if role not in shared)
    return Transfer(len(fitting), len(own), shared, new, _other_grid(record, plan))


def _refuse_other_levels(path: Path, known: Topology, wanted: Topology) -> None:
    """Strides leave no trace in the tensors' shapes, but features of other places would be read with them."""
    for what in ("kernel_sizes", "strides"):
        for level, (one, other) in enumerate(zip(getattr(known, what), getattr(wanted, what), strict=False)):
            if one != other:
                raise InputError(
                    f"{path}: {what.replace('_', ' ')} of level {level} are {_product(one)} in the file and "
                    f"{_product(other)} in the plan (z, y, x); pretrain with this plan, "
                    "or begin with random weights (--encoder none, no --init)"
                )


def _other_grid(record: Encoder, plan: Plan) -> str:
    """Both spacings in words where they differ along an axis; nothing where they are alike or one is not known."""
    known, wanted = record.spacing_mm, plan.spacing_mm
    if known is None:
        return ""
    if all(abs(one - other) <= SPACING_TOLERANCE * other for one, other in zip(known, wanted, strict=True)):
        return ""
    one, other = (" x ".join(f"{size:.3g}" for size in spacing) for spacing in (known, wanted))
    told = f"voxels of {one} mm in the file, {other} mm in the plan (z, y, x)"
    if record.datasets != (STARTER_DATASET,):
        return told
    return f"{told}; for the file's run cmb_plan_preprocess -d {plan.dataset} --preset starter, and train by -p starter"


def adapt_stem(stem: Tensor, known: Sequence[Role], wanted: Sequence[Role], path: Path) -> Tensor:
    """The stem's convolution for other sequences, by role.

    A sequence that the file does not know gets the mean of the file's susceptibility sequences, or of all
    where it has none. The normalization behind the stem takes up that the sum has other addends.

    Args:
        stem: (feature, channel, z, y, x).
        known: role of each of its channels.
        wanted: roles of the channels of the result.
        path: of the file, for messages.

    Raises:
        InputError: no sequence is in both.
    """
    if not set(known) & set(wanted):
        raise InputError(
            f"{path}: has learned {', '.join(known)}, none of which is among {', '.join(wanted)} of the plan; "
            "pretrain on this dataset, or begin with random weights (--encoder none, no --init)"
        )
    susceptibility = [channel for channel, role in enumerate(known) if role in SUSCEPTIBILITY_ROLES]
    mean = stem[:, susceptibility or list(range(len(known)))].mean(dim=1)
    slices = [stem[:, known.index(role)] if role in known else mean for role in wanted]
    return torch.stack(slices, dim=1)


def parameter_groups(network: nn.Module, factor: float) -> list[dict[str, Any]]:
    """Groups for an optimizer: with a factor other than 1 the encoder's come last and carry it as `factor`.

    Args:
        network: with an `encoder`.
        factor: of the encoder's learning rate; the other group has 1.
    """
    if factor == 1:
        return [{"params": list(network.parameters())}]
    encoder = list(network.get_submodule("encoder").parameters())
    ours = {id(parameter) for parameter in encoder}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in ours]
    return [{"params": rest, "factor": 1.0}, {"params": encoder, "factor": factor}]


def _misfit(name: str, tensor: Tensor, given: Mapping[str, Tensor]) -> str:
    found = f"is {_shape(given[name])}" if name in given else "is missing"
    return f"{name} {found} in the file, {_shape(tensor)} in the network"


def _shape(tensor: Tensor) -> str:
    return _product(tensor.shape) or "a number"


def _product(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def _numbers(record: Encoder) -> str:
    return "-".join(str(count) for count in record.topology.features_per_stage)
