"""The scripts of benchmarks/ can be imported; what two of them compute, on made-up scores and tiny arrays."""

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cmb_autoseg.comparison.case_scores import write_scores
from cmb_autoseg.comparison.cells import Cell, Comparison
from cmb_autoseg.dataset_conversion.card_file import parse_card
from cmb_autoseg.errors import InputError
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.recipe import read_recipe

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
SCRIPTS = sorted(path.relative_to(BENCHMARKS) for path in BENCHMARKS.rglob("*.py") if "__pycache__" not in path.parts)


def loaded(path, name):
    """A module from a file; scripts find what lies beside them, as when they are run."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


@pytest.fixture(scope="session")
def script():
    return lambda name: loaded(BENCHMARKS / name, f"benchmark_{Path(name).stem}")


@pytest.fixture(scope="session")
def made():
    """How the tests of comparisons make scores up."""
    return loaded(ROOT / "tests" / "comparison" / "conftest.py", "made_up_scores")


@pytest.mark.parametrize("path", SCRIPTS, ids=str)
def test_the_script_can_be_imported(path, script):
    try:
        module = script(path)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("cmb_autoseg"):
            raise
        pytest.skip(f"{error.name} is not installed")
    assert module.__doc__


def private_parts(source):
    """What a script imports of the package's that is private, however it does so."""
    nodes = list(ast.walk(ast.parse(source)))
    taken = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    named = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0]
    taken += [f"{node.module}.{alias.name}" for node in named for alias in node.names]
    return [name for name in taken if re.match(r"cmb_autoseg\..*(?<=\.)_(?!_)", name)]


@pytest.mark.parametrize("path", SCRIPTS, ids=str)
def test_the_script_takes_public_parts_of_the_package_alone(path):
    assert private_parts((BENCHMARKS / path).read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "import cmb_autoseg.x._y",
        "import os, cmb_autoseg._x as x",
        "from cmb_autoseg import _x",
        "from cmb_autoseg.x._y import z",
        "from cmb_autoseg.x import y, _z",
        "def f():\n    import cmb_autoseg._x",
    ],
)
def test_private_parts_are_seen_however_they_are_imported(line):
    assert len(private_parts(line)) == 1
    assert private_parts("import cmb_autoseg.x, other._y\nfrom cmb_autoseg.x import __version__ as v") == []


PAGES = sorted(path.relative_to(BENCHMARKS) for path in BENCHMARKS.rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_what_a_page_links_to_is_there(page):
    """And nothing on it is a path of the machine that it was written on."""
    text = (BENCHMARKS / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert [link for link in links if not (BENCHMARKS / page).parent.joinpath(link).exists()] == []
    assert not re.search(r"(?<![\w$}.])/(tmp|work|home|root)/", text)


def test_every_script_is_in_the_list_and_every_recipe_in_its_own():
    listed = (BENCHMARKS / "README.md").read_text()
    assert [str(path) for path in SCRIPTS if f"`{path}`" not in listed] == []
    recipes = sorted((BENCHMARKS / "paradigms").glob("*.yaml"))
    assert [read_recipe(str(path)).name for path in recipes] == [path.stem for path in recipes]
    listed = (BENCHMARKS / "paradigms" / "README.md").read_text()
    assert [path.name for path in recipes if f"`{path.name}`" not in listed] == []


def test_the_cards_of_the_paradigms_find_their_cohorts_by_a_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("PARADIGMS", str(tmp_path))
    for card, folder, name in (("labelled", "lab", "SIMLAB"), ("unlabelled", "unl", "SIMUNL")):
        (tmp_path / folder).mkdir()
        found = parse_card(str(BENCHMARKS / "paradigms" / "cards" / f"{card}.yaml"))
        assert found.root == tmp_path / folder
        assert found.card.name == name


def written(folder, made, found_without):
    """Two recipes, two seeds, 8 people with 4 lesions each: all found from both sequences, fewer without qsm.

    Args:
        found_without: recipe to lesions found of each person without qsm.
    """
    cells = [Cell(recipe=recipe, seed=seed, budget=1.0, fold=0) for recipe in found_without for seed in (1, 2)]
    for cell in cells:
        views = [
            made.make_view(f"p{person}", found, 0, 4, sequences="swi+qsm", view=view)
            for person in range(8)
            for view, found in (("swi+qsm", 4), ("swi", found_without[cell.recipe][person]), ("qsm", 4))
        ]
        path = folder / "scores" / f"{cell.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_scores(path, cell, {}, made.FACTS, views)
    comparison = Comparison(
        dataset="Dataset501_Made",
        plan="sha256:1",
        channels=("swi", "qsm"),
        reference="supervised",
        recipes=dict.fromkeys(found_without, "sha256:2"),
        steps=dict.fromkeys(found_without, 10),
        cells=tuple(cells),
        subsets=True,
        data="simulated",
    )
    comparison.write(folder / "comparison.json")
    return folder


def rows_of(page):
    lines = [line for line in page.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def figures(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


def test_the_cost_of_a_missing_sequence_is_tested_against_half_the_other(script, made, tmp_path, capsys):
    """Pooled F1 from 4 of 4 is 1; from 3 of 4 6/7, from 2 of 4 2/3."""
    out = written(tmp_path / "compared", made, {"supervised": [3] * 8, "supervised_no_dropout": [2] * 8})
    script("missing_sequences.py").main([str(out), "--out", str(tmp_path / "page.md")])

    page = (tmp_path / "page.md").read_text()
    assert page.strip() in capsys.readouterr().out
    rows = rows_of(page)
    assert rows["qsm"]["scans"] == "8"
    assert figures(rows["qsm"]["cost with dropout"]) == pytest.approx([1 / 7] * 3, abs=1e-3)
    assert figures(rows["qsm"]["cost without"]) == pytest.approx([1 / 3] * 3, abs=1e-3)
    assert figures(rows["qsm"]["with - 0.5 * without"]) == pytest.approx([1 / 7 - 1 / 6] * 3, abs=1e-3)
    assert float(rows["qsm"]["p"]) < 0.01
    assert float(rows["qsm"]["ratio"]) == pytest.approx(3 / 7, abs=0.01)
    # Nothing is lost without swi, so there is nothing to compare.
    assert figures(rows["swi"]["with - 0.5 * without"]) == [0, 0, 0]
    assert rows["swi"]["p"] == "1"
    assert rows["swi"]["ratio"] == "n/a"
    assert "any one (mean)" in rows


def test_draws_in_which_nothing_is_lost_without_dropout_count(script, made, tmp_path):
    """Each recipe loses lesions of one other person, whom many draws leave out: a ratio has no value there."""
    lost = {"supervised": [4] * 7 + [2], "supervised_no_dropout": [0] + [4] * 7}
    script("missing_sequences.py").main([str(written(tmp_path, made, lost)), "--out", str(tmp_path / "page.md")])

    row = rows_of((tmp_path / "page.md").read_text())["qsm"]
    value, low, high = figures(row["with - 0.5 * without"])
    costs = 1 - 2 * 30 / (30 + 32), 1 - 2 * 28 / (28 + 32)
    assert value == pytest.approx(costs[0] - 0.5 * costs[1], abs=1e-3)
    assert low < -0.03 < 0.03 < high
    assert float(row["p"]) > 0.5
    assert float(row["ratio"]) == pytest.approx(costs[0] / costs[1], abs=0.01)


def test_unfinished_recipes_are_refused(script, made, tmp_path):
    out = written(tmp_path, made, {"supervised": [3] * 8, "supervised_no_dropout": [2] * 8})
    (out / "scores" / "supervised-seed1-budget1-fold0.json").unlink()

    with pytest.raises(InputError, match=r"supervised: not run yet \(1 of 2 cells\)"):
        script("missing_sequences.py").main([str(out), "--out", str(tmp_path / "page.md")])
    assert not (tmp_path / "page.md").exists()


SWI, QSM = Role.SWI, Role.QSM


@pytest.fixture(scope="session")
def figures_of_probe(script):
    return script("linear_probe_figures.py")


def patches_of(n_subjects, kinds):
    return [SimpleNamespace(subject=f"c/p{n}", kind=kind) for n in range(n_subjects) for kind in kinds]


def test_a_probe_finds_on_another_sequence_what_looks_alike_there(figures_of_probe):
    """A feature that tells lesions apart in both sequences, but for one person, who lacks one of them."""
    places = patches_of(10, ("lesion", "lesion", "vein", "background"))
    is_lesion = np.array([place.kind == "lesion" for place in places])
    rng = np.random.default_rng(0)
    of_role = {role: (is_lesion[:, None] + rng.normal(0, 0.1, (40, 1))).astype(np.float32) for role in (SWI, QSM)}
    has = {SWI: np.ones(40, bool), QSM: np.arange(40) >= 4}

    found = figures_of_probe.probe(of_role, has, places, np.random.default_rng(1))

    assert set(found.scores) == {(SWI, SWI), (SWI, QSM), (QSM, SWI), (QSM, QSM)}
    assert np.isnan(found.scores[SWI, QSM]).tolist() == [True] * 4 + [False] * 36
    assert not np.isnan(found.scores[QSM, SWI]).any()
    one = np.ones((1, 10))
    for asked in figures_of_probe.COLUMNS[:3]:
        assert figures_of_probe.mean_over_seeds([found], asked, one) == [1.0]
    # There is no calcification to be told apart.
    with np.errstate(invalid="ignore"):
        assert np.isnan(figures_of_probe.mean_over_seeds([found], figures_of_probe.COLUMNS[3], one)).all()


def test_the_auc_of_a_draw_counts_pairs_by_how_often_both_people_are_drawn(figures_of_probe):
    scores = {(SWI, SWI): np.array([2.0, 1.0, 1.0, 3.0, np.nan])}
    kinds = np.array(["lesion", "vein", "lesion", "background", "lesion"])
    found = figures_of_probe.Probe(np.array([0, 0, 1, 1, 1]), kinds, scores)
    weights = np.array([[1.0, 1.0], [2.0, 0.0], [2.0, 1.0]])

    # Wins of person 0's lesion: over the vein 1, over the background 0; of person 1's: 0.5 and 0.
    pairs = [(SWI, SWI)]
    np.testing.assert_allclose(
        figures_of_probe.auc_draws(found, pairs, None, weights), [1.5 / 4, 1.0, (4 + 0.5 * 2) / (3 * 3)]
    )
    np.testing.assert_allclose(figures_of_probe.auc_draws(found, pairs, "vein", weights), [1.5 / 2, 1.0, 5 / 6])


def test_the_table_of_probes_tells_the_difference_from_random_encoders(figures_of_probe):
    places = patches_of(10, ("lesion", "lesion", "vein", "calcification", "background"))
    is_lesion = np.array([place.kind == "lesion" for place in places])
    rng = np.random.default_rng(0)
    has = {SWI: np.ones(50, bool), QSM: np.ones(50, bool)}
    probes = {}
    for name, signal in (("learned", 5.0), ("random", 0.0)):
        of_role = {role: rng.normal(signal * is_lesion[:, None], 1, (50, 2)).astype(np.float32) for role in has}
        probes[name, 0] = [figures_of_probe.probe(of_role, has, places, np.random.default_rng(s)) for s in (0, 1)]

    rows = rows_of(figures_of_probe.table(probes, 10))

    learned, random = rows["learned"], rows["random"]
    assert figures(learned["same sequence"])[0] > 0.95
    assert figures(random["same sequence"])[0] < 0.8
    difference, low, _ = figures(learned["other sequence, less random"])
    expected = figures(learned["other sequence"])[0] - figures(random["other sequence"])[0]
    assert difference == pytest.approx(expected, abs=2e-3)
    assert low > 0
    assert float(learned["p"]) < 0.05
    assert random["p"] == ""


def test_features_are_kept_for_another_run(script, tmp_path):
    kept, made = script("linear_probe.py").kept, []

    def make():
        made.append(1)
        return [np.arange(3.0, dtype=np.float32), np.ones((2, 2), np.float32)]

    for folder in (tmp_path, tmp_path, None):
        found = kept(folder, "sha256:12", make)
        assert [level.tolist() for level in found] == [[0, 1, 2], [[1, 1], [1, 1]]]
    assert len(made) == 2


def test_a_feature_is_the_mean_around_the_centre_or_over_the_patch(script):
    class Twice:
        def to(self, **_):
            return self

        def __call__(self, batch):
            return [batch[:, :1] * 2, batch[:, :1, ::2, ::2, ::2]]

    images = np.zeros((1, 2, 16, 16, 16), np.float32)
    images[0, 0, 7:9, 7:9, 7:9] = 1
    images[0, 1] = 9
    spacing_mm = (2.0, 2.0, 2.0)
    pooled = {
        pool: script("linear_probe.py").features(Twice(), images, 0, spacing_mm, pool) for pool in ("centre", "patch")
    }

    # Within 4 mm of the centre lie the voxels at (1, 1, 1), (3, 1, 1) and (3, 3, 1)... mm whose length is below 4.
    axis = np.array([-3.0, -1.0, 1.0, 3.0])
    n_near = int((axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 <= 16).sum())
    assert pooled["centre"][0].tolist() == [[pytest.approx(2 * 8 / n_near)]]
    assert pooled["patch"][0].tolist() == [[pytest.approx(2 * 8 / 16**3)]]
    assert pooled["patch"][1].tolist() == [[pytest.approx(1 / 8**3)]]
