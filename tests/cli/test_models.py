"""`cmb_models`."""

import pytest

from cmb_autoseg.cli import models
from cmb_autoseg.inference import model_list


@pytest.fixture(autouse=True)
def no_starter(monkeypatch, tmp_path):
    monkeypatch.setattr(model_list, "STARTER_MODEL", tmp_path / "none")


def test_without_a_model_it_says_so(tmp_path, capsys):
    assert models.main(["--workspace", str(tmp_path)]) == 0
    assert "no trained model in" in capsys.readouterr().out


def test_a_folder_that_is_no_model_is_one_line(tmp_path, capsys):
    assert models.main(["-m", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "no plans.json" in said
    assert len(said.strip().splitlines()) == 1


def test_a_workspace_that_is_not_there_is_one_line(tmp_path, capsys):
    assert models.main(["--workspace", str(tmp_path / "elsewhere")]) == 2
    said = capsys.readouterr().err
    assert "no such folder" in said
    assert len(said.strip().splitlines()) == 1
