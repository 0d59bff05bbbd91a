import os
import signal
import time

import pytest

from cmb_autoseg.cli._command import Parser, run_command
from cmb_autoseg.files import atomic_path
from cmb_autoseg.interruption import Stopped, end_with, hold_back_stops, raise_stop_behind, stops_raise


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_command_with_the_shells_code_and_nothing_half_written(tmp_path, capsys, name):
    number = getattr(signal, name)

    def run(args):
        with atomic_path(tmp_path / "result") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), number)
            temporary.write_text("never reached")
        return 0

    before = signal.getsignal(number)
    assert run_command(Parser("cmb_x", ""), run, []) == 128 + number
    assert "cmb_x: interrupted; run the same command again to go on" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(number) is before


def test_a_first_signal_is_held_back_and_a_second_one_is_not():
    with hold_back_stops() as request:
        assert not request
        os.kill(os.getpid(), signal.SIGTERM)
        assert request
        with pytest.raises(Stopped, match="SIGTERM"):
            request.raise_if_made()
        with pytest.raises(Stopped, match="SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_stop_is_found_behind_the_errors_that_came_of_it():
    stop = Stopped(signal.SIGTERM)
    caused, met = RuntimeError("class"), ValueError("load")
    caused.__cause__ = stop
    met.__context__ = caused
    for error in (stop, caused, met):
        with pytest.raises(Stopped, match="SIGTERM") as found:
            raise_stop_behind(error)
        assert found.value is stop
    raise_stop_behind(ValueError("no stop"))


def test_a_signal_that_the_process_shall_ignore_is_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stops_raise():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_worker_ends_with_the_process_that_started_it():
    """The parent starts a worker and is killed; the worker would sleep for a minute."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        me = os.getpid()
        if os.fork() == 0:
            end_with(me)
            os.write(writing, b"worker")
            time.sleep(60)
        os.close(writing)
        time.sleep(60)
    os.close(writing)
    assert os.read(reading, 10) == b"worker"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    start = time.monotonic()
    assert os.read(reading, 10) == b""  # End of the pipe: the worker, its last writer, is gone.
    assert time.monotonic() - start < 10
