"""How well a model counts the microbleeds of simulated people, threshold by threshold."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.matching.protocols import DEFAULT_PROTOCOL, PROTOCOLS
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.inference.ensemble import Ensemble
from cmb_autoseg.inference.operating_points import NO_CASES, ScoredCase, Sweep, count_case
from cmb_autoseg.inference.predict import on_own_grid, prepare_for
from cmb_autoseg.records import Case
from cmb_autoseg.starter.families import cases_of, label_of

__all__ = ["FIGURES", "figures", "intervals", "pooled", "sweeps_of"]

N_BOOTSTRAPS = 2000
FIGURES = ("f1", "sensitivity", "fp_per_scan", "fp_per_free_scan")


def sweeps_of(models: Sequence[Ensemble], folder: Path, cases: Sequence[Case] | None = None) -> list[dict[str, Sweep]]:
    """Counts at every threshold for each person of a family, as `cmb_predict` would find them; one dict a model.

    Args:
        models: of the same channels.
        folder: of the family's people, each of whom is read and prepared once.
        cases: of them; all where None.
    """
    sweeps: list[dict[str, Sweep]] = [{} for _ in models]
    for case in cases_of(folder) if cases is None else cases:
        prepared = prepare_for(case, models[0])
        reference = read_volume(label_of(folder, case), dtype="uint8")
        for model, own in zip(models, sweeps, strict=True):
            probability = on_own_grid(model.probability(prepared.volumes).data, prepared)
            own[case.name] = count_case(ScoredCase(case.name, probability, reference), PROTOCOLS[DEFAULT_PROTOCOL])
    return sweeps


def pooled(people: Sequence[Sweep]) -> Sweep:
    """The counts of all of them."""
    return sum(people, NO_CASES)


def figures(people: Sequence[Sweep], at: int) -> dict[str, float]:
    """`FIGURES` of some people at one of `SWEEP_THRESHOLDS`; NaN where nobody is without microbleeds."""
    total = pooled(people)
    free = [person for person in people if not person.n_lesions]
    return {
        "f1": float(total.f1[at]),
        "sensitivity": float(total.sensitivity[at]),
        "fp_per_scan": float(total.fp_per_scan[at]),
        "fp_per_free_scan": float(pooled(free).fp_per_scan[at]) if free else float("nan"),
    }


def intervals(people: Sequence[Sweep], at: int) -> Mapping[str, tuple[float, float]]:
    """Of each figure, 95 % by bootstraps over people; those in which nobody has a microbleed are drawn again.

    Raises:
        InputError: nobody has one at all.
    """
    if not pooled(people).n_lesions:
        raise InputError(f"none of {len(people)} people has a visible microbleed; simulate more")
    rng = np.random.default_rng(0)
    draws: list[dict[str, float]] = []
    while len(draws) < N_BOOTSTRAPS:
        chosen = [people[int(index)] for index in rng.integers(len(people), size=len(people))]
        if any(person.n_lesions for person in chosen):
            draws.append(figures(chosen, at))
    limits = {name: np.nanpercentile([draw[name] for draw in draws], (2.5, 97.5)) for name in FIGURES}
    return {name: (float(low), float(high)) for name, (low, high) in limits.items()}
