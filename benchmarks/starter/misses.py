"""Which microbleeds a model misses, and what lies at its false positives.

    python benchmarks/starter/misses.py --people PEOPLE [--model MODEL_DIR] [--part test] [--point counting]
        [--processes 2] [-o RESULTS_FOLDER]

Sensitivity by voxels and by contrast of what the reference marks, and the nearest thing within
2 mm of each false positive, beside random places of the same brains.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from judge import in_shares, judging_parser, save_rows
from numpy.typing import NDArray

from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.matching.match import match
from cmb_autoseg.evaluation.matching.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.inference.model_folder import operating_point
from cmb_autoseg.inference.predict import on_own_grid, prepare_for
from cmb_autoseg.lesions.components import find_components
from cmb_autoseg.records import Case
from cmb_autoseg.simulation.contents.sources import Kind
from cmb_autoseg.starter.families import families_in, label_of, things_of

REACH_MM = 2.0
"""From a false positive's centre to the surface of what may have looked like a microbleed."""
DRAWS = 500
"""Random places in the brain of each person."""
FAINT, MARKED, NOTHING = "faint microbleed", "marked microbleed", "none of these"
GROUPS = {"n_voxels": (1, 3, 6, 11), "contrast": (0.22, 0.3, 0.45, 0.6)}
"""Least voxels and contrast of each group of microbleeds; readers see none of less."""

Row = dict[str, Any]


def share_of(model: Path, threshold: float, folder: Path, cases: list[Case]) -> list[list[Row]]:
    """For each person a row for each microbleed, false positive and random place."""
    ensemble = load_ensemble(model, None, "cpu")
    people = []
    for case in cases:
        prepared = prepare_for(case, ensemble)
        probability = on_own_grid(ensemble.probability(prepared.volumes).data, prepared)
        reference = read_volume(label_of(folder, case), dtype="uint8")
        found = LesionSet.of_components(find_components(probability.data >= threshold), probability)
        marked = LesionSet.of_components(find_components(reference.data > 0), reference)
        pairs = match(found, marked, PROTOCOLS[DEFAULT_PROTOCOL]).pairs
        hits, right = {pair.reference for pair in pairs}, {pair.predicted for pair in pairs}
        false = found.centres_mm[[n for n in range(len(found)) if n + 1 not in right]]
        brain = read_volume(folder / "brains" / f"{case.name}.nii.gz")
        drawn = np.random.default_rng(0).choice(np.argwhere(brain.data > 0), DRAWS)
        things = Things(things_of(folder, case), reference.to_ras_mm(np.argwhere(reference.data > 0)))
        people.append(
            [
                *({**things.marked_at(at), "hit": n + 1 in hits} for n, at in enumerate(marked.centres_mm)),
                *({"false": things.near(at)} for at in false),
                *({"drawn": things.near(at)} for at in brain.to_ras_mm(drawn)),
            ]
        )
    return people


class Things:
    """What truly lies in a head.

    Args:
        rows: of `things_of`.
        marked_mm: (n, 3), voxels that the reference marks; RAS millimetres.
    """

    def __init__(self, rows: list[dict[str, str]], marked_mm: NDArray[np.float64]) -> None:
        self._marked = [row for row in rows if row["n_voxels"] not in ("0", "n/a")]
        others = [row for row in rows if row not in self._marked]
        kinds = [FAINT if row["kind"] == Kind.MICROBLEED else row["kind"] for row in others]
        self._kinds = kinds + [MARKED] * len(marked_mm)
        self._middles_mm = np.concatenate([_middles(others), marked_mm.reshape(-1, 3)])
        self._radii_mm = np.array([float(row["radius_mm"]) for row in others] + [0.0] * len(marked_mm))

    def marked_at(self, at_mm: NDArray[np.float64]) -> Row:
        """Voxels and contrast of the marked microbleed that is nearest."""
        nearest = self._marked[int(np.linalg.norm(_middles(self._marked) - at_mm, axis=1).argmin())]
        return {"n_voxels": int(nearest["n_voxels"]), "contrast": float(nearest["contrast"])}

    def near(self, at_mm: NDArray[np.float64]) -> str:
        """What is nearest, if it is within `REACH_MM`."""
        gaps_mm = np.linalg.norm(self._middles_mm - at_mm, axis=1) - self._radii_mm
        nearest = int(gaps_mm.argmin())
        return self._kinds[nearest] if gaps_mm[nearest] <= REACH_MM else NOTHING


def _middles(rows: list[dict[str, str]]) -> NDArray[np.float64]:
    return np.array([[float(row[f"{axis}_mm"]) for axis in "xyz"] for row in rows]).reshape(-1, 3)


def sensitivity_rows(people: Mapping[str, list[Row]]) -> Iterable[Row]:
    """Of each group of microbleeds, how many are found in each family."""
    for name, least in GROUPS.items():
        for low, high in pairwise((*least, inf)):
            told = f"{name} from {low:g}" + (f" to below {high:g}" if high < inf else " on")
            groups = {
                family: [row["hit"] for row in rows if "hit" in row and low <= row[name] < high]
                for family, rows in people.items()
            }
            yield {"microbleeds": told, **{family: f"{sum(hits)} of {len(hits)}" for family, hits in groups.items()}}


def place_rows(people: Mapping[str, list[Row]]) -> Iterable[Row]:
    """Of each kind of thing, how many false positives it is nearest to, and which share of random places."""
    drawn = [row["drawn"] for row in people["all"] if "drawn" in row]
    bleeds_and_mimics = (MARKED, FAINT, *(kind.value for kind in Kind if kind != Kind.MICROBLEED))
    for kind in (*bleeds_and_mimics, NOTHING):
        counts = {family: sum(row.get("false") == kind for row in rows) for family, rows in people.items()}
        yield {"false positive at": kind, **counts, "share of random places": f"{drawn.count(kind) / len(drawn):.3f}"}


def main() -> None:
    args = judging_parser(__doc__, "folder of the results").parse_args()
    point = operating_point(args.model, args.point)
    share = partial(share_of, args.model, point.threshold)
    by_family = {
        family: [row for person in people for row in person]
        for family, people in in_shares(share, families_in(args.people / args.part), args.processes).items()
    }
    people = {**by_family, "all": [row for rows in by_family.values() for row in rows]}
    told = f"People of {args.part}, with their skulls; {point.name}."
    for name, title, rows in (
        ("found_microbleeds", "Microbleeds that are found", sensitivity_rows(people)),
        ("false_finds", "What lies at false positives", place_rows(people)),
    ):
        save_rows(args.o and args.o / name, title, told, list(rows))


if __name__ == "__main__":
    main()
