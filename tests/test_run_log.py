import json

import pytest

from cmb_autoseg import __version__
from cmb_autoseg.cli._command import Parser, add_seed, run_command
from cmb_autoseg.errors import InputError
from cmb_autoseg.progress import Meter, log, report
from cmb_autoseg.run_log import open_log


def run_with(work, *argv):
    parser = Parser("cmb_x", "")
    add_seed(parser)
    return run_command(parser, work, list(argv))


def test_a_log_says_what_was_run_with_which_versions_and_seed_and_how_it_ended(tmp_path, capsys):
    def work(args):
        log("before the folder is known")
        open_log(tmp_path)
        with Meter("Counting", 1) as meter:
            meter.advance()
        report("3 lesions")
        return 0

    assert run_with(work, "--seed", "7") == 0
    (path,) = (tmp_path / "logs").iterdir()
    assert path.suffix == ".log"
    lines = [line.split("  ", 1)[1] for line in path.read_text().splitlines()]
    assert lines[0] == "cmb_x --seed 7"
    assert f"cmb_autoseg {__version__}, python" in lines[1]
    assert lines[3:] == ["seed 7", "before the folder is known", "Counting: 1/1, took 0 s", "3 lesions", "ended"]
    assert capsys.readouterr().out == "3 lesions\n"


def test_json_lines_on_request(tmp_path):
    def work(args):
        open_log(tmp_path)
        log("hello")
        return 0

    assert run_with(work, "--log-json") == 0
    (path,) = (tmp_path / "logs").glob("*.jsonl")
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [entry["event"] for entry in entries] == ["start", "message", "end"]
    assert entries[0]["seed"] == 0
    assert entries[0]["versions"]["cmb_autoseg"] == __version__


def test_a_failure_stands_in_the_log_with_its_traceback(tmp_path):
    def work(args):
        open_log(tmp_path)
        raise InputError("scan.nii: broken; give another")

    assert run_with(work) == 2
    (path,) = (tmp_path / "logs").iterdir()
    text = path.read_text()
    assert "ended with InputError: scan.nii: broken; give another" in text
    assert "in work" in text


def test_a_command_that_is_refused_at_once_writes_no_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def work(args):
        raise InputError("no")

    assert run_with(work, "--log-json") == 2
    assert not list(tmp_path.iterdir())


def test_a_command_within_a_command_has_a_log_of_its_own(tmp_path):
    def inner(args):
        open_log(tmp_path / "inner")
        log("inside")
        return 0

    def outer(args):
        open_log(tmp_path / "outer")
        return run_with(inner)

    assert run_with(outer) == 0
    (path,) = (tmp_path / "outer" / "logs").iterdir()
    assert "inside" not in path.read_text()


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path, capsys):
    (tmp_path / "logs").touch()

    def work(args):
        open_log(tmp_path)
        log("goes on")
        return 0

    assert run_with(work) == 0
    assert "no log (" in capsys.readouterr().err

    with pytest.raises(SystemExit):
        run_with(work, "--nonsense")
