"""The layers of a network as a table, read from the network itself."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["LayerRow", "layer_table"]


@dataclass(frozen=True)
class LayerRow:
    """One layer without layers inside it."""

    name: str
    """Dotted, as in the state dict."""
    kind: str
    """Name of its class."""
    filters: int | None
    """Channels that it puts out, for convolutions."""
    kernel: tuple[int, ...] | None
    """For convolutions and poolings."""
    stride: tuple[int, ...] | None
    """For convolutions and poolings."""
    parameters: int
    output: tuple[int, ...]
    """Shape without the batch."""


def layer_table(network: nn.Module, shape: tuple[int, ...]) -> list[LayerRow]:
    """The layers in the order in which a picture passes them; one that is passed twice is there twice.

    Args:
        network: taken as it is, in evaluation mode meanwhile.
        shape: of its input, without the batch.
    """
    rows: list[LayerRow] = []
    leaves = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    hooks = [
        module.register_forward_hook(lambda module, _, output, name=name: rows.append(_row(name, module, output)))
        for name, module in leaves
    ]
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *shape, device=next(network.parameters()).device))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return rows


def _row(name: str, module: nn.Module, output: Tensor) -> LayerRow:
    kernel, stride = (getattr(module, key, None) for key in ("kernel_size", "stride"))
    return LayerRow(
        name,
        type(module).__name__,
        getattr(module, "out_channels", None),
        _sides(kernel),
        _sides(stride),
        sum(parameter.numel() for parameter in module.parameters()),
        tuple(output.shape[1:]),
    )


def _sides(value: object) -> tuple[int, ...] | None:
    if isinstance(value, int):
        return (value, value)
    return tuple(value) if isinstance(value, tuple) else None
