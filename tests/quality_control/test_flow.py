"""Participant flow and Table 1, counted by hand."""

import pytest

from cmb_autoseg.files import read_tsv
from cmb_autoseg.quality_control.cohort_table import cohort_rows, write_cohort_table
from cmb_autoseg.quality_control.flow import participant_flow, reason_category, write_flow_table
from cmb_autoseg.quality_control.flow_figure import draw_flow


def row(case, cohort="NORTH", subject=None, **columns):
    defaults = {"split": "train", "labelled": "1", "n_lesions": "2", "sequences": "swi,t1", "site": "A"}
    return {"case": case, "cohort": cohort, "subject": subject or case, **defaults, **columns}


ROWS = [
    row("a", age="60", sex="F", year="2012", field_strength_t="3"),
    row("b", subject="a", age="62", sex="F", year="2014", field_strength_t="3"),
    row("c", labelled="0", n_lesions="n/a", age="n/a", sex="male", year="2013", field_strength_t="1.5", site="B"),
    row("d", split="test", n_lesions="0", age="70", sex="M", year="n/a", field_strength_t="3"),
    row("e", cohort="SOUTH", sequences="gre_mag", n_lesions="5"),
]
EXCLUSIONS = [
    {"case": "x", "cohort": "NORTH", "subject": "x", "reason": "x: swi: /data/x.nii.gz: damaged or truncated (CRC)"},
    {"case": "y", "cohort": "NORTH", "subject": "a", "reason": "no t1 (images.weighted)"},
    {"case": "z", "cohort": "SOUTH", "subject": "z", "reason": "quality control: coverage 40%: the brain ends"},
    {"case": "e", "cohort": "SOUTH", "subject": "e", "reason": "quality control: swi: SNR 1.5"},
]


def test_flow_counts_scans_and_subjects():
    flow = participant_flow(ROWS, EXCLUSIONS)

    found = {stage: (flow.get(stage).cases, flow.get(stage).subjects) for stage in ("found", "excluded", "included")}
    assert found == {"found": (8, 6), "excluded": (4, 4), "included": (4, 3)}
    assert (flow.get("labelled").cases, flow.get("labelled").subjects) == (2, 1)
    assert flow.get("unlabelled").cases == flow.get("test").cases == 1
    assert flow.get("included", "SOUTH").cases == 0
    assert [(c.reason, c.cases) for c in flow.reasons()] == [
        ("failed quality control", 2),
        ("corrupt or unreadable file", 1),
        ("missing sequence", 1),
    ]


@pytest.mark.parametrize("cohort", ["all", "NORTH", "SOUTH"])
def test_boxes_add_up(cohort):
    flow = participant_flow(ROWS, EXCLUSIONS)

    assert flow.get("found", cohort).cases == flow.get("excluded", cohort).cases + flow.get("included", cohort).cases
    assert flow.get("excluded", cohort).cases == sum(count.cases for count in flow.reasons(cohort))
    kinds = ("labelled", "unlabelled", "test")
    assert flow.get("included", cohort).cases == sum(flow.get(kind, cohort).cases for kind in kinds)


@pytest.mark.parametrize(
    ("reason", "category"),
    [
        ("motion", "motion or artifacts"),
        ("incomplete coverage", "incomplete coverage"),
        (
            "P1: swi: P1/motion/x.nii.gz: every voxel is NaN or infinite; export the scan again",
            "corrupt or unreadable file",
        ),
        ("a.nii.gz: the very scan of b, though subjects 1 and 2 are taken for two people", "duplicate of another scan"),
        ("P1: t1: mask is 0.41 mm off: affine differs", "geometry does not fit"),
        ("withdrew consent", "other reasons"),
    ],
)
def test_reasons_are_sorted_into_kinds(reason, category):
    assert reason_category(reason) == category


def test_table_1_counts_subjects_once():
    north, south, everyone = cohort_rows(ROWS)

    assert north["sequences"] == "swi (4), t1 (4)"
    assert north["field_strengths_t"] == "1.5 (1), 3 (3)"
    assert (north["scans"], north["labelled"], north["test"], north["subjects"]) == ("4", "3", "1", "3")
    assert (north["lesions"], north["scans_with_lesions"]) == ("4", "2")
    assert north["age"] == "65.0 (7.1), 60-70"
    assert north["sex"] == "F (1), M (2)"
    assert north["years"] == "2012-2014"
    assert north["centers"] == "2"
    assert north["missing"] == "age (1), year (1)"
    assert (south["age"], south["sex"], south["years"]) == ("n/a", "n/a", "n/a")
    assert (everyone["cohort"], everyone["centers"], everyone["lesions"]) == ("all", "3", "9")


def test_files_are_written_and_the_same_twice(tmp_path):
    flow = participant_flow(ROWS, EXCLUSIONS)

    for folder in (tmp_path / "one", tmp_path / "two"):
        write_flow_table(folder / "participant_flow.tsv", flow)
        draw_flow(flow, folder / "participant_flow.svg", folder / "participant_flow.png")
        write_cohort_table(ROWS, folder / "cohorts.tsv", folder / "cohorts.md")

    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 5
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert len(read_tsv(tmp_path / "one" / "participant_flow.tsv")) == len(flow.counts)
    assert (tmp_path / "one" / "cohorts.md").read_text().count("\n") == 5


def test_an_empty_dataset_has_an_empty_flow(tmp_path):
    flow = participant_flow([], [])

    draw_flow(flow, tmp_path / "participant_flow.svg")

    assert flow.get("found").cases == 0
    assert cohort_rows([]) == []


def test_what_a_person_decided_keeps_its_words():
    assert reason_category("the card excludes it: T1 is a copy of another person") == "T1 is a copy of another person"
