"""How much larger simulated microbleeds look at an echo time of 40 ms than at 20 ms.

Cores as people have them, in blocks of plain white matter, scanned by each protocol at both echo times without
noise that matters. Run from anywhere: python benchmarks/simulated_blooming.py [PROTOCOL ...]
"""

import argparse
import math
from dataclasses import replace

import numpy as np
from simulated_distributions import block_marks

from cmb_autoseg.simulation.contents.microbleeds import Habits
from cmb_autoseg.simulation.protocols import PROTOCOLS

ECHO_TIMES_MS = (20.0, 40.0)
BLOCKS, LESIONS = 5, 9
SEED = 9


def volumes_mm3(name: str, echo_time_ms: float) -> np.ndarray:
    """Volume of visible signal loss of each lesion; the same lesions at every echo time."""
    base = PROTOCOLS[name]
    protocol = replace(
        base,
        echo_times_ms=(echo_time_ms,),
        repetition_time_ms=max(base.repetition_time_ms, 50.0),
        snr=1e4,
    )
    marks = [
        mark
        for block in range(BLOCKS)
        for mark in block_marks(np.random.default_rng([SEED, block]), protocol, LESIONS, Habits())
    ]
    return np.array([len(mark.all_voxels) for mark in marks]) * math.prod(protocol.spacing_mm)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocols", nargs="*", default=["valdo_1", "valdo_3", "small", "swi_3t"], metavar="PROTOCOL")
    for name in parser.parse_args().protocols:
        short, long = (volumes_mm3(name, time_ms) for time_ms in ECHO_TIMES_MS)
        seen = short > 0
        print(
            f"{name}: {len(short)} lesions, median {np.median(short):.1f} -> {np.median(long):.1f} mm3, "
            f"all together x{long.sum() / short.sum():.2f}, one by one x{np.median(long[seen] / short[seen]):.2f} "
            f"(median of the {seen.sum()} seen at both)",
            flush=True,
        )


if __name__ == "__main__":
    main()
