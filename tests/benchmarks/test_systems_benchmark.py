"""The reduced recipes of the published systems, and how their steps are counted."""

import importlib.util
import sys
from pathlib import Path

import pytest

from cmb_autoseg.progress import Meter
from cmb_autoseg.trainers.recipe import read_recipe

SYSTEMS = Path(__file__).parents[2] / "benchmarks" / "systems"
RECIPES = sorted(SYSTEMS.glob("*.yaml"))


@pytest.fixture(scope="module")
def calibrate():
    spec = importlib.util.spec_from_file_location("benchmark_calibrate", SYSTEMS / "calibrate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_reduced_recipe_says_so_and_finds_what_it_is_built_on(path):
    recipe = read_recipe(str(path))
    assert recipe.name == path.stem
    assert recipe.name.endswith("_small")
    assert recipe.mixture is not None or recipe.description.startswith("reduced: ")
    assert all((SYSTEMS / f"{member}.yaml").is_file() for member in recipe.members)
    assert path.stem in (SYSTEMS / "README.md").read_text()


def test_recipes_with_and_without_enhancement_differ_in_nothing_else():
    own = {"name", "description", "network", "boxes", "steps_per_epoch"}
    for name in ("supervised", "ssd300", "ssd512"):
        plain, enhanced = (read_recipe(str(SYSTEMS / f"{name}{fe}_small.yaml")) for fe in ("", "_fe"))
        assert plain.model_dump(exclude=own) == enhanced.model_dump(exclude=own)
        if plain.boxes is not None:
            assert plain.boxes.model_copy(update={"feature_enhancement": True}) == enhanced.boxes


def test_a_timing_tells_steps_from_what_lies_around_them(calibrate):
    """Three epochs of four steps: 5 s before the first, 1 s a step but the second, 3 s at the end of an epoch."""
    marks, now = [], 105.0
    for _ in range(3):
        for took in (1.0, 4.0, 1.0, 1.0):
            now += took
            marks.append(now)
        now += 3.0
    found = calibrate.timing_of(100.0, marks, 4)
    assert (found.start_s, found.step_s, found.epoch_s) == (5.0, 1.0, 3.0)
    assert found.steps_per_epoch(60.0, 5) == 8  # 5 + 5 * (8 * 1 + 3) = 60
    assert found.steps_per_epoch(59.0, 5) == 7
    assert found.steps_per_epoch(1.0, 5) == 1


def test_only_steps_of_a_training_are_timed(calibrate):
    times = iter(range(10))
    with calibrate.step_ends(lambda: next(times)) as ends:
        for title, steps in (("Cutting slices", 3), ("Training fold 0", 2)):
            with Meter(title, steps) as meter:
                for _ in range(steps):
                    meter.advance()
    assert ends == [0, 1]
    with Meter("Training fold 0", 1) as meter:
        meter.advance()
    assert ends == [0, 1]


def test_steps_are_written_and_all_else_is_kept(calibrate):
    text = "# why\nname: a\nsteps_per_epoch: 50\nvalidation_steps: 2\n"
    assert calibrate.with_steps(text, 7) == text.replace("50", "7")
    with pytest.raises(ValueError, match="0 times"):
        calibrate.with_steps("name: a\n", 7)
