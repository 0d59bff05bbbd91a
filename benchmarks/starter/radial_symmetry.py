"""What a detector without a network reaches: fast radial symmetry, cut at a threshold.

    python benchmarks/starter/radial_symmetry.py --people PEOPLE [-o RESULTS]

Symmetry of dark dots (bright ones in QSM) inside the brain (Loy & Zelinsky 2003), of the first sequence that a family
has, divided by what a noiseless ball of one standard deviation of the brain's grey values would give, and taken to
0..1 by s / (1 + s). The threshold of each family is the one of the best F1 on its people of `choice`: more help than
any model gets.
"""

import argparse
from pathlib import Path

import numpy as np
from judge import row_of, save_rows

from cmb_autoseg.evaluation.matching.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from cmb_autoseg.geometry import Volume, from_canonical, read_volume
from cmb_autoseg.inference.operating_points import ScoredCase, Sweep, count_case, counting_threshold
from cmb_autoseg.preprocessing import prepare_case
from cmb_autoseg.preprocessing.derived import fast_radial_symmetry
from cmb_autoseg.records import Role
from cmb_autoseg.starter.families import cases_of, families_in, label_of
from cmb_autoseg.starter.judging import pooled


def sweeps_of_symmetry(folder: Path) -> dict[str, Sweep]:
    """Counts at every threshold for each person."""
    sweeps = {}
    for case in cases_of(folder):
        prepared = prepare_case(case)
        role, brain = case.reference_role, prepared.brain.data > 0
        volume = prepared.volumes[role]
        scaled = volume.with_data(volume.data / max(float(volume.data[brain].std()), 1e-9))
        symmetry = fast_radial_symmetry(scaled, brain=brain, polarity="bright" if role is Role.QSM else "dark")
        values = np.maximum(symmetry, 0)
        own = from_canonical((values / (1 + values)).astype(np.float32), prepared.original)
        probability = Volume(own, prepared.original.affine, prepared.original.header, case.name)
        reference = read_volume(label_of(folder, case), dtype="uint8")
        sweeps[case.name] = count_case(ScoredCase(case.name, probability, reference), PROTOCOLS[DEFAULT_PROTOCOL])
    return sweeps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=Path, required=True, help="with the parts choice and test")
    parser.add_argument("-o", type=Path, help="name of the results, without .json and .md")
    args = parser.parse_args()
    rows = []
    for family in families_in(args.people / "test"):
        chosen = counting_threshold(pooled(list(sweeps_of_symmetry(args.people / "choice" / family.name).values())))
        rows.append(row_of(family.name, list(sweeps_of_symmetry(family).values()), chosen))
    save_rows(args.o, "Radial symmetry in simulated people", "A threshold for each family.", rows)


if __name__ == "__main__":
    main()
