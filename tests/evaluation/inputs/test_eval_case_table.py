import numpy as np
import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.case_table import described_cases, header_columns, read_case_table, subject_of
from cmb_autoseg.files import write_text
from cmb_autoseg.geometry import write_volume


@pytest.fixture
def table(tmp_path):
    def write(text, name="cases.tsv"):
        write_text(tmp_path / name, text)
        return read_case_table(tmp_path / name)

    return write


def test_cases_of_a_workspace_give_columns_and_subjects_of_cohorts(table):
    cases = table("case\tcohort\tsubject\tscanner\tage\na_1\tVALDO\t01\tPrisma\t71\nb\tDOU\t01\tn/a\t\n")

    described, warnings = described_cases(["a_1", "b"], cases, {"b": {"voxel_size_mm": "1 x 1 x 2", "age": "0"}})

    assert [case.subject for case in described] == ["VALDO/01", "DOU/01"]
    assert described[0].columns == {"case": "a_1", "cohort": "VALDO", "subject": "01", "scanner": "Prisma", "age": "71"}
    assert described[1].columns == {
        "case": "b",
        "cohort": "DOU",
        "subject": "01",
        "voxel_size_mm": "1 x 1 x 2",
        "age": "0",
    }
    assert warnings == ()


@pytest.mark.parametrize("key", ["participant_id", "subject"])
def test_participants_speak_of_all_sessions_of_a_person(table, key):
    people = table(f"{key},sex\nsub-01,F\n02,M\n", "participants.csv")

    cases = ["sub-01_ses-1", "sub-01_ses-2_acq-x", "sub-02"]
    described, _ = described_cases(cases, people, {})

    assert [case.columns["sex"] for case in described] == ["F", "F", "M"]
    assert [case.subject for case in described][:2] == ["sub-01", "sub-01"]


def test_sessions_of_participants_have_rows_of_their_own(table):
    people = table("participant_id\tsession_id\tage\nsub-01\tses-1\t70\nsub-01\tses-2\t75\n")

    described, _ = described_cases(["sub-01_ses-2", "sub-01_ses-1"], people, {})

    assert [case.columns["age"] for case in described] == ["75", "70"]


@pytest.mark.parametrize(
    ("case", "columns", "subject"),
    [
        ("a", {}, "a"),
        ("sub-07_ses-2", {}, "sub-07"),
        ("sub-07_ses-2", {"subject": "x"}, "x"),
        ("a", {"subject": "x", "cohort": "C"}, "C/x"),
        ("a", {"cohort": "C"}, "a"),
        ("a", {"participant_id": "sub-9"}, "sub-9"),
    ],
)
def test_whose_scan_a_case_is(case, columns, subject):
    assert subject_of(case, columns) == subject


@pytest.mark.parametrize(
    "text",
    [
        "case\tsubject\tcohort\nsub-01_ses-1\tx\tC\n",
        "case\tsubject\tcohort\nsub-01_ses-1\tx\tC\nsub-01_ses-2\tn/a\tC\n",
        "subject\tsession\tcohort\nsub-01\t1\tC\n",
    ],
)
def test_a_scan_without_a_row_is_of_the_person_of_its_siblings(table, text):
    described, _ = described_cases(["sub-01_ses-1", "sub-01_ses-2"], table(text), {})

    assert len({case.subject for case in described}) == 1
    assert described[1].subject.startswith("C/")


def test_siblings_of_two_people_tell_nothing(table):
    rows = "sub-01_ses-1\tx\nsub-01_ses-2\ty\nsub-02\tz\n"
    described, _ = described_cases(["sub-01_ses-1", "sub-01_ses-3"], table("case\tsubject\n" + rows), {})

    assert [case.subject for case in described] == ["x", "sub-01"]


def test_cases_without_a_row_are_named(table):
    described, (warning,) = described_cases(["a", "b", "c"], table("case\tage\nb\t70\n"), {})

    assert [case.columns.get("age") for case in described] == [None, "70", None]
    assert "cases.tsv: no row for a, c; in subgroups they are counted as not known" in warning


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case\tage\na\t1\na\t2\n", r"cases\.tsv line 3: a second row of a, after .*cases\.tsv line 2; keep one"),
        ("case\tage\n\t1\n", r"cases\.tsv line 2: column case is empty; name the case"),
        ("name\tage\na\t1\n", r"cases\.tsv: no column case, participant_id or subject \(there: name, age\); name the"),
        ("", r"cases\.tsv: no column case, participant_id or subject \(there: none\)"),
        ("participant_id\tsession\nsub-1\t1\nsub-1\t1\n", r"a second row of sub-1 1"),
    ],
)
def test_bad_tables_are_one_line(table, text, message):
    with pytest.raises(InputError, match=message):
        table(text)


def test_a_table_of_other_cases_is_refused(table):
    with pytest.raises(InputError, match=r"has no row for any case \(a\); its column case holds b, c; name them alike"):
        described_cases(["a"], table("case\nb\nc\n"), {})


def test_voxel_sizes_come_from_the_header_in_the_bodys_axes(tmp_path, phantom):
    affine = np.array([[0, 0, 0.5, 0], [0.45, 0, 0, 0], [0, -2, 0, 0], [0, 0, 0, 1]])
    write_volume(tmp_path / "a.nii.gz", phantom(affine=affine), np.uint8)

    assert header_columns(tmp_path / "a.nii.gz") == {"voxel_size_mm": "0.5 x 0.45 x 2", "slice_thickness_mm": "2"}
    (tmp_path / "b.nii.gz").write_bytes(b"damaged")
    assert header_columns(tmp_path / "b.nii.gz") == {}
