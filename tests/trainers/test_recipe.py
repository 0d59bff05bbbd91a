import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.trainers.recipe import list_recipes, read_recipe

PARADIGMS = {"supervised", "ssl_barlow_twins", "ssl_mae", "imagenet_transfer", "fixmatch", "mean_teacher"}


def test_shipped_recipes_are_named_like_their_files():
    assert PARADIGMS | {"demo", "demo_pretrained"} == set(list_recipes())
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
    ],
)
def test_bad_recipes_name_file_and_field(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_recipe(str(path))
    assert str(path) in str(error.value)


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(InputError, match=r"choose demo, demo_pretrained, fixmatch, .*, supervised"):
        read_recipe("nothing")


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
