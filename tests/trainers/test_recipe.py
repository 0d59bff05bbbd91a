import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.recipe import Recipe, list_recipes, read_recipe

PARADIGMS = {"supervised", "ssl_barlow_twins", "ssl_mae", "imagenet_transfer", "fixmatch", "mean_teacher"}


def test_shipped_recipes_are_named_like_their_files():
    assert PARADIGMS | {"demo", "demo_pretrained", "ensemble", "ensemble_vote"} <= set(list_recipes())
    for name in list_recipes():
        assert read_recipe(name).name == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ndescription: b\nepochs: 0\nsteps_per_epoch: 1\n", "epochs: found 0; Input should be greater than 0"),
        ("name: a\ndescription: b\nepochs: 1\nsteps_per_epoch: 1\nlerning_rate: 1\n", "lerning_rate: unknown key"),
        ("name: a\ndescription: b\nepochs: 1\nsteps_per_epoch: 1\nsampling: {lesion: 0.9}\n", "must sum to 1"),
        (
            "name: a\ndescription: b\nepochs: 1\nsteps_per_epoch: 1\n"
            "pretraining: {method: barlow_twins, barlow_twins: {projector: []}}\n",
            r"pretraining.barlow_twins.projector: found \[\]; .* at least 1 item",
        ),
        ("name: [", "not readable as YAML"),
        ("name: a__b\ndescription: b\nepochs: 1\nsteps_per_epoch: 1\n", "name: .*found 'a__b'"),
        (
            "name: from_starter\ndescription: b\nepochs: 1\nsteps_per_epoch: 1\n",
            "name: found 'from_starter'; so end the models trained by plans of preset starter; correct it",
        ),
    ],
)
def test_bad_recipes_name_file_and_field(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_recipe(str(path))
    assert str(path) in str(error.value)


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(InputError, match=r"choose demo, demo_pretrained, ensemble, .*, supervised"):
        read_recipe("nothing")


def test_a_file_that_is_not_there_is_told_with_its_nearest_neighbor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^-r my_sdd\.yaml: no such file; check the path"):
        read_recipe("my_sdd.yaml")
    for name in ("my_ssd.yaml", "other.txt"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"^-r my_sdd\.yml: no such file; did you mean my_ssd\.yaml\?$"):
        read_recipe("my_sdd.yml")
    with pytest.raises(InputError, match=r"^-r recipes/supervised: no such file"):
        read_recipe("recipes/supervised")


@pytest.mark.parametrize("name", ["ensemble", "ensemble_vote"])
def test_mixtures_join_recipes_that_are_shipped(name):
    recipe = read_recipe(name)
    assert recipe.family == "mixture"
    assert recipe.members == ("supervised", "slices25d")
    assert {*recipe.members} <= {*list_recipes()}


@pytest.mark.parametrize("name", sorted(PARADIGMS))
def test_paradigms_differ_in_nothing_but_what_they_are_named_after(name):
    recipe, supervised = read_recipe(name), read_recipe("supervised")
    own = {"name", "description", "network", "transfer", "pretraining", "semi_supervised"}
    assert recipe.model_dump(exclude=own) == supervised.model_dump(exclude=own)
    assert recipe.transfer.encoder == (name if recipe.pretraining else None)


def test_the_small_pretraining_differs_from_the_demo_by_its_encoder_alone():
    small, demo = read_recipe("demo_pretrained"), read_recipe("demo")
    own = {"name", "description", "transfer", "pretraining"}
    assert small.model_dump(exclude=own) == demo.model_dump(exclude=own)
    assert small.transfer.encoder == small.name
    how = small.pretraining
    assert how is not None
    assert how.epochs * how.steps_per_epoch * how.batch_size <= 500


TRAINED = "name: own\ndescription: b\nepochs: 2\nsteps_per_epoch: 2\nbatch_size: 1\n"
MIXED = "name: own\ndescription: b\nmixture: {members: [one, other]}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TRAINED + "optimizer: {learning_rate: .inf}", "optimizer.learning_rate: found inf; .*finite"),
        (TRAINED + "slices: {network: unet2d, features: [4, 8, 8], pictures: {size: [4, 4]}}", r"8 or more$"),
        (
            TRAINED + "slices: {network: unet2d, features: [4, 8], augmentation: {zoom: [1.2, 0.8]}}",
            r"zoom: found \[1.2",
        ),
        (TRAINED + "slices: {network: unet2d, features: [4, 8], augmentation: {intensity: [2, 1]}}", "the smallest"),
        (TRAINED + "boxes: {width: 1.0e-9}", "boxes.width: found 1e-09"),
        (TRAINED + "boxes: {backbone: resnet34, batch_norm: false}", r"boxes.batch_norm: found false, but resnet34"),
        (
            TRAINED + "boxes: {pictures: {size: [300, 300]}}",
            r"size: unknown key; did you mean boxes.size\? \(legal keys: fit",
        ),
        (
            TRAINED + "boxes: {neighbors: 1}",
            r"boxes\.neighbors: unknown key; did you mean boxes\.pictures\.neighbors\?",
        ),
        (TRAINED + "boxes: {}\nslices: {network: unet2d, features: [4, 8]}", "yaml: slices, boxes: found together"),
        (TRAINED + "two_stage: {window_mm: 0.001}", "two_stage.window_mm: found 0.001"),
        (TRAINED + "two_stage: {slices: 999}", "two_stage.slices: found 999"),
        (TRAINED + "two_stage: {slices: 7, second: classifier3d}", "two_stage.slices: found 7, but .*classifier3d"),
        (TRAINED + "two_stage: {window_pixels: 8}", "two_stage.window_pixels: found 8.* 16 or more"),
        (TRAINED + "two_stage: {first: own}", r"yaml: two_stage.first: found own; .* on itself; name another one$"),
        (TRAINED + "two_stage: {}\nschedule: {falls_at: [0.5]}", r"schedule.falls_at: found \[0.5\]"),
        (TRAINED + "inference: {fewer_sequences: true, tile_step: 1}", "found true beside a tile_step"),
        (MIXED + "epochs: 7", "yaml: epochs: has no meaning for a recipe of mixture"),
        (MIXED + "batch_size: 7", "yaml: batch_size: has no meaning"),
        (MIXED + "validation_steps: 7", "yaml: validation_steps: has no meaning"),
        (MIXED + "optimizer: {learning_rate: 1}", "yaml: optimizer: has no meaning"),
        (MIXED + "sequences: [swi]", "yaml: sequences: has no meaning"),
    ],
)
def test_settings_that_do_nothing_or_harm_are_refused(tmp_path, text, message):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_recipe(str(path))
    assert "schema" not in str(error.value)  # the file is not repeated


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("boxes: {}\nwidth: 0.25", "; did you mean boxes.width?"),
        ("boxes: {}\nlearning_rate: 0.1", "; did you mean optimizer.learning_rate?"),
        ("width: 0.25", ""),  # of a detector alone
    ],
)
def test_a_key_of_another_section_is_told_with_its_section(tmp_path, text, hint):
    path = tmp_path / "own.yaml"
    path.write_text(TRAINED + text)
    with pytest.raises(InputError) as error:
        read_recipe(str(path))
    assert f": unknown key{hint} (legal keys: schema, name," in str(error.value)


def test_pictures_of_boxes_keep_their_own_defaults_beside_what_is_given():
    content = {"name": "own", "description": "b", "epochs": 1, "steps_per_epoch": 1, "batch_size": 1}
    recipe = Recipe.model_validate({**content, "boxes": {"pictures": {"normalization": "white_matter_peak"}}})
    assert recipe.boxes is not None
    assert (recipe.boxes.pictures.fit, recipe.boxes.pictures.neighbors) == ("pad", 0)


@pytest.mark.parametrize("name", list_recipes())
def test_what_a_model_keeps_of_its_recipe_is_read_back(name):
    recipe = read_recipe(name)
    if recipe.family == "mixture":  # as in comparisons of models of one sequence
        recipe = recipe.model_copy(update={"sequences": (Role.SWI,)})
    assert Recipe.model_validate(recipe.model_dump(mode="json")).model_dump(mode="json") == recipe.model_dump(
        mode="json"
    )
