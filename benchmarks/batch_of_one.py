"""How much slower a CPU pass of the planned network is for one patch than per patch of two.

Both are timed in turn in one run; the ratio of medians is what counts.
"""

import statistics
import time

import torch

from cmb_autoseg.networks import ResidualUNet
from cmb_autoseg.planners.topology import plan_topology

PATCH, SPACING_MM, ROUNDS = (24, 48, 48), (2.0, 1.0, 1.0), 15


def seconds(network: ResidualUNet, batch: torch.Tensor) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        network(batch)
    return time.perf_counter() - start


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, patch {PATCH}")
    for features in ((8, 16, 32, 64), (16, 32, 64, 128)):
        topology = plan_topology(SPACING_MM, PATCH, features)
        network = ResidualUNet(2, 2, len(topology.strides), **topology.model_dump()).eval()
        batches = {n: torch.randn(n, 2, *PATCH) for n in (1, 2)}
        for batch in batches.values():
            seconds(network, batch)
        times: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(ROUNDS):
            for n, batch in batches.items():
                times[n].append(seconds(network, batch) / n)
        one, two = (statistics.median(times[n]) for n in (1, 2))
        print(f"features {features}: {one:.3f} s alone, {two:.3f} s per patch of two, ratio {one / two:.1f}")


if __name__ == "__main__":
    main()
