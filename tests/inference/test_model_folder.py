"""Which folder the user means; what is in it is tested through the commands."""

import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.inference.model_folder import find_model, operating_point, trained_settings


@pytest.fixture
def workspace(tmp_path):
    """One dataset with a model of each preset under `both`, and one of s0 alone under `publication`."""
    (tmp_path / "raw" / "Dataset501_A").mkdir(parents=True)
    for name in ("both", "both_s0", "publication_s0"):
        folder = tmp_path / "results" / "Dataset501_A" / f"CMBTrainer__{name}__3d"
        folder.mkdir(parents=True)
        (folder / "plans.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("recipe", "preset", "name"),
    [
        ("both", None, "both"),
        ("both", "adaptive", "both"),
        ("both", "s0", "both_s0"),
        ("publication", None, "publication_s0"),
    ],
)
def test_the_adaptive_model_goes_first_where_no_preset_is_named(workspace, recipe, preset, name):
    assert find_model(None, "501", recipe, preset, workspace).name == f"CMBTrainer__{name}__3d"


def test_a_model_that_is_not_there_says_how_it_is_trained(workspace):
    with pytest.raises(InputError, match=r"publication_s0\); use -r both, or run .*-r publication -p adaptive"):
        find_model(None, "501", "publication", "adaptive", workspace)


def test_no_model_and_two_models_are_refused(workspace):
    with pytest.raises(InputError, match="no model given"):
        find_model(None, None, "both", None, workspace)
    with pytest.raises(InputError, match="found both"):
        find_model(workspace, "501", "both", None, workspace)


@pytest.mark.parametrize("content", ["{}", "[]", '{"cmb_autoseg": null}', '{"cmb_autoseg": {}}'])
def test_plans_without_what_the_model_was_trained_by_name_the_file_and_the_cure(workspace, content):
    model = workspace / "results" / "Dataset501_A" / "CMBTrainer__both__3d"
    (model / "plans.json").write_text(content)
    with pytest.raises(InputError, match=r"both__3d/plans.json: lacks the key .* or move the folder away"):
        trained_settings(model)
    with pytest.raises(InputError, match=r"both__3d/plans.json: lacks the key"):
        operating_point(model, "balanced")
