"""`cmb_simulate`: what it refuses, and what its options do, on scans that are made up."""

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli.simulate import main
from cmb_autoseg.files import read_tsv
from cmb_autoseg.simulation import cohort

from .test_layouts import digests

pytestmark = pytest.mark.usefixtures("made_up")


def test_an_earlier_cohort_is_replaced_whole(tmp_path):
    out = tmp_path / "cohort"
    assert main(["-o", str(out), "-n", "2", "--protocol", "flat"]) == 0
    assert main(["-o", str(out), "-n", "1", "--protocol", "flat"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["card.yaml", "logs", "participants.tsv", "sub-101", "truth"]


def test_a_folder_with_anything_else_is_refused_untouched(tmp_path, capsys):
    (tmp_path / "sub-101").mkdir()
    (tmp_path / "sub-101" / "real.nii.gz").touch()

    assert main(["-o", str(tmp_path), "-n", "1", "--protocol", "flat"]) == 2

    assert "holds sub-101, which no earlier simulation of this layout wrote" in capsys.readouterr().err
    assert (tmp_path / "sub-101" / "real.nii.gz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "0"], "found '0', expected a whole number of at least 1"),
        (["-n", "900", "--protocol", "flat"], "-n: found 900, expected 1..899"),
        (["-n", "900", "--layout", "dou"], "-n: found 900, expected 1..99"),
        (["-n", "2", "--n-test", "3"], "--n-test: found 3, expected 0..2"),
        (["-n", "2", "--lesion-free-share", "1.5"], "--lesion-free-share: found 1.5, expected 0..1"),
        (["-n", "2", "--layout", "ixi"], "invalid choice: 'ixi'"),
        (["-n", "2", "--protocol", "7t"], "invalid choice: '7t'"),
        (["-n", "2", "--protocol"], "expected at least one argument"),
        (["-n", "2", "-o", "/dev/null/cohort"], "/dev/null/cohort: cannot write there"),
        (["-n", "2", "-o", "/dev/null"], "/dev/null: is a file"),
        (["-n", "2", "--anatomy", "/no/such"], "--anatomy: /no/such is not a folder"),
        (["-n", "2", "--layout", "boxes2d", "--misalign"], "--misalign: the layout boxes2d has no T1w"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(arguments, message, tmp_path, capsys):
    out = tmp_path / "cohort"
    try:
        code = main(["-o", str(out), *arguments])
    except SystemExit as stop:
        code = stop.code

    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.fixture
def heads(tmp_path):
    """A folder of two label maps of different heads; tests do not read their content."""
    folder = tmp_path / "heads"
    folder.mkdir()
    for value, name in enumerate(("b.nii.gz", "a.nii.gz"), 2):
        labels = np.zeros((8, 8, 8), np.int16)
        labels[2:6, 2:6, 2:6] = value
        nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / name)
    return folder


def test_each_person_has_a_head_of_their_own(heads, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        "cmb_autoseg.simulation.anatomy.label_files.load_label_map", lambda path: read.append(path.name)
    )
    arguments = ["-n", "2", "--n-test", "1", "--protocol", "flat", "--anatomy", str(heads)]
    assert main(["-o", str(tmp_path / "c"), *arguments]) == 0
    assert read == ["a.nii.gz", "b.nii.gz"]
    for table in ("participants.tsv", "truth/people.tsv"):
        assert [row["anatomy"] for row in read_tsv(tmp_path / "c" / table)] == ["a.nii.gz", "b.nii.gz"]


def test_fewer_heads_than_people_are_refused(heads, tmp_path, capsys):
    out = tmp_path / "c"
    assert main(["-o", str(out), "-n", "3", "--anatomy", str(heads)]) == 2
    assert "2 label maps for 3 people, and a head belongs to one person" in capsys.readouterr().err
    (heads / "c.nii.gz").write_bytes((heads / "a.nii.gz").read_bytes())
    assert main(["-o", str(out), "-n", "3", "--anatomy", str(heads)]) == 2
    assert "a.nii.gz and c.nii.gz are the same head" in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_without_label_maps_is_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["-o", str(tmp_path / "c"), "-n", "3", "--anatomy", str(tmp_path / "empty")]) == 2
    error = capsys.readouterr().err
    assert "holds no label map" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("layout", ["valdo", "csiro"])
def test_an_interrupted_run_goes_on_where_it_stopped(layout, tmp_path, monkeypatch):
    arguments = ["-n", "4", "--layout", layout, "--protocol", "flat", "oblique"]
    assert main(["-o", str(tmp_path / "whole"), *arguments]) == 0
    simulate, done = cohort.simulate_person, []

    def falls_over(template, protocol, seed, index, *more, **options):
        if len(done) == 2 and index == 2:
            raise KeyboardInterrupt
        done.append(index)
        return simulate(template, protocol, seed, index, *more, **options)

    monkeypatch.setattr(cohort, "simulate_person", falls_over)
    assert main(["-o", str(tmp_path / "parts"), *arguments]) == 130
    assert not (tmp_path / "parts" / "card.yaml").exists()
    assert main(["-o", str(tmp_path / "parts"), *arguments]) == 130
    done.append(-1)
    assert main(["-o", str(tmp_path / "parts"), *arguments]) == 0
    assert done == [0, 1, -1, 2, 3]
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    done[:] = [0, 0, 0]
    assert main(["-o", str(tmp_path / "parts"), *arguments, "--seed", "5"]) == 0
    assert done == [0, 0, 0, 0, 1, 2, 3]
