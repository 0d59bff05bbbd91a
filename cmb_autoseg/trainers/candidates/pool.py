"""What a fold's second stage learns from: candidates of cases that the first stage had not seen, and what it missed.

The map that proposes on a case comes from the first stage's fold that has not learned from it, so that candidates are
wrong in training as they are in use.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import text_digest
from cmb_autoseg.geometry import Volume, check_same_grid, read_volume
from cmb_autoseg.progress import track
from cmb_autoseg.raw_dataset import RawCase
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.candidates.candidates import propose
from cmb_autoseg.trainers.candidates.neighborhoods import Neighborhood, Window, scaled_stack
from cmb_autoseg.trainers.candidates.true_lesions import TrueLesions
from cmb_autoseg.trainers.fold_cases import trained_sequences
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.members import read_map
from cmb_autoseg.trainers.recipe import TwoStageSettings

__all__ = ["Pool", "case_places", "gather"]


@dataclass(frozen=True)
class Pool:
    """Places of several cases.

    Attributes:
        places: of all of them.
        n_cases: how many cases.
        n_missed: true lesions that no candidate hits.
    """

    places: tuple[Neighborhood, ...]
    n_cases: int
    n_missed: int

    @property
    def n_candidates(self) -> int:
        """How many the first stage proposes; places that were added for training have no probability of it."""
        return sum(place.first > 0 for place in self.places)

    @property
    def right(self) -> tuple[Neighborhood, ...]:
        """Those with a microbleed in their middle."""
        return tuple(place for place in self.places if place.is_right)

    @property
    def false(self) -> tuple[Neighborhood, ...]:
        """The others."""
        return tuple(place for place in self.places if not place.is_right)


def gather(run: FoldRun, settings: TwoStageSettings, cases: Sequence[RawCase], for_training: bool) -> Pool:
    """Look for the places of labelled cases.

    Args:
        run: the fold; its first member has an out-of-fold map of each case that it can predict.
        settings: of the recipe.
        cases: to look at; those without a map are left out.
        for_training: add the lesions that the first stage missed, and random places of the brain.

    Raises:
        InputError: the first stage has no map of any of the cases, or a map lies on another grid than its case.
    """
    first = run.members[0]
    known = [case for case in cases if case.name in first.maps]
    if not known:
        raise InputError(
            f"fold {run.fold}: {first.recipe} has no out-of-fold map of any of the {len(cases)} cases, since none has "
            f"a sequence that it has learned from; take another recipe as two_stage.first of {run.recipe.name}"
        )
    seen = trained_sequences(run.plan, run.recipe)
    places: list[Neighborhood] = []
    n_missed = 0
    for case in track(known, "Looking for candidates" if for_training else "Looking for candidates to watch"):
        rng = _generator(run, case) if for_training else None
        volumes = {role: read_volume(case.image(run.raw.roles.index(role))) for role in case.sequences if role in seen}
        probability, reading = read_map(first.maps[case.name]), read_volume(case.label, dtype="uint8")
        check_same_grid(probability, reading, f"train {first.recipe} anew")
        found, missed = case_places(volumes, run.plan.channels, probability, TrueLesions.of(reading), settings, rng)
        places += found
        n_missed += missed
    return Pool(tuple(places), len(known), n_missed)


def _generator(run: FoldRun, case: RawCase) -> np.random.Generator:
    """The same for a case whatever other cases there are."""
    own = int(text_digest(case.name).removeprefix("sha256:")[:8], 16)
    return np.random.default_rng((run.settings.seed, run.fold, own))


def case_places(
    volumes: dict[Role, Volume],
    channels: Sequence[Role],
    probability: Volume,
    lesions: TrueLesions,
    settings: TwoStageSettings,
    rng: np.random.Generator | None,
) -> tuple[list[Neighborhood], int]:
    """The candidates of one case; with a generator also missed lesions and random places of the brain.

    Args:
        volumes: prepared sequences that are learned from.
        channels: of the network.
        probability: of the first stage, on the same grid.
        lesions: the true ones.
        settings: of the recipe.
        rng: of the random places; None for candidates alone.

    Returns:
        The places, and how many lesions no candidate hits.
    """
    candidates = propose(probability, settings.threshold, settings.candidates_per_case)
    points, first = [candidates.peaks], [candidates.confidence]
    hits = lesions.hit_by(candidates.peaks, settings.near_mm)
    missed = sorted({*range(1, len(lesions) + 1)} - {*hits.tolist()})
    if rng is not None:
        points += [lesions.middle_voxel(lesion)[None] for lesion in missed]
        points.append(_random_places(volumes, settings.random_places, rng))
    voxels = np.concatenate(points)
    first.append(np.zeros(len(voxels) - len(candidates)))
    stack = scaled_stack(volumes, channels)
    window = Window.of(settings, probability.spacing_mm)
    hits = lesions.hit_by(voxels, settings.near_mm)
    places = [
        Neighborhood(
            window,
            window.kept(stack, voxel),
            bool(hit),
            window.pixels(lesions.boxes_in(int(voxel[2]), int(hit)), voxel),
            float(confidence),
        )
        for voxel, hit, confidence in zip(voxels, hits, np.concatenate(first), strict=True)
    ]
    return places, len(missed)


def _random_places(volumes: dict[Role, Volume], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(n, 3), voxels of the brain."""
    brain = np.argwhere(np.any([volume.data != 0 for volume in volumes.values()], axis=0))
    chosen = rng.choice(len(brain), min(count, len(brain)), replace=False)
    return brain[np.sort(chosen)].astype(np.int64)
