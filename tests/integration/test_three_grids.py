"""Three cohorts at three grids, and all of them in one dataset: every lesion survives preprocessing."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from cmb_autoseg.cli import plan_preprocess
from cmb_autoseg.files import read_json, read_tsv

GRIDS = {
    "fine": ((0.5, 0.5, 1.0), (64, 64, 20)),
    "middle": ((0.9, 0.9, 2.0), (40, 40, 12)),
    "thick": ((1.0, 1.0, 4.0), (36, 36, 8)),
}
"""Voxel size and shape (i, j, k)."""
N_SUBJECTS = 5
CONNECTED_26 = np.ones((3, 3, 3))
CARD = """\
schema: 1
name: {name}
root: .
licence: {{id: none, redistribute: false}}
images:
  susc: {{role: swi, path: "{{sub:{name}\\\\d+}}_swi.nii.gz"}}
  t1: {{role: t1, optional: true, path: "{{sub:{name}\\\\d+}}_t1.nii.gz"}}
labels:
  cmb: {{kind: mask, path: "{{sub:{name}\\\\d+}}_cmb.nii.gz", values: {{cmb: 1}}}}
prep: {{brain: already_masked}}
"""


def lesions_of(shape, index):
    """4 to 8 voxels each: inside, in the slab's first and last slice alone, and two one voxel apart."""
    label = np.zeros(shape, dtype=np.uint8)
    i, j, k = (n // 2 for n in shape)
    label[i - 8 : i - 6, j : j + 2, k : k + 2] = 1
    label[i + 5 : i + 7, j + 3 : j + 5, 0] = 1
    label[i : i + 3, j - 8 : j - 6, shape[2] - 1] = 1
    label[i + index : i + index + 2, j + 8 : j + 10, k - 2] = 1
    label[i + index + 3 : i + index + 5, j + 8 : j + 10, k - 2] = 1
    return label


def write_cohort(folder, name):
    spacing, shape = GRIDS[name]
    rng = np.random.default_rng(len(name))
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape[:2]], indexing="ij"), axis=-1)
    brain = ((grid**2).sum(axis=-1) < 0.95)[:, :, None] & np.ones(shape[2], bool)
    affine = np.diag([*spacing, 1.0])
    folder.mkdir()
    for index in range(N_SUBJECTS):
        label = lesions_of(shape, index)
        image = np.where(brain, 100 + rng.normal(0, 5, shape), 0)
        image[label > 0] = 30
        volumes = {"swi": image.astype(np.float32), "cmb": label}
        if index % 2:
            volumes["t1"] = np.where(brain, 50 + rng.normal(0, 5, shape), 0).astype(np.float32)
        for kind, data in volumes.items():
            stored, matrix = data, affine
            if index == 0:  # stored slice by slice from left to right: slices come first in the file
                stored, matrix = data.transpose(2, 0, 1), affine[:, [2, 0, 1, 3]]
            nib.save(nib.Nifti1Image(stored, matrix), folder / f"{name}{index}_{kind}.nii.gz")
    (folder / "card.yaml").write_text(CARD.format(name=name))


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The workspace, with datasets 501-503 (one grid each) and 504 (all three) planned."""
    base = tmp_path_factory.mktemp("grids")
    cards = []
    for number, name in enumerate(GRIDS, 501):
        write_cohort(base / name, name)
        cards.append(str(base / name / "card.yaml"))
        assert plan_preprocess.main([*where(base, number), "-c", cards[-1]]) == 0
    assert plan_preprocess.main([*where(base, 504), "-c", *cards]) == 0
    return base


def where(base, number):
    return ["-d", str(number), "--workspace", str(base / "workspace"), "-device", "cpu"]


def folder_of(base, number, kind="preprocessed"):
    return next((base / "workspace" / kind).glob(f"Dataset{number}_*"))


def plan_of(base, number, preset="adaptive"):
    return read_json(folder_of(base, number) / f"{preset}_plan.json")


def stored_counts(base, number, preset="adaptive"):
    import blosc2

    folder = folder_of(base, number) / f"{preset}_3d"
    files = sorted(folder.glob("*_seg.b2nd"))
    return {
        path.name.removesuffix("_seg.b2nd"): ndimage.label(blosc2.open(str(path))[:][0] == 1, CONNECTED_26)[1]
        for path in files
    }


def raw_counts(base, number):
    return {
        path.name.removesuffix(".nii.gz"): ndimage.label(nib.load(path).get_fdata() > 0, CONNECTED_26)[1]
        for path in sorted((folder_of(base, number, "raw") / "labelsTr").glob("*.nii.gz"))
    }


def test_plans_differ_as_the_grids_do(planned):
    assert [plan_of(planned, number)["spacing_mm"] for number in (501, 502, 503)] == [
        [1.0, 0.5, 0.5],
        [2.0, 0.9, 0.9],
        [4.0, 1.0, 1.0],
    ]
    first_levels = [
        sum(kernel[0] == 1 for kernel in plan_of(planned, n)["topology"]["kernel_sizes"]) for n in (501, 503)
    ]
    assert first_levels == [1, 2]
    mixed = plan_of(planned, 504)
    assert mixed["spacing_mm"][0] == 1.0
    assert 0.5 <= mixed["spacing_mm"][1] <= 0.9


@pytest.mark.parametrize("number", [501, 502, 503, 504])
def test_every_lesion_is_one_component_in_the_stored_input(planned, number):
    raw = raw_counts(planned, number)
    assert stored_counts(planned, number) == raw
    assert len(raw) == N_SUBJECTS * (3 if number == 504 else 1)
    assert set(raw.values()) == {5}
    plan = plan_of(planned, number)
    assert plan["lesions_before"] == plan["lesions_after"] == sum(raw.values())


def test_a_missing_sequence_is_a_channel_of_zeros_and_a_present_one_is_not(planned):
    import blosc2

    assert plan_of(planned, 504)["channels"] == ["swi", "t1"]
    for row in read_tsv(folder_of(planned, 504, "raw") / "cases.tsv"):
        data = blosc2.open(str(folder_of(planned, 504) / "adaptive_3d" / f"{row['case']}.b2nd"))[:]
        assert data.shape[0] == 2
        assert np.any(data[1]) == ("t1" in row["sequences"])
        assert np.isfinite(data).all()
        assert np.any(data[0])


def test_s0_names_what_it_would_lose_and_records_what_the_user_accepts(planned, capsys):
    command = [*where(planned, 501), "--preset", "s0"]
    assert plan_preprocess.main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert not (folder_of(planned, 501) / "s0_plan.json").exists()
    assert "lesions vanish or merge at 1 x 1 x 1 mm" in error
    assert "mm RAS" in error
    assert "--allow-lesion-loss" in error
    assert plan_preprocess.main([*command, "--allow-lesion-loss", "--explain"]) == 0
    shown = capsys.readouterr().out
    plan = plan_of(planned, 501, "s0")
    lost = plan["lost_lesions"]
    assert plan["lesions_after"] == plan["lesions_before"] - len(lost) < plan["lesions_before"]
    assert sum(stored_counts(planned, 501, "s0").values()) == plan["lesions_after"]
    named = {
        (row["case"], lesion["lesion"]): lesion
        for row in read_json(folder_of(planned, 501) / "dataset_fingerprint.json")["cases"]
        for lesion in row["lesions"]
    }
    for name in lost:
        case, lesion = name.split("#")
        place = named[case, int(lesion)]
        text = f"lost: {name} at ({place['x_mm']:.1f}, {place['y_mm']:.1f}, {place['z_mm']:.1f}) mm RAS"
        assert text in shown
        # The place is that of the lesion with this number in the raw mask.
        label = nib.load(folder_of(planned, 501, "raw") / "labelsTr" / f"{case}.nii.gz")
        voxel = np.linalg.inv(label.affine) @ [place["x_mm"], place["y_mm"], place["z_mm"], 1]
        assert label.get_fdata()[tuple(np.rint(voxel[:3] - 0.01).astype(int))] == 1


def test_lost_lesions_have_the_numbers_of_the_fingerprint(planned):
    """A lesion that is not named is where the fingerprint says; a named one is gone or part of another."""
    import blosc2

    assert plan_preprocess.main([*where(planned, 501), "--preset", "s0", "--allow-lesion-loss"]) == 0
    lost = plan_of(planned, 501, "s0")["lost_lesions"]
    for case in read_json(folder_of(planned, 501) / "dataset_fingerprint.json")["cases"]:
        seg = blosc2.open(str(folder_of(planned, 501) / "s0_3d" / f"{case['case']}_seg.b2nd"))[:][0] == 1
        components = ndimage.label(seg, CONNECTED_26)[0]
        spacing, start = np.array(case["spacing_mm"]), np.array(case["box_start"])
        found = {}
        for lesion in case["lesions"]:
            centre_mm = np.array([lesion["z_mm"], lesion["y_mm"], lesion["x_mm"]])
            place = (centre_mm / spacing - start + 0.5) * spacing - 0.5  # voxels of 1 mm
            near = tuple(slice(max(0, int(np.floor(p))), int(np.ceil(p)) + 1) for p in place)
            found[lesion["lesion"]] = components[near].max()
        kept = {number: one for number, one in found.items() if f"{case['case']}#{number}" not in lost}
        assert all(kept.values())
        assert len(set(kept.values())) == len(kept)
        for number, one in found.items():
            assert number in kept or one == 0 or one in kept.values()


def test_s0_keeps_what_is_coarse_already(planned, capsys):
    assert plan_preprocess.main([*where(planned, 503), "--preset", "s0"]) == 0
    assert "25 of 25 lesions stay lesions of their own at 1 x 1 x 1 mm" in capsys.readouterr().out
    assert stored_counts(planned, 503, "s0") == raw_counts(planned, 503)


def test_explain_repeats_a_plan_without_work_and_without_torch(planned, capsys, monkeypatch):
    folder = folder_of(planned, 502)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setattr("cmb_autoseg.pipeline.planning.plan_preprocess", None)
    monkeypatch.setattr(plan_preprocess, "resolve_device", None)
    command = [*where(planned, 502)[:4], "--explain"]
    assert plan_preprocess.main(command) == 0
    shown = capsys.readouterr().out
    assert shown.rstrip() == (folder / "adaptive_plan.txt").read_text().rstrip()
    assert "voxels of 2 x 0.9 x 0.9 mm (feet to head, back to front, left to right)" in shown
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_explain_plans_anew_for_another_memory(planned, capsys):
    assert plan_preprocess.main([*where(planned, 503), "--explain", "-gpu_memory_target", "0.03"]) == 0
    assert "of 0.03 GB" in capsys.readouterr().out
    assert json.dumps(plan_of(planned, 503)["memory_target_gb"]) == "0.03"
    assert plan_preprocess.main([*where(planned, 503), "-gpu_memory_target", "0.0001"]) == 2
    assert "give at least -gpu_memory_target 0.0" in capsys.readouterr().err
