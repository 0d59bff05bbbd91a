"""Completion scripts are valid, and bash offers what a user expects."""

import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

COMMANDS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]


def script(command, shell, capsys):
    with pytest.raises(SystemExit) as end:
        import_module(COMMANDS[command].partition(":")[0]).main(["--print-completion", shell])
    assert end.value.code == 0
    return capsys.readouterr().out


def offered(command, typed, tmp_path, capsys):
    """What bash offers after the words of `typed`, of which the last is begun."""
    (tmp_path / "completion").write_text(script(command, "bash", capsys))
    words = [command, *typed]
    ask = f"""
    source completion
    COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
    COMP_CWORD={len(words) - 1}
    $(complete -p {command} | sed 's/.*-F \\([^ ]*\\).*/\\1/') {command} '{words[-1]}' '{words[-2]}'
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()) - {""}


@pytest.mark.parametrize("command", COMMANDS)
def test_scripts_are_valid_bash_and_zsh(command, capsys):
    subprocess.run(["bash", "-n"], input=script(command, "bash", capsys), text=True, check=True)
    zsh = script(command, "zsh", capsys)
    assert zsh.startswith(f"#compdef {command}")
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n"], input=zsh, text=True, check=True)


def test_options_choices_files_and_folders_are_offered(tmp_path, capsys):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scan.nii.gz").touch()
    assert offered("cmb_predict", ["--op"], tmp_path, capsys) == {"--operating-point"}
    points = {"counting", "screening", "youden"}
    assert offered("cmb_predict", ["--operating-point", ""], tmp_path, capsys) == points
    assert offered("cmb_predict", ["-device", "c"], tmp_path, capsys) == {"cuda", "cpu"}
    assert offered("cmb_predict", ["-i", "sc"], tmp_path, capsys) == {"scans", "scan.nii.gz"}
    assert offered("cmb_predict", ["-m", "sc"], tmp_path, capsys) == {"scans"}
    assert {"demo", "supervised"} <= offered("cmb_train", ["-r", ""], tmp_path, capsys)
    assert offered("cmb_train", ["-f", "a"], tmp_path, capsys) == {"all"}
    assert offered("cmb_cohort", ["ch"], tmp_path, capsys) == {"check"}
    assert offered("cmb_cohort", ["check", "--count"], tmp_path, capsys) == {"--count-lesions"}


def test_every_value_that_is_a_path_is_completed_as_one():
    from argparse import _SubParsersAction

    from cmb_autoseg.cli._completion import FILES, FOLDERS

    for command, place in COMMANDS.items():
        for action in import_module(place.partition(":")[0]).build_parser()._actions:
            if action.type is Path and not isinstance(action, _SubParsersAction):
                names = {action.metavar} if isinstance(action.metavar, str) else {*(action.metavar or ())}
                assert names <= FILES | FOLDERS, (command, action.option_strings)


def test_a_command_without_the_option_does_not_import_shtab():
    code = "import sys, cmb_autoseg.cli.train as t; t.build_parser().format_help(); sys.exit('shtab' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
