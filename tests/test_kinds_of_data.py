"""Whether what a model has learned from is simulated."""

import pytest

from cmb_autoseg.inference.model_folder import intended_use
from cmb_autoseg.records import FoldModel, intended_use_after, joined_kinds


@pytest.mark.parametrize(
    ("kinds", "together"),
    [
        (["simulated", "simulated"], "simulated"),
        (["simulated", ""], "partly simulated"),
        (["simulated", None], "partly simulated"),
        (["", "partly simulated"], "partly simulated"),
        (["", None], ""),
        ([], ""),
    ],
)
def test_one_of_people_is_enough_not_to_be_simulated_alone(kinds, together):
    assert joined_kinds(kinds) == together


def test_a_model_without_a_card_says_what_all_its_folds_have_learned_from(tmp_path):
    for fold, data in enumerate(("simulated", "simulated", "")):
        record = FoldModel(
            dataset="Dataset501_A", recipe="a", fold=fold, seed=0, epochs=1, steps_per_epoch=1, training_cases=("a",),
            validation_cases=("b",), training_subjects=("A/a",), validation_subjects=("A/b",), checkpoint="",
            parents=(), data=data,
        )  # fmt: skip
        (tmp_path / f"fold_{fold}").mkdir()
        (tmp_path / f"fold_{fold}" / "checkpoint_final.pth").touch()
        record.write(tmp_path / f"fold_{fold}" / "fold.json")
        expected = "simulated" if fold < 2 else "partly simulated"
        assert intended_use(tmp_path) == intended_use_after(expected)
    (tmp_path / "fold_0" / "fold.json").write_text("{")
    assert intended_use(tmp_path) == intended_use_after("partly simulated")
