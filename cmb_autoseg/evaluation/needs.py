"""Figures that a user cannot do without: an evaluation that could not give one is refused, and nothing is written."""

import difflib
from collections.abc import Sequence
from functools import cache

import numpy as np

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.evaluate import Predictions
from cmb_autoseg.evaluation.evaluation_report import EvaluationReport, statistics_of
from cmb_autoseg.evaluation.matching.protocols import DEFAULT_PROTOCOL
from cmb_autoseg.evaluation.metrics.voxel import NO_EXTENT

__all__ = ["known_needs", "refuse_undefined", "refuse_without_voxels"]

SHORT = {"lesion.ap": "lesion.average_precision"}
"""Names that publications use."""
OF_VOXELS = ("voxel.", "surface.")
SUGGESTED = 3


@cache
def _legal() -> tuple[str, ...]:
    """Every figure, as `group.key` of `metrics.json`."""
    statistics = statistics_of((), DEFAULT_PROTOCOL, None)
    return tuple(f"{group}.{key}" for group, named in statistics.items() for key in named)


def known_needs(names: Sequence[str]) -> tuple[str, ...]:
    """The figures that are meant, as `group.key` of `metrics.json`.

    Raises:
        InputError: there is no figure of that name; offers the nearest.
    """
    return tuple(_known(name) for name in names)


def _known(name: str) -> str:
    found = SHORT.get(name.lower(), name.lower())
    if found in _legal():
        return found
    near = difflib.get_close_matches(found, [*_legal(), *SHORT], n=SUGGESTED, cutoff=0.5)
    same_key = [legal for legal in _legal() if legal.partition(".")[2] == found.rpartition(".")[2]]
    offered = list(dict.fromkeys([*same_key, *near]))[:SUGGESTED]
    cure = (
        f"did you mean {' or '.join(offered)}?"
        if offered
        else f"groups are {', '.join(dict.fromkeys(name.partition('.')[0] for name in _legal()))};"
    )
    raise InputError(f"--need {name}: no such figure; {cure} docs/reference/metrics.md lists all")


def refuse_without_voxels(needs: Sequence[str], predictions: Predictions) -> None:
    """Refuse figures of voxels of cases none of which has voxels on both sides, before any is read.

    Raises:
        InputError: names the figure and why it is undefined.
    """
    wanted = next((name for name in needs if name.startswith(OF_VOXELS)), None)
    sides = [(case.predicted, case.reference) for case in predictions.files]
    if wanted is None or not sides or any(all(side.kind == "mask" for side in pair) for pair in sides):
        return
    raise _undefined(wanted, NO_EXTENT)


def refuse_undefined(needs: Sequence[str], report: EvaluationReport) -> None:
    """Refuse figures that are undefined for the cases as they are.

    Raises:
        InputError: names the first and why it is undefined.
    """
    for name in needs:
        group, _, key = name.partition(".")
        statistic = report.statistics[group][key]
        if np.isnan(statistic.value()):
            raise _undefined(name, statistic.why_none)


def _undefined(name: str, why: str) -> InputError:
    return InputError(
        f"--need {name}: undefined for these cases: {why}; give cases that have it, or leave the figure out of --need"
    )
