"""What a detector without a network reaches: fast radial symmetry, cut at a threshold.

    python benchmarks/starter/radial_symmetry.py --people FAMILIES/test --choose FAMILIES/choice [-o OUT]

Symmetry of dark dots (bright ones in QSM) inside the brain (Loy & Zelinsky 2003), of the first sequence that a family
has, divided by what a noiseless ball of one standard deviation of the brain's grey values would give, and taken to
0..1 by s / (1 + s). The threshold of each family is the one of the best F1 on its people of `--choose`: more help than
any model gets.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from judge import as_table, counts, pooled, row

from cmb_autoseg.files import write_json
from cmb_autoseg.geometry import Volume, read_volume, write_volume
from cmb_autoseg.inference.operating_points import counting_threshold
from cmb_autoseg.preprocessing.chain import prepare_case
from cmb_autoseg.preprocessing.derived import fast_radial_symmetry
from cmb_autoseg.records import Case, ImageSource, Role

FIRST = ("swi", "gre_mag", "qsm")


def write_maps(family: Path, out: Path) -> None:
    """A map for each person, on the grid of the scan."""
    for label in sorted((family / "labels").glob("*.nii.gz")):
        name = label.name.removesuffix(".nii.gz")
        role = next(role for role in FIRST if (family / "images" / f"{name}_{role}.nii.gz").is_file())
        path = family / "images" / f"{name}_{role}.nii.gz"
        case = Case(name=name, cohort="simulated", subject=name, images={Role(role): ImageSource(path=str(path))})
        prepared = prepare_case(case)
        brain = prepared.brain.data > 0
        volume = read_volume(path)
        scaled = volume.with_data(volume.data / max(float(volume.data[brain].std()), 1e-9))
        symmetry = fast_radial_symmetry(scaled, brain=brain, polarity="bright" if role == "qsm" else "dark")
        values = np.maximum(symmetry, 0)
        map_ = (values / (1 + values)).astype(np.float32)
        write_volume(out / f"{name}_prob.nii.gz", Volume(map_, volume.affine), np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=Path, required=True)
    parser.add_argument("--choose", type=Path, required=True)
    parser.add_argument("-o", type=Path, help="name of the results, without .json and .md")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for family in sorted(path for path in args.people.iterdir() if (path / "card.yaml").is_file()):
            found = {}
            for part, folder in (("choose", args.choose / family.name), ("test", family)):
                out = Path(scratch) / part / family.name
                write_maps(folder, out)
                found[part] = list(counts(folder, out).values())
            rows.append(row(family.name, found["test"], counting_threshold(pooled(found["choose"]))))
    table = as_table(rows)
    print(table)
    if args.o is not None:
        write_json(args.o.with_suffix(".json"), {"rows": rows})
        args.o.with_suffix(".md").write_text(f"# Radial symmetry in simulated people\n\n{table}\n")


if __name__ == "__main__":
    main()
