import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg import simulation
from cmb_autoseg.cli.simulate import main
from cmb_autoseg.files import file_digest, read_tsv
from cmb_autoseg.geometry import read_volume
from cmb_autoseg.simulation.cohort import is_lesion_free, plan_people, simulate_cohort
from cmb_autoseg.simulation.layouts import LAYOUTS
from cmb_autoseg.simulation.profiles import PROFILES
from cmb_autoseg.simulation.protocols import PROTOCOLS

NAMES = ("desc-masked_T2S", "desc-masked_SWI", "CMB")


def digests(folder):
    return {str(path.relative_to(folder)): file_digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def volumes(cohort, subject):
    return [read_volume(cohort / subject / f"{subject}_space-T2S_{name}.nii.gz") for name in NAMES]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, phantom_template, tiny):
    out = tmp_path_factory.mktemp("simulated") / "cohort"
    simulate_cohort(out, people=2, test_people=1, protocol=tiny, seed=3, device="cpu", template=phantom_template)
    return out


def test_truth_and_masks_agree_lesion_by_lesion(cohort):
    rows = read_tsv(cohort / "truth" / "lesions.tsv")
    people = read_tsv(cohort / "truth" / "people.tsv")
    assert sum(int(person["n_visible"]) for person in people) >= 3

    for person in people:
        *_, mask = volumes(cohort, person["subject"])
        components, count = ndimage.label(mask.data, np.ones((3, 3, 3)))
        seen = [row for row in rows if row["subject"] == person["subject"] and row["visible"] == "1"]
        assert {int(row["component"]) for row in seen} == set(range(1, count + 1))
        for row in seen:
            lesion = components == int(row["component"])
            true = mask.to_voxels(np.array([[float(row[f"{axis}_mm"]) for axis in "xyz"]]))
            assert np.abs(np.argwhere(lesion) - true).max(axis=1).min() <= 1.0
            assert 0 < float(row["contrast"]) <= 1
            assert row["nearest_mimic"] in {"vein", "artery", "calcification"}
            if [other["component"] for other in seen].count(row["component"]) == 1:
                centre = [float(row[f"visible_{axis}_mm"]) for axis in "xyz"]
                np.testing.assert_allclose(centre, mask.to_ras_mm(np.argwhere(lesion)).mean(axis=0), atol=1e-3)
                assert float(row["volume_mm3"]) == pytest.approx(lesion.sum() * mask.voxel_volume_mm3)


def test_readings_nest_around_the_reference(cohort):
    people = read_tsv(cohort / "truth" / "people.tsv")
    points, boxes = (read_tsv(cohort / "truth" / "raters" / f"{name}.tsv") for name in ("points", "boxes"))
    assert len(points) == len(boxes) == sum(int(person["n_visible"]) for person in people)
    for subject in (person["subject"] for person in people):
        reference = volumes(cohort, subject)[2]
        tight, loose = (
            read_volume(cohort / "truth" / "raters" / name / f"{subject}.nii.gz") for name in ("tight", "loose")
        )
        assert not (tight.data > reference.data).any()
        assert not (reference.data > loose.data).any()
        inside = np.zeros(reference.shape)
        for box in (box for box in boxes if box["subject"] == subject):
            part = tuple(slice(int(box[f"{axis}_first"]), int(box[f"{axis}_last"]) + 1) for axis in "ijk")
            inside[part] = 1
        assert not (reference.data > inside).any()
        for point in (point for point in points if point["subject"] == subject):
            ras_mm = np.array([[float(point[f"{axis}_mm"]) for axis in "xyz"]])
            voxel = np.array([[int(point[axis]) for axis in "ijk"]])
            np.testing.assert_allclose(reference.to_voxels(ras_mm), voxel, atol=1e-3)


def test_people_are_told_with_their_scanner_and_head(cohort, tiny):
    people = read_tsv(cohort / "truth" / "people.tsv")
    assert [person["person"] for person in people] == ["0", "1"]
    assert len({person["anatomy"] for person in people}) == 2
    for person in people:
        assert person["protocol"] == "tiny"
        assert float(person["measured_snr"]) == pytest.approx(tiny.snr, rel=0.35)
        assert (person["aetiology"] == "n/a") == (person["n_lesions"] == "0")
    mimics = read_tsv(cohort / "truth" / "mimics.tsv")
    veins = [row for row in mimics if row["kind"] == "vein" and row["subject"] == people[0]["subject"]]
    assert len(veins) == int(people[0]["n_veins"])


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
    assert len(free) == 1
    for person in free:
        assert not volumes(cohort, person["subject"])[2].data.any()


@pytest.mark.parametrize(("people", "share"), [(20, 0.33), (7, 0.5), (12, 0.0), (5, 1.0)])
def test_share_of_lesion_free_people(people, share):
    free = [is_lesion_free(index, share) for index in range(people)]
    assert sum(free) == int(people * share + 0.5)
    for start in range(people):
        for end in range(start + 1, people + 1):
            assert abs(sum(free[start:end]) - (end - start) * share) < 1


def test_same_seed_same_bytes_and_a_person_does_not_hang_on_the_number_of_people(
    cohort, phantom_template, tiny, tmp_path
):
    simulate_cohort(tmp_path / "again", 1, protocol=tiny, seed=3, device="cpu", template=phantom_template)

    expected = digests(cohort)
    again = digests(tmp_path / "again")
    assert {name: digest for name, digest in again.items() if name.startswith("sub-")}.items() <= expected.items()
    magnitudes = [digest for name, digest in expected.items() if name.endswith("T2S.nii.gz")]
    assert len(set(magnitudes)) == len(magnitudes)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_protocols_are_mixed_by_share_and_do_not_hang_on_the_number_of_people(layout):
    share = PROFILES[layout].lesion_free_share
    plans = plan_people(60, 6, layout, None, 5, share)
    shares = {scanner.protocol: scanner.share for scanner in PROFILES[layout].scanners}
    for name, wanted in shares.items():
        found = sum(plan.protocol.name == name for plan in plans)
        assert found == pytest.approx(60 * wanted / sum(shares.values()), abs=3)
    assert len({plan.subject for plan in plans}) == len({plan.anatomy for plan in plans}) == 60
    fewer = plan_people(9, 0, layout, None, 5, share)
    assert [plan.subject for plan in fewer] == [plan.subject for plan in plans[:9]]
    assert [(plan.scanner, plan.aetiology) for plan in fewer] == [(p.scanner, p.aetiology) for p in plans[:9]]
    assert [plan.scanner for plan in plan_people(9, 0, layout, None, 6, share)] != [p.scanner for p in fewer] or (
        len(shares) == 1
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_scanner_is_at_a_site_of_its_own(layout):
    plans = plan_people(40, 0, layout, None, 5, 0.3)
    sites = {plan.scanner: plan.site for plan in plans}
    assert sorted(sites.values()) == list(range(1, len(PROFILES[layout].scanners) + 1))
    assert all(plan.site == sites[plan.scanner] for plan in plans)
    if layout == "valdo":
        assert all(plan.subject[4] == str(plan.site) for plan in plans)


def test_long_repetition_times_are_those_of_2d_scans(tiny):
    flat = {name for name, protocol in PROTOCOLS.items() if protocol.is_2d}
    assert flat == {"valdo_1", "valdo_3", "adni_gre", "thick_5mm"}
    assert replace(tiny, repetition_time_ms=200.0).is_2d


def test_every_profile_names_protocols_that_there_are():
    assert set(PROFILES) == set(LAYOUTS)
    for profile in PROFILES.values():
        for scanner in profile.scanners:
            assert scanner.vendor == PROTOCOLS[scanner.protocol].vendor


def test_protocols_are_within_what_scanners_do():
    for name, protocol in PROTOCOLS.items():
        assert name == protocol.name
        assert list(protocol.echo_times_ms) == sorted(protocol.echo_times_ms)
        assert protocol.echo_time_ms < protocol.repetition_time_ms
        assert all(0.44 < step <= 5 for step in protocol.spacing_mm)
        assert protocol.field_strength_t in (1.5, 3.0, 7.0)
        extent_mm = np.multiply(protocol.spacing_mm, protocol.matrix)
        assert (extent_mm >= (140, 165, 60)).all(), name
        if protocol.acquired_mm:
            assert all(a >= s for a, s in zip(protocol.acquired_mm, protocol.spacing_mm, strict=True))


def test_command_writes_a_cohort_that_the_card_describes(cohort, tiny_command, tmp_path, capsys):
    out = tmp_path / "cohort"
    assert main(["-o", str(out), "-n", "1", "--n_test", "1", "--protocol", "tiny", "-device", "cpu"]) == 0

    line = capsys.readouterr().out.strip()
    assert "1 simulated people (1 test, 0 lesion-free)" in line
    assert "simulated data" in line
    assert [row["group"] for row in read_tsv(out / "participants.tsv")] == ["test"]

    other_seed, expected = digests(out), digests(cohort)
    assert all(other_seed[name] != expected[name] for name in other_seed if name.startswith("sub-"))

    from cmb_autoseg.cli.convert import main as convert

    assert convert([str(out / "card.yaml"), "-d", "501", "--workspace", str(tmp_path / "work")]) == 0
    cases = read_tsv(tmp_path / "work" / "raw" / "Dataset501_SIMULATED" / "cases.tsv")
    assert [(case["subject"], case["split"]) for case in cases] == [("sub-101", "test")]
    assert {case["field_strength_t"] for case in cases} == {"3.0"}
    assert {case["sequences"] for case in cases} == {"swi,gre_mag,t1"}


def test_help_imports_neither_torch_nor_numpy():
    check = (
        "import sys, cmb_autoseg.cli.simulate as s; s.build_parser(); "
        "sys.exit(bool({'torch', 'numpy', 'nilearn', 'nnunetv2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


CORE = sorted(
    path
    for path in Path(simulation.__file__).parent.rglob("*.py")
    if path.parent.name != "layouts"
    and path.stem not in ("cohort", "cohort_folder", "truth", "montage", "mni152", "label_files")
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
