import re
import time
from pathlib import Path

import pytest

from cmb_autoseg.dataset_conversion.card_file import parse_card
from cmb_autoseg.dataset_conversion.case_conversion import CaseJob, attempt
from cmb_autoseg.dataset_conversion.sorting.disguise import Disguise
from cmb_autoseg.dataset_conversion.sorting.resolver import find_cases
from cmb_autoseg.errors import CardError
from cmb_autoseg.records import Role

from .conftest import CARD, save, scan

ALIASES = {"7781": "anon000000000001", "77810": "anon000000000002", "01": "anon000000000003", "Ann": "anon000000000004"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("P7781_swi.nii.gz", "Panon000000000001_swi.nii.gz"),
        ("a/77811_swi.nii.gz", "a/anon0000000000011_swi.nii.gz"),
        ("77810/7781.nii", "anon000000000002/anon000000000001.nii"),
        (
            "P01/T1_01.nii of 01: 2012 voxels, 0.01 mm, 1 of 101",
            "Panon000000000003/T1_anon000000000003.nii of 01: 2012 voxels, 0.01 mm, 1 of 101",
        ),
        ("177810 voxels, subject 7781, P7781", "177810 voxels, subject anon000000000001, Panon000000000001"),
        ("Announced by Ann, in scanAnner.nii", "Announced by anon000000000004, in scananon000000000004er.nii"),
        ("/data/7781/of/7781.nii", "anon000000000001.nii"),
        ("anon000000000001 and 0000", "anon000000000001 and 0000"),
    ],
)
def test_identifiers_are_replaced_where_they_name_somebody(text, shown):
    disguise = Disguise(
        {**ALIASES, "0000": "anon000000000005"} if "and 0000" not in text else ALIASES, ("/data/7781/of",)
    )
    assert disguise(text) == shown
    assert disguise(disguise(text)) == shown


def test_pseudonyms_are_no_place_for_identifiers():
    disguise = Disguise({"000": "anon000000000005", "777": "anon000777000000"})
    assert disguise("777/000.nii") == "anon000777000000/anon000000000005.nii"
    assert disguise(disguise("777/000.nii")) == disguise("777/000.nii")


def test_paths_with_blanks_are_disguised_whole():
    assert Disguise(ALIASES).path("my 17781x scan.nii") == "my 1anon000000000001x scan.nii"


def test_thousands_of_identifiers_cost_little():
    disguise = Disguise({f"sub-{n:05d}": f"anon{n:012d}" for n in range(10_000)}, glued=False)
    text = "sub-00012/sub-00012_swi.nii.gz: 3 NaN or infinite voxels of sub-00012_swi.nii.gz set to 0"
    disguise(text)
    begun = time.process_time()
    for _ in range(1000):
        disguise(text)
    assert time.process_time() - begun < 0.4


def test_card_errors_name_no_file_of_people_with_pseudonyms(tiny_cohort, write_card):
    twice = CARD.replace("_T1.nii.gz", "_T2S.nii.gz") + "privacy: {hash_ids: true}\n"
    with pytest.raises(CardError, match=r"matches a file, which images.T2S matches too") as refused:
        find_cases(parse_card(write_card(twice)), "a salt of pepper")
    assert "sub-10" not in str(refused.value)
    with pytest.raises(CardError, match=r"matches sub-101/sub-101_T2S.nii.gz"):
        find_cases(parse_card(write_card(twice)))


DICOM_CARD = """\
schema: 1
name: north
root: data
source: dicom
entities: {sub: PatientID}
images:
  SWI: {role: swi, dicom: {SeriesDescription: "^swi$"}}
privacy: {hash_ids: true}
"""


def test_a_dicom_file_is_told_by_its_number_since_its_folder_names_people(tmp_path, dicom_files, write_card):
    folder = tmp_path / "data/Doe Jane 1930"
    dicom_files.write_series(folder, dicom_files.scan(0), 3, PatientID="PAT-17")
    cohort = find_cases(parse_card(write_card(DICOM_CARD)), "a salt of pepper")
    (case,) = cohort.cases
    Path(case.images[Role.SWI].files[2]).unlink()
    reason = attempt(CaseJob(case, tmp_path / "raw", (Role.SWI,), cohort.disguise_of(case)))
    assert isinstance(reason, str)
    assert re.match(r"series 3 magnitude file 3: not readable", reason), reason


def test_a_file_that_cannot_be_opened_is_told_under_its_pseudonym(tiny_cohort, write_card):
    cohort = find_cases(parse_card(write_card(CARD + "privacy: {hash_ids: true}\n")), "a salt of pepper")
    for path in tiny_cohort.rglob("*_T2S.nii.gz"):
        path.write_bytes(b"no scan")
    for case in cohort.cases:
        reason = attempt(CaseJob(case, tiny_cohort / "raw", (Role.GRE_MAG,), cohort.disguise_of(case)))
        assert isinstance(reason, str)
        assert f"{case.subject}/{case.subject}_T2S.nii.gz" in reason
        assert "sub-10" not in reason
        assert str(tiny_cohort) not in reason


def test_archives_that_cannot_be_listed_are_not_named(tmp_path, write_card):
    (tmp_path / "batch_sub-7781.zip").write_bytes(b"PK\3\4 no archive")
    save(tmp_path / "one/sub-1/swi.nii", scan(1))
    card = CARD.partition("images:")[0] + (
        "images:\n  swi: {role: swi, optional: true, path: 'batch_{any}.zip!/{sub}/swi.nii'}\n"
        "  gre: {role: gre_mag, optional: true, path: 'one/{sub}/swi.nii'}\nprivacy: {hash_ids: true}\n"
    )
    hidden = find_cases(parse_card(write_card(card)), "a salt of pepper")
    said = repr((hidden.warnings, hidden.exclusions))
    assert "it cannot be listed" in said
    assert "7781" not in said
    assert "batch_sub-7781.zip" in repr(find_cases(parse_card(write_card(card))).exclusions)
