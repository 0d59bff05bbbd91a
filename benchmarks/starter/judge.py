"""How well a model counts microbleeds in simulated people of each family.

    python benchmarks/starter/judge.py --model MODEL_DIR --people FAMILIES/test [--threshold 0.4] [-o OUT]

Runs `cmb_predict` on each family's card and matches lesions by VALDO's rule. Without `--threshold` it is the one of the
best pooled F1 on these very people, which is for choosing and not for telling. Intervals: 2,000 bootstraps over people.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.files import write_json
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.inference.operating_points import (
    NO_CASES,
    SWEEP_THRESHOLDS,
    ScoredCase,
    Sweep,
    count_case,
    counting_threshold,
)

N_BOOTSTRAPS = 2000


def predict(model: Path, family: Path, out: Path, more: Sequence[str] = ()) -> None:
    program = Path(sys.executable).with_name("cmb_predict")
    words = [program, "-i", family / "card.yaml", "-o", out, "-m", model, "--operating-point", "0.5", *more]
    subprocess.run(list(map(str, words)), check=True, stdout=subprocess.DEVNULL)


def counts(family: Path, predicted: Path) -> dict[str, Sweep]:
    """By person."""
    found = {}
    for path in sorted((family / "labels").glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        case = ScoredCase(name, read_volume(predicted / f"{name}_prob.nii.gz"), read_volume(path, dtype="uint8"))
        found[name] = count_case(case, PROTOCOLS["valdo"])
    return found


def pooled(people: Sequence[Sweep]) -> Sweep:
    return sum(people, NO_CASES)


def figures(people: Sequence[Sweep], at: int) -> dict[str, float]:
    """At one of `SWEEP_THRESHOLDS`."""
    total = pooled(people)
    free = [person for person in people if not person.n_lesions]
    false_in_free = sum(int(person.false_positives[at]) for person in free)
    return {
        "f1": float(total.f1[at]),
        "sensitivity": float(total.sensitivity[at]),
        "fp_per_scan": float(total.fp_per_scan[at]),
        "fp_per_free_scan": false_in_free / max(len(free), 1),
    }


def intervals(people: Sequence[Sweep], at: int) -> dict[str, tuple[float, float]]:
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(N_BOOTSTRAPS):
        chosen = [people[int(index)] for index in rng.integers(len(people), size=len(people))]
        if pooled(chosen).n_lesions:
            draws.append(figures(chosen, at))
    return {
        key: tuple(float(value) for value in np.percentile([draw[key] for draw in draws], (2.5, 97.5)))  # type: ignore[misc]
        for key in draws[0]
    }


def row(name: str, people: Sequence[Sweep], at: int) -> dict[str, Any]:
    total, found, limits = pooled(people), figures(people, at), intervals(people, at)
    free = sum(not person.n_lesions for person in people)
    best = counting_threshold(total)
    return {
        "family": name,
        "people": len(people),
        "lesion_free": free,
        "lesions": total.n_lesions,
        **{key: (round(value, 3), *(round(limit, 3) for limit in limits[key])) for key, value in found.items()},
        "best_f1": (round(float(total.f1[best]), 3), SWEEP_THRESHOLDS[best]),
    }


def as_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(rows[0]) + " |", "| " + " | ".join("---" for _ in rows[0]) + " |"]
    for line in rows:
        cells = [
            f"{value[0]:.3f} ({', '.join(f'{part:.3f}' for part in value[1:])})" if isinstance(value, tuple) else value
            for value in line.values()
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--people", type=Path, required=True, help="folder of families, as families.py makes it")
    parser.add_argument("--families", nargs="+")
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--scratch", type=Path, help="keeps the predictions there")
    parser.add_argument("-o", type=Path, help="name of the results, without .json and .md")
    args = parser.parse_args()
    folders = sorted(path for path in args.people.iterdir() if (path / "card.yaml").is_file())
    folders = [path for path in folders if not args.families or path.name in args.families]
    with tempfile.TemporaryDirectory() as name:
        scratch = args.scratch or Path(name)
        people = {}
        for folder in folders:
            predict(args.model, folder, scratch / folder.name)
            people[folder.name] = counts(folder, scratch / folder.name)
    everyone = [person for family in people.values() for person in family.values()]
    at = counting_threshold(pooled(everyone))
    if args.threshold is not None:
        at = int(np.abs(np.array(SWEEP_THRESHOLDS) - args.threshold).argmin())
    rows = [row(family, list(own.values()), at) for family, own in people.items()] + [row("all", everyone, at)]
    table = f"Threshold {SWEEP_THRESHOLDS[at]}.\n\n{as_table(rows)}\n"
    print(table)
    if args.o is not None:
        write_json(args.o.with_suffix(".json"), {"threshold": SWEEP_THRESHOLDS[at], "rows": rows})
        args.o.with_suffix(".md").write_text(f"# Microbleeds found in simulated people\n\n{table}")


if __name__ == "__main__":
    main()
