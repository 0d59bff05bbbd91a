"""What long work says of itself before its first step is done."""

import subprocess
import sys
import time

import pytest

from cmb_autoseg import progress
from cmb_autoseg.progress import Meter, telling, track


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_OF_SILENCE", 0.02)


def lines(capsys):
    return capsys.readouterr().err.splitlines()


@pytest.mark.usefixtures("impatient")
def test_what_takes_long_is_told_while_it_does(capsys):
    with telling("loads much"):
        time.sleep(0.3)
        assert lines(capsys) == ["loads much"]


def test_what_is_quick_or_fails_is_not_told(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_OF_SILENCE", 0.3)
    with telling("loads little"):
        pass
    with pytest.raises(ValueError, match="broken"), telling("fails"):
        raise ValueError("broken")
    time.sleep(0.5)
    assert lines(capsys) == []


def test_slow_steps_are_told_before_the_first_one(capsys):
    with Meter("Training", 2, slow=True) as meter:
        assert lines(capsys) == ["Training: 0/2, begun"]
        meter.advance()
    with Meter("Training", 4, done=3, slow=True):
        assert lines(capsys) == ["Training: 3/4, begun"]
    with Meter("Training", 4, done=4, slow=True):
        assert lines(capsys) == []
    for _ in track([1], "Judging", slow=True):
        assert lines(capsys) == ["Judging: 0/1, begun"]


def test_quick_steps_are_not(capsys):
    with Meter("Reading", 2):
        assert lines(capsys) == []


def test_commands_that_compute_tell_that_they_load_torch():
    script = (
        "from cmb_autoseg import progress; progress.SECONDS_OF_SILENCE = 0.05\n"
        "from cmb_autoseg.cli import _command; _command._has_driver = lambda: True\n"
        "_command.resolve_device(None)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "loading PyTorch ...\n"


@pytest.mark.parametrize("chosen", ["cpu", None])
def test_a_cpu_is_known_without_torch(chosen):
    script = (
        "import sys; from cmb_autoseg.cli import _command; _command._has_driver = lambda: False\n"
        f"assert _command.resolve_device({chosen!r}) == 'cpu'; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
