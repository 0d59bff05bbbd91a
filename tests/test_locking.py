import multiprocessing
import time

import pytest

from cmb_autoseg.errors import OutputError
from cmb_autoseg.locking import is_owned, own_folder


def hold(folder, ready):
    with own_folder(folder, "cmb_predict"):
        (folder / "result").touch()
        ready.set()
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    """A process that owns `tmp_path/out`."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "out", ready))
    process.start()
    assert ready.wait(10)
    yield process
    process.kill()
    process.join()


def test_a_second_run_is_told_who_works_in_the_folder(holder, tmp_path):
    with (
        pytest.raises(OutputError, match=rf"out: in use by cmb_predict, process {holder.pid}; wait until"),
        own_folder(tmp_path / "out", "cmb_predict"),
    ):
        pass
    assert is_owned(tmp_path / "out") == f"cmb_predict, process {holder.pid}"


def test_the_lock_dies_with_its_owner(holder, tmp_path):
    holder.kill()
    holder.join()
    assert is_owned(tmp_path / "out") is None
    with own_folder(tmp_path / "out", "cmb_predict"):
        assert is_owned(tmp_path / "nowhere") is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result"]


def test_leftovers_of_killed_runs_are_cleared_and_other_files_are_not(tmp_path):
    below = tmp_path / "below"
    below.mkdir()
    for name in (".tmp123-0a1b2c3d_scan.nii.gz", "below/.tmp9-ffffffff_a.json", ".tmpfile", ".tmp_mine", "scan.nii.gz"):
        (tmp_path / name).touch()
    with own_folder(tmp_path, "cmb_convert", nested=False):
        assert (below / ".tmp9-ffffffff_a.json").exists()
    with own_folder(tmp_path, "cmb_convert"):
        pass
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == sorted([".tmpfile", ".tmp_mine", "scan.nii.gz"])


def test_folders_made_for_nothing_are_taken_away(tmp_path):
    with pytest.raises(ValueError, match="refused"), own_folder(tmp_path / "a" / "b", "cmb_convert"):
        raise ValueError("refused")
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    with own_folder(tmp_path / "mine", "cmb_convert"):
        pass
    assert (tmp_path / "mine").is_dir()
