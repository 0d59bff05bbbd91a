"""Every command that takes a recipe says which there are, and prints one to start from."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cmb_autoseg.trainers.recipe import list_recipes, read_recipe

COMMANDS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]
MAINS = {name: importlib.import_module(place.partition(":")[0]) for name, place in COMMANDS.items()}
TAKING_A_RECIPE = [
    name
    for name, module in MAINS.items()
    if any("-r" in action.option_strings for action in module.build_parser()._actions)
]


def left_with(command, *arguments):
    with pytest.raises(SystemExit) as end:
        MAINS[command].main([*arguments])
    return end.value.code


def test_the_commands_that_take_a_recipe_are_these():
    assert {"cmb_train", "cmb_pretrain", "cmb_compare", "cmb_finalize", "cmb_predict"} <= {*TAKING_A_RECIPE}


@pytest.mark.parametrize("command", TAKING_A_RECIPE)
def test_each_recipe_is_listed_with_its_description(command, capsys):
    assert left_with(command, "--list-recipes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(list_recipes())
    assert all(line.endswith(f"  {read_recipe(line.split()[0]).description}") for line in lines)
    assert len({line.index(read_recipe(line.split()[0]).description) for line in lines}) == 1


@pytest.mark.parametrize("command", TAKING_A_RECIPE)
def test_a_shown_recipe_can_be_trained_with_as_it_is(command, tmp_path, capsys):
    assert left_with(command, "--show-recipe", "ssl_mae") == 0
    (tmp_path / "own.yaml").write_text(capsys.readouterr().out)
    assert read_recipe(str(tmp_path / "own.yaml")) == read_recipe("ssl_mae")
    assert "# Self-supervised" in (tmp_path / "own.yaml").read_text()


def test_an_unknown_recipe_is_one_line_with_the_nearest(capsys):
    assert left_with("cmb_train", "--show-recipe", "dmo") == 2
    assert capsys.readouterr().err.startswith("cmb_train: error: --show-recipe dmo: no recipe of the tool; did you me")
    assert left_with("cmb_train", "--show-recipe", "/tmp") == 2
    assert "there are demo, " in capsys.readouterr().err


def test_listing_and_showing_import_no_torch():
    probe = (
        "import sys; from cmb_autoseg.cli.train import main\n"
        "for arguments in (['--list-recipes'], ['--show-recipe', 'demo']):\n"
        "    try: main(arguments)\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "sys.exit(bool({'torch', 'nnunetv2', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", probe], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("option", [["--list-recipes"], ["--show-recipe", "ssl_mae"]])
def test_a_reader_that_has_read_enough_is_no_error_and_a_full_disk_is_one_line(option, unbuffered):
    run = [sys.executable, "-c", "import sys; from cmb_autoseg.cli.predict import main; sys.exit(main())", *option]

    def ended(stdout):
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        return subprocess.run(run, check=False, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment)

    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        result = ended(closed)
    assert (result.returncode, result.stderr) == (0, "")
    with Path("/dev/full").open("w") as full:
        result = ended(full)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("cmb_predict: error: No space left on device")
