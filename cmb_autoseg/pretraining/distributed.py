"""Several processes that learn one encoder together, as `torchrun` starts them; one process is the plain case."""

import atexit
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from cmb_autoseg.errors import InputError
from cmb_autoseg.pretraining.launched import local_rank, n_processes
from cmb_autoseg.progress import log

__all__ = ["World", "device_of_process", "join_world"]

SECONDS_FOR_A_NAME = 60.0
"""A cluster may give the first machine its name only once that is up."""
SECONDS_BETWEEN_TRIES = 2.0
CURE = "give all processes the address of the machine of the first one and one free port there"


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
    not meet a second time. A process group that somebody else made is taken as it is. The first process may come up
    later than others: they wait as long as torch does, half an hour (NCCL: ten minutes), and a signal ends the wait.

    Raises:
        InputError: no machine has the name in `MASTER_ADDR`, the port there is in use, or some did not come.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        if n_processes() == 1:
            return World()
        _meet(device_of_process(device))
        atexit.register(distributed.destroy_process_group)
    return World(distributed.get_rank(), distributed.get_world_size())


def _meet(device: torch.device) -> None:
    """Join the other processes, on the device that is this one's own."""

    def join() -> None:
        if device.type == "cuda":  # Each thread has a current device.
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")

    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    _wait_for_name(address)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        _interruptible(join)
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"MASTER_ADDR, MASTER_PORT: the {n_processes()} processes cannot meet at {address}, port {port} "
            f"({reason}); {CURE}, and start all of them"
        ) from error


def _wait_for_name(address: str) -> None:
    """Until the name of the first process's machine is known.

    Raises:
        InputError: it still is not.
    """
    end = time.monotonic() + SECONDS_FOR_A_NAME
    told = False
    while True:
        try:
            socket.getaddrinfo(address, None)
            return
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
        if time.monotonic() >= end:
            raise InputError(f"MASTER_ADDR: no machine is known as {address} ({reason}); {CURE}")
        if not told:
            log(f"MASTER_ADDR: no machine is known as {address} ({reason}); tries again for {SECONDS_FOR_A_NAME:g} s")
            told = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def _interruptible(call: Callable[[], None]) -> None:
    """Call what waits without looking at signals; a stop ends the wait, though not the call itself."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(SECONDS_BETWEEN_TRIES)
    if errors:
        raise errors[0]
