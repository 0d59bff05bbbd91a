import re

import numpy as np

from cmb_autoseg.lesions import label_components
from cmb_autoseg.planners import PlanSettings, explain, plan_dataset, split_folds
from cmb_autoseg.records import Role

SECTIONS = (
    "What was found in the data",
    "Channels",
    "Grid",
    "Lesions kept",
    "Patch and batch",
    "Network",
    "Memory",
    "Folds",
)


def planned(measured, make_case, preset="adaptive"):
    label = np.zeros((20, 64, 64), dtype=bool)
    label[8:10, 20:25, 19:24] = True
    label[8:10, 20:25, 25:30] = True
    both = (Role.SWI, Role.T1)
    cases = [
        make_case(f"c{i}", spacing=(1.0, 0.4, 0.4), diameters=(2.0, 2.0), roles=both if i < 5 else (Role.SWI,))
        for i in range(10)
    ]
    fingerprint = measured(*cases, roles=both)
    plan = plan_dataset(fingerprint, lambda _: label_components(label), PlanSettings(preset, allow_lesion_loss=True))
    return plan, explain(plan, fingerprint, split_folds(fingerprint.cases, 0))


def test_every_section_has_figures_with_units_and_a_rule(measured, make_case):
    plan, text = planned(measured, make_case)
    titles = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert titles[0] == "Plan of Dataset501_A, preset adaptive, for cpu"
    assert tuple(titles[1:]) == SECTIONS
    body = dict(zip(SECTIONS, re.split(rf"^(?:{'|'.join(SECTIONS)})$", text, flags=re.MULTILINE)[1:], strict=True))
    for title in SECTIONS[1:]:
        assert "Rule: " in body[title]
        assert re.search(r"\d", body[title])
    assert "t1 (50% of the labelled cases)" in body["Channels"]
    assert "20 of 20 lesions" in body["Lesions kept"]
    assert body["Network"].count("\n    ") > len(plan.topology.strides)
    assert "fold 4: trains on 8 cases, is judged on 2 (subjects: 2, lesions: 4)" in body["Folds"]
    assert max(map(len, text.splitlines())) <= 120


def test_lesions_that_s0_loses_are_named_with_place_and_size(measured, make_case):
    plan, text = planned(measured, make_case, "s0")
    assert len(plan.lost_lesions) == 10
    assert text.count("    lost: ") == 10
    assert "lost: c9#2 at (1.0, 2.0, 3.0) mm RAS, 2.0 mm wide, 5 voxels" in text
    assert "64 x 64 x 64 voxels" in text
