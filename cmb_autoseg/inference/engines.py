"""What computes a network: PyTorch on any device, or OpenVINO on a CPU where it is installed.

Both give the foreground's logit over the background's, which for two classes says all that the two logits say.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from cmb_autoseg.networks.residual_unet import ResidualUNet
from cmb_autoseg.progress import log

if TYPE_CHECKING:
    import openvino

__all__ = ["Engine", "EngineName", "make_engine"]

EngineName = Literal["torch", "openvino"]

CPU_BATCH = 2
"""Windows in one call of PyTorch on a CPU, whose convolutions of one small window take a slow path
(benchmarks/batch_of_one.py)."""
CUDA_BATCH = 4


class Engine(ABC):
    """The networks of the folds, ready for windows."""

    name: EngineName
    batch: int
    """Windows that one call should be given."""
    device: torch.device

    @abstractmethod
    def foreground(self, fold: int, windows: Tensor) -> Tensor:
        """Logit of a microbleed, float32.

        Args:
            fold: index of the network.
            windows: (n, channel, a, b, c) float32 on `device`.

        Returns:
            (n, a, b, c).
        """


def make_engine(networks: Sequence[nn.Module], n_channels: int, device: str) -> Engine:
    """The fastest engine that is there: OpenVINO for our networks on a CPU, else PyTorch.

    Args:
        networks: one a fold, in evaluation mode.
        n_channels: of their input.
        device: `cuda` or `cpu`.
    """
    own = [network for network in networks if type(network) is ResidualUNet]  # one derived of it may compute otherwise
    if device == "cpu" and len(own) == len(networks) and _openvino_works():
        return _OpenVinoEngine(own, n_channels)
    return _TorchEngine(networks, device)


def _openvino_works() -> bool:
    if find_spec("openvino") is None:
        return False
    try:
        import openvino  # noqa: F401
    except (ImportError, OSError) as error:
        log(f"warning: OpenVINO does not load ({error}); PyTorch predicts instead, which is slower")
        return False
    return True


class _TorchEngine(Engine):
    name: EngineName = "torch"

    def __init__(self, networks: Sequence[nn.Module], device: str) -> None:
        self.device = torch.device(device)
        self.batch = CPU_BATCH if device == "cpu" else CUDA_BATCH
        self.networks = [network.to(self.device) for network in networks]

    def foreground(self, fold: int, windows: Tensor) -> Tensor:
        alone = self.device.type == "cpu" and len(windows) == 1
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            logits = self.networks[fold](windows.expand(2, -1, -1, -1, -1) if alone else windows).float()
        difference: Tensor = logits[:, 1] - logits[:, 0]
        return difference[:1] if alone else difference


@cache
def _openvino_core() -> "openvino.Core":
    """The only one of the process.

    Each gives the thread that first uses it a stack for signals, and takes it back when it goes. Two that do not end
    in the order of a stack leave one that is freed, on which the next signal ends the process.
    """
    import openvino

    return openvino.Core()


class _OpenVinoEngine(Engine):
    """Full precision, so that results are PyTorch's to rounding; compiled within a second."""

    name: EngineName = "openvino"
    batch = 1

    def __init__(self, networks: Sequence[ResidualUNet], n_channels: int) -> None:
        from cmb_autoseg.inference.openvino_graph import openvino_graph

        self.device = torch.device("cpu")
        core = _openvino_core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # else processes beside each other all take the first cores
        }
        graphs = [openvino_graph(network, n_channels) for network in networks]
        self.requests = [core.compile_model(graph, "CPU", settings).create_infer_request() for graph in graphs]

    def foreground(self, fold: int, windows: Tensor) -> Tensor:
        found = self.requests[fold].infer({0: windows.numpy()})[0]
        return torch.from_numpy(found[:, 0].copy())
