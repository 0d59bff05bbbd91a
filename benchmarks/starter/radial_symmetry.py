"""What a detector without a network reaches: fast radial symmetry, cut at a threshold.

    python benchmarks/starter/radial_symmetry.py --people PEOPLE [--processes 2] [-o RESULTS]

Symmetry of dark dots inside the brain (Loy & Zelinsky 2003), of the first sequence that a family has, divided by the
standard deviation of the brain's grey values and taken to 0..1 by s / (1 + s). The threshold of each family is
the one of the best F1 on the very people of `test` it is judged by: more help than any model gets.
"""

import argparse
from pathlib import Path

import numpy as np
from judge import in_shares, row_of, save_rows

from cmb_autoseg.evaluation.matching.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from cmb_autoseg.geometry import Volume, from_canonical, read_volume
from cmb_autoseg.inference.operating_points import ScoredCase, Sweep, count_case, counting_threshold
from cmb_autoseg.preprocessing import prepare_case
from cmb_autoseg.preprocessing.derived import fast_radial_symmetry
from cmb_autoseg.records import Case
from cmb_autoseg.starter.families import families_in, label_of
from cmb_autoseg.starter.judging import pooled


def sweep_of_symmetry(folder: Path, case: Case) -> Sweep:
    """Counts at every threshold for one person of a family."""
    prepared = prepare_case(case)
    brain, volume = prepared.brain.data > 0, prepared.volumes[case.reference_role]
    scaled = volume.with_data(volume.data / max(float(volume.data[brain].std()), 1e-9))
    values = np.maximum(fast_radial_symmetry(scaled, brain=brain, polarity="dark"), 0)
    own = from_canonical((values / (1 + values)).astype(np.float32), prepared.original)
    probability = Volume(own, prepared.original.affine, prepared.original.header, case.name)
    reference = read_volume(label_of(folder, case), dtype="uint8")
    return count_case(ScoredCase(case.name, probability, reference), PROTOCOLS[DEFAULT_PROTOCOL])


def share_of(folder: Path, cases: list[Case]) -> list[Sweep]:
    return [sweep_of_symmetry(folder, case) for case in cases]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("-o", type=Path, help="name of the results, without .json and .md")
    args = parser.parse_args()
    by_family = in_shares(share_of, families_in(args.people / "test"), args.processes)
    rows = [row_of(name, people, counting_threshold(pooled(people))) for name, people in by_family.items()]
    save_rows(args.o, "Radial symmetry in simulated people", "A threshold for each family, best on it.", rows)


if __name__ == "__main__":
    main()
