"""Faults planted in cohorts of 30 made-up heads are found, and clean cohorts pass."""

import pytest

from cmb_autoseg.quality_control.verdicts import judge

from .faults import FAULTS, measured, plant_all
from .heads import make_head

SEED = 21
"""Held out: thresholds were chosen on seeds 1 to 6 of these heads and on simulated scans."""


@pytest.fixture(scope="module")
def cohort():
    """Two protocols mixed, as one cohort with two scanners has them."""
    scans = [make_head(1000 * SEED + n, ("thin", "thick")[n % 2]) for n in range(30)]
    return scans, [measured(scan) for scan in scans]


def test_clean_cohort_of_two_protocols_passes(cohort):
    _, clean = cohort

    verdicts = judge(clean)

    assert [(v.case, v.reasons) for v in verdicts if v.verdict != "pass"] == []


def test_faults_are_found_and_nobody_else_is_alarmed(cohort):
    scans, clean = cohort
    stranger = make_head(1000 * SEED + 500, "thin")

    trials, alarms = plant_all(scans, stranger, clean, SEED)

    missed = [trial.fault.name for trial in trials if not trial.found]
    assert len(trials) == len(FAULTS) >= 40
    assert len({trial.fault.kind for trial in trials}) >= 12
    assert len(missed) <= 0.05 * len(trials), missed
    assert alarms == []
