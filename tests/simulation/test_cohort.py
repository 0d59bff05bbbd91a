import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from cmb_autoseg import simulation
from cmb_autoseg.cli.simulate import main
from cmb_autoseg.files import file_digest, read_tsv
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.simulation.acquisition.scanner import scan_grid
from cmb_autoseg.simulation.cohort import is_lesion_free, simulate_cohort
from cmb_autoseg.simulation.person import simulate_person

CPU = torch.device("cpu")
NAMES = ("desc-masked_T2S", "desc-masked_SWI", "CMB")


def digests(folder):
    return {str(path.relative_to(folder)): file_digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def volumes(cohort, subject):
    return [read_volume(cohort / subject / f"{subject}_space-T2S_{name}.nii.gz") for name in NAMES]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, phantom_template, tiny):
    out = tmp_path_factory.mktemp("simulated") / "cohort"
    simulate_cohort(out, people=5, test_people=2, protocol=tiny, seed=3, device="cpu", template=phantom_template)
    return out


def test_truth_and_masks_agree_lesion_by_lesion(cohort):
    rows = read_tsv(cohort / "truth" / "lesions.tsv")
    people = read_tsv(cohort / "truth" / "people.tsv")
    assert sum(int(person["n_visible"]) for person in people) >= 3

    for person in people:
        *_, mask = volumes(cohort, person["subject"])
        components, count = ndimage.label(mask.data, np.ones((3, 3, 3)))
        seen = [row for row in rows if row["subject"] == person["subject"] and row["visible"] == "1"]
        assert sorted(int(row["component"]) for row in seen) == list(range(1, count + 1))
        for row in seen:
            lesion = components == int(row["component"])
            centre = [float(row[f"visible_{axis}_mm"]) for axis in "xyz"]
            np.testing.assert_allclose(centre, mask.to_ras_mm(np.argwhere(lesion)).mean(axis=0), atol=1e-3)
            assert float(row["volume_mm3"]) == pytest.approx(lesion.sum() * mask.voxel_volume_mm3)
            true = mask.to_voxels(np.array([[float(row[f"{axis}_mm"]) for axis in "xyz"]]))
            assert np.abs(np.argwhere(lesion) - true).max(axis=1).min() <= 1.0


def test_invisible_lesions_have_no_component(phantom_template, tiny, tmp_path):
    noisy = replace(tiny, snr=2.0)
    summary = simulate_cohort(tmp_path / "c", 2, protocol=noisy, seed=3, lesion_free_share=0, template=phantom_template)

    rows = read_tsv(tmp_path / "c" / "truth" / "lesions.tsv")
    hidden = [row for row in rows if row["visible"] == "0"]
    assert summary.invisible == len(hidden) > 0
    assert {(row["component"], row["volume_mm3"], row["visible_x_mm"]) for row in hidden} == {("0", "0", "n/a")}


def test_scans_are_zero_outside_the_brain_and_masks_lie_inside(cohort):
    for person in read_tsv(cohort / "truth" / "people.tsv"):
        magnitude, swi, mask = volumes(cohort, person["subject"])
        outside = ndimage.binary_dilation(magnitude.data > 0, iterations=2) == 0
        assert outside.any()
        assert not swi.data[outside].any()
        assert not mask.data[~ndimage.binary_fill_holes(magnitude.data > 0)].any()


def test_lesion_free_people_have_all_zero_masks(cohort):
    people = read_tsv(cohort / "truth" / "people.tsv")
    free = [person for person in people if person["n_lesions"] == "0"]
    assert len(free) == 2
    for person in free:
        assert not volumes(cohort, person["subject"])[2].data.any()


@pytest.mark.parametrize(("people", "share"), [(20, 0.33), (7, 0.5), (12, 0.0), (5, 1.0)])
def test_share_of_lesion_free_people(people, share):
    free = [is_lesion_free(index, share) for index in range(people)]
    assert sum(free) == int(people * share + 0.5)
    for start in range(people - 7):
        assert sum(free[start : start + 8]) >= int(8 * share)


def test_same_seed_same_bytes_and_a_person_does_not_hang_on_the_number_of_people(
    cohort, phantom_template, tiny, tmp_path
):
    for name, people, seed in (("fewer", 2, 3), ("again", 2, 3), ("other", 1, 4)):
        simulate_cohort(tmp_path / name, people, protocol=tiny, seed=seed, device="cpu", template=phantom_template)

    expected = digests(cohort)
    fewer = digests(tmp_path / "fewer")
    assert digests(tmp_path / "again") == fewer
    assert {name: digest for name, digest in fewer.items() if name.startswith("sub-")}.items() <= expected.items()
    magnitudes = [digest for name, digest in expected.items() if name.endswith("T2S.nii.gz")]
    assert len(set(magnitudes)) == len(magnitudes)
    other = digests(tmp_path / "other")
    assert all(other[name] != expected[name] for name in other if name.startswith("sub-"))


def test_a_longer_echo_makes_lesions_look_larger(phantom_template, tiny):
    volumes = []
    for echo_time_ms in (12.0, 24.0):
        protocol = replace(tiny, echo_times_ms=(echo_time_ms,), snr=200.0)
        scan = simulate_person(phantom_template, protocol, 3, 0, False, CPU)
        volumes.append(int(scan.mask.sum()))
    assert volumes[1] > 1.3 * volumes[0] > 0


def test_swi_shows_lesions_darker_than_magnitude(phantom_template, tiny):
    contrasts = []
    for index in range(2):
        scan = simulate_person(phantom_template, replace(tiny, snr=200.0), 3, index, False, CPU)
        ring = ndimage.binary_dilation(scan.mask, iterations=2) & (scan.mask == 0) & scan.brain
        for mark in filter(lambda mark: mark.visible, scan.marks):
            at = tuple(mark.voxels.T)
            contrasts.append([1 - image[at].mean() / np.median(image[ring]) for image in (scan.magnitude, scan.swi)])
    magnitude, swi = np.mean(contrasts, axis=0)
    assert swi > magnitude + 0.05 > 0.2


def test_scan_lies_where_the_protocol_says(cohort, tiny):
    magnitude, *_ = volumes(cohort, "sub-101")
    assert magnitude.shape == tiny.matrix
    np.testing.assert_allclose(magnitude.affine, scan_grid(tiny).affine)
    middle = magnitude.to_ras_mm((np.array([tiny.matrix]) - 1) / 2)
    np.testing.assert_allclose(middle[0], tiny.centre_mm)


def test_command_writes_a_cohort_that_the_card_describes(tiny_command, tmp_path, capsys):
    out = tmp_path / "cohort"
    assert main(["-o", str(out), "-n", "3", "--n_test", "1", "--protocol", "tiny", "-device", "cpu"]) == 0

    line = capsys.readouterr().out.strip()
    assert "3 simulated people (1 test, 1 lesion-free)" in line
    assert "simulated data" in line
    assert [row["group"] for row in read_tsv(out / "participants.tsv")] == ["train", "train", "test"]

    from cmb_autoseg.cli.convert import main as convert

    assert convert([str(out / "card.yaml"), "-d", "501", "--workspace", str(tmp_path / "work")]) == 0
    cases = read_tsv(tmp_path / "work" / "raw" / "Dataset501_SIMULATED" / "cases.tsv")
    assert [(case["subject"], case["split"]) for case in cases] == [
        ("sub-101", "train"),
        ("sub-102", "train"),
        ("sub-103", "test"),
    ]
    assert {case["field_strength_t"] for case in cases} == {"3.0"}


def test_an_earlier_cohort_is_replaced_whole(tiny_command, tmp_path):
    out = tmp_path / "cohort"
    assert main(["-o", str(out), "-n", "2", "--protocol", "tiny"]) == 0
    assert main(["-o", str(out), "-n", "1", "--protocol", "tiny"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["card.yaml", "logs", "participants.tsv", "sub-101", "truth"]


def test_a_folder_with_anything_else_is_refused_untouched(tiny_command, tmp_path, capsys):
    (tmp_path / "sub-101").mkdir()
    (tmp_path / "sub-101" / "real.nii.gz").touch()

    assert main(["-o", str(tmp_path), "-n", "1", "--protocol", "tiny"]) == 2

    assert "holds sub-101, which no earlier simulation wrote" in capsys.readouterr().err
    assert (tmp_path / "sub-101" / "real.nii.gz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-n", "0"], "found '0', expected a whole number of at least 1"),
        (["-n", "900"], "-n: found 900, expected 1..899"),
        (["-n", "2", "--n-test", "3"], "--n-test: found 3, expected 0..2"),
        (["-n", "2", "--lesion-free-share", "1.5"], "--lesion-free-share: found 1.5, expected 0..1"),
        (["-n", "2", "--layout", "ixi"], "invalid choice: 'ixi'"),
        (["-n", "2", "--protocol", "7t"], "invalid choice: '7t'"),
        (["-n", "2", "-o", "/dev/null/cohort"], "/dev/null/cohort: cannot write there"),
        (["-n", "2", "-o", "/dev/null"], "/dev/null: is a file"),
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


def test_help_imports_neither_torch_nor_numpy():
    check = (
        "import sys, cmb_autoseg.cli.simulate as s; s.build_parser(); "
        "sys.exit(bool({'torch', 'numpy', 'nilearn', 'nnunetv2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


CORE = sorted(
    path
    for path in Path(simulation.__file__).parent.rglob("*.py")
    if path.parent.name != "layouts" and path.stem not in ("cohort", "truth", "montage", "mni152", "label_files")
)


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_core_needs_torch_and_numpy_only(path):
    tree = ast.parse(path.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {
        name
        for name in imported
        if name.split(".")[0] not in sys.stdlib_module_names | {"numpy", "torch"}
        and not name.startswith(("cmb_autoseg.simulation.", "cmb_autoseg.errors"))
    }
    assert not foreign
