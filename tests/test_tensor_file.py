import pytest
import torch

from cmb_autoseg import files
from cmb_autoseg.errors import OutputError
from cmb_autoseg.tensor_file import write_tensors


def test_the_name_of_a_file_leaves_no_trace_in_it(tmp_path):
    content = {"weights": torch.nn.Conv2d(2, 3, 3).state_dict(), "fold": 1, "curves": [{"loss": 0.1}]}
    for name in ("one.pth", "two.pth"):
        write_tensors(tmp_path / name, content)
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "two.pth").read_bytes()
    read = torch.load(tmp_path / "one.pth", weights_only=True)
    assert (read["fold"], read["curves"]) == (1, [{"loss": 0.1}])
    assert torch.equal(read["weights"]["weight"], content["weights"]["weight"])


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def full(_content, stream):
        stream.write(b"begun")
        raise RuntimeError("[enforce fail at inline_container.cc:672] unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: files.shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(OutputError, match=r"a\.pth: cannot be written \(No space left"):
        write_tensors(tmp_path / "a.pth", {})
    assert not list(tmp_path.iterdir())
