"""Several processes that learn one encoder together, as `torchrun` starts them; one process is the plain case."""

import atexit
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from cmb_autoseg.errors import InputError
from cmb_autoseg.pretraining.launched import local_rank, n_processes

__all__ = ["World", "device_of_process", "join_world"]


@dataclass(frozen=True)
class World:
    """All processes of a run; each call is made by all of them at the same point.

    `gather` and `sum` go forward only: what they give has no gradient.
    """

    rank: int = 0
    size: int = 1

    def share(self, n: int) -> range:
        """The part of `n` things that is this process's when they are dealt in order.

        Raises:
            InputError: they cannot be dealt evenly.
        """
        if n % self.size:
            raise InputError(
                f"batch_size: found {n} over {self.size} processes, expected a multiple of {self.size}; "
                "change batch_size in the recipe or the number of processes"
            )
        each = n // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def gather(self, own: Tensor) -> Tensor:
        """The rows of all processes, in their order; every process has as many."""
        if self.size == 1:
            return own
        parts = [torch.empty_like(own) for _ in range(self.size)]
        distributed.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    def sum(self, own: Tensor) -> Tensor:
        """The sum over the processes."""
        if self.size == 1:
            return own
        total = own.clone()
        distributed.all_reduce(total)
        return total

    def any(self, own: bool, device: torch.device) -> bool:
        """Whether it holds in one of the processes."""
        if self.size == 1:
            return own
        return bool(self.sum(torch.tensor(float(own), device=device)) > 0)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add the gradients of all processes up, in place."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        for gradient, summed in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view(gradient.shape))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()


def device_of_process(device: str | torch.device) -> torch.device:
    """With several processes on CUDA, each one's own."""
    wanted = torch.device(device)
    if wanted.type == "cuda" and wanted.index is None and n_processes() > 1:
        return torch.device("cuda", local_rank())
    return wanted


def join_world(device: str | torch.device) -> World:
    """The processes of this run, NCCL between them on CUDA and Gloo on a CPU.

    They stay joined until the process ends: `torchrun` keeps the addresses under which processes met, so they could
    not meet a second time. A process group that somebody else made is taken as it is.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        if n_processes() == 1:
            return World()
        own = device_of_process(device)
        if own.type == "cuda":
            torch.cuda.set_device(own)
        distributed.init_process_group("nccl" if own.type == "cuda" else "gloo")
        atexit.register(distributed.destroy_process_group)
    return World(distributed.get_rank(), distributed.get_world_size())
