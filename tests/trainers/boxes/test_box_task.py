"""What a fold of a detector learns from, in numbers that can be worked out by hand."""

import numpy as np
import pytest
import torch

from cmb_autoseg.errors import InputError
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.boxes.average_precision import average_precision
from cmb_autoseg.trainers.boxes.networks import begin_from_file, build_detector, read_weights
from cmb_autoseg.trainers.boxes.task import BoxTask, dark_picture, edges_of
from cmb_autoseg.trainers.optimization import scheduled_rate
from cmb_autoseg.trainers.recipe import BoxSettings, Recipe, SliceAugmentationSettings, list_recipes, read_recipe
from cmb_autoseg.trainers.slices.augmentation import SliceAugmentation
from cmb_autoseg.trainers.slices.store import SliceCase


def test_edges_count_from_the_first_pixels_face():
    boxes = np.array([[-0.5, 1.5, 9.5, 3.5]], np.float32)
    assert edges_of(boxes).tolist() == [[0, 2, 10, 4]]
    assert edges_of(boxes, 6).tolist() == [[0, 0, 10, 6]]  # the short side about its middle, 3


def test_enhancement_is_of_a_sequence_in_which_bleeds_are_dark():
    roles = (Role.QSM, Role.SWI, Role.GRE_MAG)
    picture = torch.rand(9, 4, 4)  # three slices
    assert torch.equal(dark_picture(picture, roles), picture[4])
    picture[4] = 0
    assert torch.equal(dark_picture(picture, roles), picture[5])
    picture[5] = 0
    assert torch.equal(dark_picture(picture, roles), picture[3].max() - picture[3])
    assert not dark_picture(torch.rand(1, 4, 4), (Role.T1,)).any()


def slices(*items):
    return [
        tuple(
            np.array(part, np.float64).reshape(-1, *shape) for part, shape in zip(item, ((4,), (), (4,)), strict=True)
        )
        for item in items
    ]


def test_average_precision_by_hand():
    """Hit at 0.9, miss at 0.8, hit at 0.7; one of three never found: (1/3) * 1 + (1/3) * (2/3)."""
    box, far = [0, 0, 10, 10], [50, 50, 60, 60]
    found = slices(([box, far], [0.9, 0.8], [box]), ([box], [0.7], [box, far]))
    assert average_precision(found) == pytest.approx(1 / 3 + 2 / 9)
    assert np.isnan(average_precision(slices(([box], [0.5], []))))
    twice = slices(([box, box], [0.9, 0.8], [box]))  # the second one has nothing left to find
    assert average_precision(twice) == 1
    tied = slices(([box, far], [0.9, 0.9], [box]))
    assert average_precision(tied) == pytest.approx(0.5)


def test_rotation_moves_the_ellipse_of_a_box():
    """A quarter turn about the middle of 9 x 9 pixels, (4, 4): the box 2..6 x 3..5 about (4, 4) stands upright; one
    about (7, 4), 2 x 2, comes to lie at (4, 7) or (4, 1)."""
    settings = SliceAugmentationSettings(rotation_degrees=90, warp_probability=1, channel_dropout=0)
    change = SliceAugmentation(settings, (Role.SWI,)).draw(np.random.default_rng(0), (9, 9))
    quarter = np.array([[0.0, -1], [1, 0]])
    turned = type(change)(**{**vars(change), "matrix": quarter, "shift": np.zeros(2)})
    boxes = turned.boxes(np.array([[2, 3, 6, 5], [6, 3, 8, 5]], np.float32))
    assert boxes[0].tolist() == pytest.approx([3, 2, 5, 6])
    assert boxes[1].tolist() == pytest.approx([3, 6, 5, 8])
    eighth = type(change)(**{**vars(change), "matrix": np.array([[1, -1], [1, 1]]) / 2**0.5, "shift": np.zeros(2)})
    # An ellipse with half axes 2 and 1 turned by 45 degrees reaches sqrt((4 + 1) / 2) on either axis.
    half = 2.5**0.5
    assert eighth.boxes(boxes[:1])[0].tolist() == pytest.approx([4 - half, 4 - half, 4 + half, 4 + half], abs=1e-5)


def recipe_of(**boxes):
    return Recipe.model_validate(
        {
            "name": "tiny",
            "description": "t",
            "epochs": 1,
            "steps_per_epoch": 1,
            "batch_size": 2,
            "boxes": {"size": 300, "width": 0.02, **boxes},
        }
    )


def case_of(rng):
    data = np.zeros((3, 1, 300, 300), np.float16)
    data[:, 0, 50:250, 50:250] = 0.6 + 0.02 * rng.standard_normal((3, 200, 200))
    data[1, 0, 100:110, 120:132] = 0.1
    boxes = np.array([[1, 119.5, 99.5, 131.5, 109.5]], np.float32)
    mask = np.zeros((3, 300, 300), np.uint8)
    return SliceCase("a", data, mask, boxes)


def test_enhancement_goes_with_the_changed_picture_and_boxes():
    case = case_of(np.random.default_rng(0))
    task = BoxTask(recipe_of(feature_enhancement=True, positive_share=1.0), (Role.SWI,), [case], [case], "cpu")
    batch = task.batch(np.random.default_rng(1))
    assert [len(truth) for truth in batch.truths] == [1, 1]
    inside = batch.enhancement[0, 0, 100:110, 120:132]
    mean = batch.pictures[0, 0, 100:110, 120:132].mean()
    assert inside[0, 0].item() == pytest.approx(
        max(0.0, 1 - batch.pictures[0, 0, 100, 120].item() / (1.5 * mean.item()))
    )
    assert batch.enhancement.sum() == pytest.approx(2 * inside.sum().item(), rel=1e-4)
    loss = task.loss(batch)
    loss.backward()
    assert torch.isfinite(loss)
    plain = BoxTask(recipe_of(), (Role.SWI,), [case], [case], "cpu")
    assert plain.batch(np.random.default_rng(1)).enhancement is None
    task.network.eval()
    with torch.no_grad():
        judged = task.validate()
    assert set(judged) == {"validation_loss", "validation_ap"}
    assert 0 <= judged["validation_ap"] <= 1


def test_the_same_generator_gives_the_same_batch():
    case = case_of(np.random.default_rng(0))
    changes = {"rotation_degrees": 30, "zoom": [0.8, 0.95], "flip": ["sagittal"], "blur_pixels": 2}
    task = BoxTask(recipe_of(augmentation=changes), (Role.SWI,), [case], [case], "cpu")
    one, two = (task.batch(np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(one.pictures, two.pictures)
    assert all(torch.equal(a, b) for a, b in zip(one.truths, two.truths, strict=True))


def test_shipped_recipes_differ_in_size_and_enhancement_alone():
    recipes = {name: read_recipe(name) for name in list_recipes() if name.startswith("ssd")}
    assert set(recipes) == {"ssd300", "ssd300_fe", "ssd512", "ssd512_fe"}
    first = recipes["ssd512"]
    for name, recipe in recipes.items():
        assert (recipe.boxes.size, recipe.boxes.feature_enhancement) == (int(name[3:6]), name.endswith("_fe"))
        same = recipe.boxes.model_copy(update={"size": 512, "feature_enhancement": False})
        assert same == first.boxes
        assert recipe.model_copy(update={"name": "", "description": "", "boxes": None}) == first.model_copy(
            update={"name": "", "description": "", "boxes": None}
        )
    steps = first.epochs * first.steps_per_epoch
    assert steps == 120_000
    rates = [scheduled_rate(first.optimizer, first.schedule, step, steps, []) for step in range(79_998, 100_002)]
    assert [79_998 + n for n in range(1, len(rates)) if rates[n] < rates[n - 1]] == [80_000, 100_000]
    assert (first.batch_size, first.optimizer.learning_rate, first.boxes.enhancement_beta) == (4, 1e-3, 1.5)


def test_files_of_weights_are_checked(tmp_path):
    assert read_weights(BoxSettings()) is None
    absent = BoxSettings(weights=str(tmp_path / "none.pth"))
    with pytest.raises(InputError, match=r"no such file; give torchvision's vgg16_bn-6c64b313.pth"):
        read_weights(absent)
    path = tmp_path / "weights.pth"
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(InputError, match=r"boxes.width is 0.5; set it to 1"):
        read_weights(BoxSettings(weights=str(path), width=0.5))
    given = BoxSettings(weights=str(path), backbone="mobilenet", size=300)
    with pytest.raises(InputError, match=r"of another network \(features.0.weight is of shape \(64, 3, 3, 3\)"):
        begin_from_file(build_detector(given, 1), given, read_weights(given))
    for content in ([1, 2], {0: torch.zeros(3)}):
        torch.save(content, path)
        with pytest.raises(InputError, match="no plain list of tensors"):
            read_weights(given)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"boxes.weights .*weights.pth: damaged"):
        read_weights(given)


def test_nothing_outside_the_brain_is_enhanced():
    case = case_of(np.random.default_rng(0))
    case.data[1, 0, :, 126:] = 0  # the box reaches over the edge of the brain
    task = BoxTask(recipe_of(feature_enhancement=True, positive_share=1.0), (Role.SWI,), [case], [case], "cpu")
    batch = task.batch(np.random.default_rng(1))
    picture, mask = batch.pictures[0, 0], batch.enhancement[0, 0]
    assert (mask[100:110, 120:126] > 0).all()
    assert not mask[picture == 0].any()


def test_a_blur_takes_nothing_from_the_enhancement_at_the_edge_of_the_brain():
    """Pixels around the brain are no longer 0 then, but still darker than any microbleed."""
    case = case_of(np.random.default_rng(0))
    case.data[1, 0, :, 126:] = 0
    changes = {"flip": ["sagittal"], "intensity_probability": 1, "intensity": [1, 1], "blur_pixels": 3}
    recipe = recipe_of(feature_enhancement=True, positive_share=1.0, augmentation=changes)
    task = BoxTask(recipe, (Role.SWI,), [case], [case], "cpu")
    batch = task.batch(np.random.default_rng(1))
    mirrored = []
    for picture, mask, truth in zip(batch.pictures[:, 0], batch.enhancement[:, 0], batch.truths, strict=True):
        mirrored.append(truth[0, 0] > 150)
        brain = slice(174, 180) if mirrored[-1] else slice(120, 126)
        outside = slice(0, 174) if mirrored[-1] else slice(126, 300)
        assert (picture[100:110, outside] > 0).any()
        assert not mask[:, outside].any()
        grey = picture[100:110, brain]
        np.testing.assert_allclose(mask[100:110, brain], (1 - grey / (1.5 * grey.mean())).clamp(min=0), atol=1e-5)
    assert mirrored == [False, True]
