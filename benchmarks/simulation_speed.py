"""Seconds and memory of one simulated scan of 256 x 256 x 64 voxels, and patches per second of the endless stream.

    python benchmarks/simulation_speed.py [-device cuda] [--echoes 9.4 20] [--patches 16]

Processor seconds count all threads; on a machine that does other work too they say more than the clock.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cmb_autoseg.simulation.anatomy.mni152 import load_mni152
from cmb_autoseg.simulation.patches import SimulatedPatches
from cmb_autoseg.simulation.person import simulate_person
from cmb_autoseg.simulation.protocols import Protocol

SEQUENCES = ("mag", "swi")


@contextmanager
def timed(what: str, per: int = 0) -> Iterator[None]:
    """Print how long it took; `per` things, also how many a second."""
    wall, busy = time.perf_counter(), time.process_time()
    yield
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rate = f", {per / wall:.2f} a second" if per else ""
    print(f"{what}: {wall:.1f} s{rate}, {busy:.1f} processor seconds, peak {peak_gb:.1f} GiB so far")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-device", default="cpu")
    parser.add_argument("--echoes", type=float, nargs="+", default=[20.0], help="echo times in ms (default 20)")
    parser.add_argument("--patches", type=int, default=16, help="0: none (default 16, one person)")
    args = parser.parse_args()
    device = torch.device(args.device)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {device}, echoes {args.echoes}")
    template = load_mni152()
    protocol = Protocol("speed", 3.0, tuple(args.echoes), (0.9, 0.9, 2.0), (256, 256, 64), (0.0, -18.0, 10.0), snr=30.0)
    with timed("one person, magnitude and SWI"):
        scan = simulate_person(template, protocol, 1, 0, False, device, images=SEQUENCES)
    tubes = len(scan.contents.tubes)
    print(f"{tubes} vessels, {len(scan.contents.microbleeds)} microbleeds, {len(scan.contents.mimics)} mimics")
    if args.patches:
        patches = iter(SimulatedPatches([template], sequences=SEQUENCES, seed=1, device=device))
        next(patches)
        with timed(f"{args.patches} patches", per=args.patches):
            for _ in range(args.patches):
                next(patches)


if __name__ == "__main__":
    main()
