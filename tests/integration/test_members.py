"""What is asked of the models that a recipe is built on before any of them predicts; nothing is trained here."""

from types import SimpleNamespace

import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import write_json
from cmb_autoseg.pipeline import members
from cmb_autoseg.pipeline.out_of_fold import fold_records
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.workspace import Workspace, model_folder_name

CONTENT = {"name": "my_two", "description": "b", "mixture": {"members": ["whole", "my_unet"]}}


@pytest.fixture
def find(tmp_path, monkeypatch):
    """Looks for the members of a mixture: `whole`, and `my_unet` with the folds that are named."""
    (tmp_path / "raw" / "Dataset501_A").mkdir(parents=True)
    folders = Workspace(tmp_path).dataset("501")
    write_json(folders.raw / "splits_final.json", [{"train": [], "val": []}] * 3)
    plan = SimpleNamespace(digest="sha256:1", dataset="Dataset501_A", preset="adaptive")

    def records(folders, model, *more):
        return [] if "whole" in model.name else fold_records(folders, model, *more)

    predicted = []
    monkeypatch.setattr(members, "trained_plan", lambda _: plan)
    monkeypatch.setattr(members, "fold_records", records)
    monkeypatch.setattr(members, "out_of_fold_maps", lambda *more: predicted.append(more) or ())

    def run(*trained):
        for name in ("whole", "my_unet"):
            write_json(folders.results / model_folder_name(name) / "plans.json", {})
        for fold in trained:
            write_json(folders.results / model_folder_name("my_unet") / f"fold_{fold}" / "fold.json", {})
        own = folders.results / model_folder_name("my_two")
        with pytest.raises(InputError) as error:
            members.find_members(SimpleNamespace(folders=folders), plan, Recipe.model_validate(CONTENT), own, "cpu")
        assert not predicted
        return str(error.value)

    return run


def test_one_fold_that_is_missing_is_told_before_any_member_predicts(find):
    assert find(0, 2).startswith(
        "recipe my_two: is built on my_unet, of which fold 1 is not trained; run cmb_train -d 501 -r my_unet -p ad"
    )


def test_folds_that_are_missing_are_told_in_the_plural(find):
    assert "of which folds 0, 2 are not trained; run cmb_train -d 501 -r my_unet -p adaptive -f 0 2" in find(1)
