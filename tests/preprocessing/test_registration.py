import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg.errors import GeometryError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing import ants_alignment
from cmb_autoseg.preprocessing.ants_alignment import Stage
from cmb_autoseg.preprocessing.registration import (
    Registration,
    Schedule,
    check_registration,
    register,
)
from cmb_autoseg.records import RegistrationBounds, Role

QUICK = Schedule(4.0, 0.0, Stage("Rigid", (20, 10), (2, 1), (4.0, 2.0)), Stage("Affine", (10,), (1,), (2.0,)))
BRAIN_MM = np.array([62.0, 74.0, 55.0])


def turned(degrees, axis, shift=(0.0, 0.0, 0.0)):
    angle = np.deg2rad(degrees)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(4)
    matrix[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    matrix[:3, 3] = shift
    return matrix


def scan(person, shape, spacing, contrast, to_head=None, seed=9):
    """A head of three tissues with folds of 12 mm; `to_head` maps scanner coordinates to the head's."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.multiply(spacing, np.array(shape) - 1) / 2
    at = np.indices(shape).reshape(3, -1).T * spacing + affine[:3, 3]
    if to_head is not None:
        at = at @ to_head[:3, :3].T + to_head[:3, 3]
    folds = ndimage.gaussian_filter(np.random.default_rng(person).normal(size=(60, 60, 60)), 1.5)
    fold = ndimage.map_coordinates(folds / folds.std(), (at / 4 + 30).T, order=1, mode="nearest")
    depth = 1 - np.linalg.norm(at / BRAIN_MM, axis=1)
    tissue = np.select([depth < -0.15, depth < -0.05, depth < 0.05, fold > 0.3], [0, 1, 2, 3], 4)
    grey = np.array(contrast)[tissue] + np.random.default_rng(seed).normal(0, 3, len(tissue))
    volume = Volume(np.abs(grey).reshape(shape).astype(np.float32), affine, name=f"person {person}")
    return volume, (depth >= 0.08).reshape(shape)


SWI = (0, 90, 140, 110, 80)
T1 = (0, 150, 30, 80, 130)
TRUTH = turned(6, 0, (5.0, -3.0, 4.0)) @ turned(-4, 2)


@pytest.fixture(scope="module")
def fixed():
    return scan(1, (44, 52, 26), (3.6, 3.6, 5.0), SWI)


@pytest.fixture(scope="module")
def moving():
    # A point x of the fixed scan lies at TRUTH x in the moving one, which shows the head's point x there.
    return scan(1, (52, 54, 50), (3.0, 3.2, 3.2), T1, np.linalg.inv(TRUTH), seed=7)[0]


@pytest.fixture(scope="module")
def found(fixed, moving):
    return register(*[fixed[0], moving, fixed[1]], schedule=QUICK)


def error_mm(matrix, fixed):
    points = fixed[0].to_ras_mm(np.argwhere(fixed[1]))
    return np.linalg.norm((points - 0) @ (matrix - TRUTH)[:3, :3].T + (matrix - TRUTH)[:3, 3], axis=1).mean()


def test_a_displaced_scan_is_brought_back(found, fixed):
    assert error_mm(np.eye(4), fixed) > 6
    assert error_mm(found.matrix, fixed) < 0.5 * 3.6
    assert found.rotation_deg == pytest.approx(7.2, abs=1)
    assert found.scale < 1.03
    assert found.overlap > 0.9
    assert found.information_after > found.information_before + 0.1
    check_registration(found, RegistrationBounds(), "sub-1", Role.T1, Role.SWI)


def test_the_environment_is_left_as_it_was_and_no_file_stays(found, fixed, moving, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(ants_alignment.tempfile, "tempdir", None)
    monkeypatch.setenv(ants_alignment.THREADS, "3")
    again = register(fixed[0], moving, fixed[1], schedule=QUICK)
    assert again == replace(found, matrix=again.matrix)
    assert again.matrix.tobytes() == found.matrix.tobytes()
    assert os.environ[ants_alignment.THREADS] == "3"
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_where_ants_ran_already_with_several_threads_a_process_of_its_own_is_taken(monkeypatch):
    monkeypatch.delenv(ants_alignment.THREADS, raising=False)
    monkeypatch.setattr(ants_alignment, "_ours", False)
    monkeypatch.setitem(sys.modules, "ants", None)
    asked = []
    monkeypatch.setattr(ants_alignment, "ProcessPoolExecutor", lambda *how: asked.append(how) or ThreadPoolExecutor(1))
    monkeypatch.setattr(ants_alignment, "_align", lambda *pair: pair)
    assert ants_alignment.align("fixed", "moving", "mask", "stages") == ("fixed", "moving", "mask", "stages")
    [(workers, context)] = asked
    assert (workers, context.get_start_method()) == (1, "spawn")
    monkeypatch.setenv(ants_alignment.THREADS, "1")
    ants_alignment.align("fixed", "moving", "mask", "stages")
    assert len(asked) == 1


def test_another_persons_head_is_refused(fixed):
    other = scan(2, (52, 54, 50), (3.0, 3.2, 3.2), T1)[0]
    with pytest.raises(GeometryError, match=r"sub-1: t1 does not register to swi: .*prep\.registration\.on_failure"):
        check_registration(
            register(fixed[0], other, fixed[1], schedule=QUICK), RegistrationBounds(), "sub-1", Role.T1, Role.SWI
        )


def test_a_head_far_away_by_its_header_is_found_from_the_centres(fixed, moving):
    away = Volume(moving.data, turned(0, 0, (0.0, 150.0, 60.0)) @ moving.affine, name="far away")
    found = register(fixed[0], away, fixed[1], "rigid", QUICK)
    matrix = turned(0, 0, (0.0, -150.0, -60.0)) @ found.matrix
    assert error_mm(matrix, fixed) < 0.5 * 3.6
    with pytest.raises(GeometryError, match=r"moved by 16\d\.\d mm, at most 40 \(prep.registration.max_translation_mm"):
        check_registration(found, RegistrationBounds(), "sub-1", Role.T1, Role.SWI)


GOOD = Registration(np.eye(4), 0.95, 0.2, 0.5, 0.2, 3.0, 2.0, 1.01)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"rotation_deg": 31.0}, "turned by 31.0 degrees, at most 30"),
        ({"scale": 1.2}, "scaled by a factor of 1.200, at most 1.1"),
        ({"overlap": 0.3}, "overlap 0.30, at least 0.7"),
        ({"overlap": float("nan")}, "overlap nan"),
        ({"information_after": 0.01}, "mutual information 0.010 nats, at least"),
        ({"information_displaced": 0.4}, "agreement in detail 0.20, at least"),
    ],
)
def test_each_bound_is_named_with_what_was_found(broken, message):
    check_registration(GOOD, RegistrationBounds(), "sub-1", Role.T1, Role.SWI)
    with pytest.raises(GeometryError, match=message) as caught:
        check_registration(replace(GOOD, **broken), RegistrationBounds(), "sub-1", Role.T1, Role.SWI)
    assert "\n" not in str(caught.value)
