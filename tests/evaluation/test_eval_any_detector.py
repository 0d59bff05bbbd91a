"""One detector's findings, written as different tools would write them."""

import numpy as np
import pytest

from cmb_autoseg.evaluation.evaluate import InputSettings, evaluate_folder
from cmb_autoseg.evaluation.inputs.loading import ListSettings
from cmb_autoseg.evaluation.scoring import ScoringSettings
from cmb_autoseg.evaluation.statistics.intervals import Resampling
from cmb_autoseg.files import write_json, write_text
from cmb_autoseg.geometry import Volume, write_volume

AFFINE = np.array([[-0.5, 0, 0, 10], [0, 0.5, 0, -20], [0, 0, 2, -30], [0, 0, 0, 1]])
SHAPE = (32, 30, 12)
MARKED = {"a": [(4, 5, 3), (20, 20, 6)], "b": [(10, 10, 5)], "c": []}
FOUND = {"a": [(4, 5, 3, 0.9), (25, 4, 9, 0.6)], "b": [(10, 10, 5, 0.7)], "c": [(6, 20, 2, 0.8)]}
"""First voxel of lesions of 2 x 2 x 1 voxels. By hand: 2 of 3 found, 2 of 4 right, 2 false in 3 scans."""


def volume(lesions, score=None):
    data = np.zeros(SHAPE, dtype=np.float32)
    for i, j, k, *value in lesions:
        data[i : i + 2, j : j + 2, k] = 1 if score is None else value[0]
    return Volume(data, AFFINE)


def nnunet(folder):
    for case, lesions in FOUND.items():
        stored = volume(lesions, "score").data.transpose(2, 1, 0)
        write_volume(folder / f"{case}.nii.gz", volume(lesions), np.uint8)
        np.savez_compressed(folder / f"{case}.npz", probabilities=np.stack([1 - stored, stored]))
    write_json(folder / "dataset.json", {})
    write_json(folder / "plans.json", {})


def bids(folder):
    for case, lesions in FOUND.items():
        anat = folder / f"sub-{case}" / "anat"
        write_volume(anat / f"sub-{case}_dseg.nii.gz", volume(lesions), np.uint8)
        write_volume(anat / f"sub-{case}_label-CMB_probseg.nii.gz", volume(lesions, "score"), np.float32)


def maps(folder):
    for case, lesions in FOUND.items():
        write_volume(folder / f"{case}_prob.nii.gz", volume(lesions, "score"), np.float32)


def points_of_all_cases(folder):
    rows = [f"{case},{i + 0.5},{j + 0.5},{k},{p}" for case, found in FOUND.items() for i, j, k, p in found]
    write_text(folder / "detections.csv", "\n".join(["case,x,y,z,score", *rows, ""]))


def points_a_case(folder):
    for case, lesions in FOUND.items():
        places = [(AFFINE @ [i + 0.5, j + 0.5, k, 1])[:3] for i, j, k, _ in lesions]
        items = [
            {**dict(zip(("x_mm", "y_mm", "z_mm"), place, strict=True)), "score": lesion[3]}
            for place, lesion in zip(places, lesions, strict=True)
        ]
        write_json(folder / f"{case}_points.json", items)


def boxes(folder):
    for case, lesions in FOUND.items():
        rows = [f"{i}\t{j}\t{k}\t{i + 2}\t{j + 2}\t{k + 1}\t{p}" for i, j, k, p in lesions]
        header = "x_min\ty_min\tz_min\tx_max\ty_max\tz_max\tconfidence"
        write_text(folder / f"{case}_boxes.tsv", "\n".join([header, *rows, ""]))


def slices(folder):
    for case, lesions in FOUND.items():
        rows = [f"{k}\t{i}\t{j}\t{i + 2}\t{j + 2}\t{p}" for i, j, k, p in lesions]
        write_text(folder / f"{case}.tsv", "\n".join(["slice\tx_min\ty_min\tx_max\ty_max\tscore", *rows, ""]))


TOOLS = [nnunet, bids, maps, points_of_all_cases, points_a_case, boxes, slices]


def lesion_figures(predicted, reference, protocol="valdo", space=None):
    report = evaluate_folder(
        predicted,
        reference,
        ScoringSettings(protocol),
        InputSettings(lists=ListSettings(space)),
        Resampling(n_resamples=0),
    )
    assert report.failures == ()
    return report.figures["lesion"]


@pytest.mark.parametrize("tool", TOOLS)
def test_the_same_findings_give_the_same_figures_however_they_are_written(tool, tmp_path):
    for case, lesions in MARKED.items():
        name = f"sub-{case}" if tool is bids else case
        write_volume(tmp_path / "marked" / f"{name}.nii.gz", volume(lesions), np.uint8)
    (tmp_path / "found").mkdir()
    tool(tmp_path / "found")

    figures = lesion_figures(tmp_path / "found", tmp_path / "marked", space="voxel0")

    values = {name: figures[name].value for name in ("sensitivity", "precision", "fp_per_scan", "average_precision")}
    # From the highest confidence on: found, false, found, false: precision 1 at recall 1/3, 2/3 at 2/3.
    assert values == pytest.approx(
        {"sensitivity": 2 / 3, "precision": 2 / 4, "fp_per_scan": 2 / 3, "average_precision": 1 / 3 + 2 / 9}
    )


def test_pictures_with_boxes_need_no_volume(tmp_path):
    images = [{"id": n, "file_name": f"{case}.jpg"} for n, case in enumerate(MARKED)]
    number = {case: n for n, case in enumerate(MARKED)}
    marked = [{"image_id": number[case], "bbox": [i, j, 2, 2]} for case, all_ in MARKED.items() for i, j, _ in all_]
    found = [
        {"image_id": number[case], "bbox": [i, j, 2, 2], "score": p}
        for case, all_ in FOUND.items()
        for i, j, _, p in all_
    ]
    write_json(tmp_path / "marked.json", {"images": images, "annotations": marked})
    write_json(tmp_path / "found.json", found)

    figures = lesion_figures(tmp_path / "found.json", tmp_path / "marked.json", protocol="iou")

    assert (figures["sensitivity"].value, figures["fp_per_scan"].value) == pytest.approx((2 / 3, 2 / 3))
