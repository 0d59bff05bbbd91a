"""A disk that is full at any moment: one line, nothing half-written; the same command goes on once there is room."""

import errno
import os
import resource
import shutil
from pathlib import Path

import pytest

from cmb_autoseg.cli import convert, evaluate, plan_preprocess, predict

RUNS = {"logs", "run.json"}
"""What two equal runs may write differently."""


def contents(folder):
    """Bytes of every file that two runs write alike."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not RUNS & set(path.parts)
    }


class FullDisk:
    """Every rename from the n-th on fails as on a full disk; 0 lets all pass."""

    def __init__(self, monkeypatch):
        self.room = self.renamed = 0
        rename = Path.replace

        def replace(path, target):
            self.renamed += 1
            if self.room and self.renamed >= self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return rename(path, target)

        monkeypatch.setattr(Path, "replace", replace)

    def fail_at(self, n):
        self.room, self.renamed = n, 0


@pytest.fixture
def full_disk(monkeypatch):
    return FullDisk(monkeypatch)


def convert_cohort(trained, out):
    return convert.main, [str(trained.cohort / "card.yaml"), "-d", "501", "--workspace", str(out)]


def plan(trained, out):
    if not (out / "raw").exists():
        shutil.copytree(trained.workspace / "raw", out / "raw")
    return plan_preprocess.main, ["-d", "501", "--workspace", str(out), "-device", "cpu"]


def predict_scan(trained, out):
    source = trained.cohort / "centreA" / "p2" / "visit1" / "scans" / "p2-susc.nii.gz"
    return predict.main, ["-i", str(source), "-o", str(out), "-m", str(trained.model), "-f", "0", "-device", "cpu"]


def evaluate_masks(trained, out):
    maps, masks = str(trained.model / "crossvalidation"), str(trained.raw / "labelsTr")
    return evaluate.main, ["-p", maps, "--reference", masks, "-o", str(out), "--resamples", "0"]


@pytest.mark.parametrize("command", [convert_cohort, plan, predict_scan, evaluate_masks])
def test_full_at_any_file(command, trained, tmp_path, full_disk, capsys):
    main, arguments = command(trained, tmp_path / "whole")
    assert main(arguments) == 0
    whole, total = contents(tmp_path / "whole"), full_disk.renamed
    capsys.readouterr()
    out = tmp_path / "out"
    for n in sorted({1, 2, total // 2, total - 1, total}):
        main, arguments = command(trained, out)
        full_disk.fail_at(n)
        assert main(arguments) == 2
        captured = capsys.readouterr().err
        line = captured.splitlines()[-1]
        assert f"cannot be written ({os.strerror(errno.ENOSPC)}); choose another place or free this one" in line
        assert "Traceback" not in captured
        written = contents(out)
        assert not [name for name in written if Path(name).name.startswith(".tmp")]
        assert {name for name, content in written.items() if whole.get(name) != content} == set()
        full_disk.fail_at(0)
        assert main(arguments) == 0
        assert contents(out) == whole
        shutil.rmtree(out)
        capsys.readouterr()


def test_a_limit_on_the_size_of_files(trained, tmp_path, capsys):
    """A real limit of the operating system, met in the middle of a volume."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    main, arguments = convert_cohort(trained, tmp_path / "out")
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        code = main(arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    line = capsys.readouterr().err.splitlines()[-1]
    assert (code, f"cannot be written ({os.strerror(errno.EFBIG)})" in line) == (2, True), line
    assert not list((tmp_path / "out").rglob("*.nii.gz"))
    assert main(arguments) == 0
