import errno
import os

import pytest

from cmb_autoseg import files
from cmb_autoseg.errors import InputError, OutputError
from cmb_autoseg.files import atomic_path, write_text


def write_and_fail(path, error):
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path, number):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(OutputError, match=rf"a\.txt: cannot be written \({os.strerror(number)}\)"):
        write_and_fail(tmp_path / "a.txt", OSError(number, os.strerror(number)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize(
    "error", [RuntimeError("PytorchStreamWriter failed writing file"), OSError("8192 requested and 3000 written")]
)
def test_a_library_that_words_a_full_disk_its_own_way_is_understood(tmp_path, monkeypatch, error):
    with pytest.raises(type(error), match=r"failed writing|requested and"):
        write_and_fail(tmp_path / "a.pth", error)
    usage = files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage._replace(free=0))
    with pytest.raises(OutputError, match="No space left"):
        write_and_fail(tmp_path / "a.pth", error)


def test_errors_of_other_files_and_of_input_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        write_and_fail(tmp_path / "a.txt", FileNotFoundError(errno.ENOENT, "gone", "elsewhere"))
    with pytest.raises(InputError, match="bad"):
        write_and_fail(tmp_path / "a.txt", InputError("bad"))
    assert not list(tmp_path.iterdir())
