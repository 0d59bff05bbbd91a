"""`cmb_simulate`: what it refuses, and what its options do, on scans that are made up."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from cmb_autoseg.cli.simulate import main
from cmb_autoseg.files import read_tsv
from cmb_autoseg.simulation import cohort
from cmb_autoseg.simulation.anatomy.template import Template
from cmb_autoseg.simulation.grids import Grid

from .test_layouts import digests

pytestmark = pytest.mark.usefixtures("made_up")


def test_a_finished_cohort_is_left_and_another_refused(tmp_path, capsys):
    out = tmp_path / "cohort"
    two = ["-o", str(out), "-n", "2", "--protocol", "flat"]
    assert main(two) == 0
    first, told = digests(out), capsys.readouterr().out

    assert main(two) == 0
    again = capsys.readouterr()
    assert "simulated already with these settings, left as it is" in again.err
    assert again.out == told
    assert digests(out) == first

    for other in (["-o", str(out), "-n", "1", "--protocol", "flat"], [*two, "--seed", "1"]):
        assert main(other) == 2
        assert "holds a simulation of other settings or of another version" in capsys.readouterr().err
    assert digests(out) == first


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
        (["-n", "2", "--seed", "-1"], "--seed: found '-1', expected a whole number of at least 0"),
        (["-n", "2", "--n-test", "3"], "--n-test: found 3, expected 0..2"),
        (["-n", "2", "--lesion-free-share", "1.5"], "--lesion-free-share: found 1.5, expected 0..1"),
        (["-n", "2", "--name", "two words"], "--name: found 'two words'; use letters, digits, _ . and -"),
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
    """A folder of two label maps of different heads."""
    folder = tmp_path / "heads"
    folder.mkdir()
    for edge, name in ((48, "b.nii.gz"), (50, "a.nii.gz")):
        nib.save(label_map(edge), folder / name)
    return folder


def label_map(edge):
    """A cube of white matter, `edge` voxels long, with thalamus, caudate, putamen and pallidum; 1.6 mm voxels."""
    labels = np.zeros((56, 56, 56), np.int16)
    labels[2 : 2 + edge, 2 : 2 + edge, 2 : 2 + edge] = 2
    for place, code in enumerate((10, 11, 12, 13)):
        labels[10 + 6 * place :, 20:24, 20:24][:4] = code
    return nib.Nifti1Image(labels, np.diag([1.6, 1.6, 1.6, 1]))


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


def test_a_head_is_found_twice_in_whatever_file_it_is_stored(heads, tmp_path, capsys):
    image = nib.load(heads / "a.nii.gz")
    nib.save(image.as_reoriented([[1, -1], [0, 1], [2, 1]]), heads / "c.nii")
    assert main(["-o", str(tmp_path / "c"), "-n", "3", "--anatomy", str(heads)]) == 2
    assert "a.nii.gz and c.nii are the same head" in capsys.readouterr().err


def as_t1w(path):
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * 37.5, image.affine), path)


def as_series(path):
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.stack([np.asarray(image.dataobj)] * 2, axis=3), image.affine), path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (as_t1w, "is no label map"),
        (as_series, "has 4 axes"),
        (lambda path: nib.save(nib.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.eye(4)), path), "hold 0 ml"),
        (lambda path: path.write_bytes(path.read_bytes()[:-60]), "cannot be read as an image"),
    ],
    ids=["T1w", "4D", "zeros", "truncated"],
)
@pytest.mark.parametrize("name", ["a.nii.gz", "b.nii.gz"], ids=["first", "last"])
def test_a_bad_label_map_is_refused_before_anything_is_written(name, spoil, message, heads, tmp_path, capsys):
    spoil(heads / name)
    assert main(["-o", str(tmp_path / "c"), "-n", "2", "--anatomy", str(heads)]) == 2
    error = capsys.readouterr().err
    assert f"{heads / name}: " in error
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "c").exists()


def test_a_folder_without_label_maps_is_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["-o", str(tmp_path / "c"), "-n", "3", "--anatomy", str(tmp_path / "empty")]) == 2
    error = capsys.readouterr().err
    assert "holds no label map" in error
    assert error.count("\n") == 1


def test_protocols_may_be_named_one_by_one(tmp_path):
    arguments = ["-n", "4", "--protocol", "flat", "--protocol", "oblique"]
    assert main(["-o", str(tmp_path / "c"), *arguments]) == 0
    assert {row["protocol"] for row in read_tsv(tmp_path / "c" / "participants.tsv")} == {"flat", "oblique"}


def test_a_run_whose_end_failed_goes_on_without_new_scans(tmp_path, monkeypatch):
    arguments = ["-n", "2", "--protocol", "flat"]
    assert main(["-o", str(tmp_path / "whole"), *arguments]) == 0
    out = tmp_path / "parts"

    def is_full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cohort.valdo, "finish", is_full)
        assert main(["-o", str(out), *arguments]) == 2
    monkeypatch.setattr(cohort, "simulate_person", None)
    assert main(["-o", str(out), *arguments]) == 0
    assert digests(out) == digests(tmp_path / "whole")


def test_an_interrupted_run_of_another_head_or_device_is_not_gone_on_with():
    plans = cohort.plan_people(2, 0, "valdo", None, 0, 0.3)
    head = Template(torch.zeros((8, 2, 2, 2), dtype=torch.uint8), Grid((2, 2, 2), (90.0,) * 3, (-45.0,) * 3))
    other = replace(head, maps=head.maps + 1)
    settings = {
        cohort._settings(plans, "valdo", 0, False, False, torch.device(device), [cohort._identity(template)])
        for device in ("cpu", "cuda")
        for template in (head, other, replace(head, sharpness=2.0))
    }
    assert len(settings) == 6
    assert cohort._identity(head) == cohort._identity(replace(head, maps=head.maps.clone()))


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
