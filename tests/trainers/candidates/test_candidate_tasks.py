"""Second stages learn to tell dots from lines, refuse what they cannot learn from, and go on as if not interrupted."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_tsv
from cmb_autoseg.geometry import Volume
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.candidates import run as module
from cmb_autoseg.trainers.candidates.pool import Pool, case_places
from cmb_autoseg.trainers.candidates.second_stage import second_scores
from cmb_autoseg.trainers.candidates.tasks import judged_precision, make_task
from cmb_autoseg.trainers.candidates.true_lesions import TrueLesions
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.fold_settings import FoldSettings
from cmb_autoseg.trainers.loop import train_task
from cmb_autoseg.trainers.recipe import Recipe

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
SHAPE = (64, 64, 10)
ROLES = (Role.SWI, Role.QSM)


def recipe_of(second, epochs=3, steps=20, learning_rate=3e-3, **settings):
    return Recipe.model_validate(
        {
            **{"name": "again", "description": "for tests", "epochs": epochs, "steps_per_epoch": steps},
            **{"batch_size": 16, "optimizer": {"learning_rate": learning_rate}},
            "two_stage": {
                **{"first": "before", "second": second, "window_mm": 16, "features": [8, 16]},
                **({"slices": 3} if second == "yolo" else {}),
                **{"window_pixels": 32, "random_places": 6, "fusion": "second"},
                "augmentation": {"flip": ["sagittal"], "translation_pixels": 1, "channel_dropout": 0.2},
                **settings,
            },
        }
    )


def scan_of_dots_and_lines(rng, n_dots=4, n_lines=4):
    """Dark dots, which are microbleeds, and dark lines through all slices, which are veins cut across.

    In one slice both look alike; the first stage proposes all of them, at random heights.
    """
    image = rng.normal(100, 4, SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, dtype=np.uint8)
    probability = np.zeros(SHAPE, dtype=np.float32)
    centres = rng.permutation([(i, j) for i in (10, 26, 42, 56) for j in (10, 26, 42, 56)])[: n_dots + n_lines]
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE[:2]), indexing="ij"), axis=-1)
    for number, centre in enumerate(centres):
        round_about = ((grid - centre) ** 2).sum(axis=-1) <= 2.0**2
        middle = int(rng.integers(2, SHAPE[2] - 2))
        slices = [middle] if number < n_dots else range(SHAPE[2])
        for k in slices:
            image[:, :, k] -= 60 * round_about
            if number < n_dots:
                mask[:, :, k] |= round_about.astype(np.uint8)
        probability[centre[0], centre[1], middle] = rng.uniform(0.1, 0.9)
    volumes = {role: Volume(image * sign, AFFINE) for role, sign in zip(ROLES, (1, -1), strict=True)}
    return volumes, Volume(probability, AFFINE), Volume(mask, AFFINE)


def pool_of(recipe, seeds, rng=None, **contents):
    places = []
    for seed in seeds:
        volumes, probability, mask = scan_of_dots_and_lines(np.random.default_rng(seed), **contents)
        lesions = TrueLesions.of(mask)
        places += case_places(volumes, ROLES, probability, lesions, recipe.two_stage, rng)[0]
    return Pool(tuple(places), len(seeds), 0)


def run_in(base, recipe, **settings):
    """Fold 2 of a model in a folder of its own."""
    plan = SimpleNamespace(dataset="Dataset501_Small", channels=ROLES)
    model = base / "results" / plan.dataset / "CMBTrainer__again__3d"
    (model / "fold_2").mkdir(parents=True)
    shared = {"recipe": recipe.model_dump(mode="json"), "seed": 0, "plan": {}, "folds": "deal"}
    raw = SimpleNamespace(folders=SimpleNamespace(workspace=base))
    cases = SimpleNamespace(training=(1, 2), validation=(3,), drawn_from=(1, 2), watched=(3,))
    member = SimpleNamespace(recipe="before", records={2: SimpleNamespace(checkpoint="sha256:b")})
    return FoldRun(raw, plan, recipe, model, 2, cases, FoldSettings("cpu", **settings), shared, None, (member,))


@pytest.fixture(scope="module", params=["yolo", "classifier3d"])
def taught(request, tmp_path_factory):
    """Settings, network, places that it has learned from and places of other scans."""
    recipe = recipe_of(request.param, epochs=2, steps=40)
    training, watched = pool_of(recipe, range(6), np.random.default_rng(0)), pool_of(recipe, (20, 21))
    run, tasks = run_in(tmp_path_factory.mktemp("taught"), recipe), []

    def build():
        tasks.append(make_task(run, recipe.two_stage, training, watched))
        return tasks[0]

    train_task(run, build)
    return recipe.two_stage, tasks[0].network.eval(), training, watched


def test_it_tells_dots_from_lines_in_scans_that_it_has_not_seen(taught):
    settings, network, training, watched = taught
    for pool in (training, watched):
        scores = second_scores(settings, network, pool.places, "cpu")
        right = np.array([place.is_right for place in pool.places])
        assert judged_precision(scores, right) >= 0.95
        called = scores >= 0.5
        assert 2 * (called & right).sum() / (called.sum() + right.sum()) >= 0.9  # F1
        assert judged_precision(np.array([place.first for place in pool.places]), right) < 0.9


def test_boxes_lie_on_the_lesions_after_training(taught):
    settings, network, training, _ = taught
    if settings.second != "yolo":
        pytest.skip("has no boxes")
    overlaps = []
    with torch.no_grad():
        for place in (place for place in training.right if len(place.boxes) == 1):
            cells = network.cells(torch.from_numpy(place.picture()).flatten(0, 1)[None])
            best = cells.boxes[0, cells.logits[0].argmax()].numpy()
            low, high = np.maximum(best[:2], place.boxes[0, :2]), np.minimum(best[2:], place.boxes[0, 2:])
            common = np.prod(np.clip(high - low, 0, None))
            areas = np.prod(best[2:] - best[:2]) + np.prod(place.boxes[0, 2:] - place.boxes[0, :2])
            overlaps.append(common / (areas - common))
    assert np.median(overlaps) > 0.5


def test_a_batch_holds_right_places_in_their_share_and_hangs_on_its_generator(tmp_path):
    recipe = recipe_of("classifier3d", positive_share=0.25)
    task = make_task(run_in(tmp_path, recipe), recipe.two_stage, pool_of(recipe, (0, 1)), pool_of(recipe, (2,)))
    shares = [float(task.batch(np.random.default_rng(seed))[1].mean()) for seed in range(60)]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.05)
    one, other = (task.batch(np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


def test_what_is_seen_of_a_missing_sequence_is_blank(tmp_path):
    recipe = recipe_of("yolo")
    volumes, probability, mask = scan_of_dots_and_lines(np.random.default_rng(0))
    alone = {Role.QSM: volumes[Role.QSM]}
    places, _ = case_places(alone, ROLES, probability, TrueLesions.of(mask), recipe.two_stage, None)
    picture = places[0].picture()
    assert not picture[:, 0].any()
    assert picture[:, 1].any()


def test_no_microbleed_and_nothing_wrong_are_refused_in_one_line(tmp_path):
    recipe = recipe_of("yolo", random_places=0)
    run = run_in(tmp_path, recipe)
    none, all_right = pool_of(recipe, (0, 1), n_dots=0), pool_of(recipe, (0, 1), n_lines=0)
    with pytest.raises(InputError, match=r"no microbleed in its 2 training cases.*add labelled cases"):
        make_task(run, recipe.two_stage, none, all_right)
    with pytest.raises(InputError, match=r"before proposes nothing wrong.*lower two_stage.threshold"):
        make_task(run, recipe.two_stage, all_right, all_right)


@pytest.mark.parametrize("watched", [{"n_dots": 0}, {"n_dots": 0, "n_lines": 0}], ids=["no lesion", "no candidate"])
def test_a_fold_without_anything_to_watch_is_trained_all_the_same(watched, tmp_path):
    recipe = recipe_of("yolo", epochs=1, steps=1)
    run = run_in(tmp_path, recipe)
    train_task(run, lambda: make_task(run, recipe.two_stage, pool_of(recipe, (0,)), pool_of(recipe, (1,), **watched)))
    assert (run.folder / "checkpoint_final.pth").is_file()
    assert (run.folder / "progress.png").is_file()
    (row,) = read_tsv(run.folder / "progress.tsv")
    assert row["validation_average_precision"] == "n/a"
    assert (row["validation_loss"] == "n/a") is (watched == {"n_dots": 0, "n_lines": 0})


@pytest.mark.parametrize("n_candidates", [19, 20])
def test_a_first_stage_that_hardly_proposes_is_warned_of(n_candidates, tmp_path, monkeypatch, capsys):
    recipe = recipe_of("classifier3d", epochs=1, steps=1, random_places=6)
    run = run_in(tmp_path, recipe)
    drawn = pool_of(recipe, range(3), np.random.default_rng(0))
    proposed = [place for place in drawn.places if place.first > 0][:n_candidates]
    added = [place for place in drawn.places if not place.first]
    assert len(added) == 3 * 6
    training, watched = Pool((*proposed, *added), 3, 0), Pool((), 2, 0)
    monkeypatch.setattr(module, "gather", lambda *_, for_training: training if for_training else watched)
    monkeypatch.setattr(module, "train_task", lambda *_: None)
    module.train_second_stage(run)
    told = capsys.readouterr().err
    assert "0 candidates in 2 cases to watch, 0 of them right" in told
    assert ("warning: before proposes 19 candidates in 3 cases" in told) is (n_candidates < 20)


def test_average_precision_of_candidates():
    right = np.array([True, False, True])
    assert judged_precision(np.array([0.9, 0.5, 0.3]), right) == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(judged_precision(np.array([0.2, 0.4]), np.array([False, False])))
    assert np.isnan(judged_precision(np.zeros(0), np.zeros(0, dtype=bool)))


def test_the_same_seed_gives_the_same_weights(tmp_path):
    recipe, weights = recipe_of("yolo", epochs=1, steps=3), []
    for name in ("one", "other"):
        run = run_in(Path(tmp_path, name), recipe)
        train_task(run, lambda run=run: make_task(run, recipe.two_stage, pool_of(recipe, (0,)), pool_of(recipe, (1,))))
        weights.append(torch.load(run.folder / "checkpoint_final.pth", weights_only=True)["network_weights"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
