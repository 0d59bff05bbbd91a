"""How well models count microbleeds in simulated people of each family.

    python benchmarks/starter/judge.py --people PEOPLE [--model MODEL_DIR] [--point counting]
        [--part test] [--stripped] [--processes 2] [-o RESULTS]

The people are those of `test` (`python -m cmb_autoseg.starter people --part test`), of whom no training and no choice
knew anything, or of `choice`; with their skulls, or with masks of their brains. Lesions are matched by VALDO's rule,
at an operating point of the model, and the JSON has all thresholds. Intervals: 95 %, 2,000 bootstraps over people.
"""

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from cmb_autoseg.files import write_json
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.inference.model_choice import STARTER_MODEL
from cmb_autoseg.inference.model_folder import operating_point
from cmb_autoseg.inference.operating_points import SWEEP_THRESHOLDS, Sweep
from cmb_autoseg.records import Case
from cmb_autoseg.starter.families import cases_of, families_in
from cmb_autoseg.starter.judging import figures, intervals, pooled, sweeps_of

Found = TypeVar("Found")
"""What is found in one person."""
SHARES = 4
"""Of each family's people, so that no process waits long for the last one."""


def row_of(name: str, people: Sequence[Sweep], at: int) -> dict[str, Any]:
    """Figures of some people at one of `SWEEP_THRESHOLDS`, with their intervals."""
    found, limits = figures(people, at), intervals(people, at)
    return {
        "family": name,
        "people": len(people),
        "without lesions": sum(not person.n_lesions for person in people),
        "lesions": pooled(people).n_lesions,
        "threshold": SWEEP_THRESHOLDS[at],
        **{key: f"{value:.3f} ({limits[key][0]:.3f} to {limits[key][1]:.3f})" for key, value in found.items()},
    }


def save_rows(
    out: Path | None, title: str, told: str, rows: Sequence[dict[str, Any]], more: dict[str, Any] | None = None
) -> None:
    """Print a table, and write it with its JSON, in which there may be more."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([str(row[key]) for key in columns] for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    print(f"{told}\n\n{table}")
    if out is not None:
        write_json(out.with_suffix(".json"), {"told": told, "rows": list(rows), **(more or {})})
        out.with_suffix(".md").write_text(f"# {title}\n\n{told}\n\n{table}\n")


def in_shares(
    share_of: Callable[[Path, list[Case]], list[Found]],
    families: Sequence[Path],
    processes: int,
    stripped: bool = False,
    most: int | None = None,
) -> dict[str, list[Found]]:
    """What is found in the first people of each family, by processes: `share_of` gets its folder and some of them."""
    with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        cases = {family: cases_of(family, stripped)[:most] for family in families}
        begun = {
            family.name: [pool.submit(share_of, family, own[n::SHARES]) for n in range(SHARES)]
            for family, own in cases.items()
        }
        return {name: [person for share in shares for person in share.result()] for name, shares in begun.items()}


def share_of_model(model: Path, family: Path, cases: list[Case], folds: list[int] | None = None) -> list[Sweep]:
    return list(sweeps_of([load_ensemble(model, folds, "cpu")], family, cases)[0].values())


def judging_parser(description: str | None, out: str) -> argparse.ArgumentParser:
    """Options of scripts that judge a model by simulated people; `out` is the help of `-o`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=STARTER_MODEL, help="default: the model of the package")
    parser.add_argument("--people", type=Path, required=True)
    parser.add_argument("--part", default="test")
    parser.add_argument("--point", default="counting", help="operating point or threshold")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("-o", type=Path, help=out)
    return parser


def main() -> None:
    parser = judging_parser(__doc__, "name of the results, without .json and .md")
    parser.add_argument("--stripped", action="store_true", help="with masks of their brains")
    args = parser.parse_args()
    point, families = operating_point(args.model, args.point), families_in(args.people / args.part)
    at = int(np.abs(np.array(SWEEP_THRESHOLDS) - point.threshold).argmin())
    by_family = in_shares(partial(share_of_model, args.model), families, args.processes, stripped=args.stripped)
    groups = {**by_family, "all": [person for people in by_family.values() for person in people]}
    rows = [row_of(name, people, at) for name, people in groups.items()]
    curves = {
        name: {threshold: figures(people, k) for k, threshold in enumerate(SWEEP_THRESHOLDS)}
        for name, people in groups.items()
    }
    told = f"People of {args.part}, {'their brains alone' if args.stripped else 'with their skulls'}; {point.name}."
    save_rows(args.o, "Microbleeds found in simulated people", told, rows, curves)


if __name__ == "__main__":
    main()
