"""Cohorts of DICOM files: cards whose rules are on tags."""

import os
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from scipy import ndimage

from cmb_autoseg.cli.cohort import main as cohort_command
from cmb_autoseg.cli.convert import main as convert
from cmb_autoseg.dataset_conversion.sorting.resolver import read_card
from cmb_autoseg.errors import CardError, InputError
from cmb_autoseg.files import read_tsv
from cmb_autoseg.geometry import Volume, read_volume, write_volume
from cmb_autoseg.readers import read_grid
from cmb_autoseg.readers import read_volume as read_source
from cmb_autoseg.records import Role

SCAN = Path(__file__).parents[3] / "shared" / "data" / "real" / "dicom_gre"
needs_scan = pytest.mark.skipif(not SCAN.is_dir(), reason="the real DICOM scan is not on this machine")
HEAD = "schema: 1\nname: NORTH\nsource: dicom\nroot: {root}\n"
PEOPLE = 'entities: {{sub: PatientID, ses: StudyDate}}\ncase: "{{sub}}_{{ses}}"\n'
SWI = 'images:\n  SWI: {{role: swi, dicom: {{SeriesDescription: "^swi$"}}}}\n'


def card(tmp_path, text, root=None):
    path = tmp_path / "card.yaml"
    path.write_text((HEAD + text).format(root=root or tmp_path / "data"))
    return str(path)


def person(dicom_files, folder, sub, date="20200101", seed=0, series=3, **tags):
    """One SWI series of somebody; identifiers differ by person and visit."""
    study = f"1.2.3.{int.from_bytes(f'{sub}{date}'.encode(), 'big') % 10**9}"
    tags = {"PatientID": sub, "StudyDate": date, "StudyInstanceUID": study, **tags}
    scan = dicom_files.scan(seed)
    dicom_files.write_series(folder, scan, series, SeriesInstanceUID=f"{study}.{series}", **tags)
    return scan


def cases_of(cohort):
    return {case.name: case for case in cohort.cases}


def test_people_and_visits_come_from_tags_whatever_the_folders(tmp_path, dicom_files):
    folder = tmp_path / "data" / "alle zusammen"
    scans = {
        (sub, date): person(dicom_files, folder / sub / date, sub, date, seed)
        for seed, (sub, date) in enumerate([("A", "20200101"), ("A", "20210505"), ("B_7", "20200101")])
    }
    for path in sorted(folder.rglob("*.dcm")):  # all files of all people in one folder, in no order
        path.rename(folder / f"{hash(path) % 10**6:06d}_{path.parent.name}{path.parent.parent.name}{path.stem}")
    (folder / "README.txt").write_text("not DICOM")

    cohort = read_card(card(tmp_path, PEOPLE + SWI))

    found = cases_of(cohort)
    assert [(case.name, case.subject, case.session) for case in cohort.cases] == [
        ("A_20200101", "A", "20200101"),
        ("A_20210505", "A", "20210505"),
        ("B_7_20200101", "B_7", "20200101"),
    ]
    for (sub, date), scan in scans.items():
        scan.assert_equals(read_source(found[f"{sub}_{date}"].images[Role.SWI]))
    assert cohort.file_counts == {"images.SWI": 3}


def people_of_one_series(dicom_files, folder, whose, **tags):
    """Scans of several people or visits whose study, series and images have the same identifiers, names shuffled."""
    scans = {}
    for seed, own in enumerate(whose):
        scan = scans[own] = dicom_files.scan(seed)
        part = folder / "-".join(own)
        same = {"PatientID": own[0], "StudyDate": own[1], "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"}
        for path in dicom_files.write_series(part, scan, **same, **tags):
            header = dcmread(path)
            header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{header.InstanceNumber}"
            header.save_as(path)
    paths = sorted(folder.rglob("*.dcm"))
    for path, number in zip(paths, np.random.default_rng(5).permutation(len(paths)), strict=True):
        path.rename(folder / f"IM{number:04d}")
    return scans


@pytest.mark.parametrize(
    ("whose", "differs"),
    [
        ([("A", "20200101"), ("B", "20200101"), ("C", "20200101")], "another PatientID"),
        ([("A", "20200101"), ("A", "20210505")], "another StudyDate"),
        ([("A", "20200101"), ("B", "20210505")], "another PatientID and another StudyDate"),
    ],
)
def test_people_and_visits_with_one_series_identifier_are_kept_apart(tmp_path, dicom_files, whose, differs):
    scans = people_of_one_series(dicom_files, tmp_path / "data", whose)
    hidden = "privacy: {{hash_ids: true}}\n"
    found = cases_of(read_card(card(tmp_path, PEOPLE + SWI)))
    assert set(found) == {"_".join(own) for own in whose}
    for own, scan in scans.items():
        case = found["_".join(own)]
        files = case.images[Role.SWI].files
        assert {(dcmread(file).PatientID, dcmread(file).StudyDate) for file in files} == {own}
        scan.assert_equals(read_source(case.images[Role.SWI]))
        assert (
            f"its SeriesInstanceUID is also that of files with {differs}, which were kept apart"
            in (case.notes[Role.SWI])
        )
    for case in read_card(card(tmp_path, PEOPLE + SWI + hidden), salt="pepper").cases:
        assert "is also that of files with another" in case.notes[Role.SWI]
        assert "2020" not in case.notes[Role.SWI]


def test_files_of_a_series_without_the_persons_tag_are_not_missed_silently(tmp_path, dicom_files):
    people_of_one_series(dicom_files, tmp_path / "data", [("A", "20200101")])
    (last,) = (path for path in (tmp_path / "data").glob("IM*") if dcmread(path).InstanceNumber == 5)
    header = dcmread(last)
    header.PatientID = ""
    header.save_as(last)
    cohort = read_card(card(tmp_path, PEOPLE + SWI))
    assert "files with another PatientID" in cohort.cases[0].notes[Role.SWI]
    assert "1 series left out: entities.sub finds nothing" in cohort.warnings[0]


def test_a_tag_that_only_fills_a_column_keeps_scans_apart_too(tmp_path, dicom_files):
    people_of_one_series(dicom_files, tmp_path / "data", [("A", "20200101"), ("A", "20210505")])
    cohort = read_card(card(tmp_path, "entities: {{sub: PatientID, date: StudyDate}}\n" + SWI))
    (exclusion,) = cohort.exclusions
    assert exclusion.reason.startswith("2 files for images.SWI: ")


def test_a_column_may_come_from_a_tag_that_differs_between_slices(tmp_path, dicom_files):
    scan = people_of_one_series(dicom_files, tmp_path / "data", [("A", "20200101")])["A", "20200101"]
    text = PEOPLE.replace("ses: StudyDate", "ses: StudyDate, n: InstanceNumber")
    (case,) = read_card(card(tmp_path, text + SWI)).cases
    scan.assert_equals(read_source(case.images[Role.SWI]))


def test_an_entity_may_be_a_part_of_a_tag_and_columns_may_come_from_tags(tmp_path, dicom_files):
    person(dicom_files, tmp_path / "data" / "a", "SITE4-017", PatientSex="F", MagneticFieldStrength="1.5")
    text = (
        'entities: {{sub: {{tag: PatientID, regex: "-(\\\\d+)$"}}, site: {{tag: "(0010,0020)", regex: "SITE(\\\\d)"}}, '
        'tesla: MagneticFieldStrength, sex: PatientSex, age: PatientAge}}\ncase: "{{site}}x{{sub}}"\n'
    )
    meta = "meta: {{site: {{from: site}}, field_strength_t: {{from: tesla}}, sex: {{from: sex}}, age: {{from: age}}}}\n"
    (case,) = read_card(card(tmp_path, text + SWI + meta)).cases
    assert (case.name, case.subject) == ("4x017", "017")
    assert case.meta == {"site": "4", "field_strength_t": "1.5", "sex": "F", "age": "n/a"}


@pytest.mark.parametrize(
    ("rule", "taken"),
    [
        ("EchoTime: {min: 19, max: 21}", {3}),
        ("EchoTime: {max: 19.9}", {4}),
        ("EchoTime: 20", {3}),
        ("EchoTime: 20.0", {3}),
        ("SeriesNumber: 4", {4}),
        ('"(0018,0081)": {min: 15}', {3}),
        ('SeriesDescription: "sw"', {3, 4}),
        ('ImageType: "^ORIGINAL.PRIMARY.M.ND$"', {3, 4}),
        ("PixelSpacing: {min: 0.7, max: 1}", {3, 4}),
        ("PixelSpacing: {min: 0.85}", set()),
        ("SeriesDescription: {min: 1}", set()),
    ],
)
def test_rules_on_tags(tmp_path, dicom_files, rule, taken):
    person(dicom_files, tmp_path / "data" / "x", "A", series=3, EchoTime="20")
    person(dicom_files, tmp_path / "data" / "y", "A", series=4, EchoTime="14", SeriesDescription="sw other")
    text = f"entities: {{sub: PatientID}}\nimages:\n  SWI: {{role: swi, pick: first, dicom: {{{rule}}}}}\n"
    path = card(tmp_path, text.replace("{", "{{").replace("}", "}}"))
    if not taken:
        with pytest.raises(CardError, match=r"images.SWI.dicom: no series under .* has these tags"):
            read_card(path)
        return
    cohort = read_card(path)
    assert cohort.file_counts == {"images.SWI": len(taken)}
    assert cohort.cases[0].images[Role.SWI].path.endswith(f"/series {min(taken)} magnitude")


def test_exclude_and_what_no_sequence_asks_for(tmp_path, dicom_files):
    data = tmp_path / "data"
    person(dicom_files, data / "a", "A", series=3)
    person(dicom_files, data / "b", "A", series=4, SeriesDescription="swi second")
    person(dicom_files, data / "c", "A", series=5, SeriesDescription="t1 mprage")
    text = "entities: {{sub: PatientID}}\nimages:\n  SWI: {{role: swi, dicom: {{SeriesDescription: swi}}, "
    cohort = read_card(card(tmp_path, text + "exclude: {{SeriesDescription: second}}}}\n"))
    assert cohort.cases[0].images[Role.SWI].path.endswith("a/series 3 magnitude")
    assert cohort.unmatched == (
        "swi second, magnitude: 1 series, first b/series 4 magnitude",
        "t1 mprage, magnitude: 1 series, first c/series 5 magnitude",
    )
    ignoring = 'exclude: {{SeriesDescription: second}}}}\nignore: ["*mprage*", "b/*"]\n'
    assert read_card(card(tmp_path, text + ignoring)).unmatched == ()


def test_several_series_are_refused_or_picked(tmp_path, dicom_files):
    for series, time in ((11, "090000"), (4, "100000"), (12, "093000.250000")):
        person(dicom_files, tmp_path / "data" / f"s{series}", "A", series=series, AcquisitionTime=time)
    swi = 'images:\n  SWI: {{role: swi, PICK dicom: {{SeriesDescription: "swi"}}}}\n'

    refused = read_card(card(tmp_path, PEOPLE + swi.replace("PICK", "")))
    (exclusion,) = refused.exclusions
    assert exclusion.reason.startswith("3 files for images.SWI: ")
    assert not exclusion.by_rule

    def picked(pick):
        (case,) = read_card(card(tmp_path, PEOPLE + swi.replace("PICK", f"pick: {pick},"))).cases
        return case

    assert picked("latest").images[Role.SWI].path.endswith("s4/series 4 magnitude")
    assert picked("first").images[Role.SWI].path.endswith("s4/series 4 magnitude")
    person(dicom_files, tmp_path / "data" / "s13", "A", series=13, AcquisitionTime="113000")
    assert picked("latest").images[Role.SWI].path.endswith("s13/series 13 magnitude")
    assert picked("first").images[Role.SWI].path.endswith("s4/series 4 magnitude")
    assert "took series 13 magnitude, not" in picked("latest").notes[Role.SWI]


def test_an_incomplete_series_gives_way_to_a_whole_one_else_its_case_is_left_out(tmp_path, dicom_files):
    data = tmp_path / "data"
    person(dicom_files, data / "broken", "A", series=3)
    (data / "broken" / "S3_0003.dcm").unlink()
    text = card(tmp_path, PEOPLE + SWI)
    (exclusion,) = read_card(text).exclusions
    assert exclusion.reason == (
        "images.SWI: broken/series 3 magnitude: 1 of 5 slices are missing (distances from 2 to 4 mm); "
        "export the series again"
    )
    scan = person(dicom_files, data / "again", "A", seed=1, series=4)
    (case,) = read_card(text).cases
    scan.assert_equals(read_source(case.images[Role.SWI]))
    assert "left out: broken/series 3 magnitude: 1 of 5 slices are missing" in case.notes[Role.SWI]


def test_echoes_magnitude_and_phase_of_one_series(tmp_path, dicom_files):
    scans = {}
    for index, (echo, part) in enumerate((echo, part) for echo in (1, 2, 3) for part in "MP"):
        tags = {"EchoTime": str(7 * echo), "EchoNumbers": echo, "ImageType": ["ORIGINAL", "PRIMARY", part, "FFE"]}
        tags["AcquisitionTime"] = f"12000{4 - echo}"
        scans[echo, part] = dicom_files.scan(index)
        dicom_files.write_series(tmp_path / "data", scans[echo, part], first=1 + 5 * index, **tags)
    text = (
        "entities: {{sub: PatientID}}\nimages:\n"
        "  T2S: {{role: gre_mag, MORE dicom: {{SeriesDescription: swi}}}}\n"
        "  PHASE: {{role: gre_phase, MORE dicom: {{SeriesDescription: swi}}}}\n"
    )
    (case,) = read_card(card(tmp_path, text.replace("MORE", "echo: 2,"))).cases
    scans[2, "M"].assert_equals(read_source(case.images[Role.GRE_MAG]))
    scans[2, "P"].assert_equals(read_source(case.images[Role.GRE_PHASE]))
    # Of several echoes the one nearest to 20 ms: the third, at 21 ms.
    for pick in ("first", "latest"):
        (case,) = read_card(card(tmp_path, text.replace("MORE", f"pick: {pick},"))).cases
        scans[3, "M"].assert_equals(read_source(case.images[Role.GRE_MAG]))
        scans[3, "P"].assert_equals(read_source(case.images[Role.GRE_PHASE]))
    (exclusion,) = read_card(card(tmp_path, text.replace("MORE", "echo: 5,"))).exclusions
    assert exclusion.reason == "images.T2S: no echo 5 (there: 1, 2, 3); choose one of them with --echo"


def test_an_enhanced_file_serves_several_sequences(tmp_path, dicom_files):
    scans = [dicom_files.scan(seed) for seed in range(4)]
    kinds = [(7, "MAGNITUDE"), (7, "PHASE"), (20, "MAGNITUDE"), (20, "PHASE")]
    volumes = [(scan, *kind) for scan, kind in zip(scans, kinds, strict=True)]
    dicom_files.write_enhanced(tmp_path / "data" / "IM1", volumes)
    text = (
        "entities: {{sub: PatientID}}\nimages:\n"
        "  T2S: {{role: gre_mag, dicom: {{SeriesDescription: swi, EchoTime: {{min: 15}}, FlipAngle: 15}}}}\n"
        "  PHASE: {{role: gre_phase, dicom: {{EchoTime: {{min: 15}}, ImageType: PRIMARY}}}}\n"
    )
    (case,) = read_card(card(tmp_path, text)).cases
    scans[2].assert_equals(read_source(case.images[Role.GRE_MAG]))
    scans[3].assert_equals(read_source(case.images[Role.GRE_PHASE]), scale=2, shift=-4096)


@pytest.mark.parametrize(
    ("tags", "kind", "asking"),
    [
        ({"SeriesDescription": "swi mIP"}, "a projection", 'SeriesDescription: "swi.*mIP"'),
        ({"ImageType": ["DERIVED", "PRIMARY", "MNIP", "SWI"]}, "a projection", "ImageType: MNIP"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer", "ImageType: LOCALIZER"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "a secondary capture", 'SOPClassUID: "1.1.7"'),
        ({"Modality": "OT"}, "of no MR scanner", "Modality: OT"),
    ],
)
def test_what_is_no_scan_is_taken_only_where_the_card_asks_for_it(tmp_path, dicom_files, tags, kind, asking):
    person(dicom_files, tmp_path / "data" / "a", "A", series=3)
    person(dicom_files, tmp_path / "data" / "b", "A", series=4, **tags)
    text = "entities: {{sub: PatientID}}\nimages:\n  SWI: {{role: swi, dicom: {{SeriesDescription: swi, RULE}}}}\n"
    cohort = read_card(card(tmp_path, text.replace("RULE", 'Manufacturer: ".*"')))
    assert cohort.file_counts == {"images.SWI": 1}
    assert kind in cohort.unmatched[0]
    (case,) = read_card(card(tmp_path, text.replace("SeriesDescription: swi, RULE", asking))).cases
    assert "b/series 4" in case.images[Role.SWI].path
    if kind == "a secondary capture":
        assert "may hold burned-in text" in case.notes[Role.SWI]


def test_burned_in_text_and_doubled_files_are_noted(tmp_path, dicom_files):
    person(dicom_files, tmp_path / "data" / "a", "A", BurnedInAnnotation="YES")
    (tmp_path / "data" / "copy").write_bytes((tmp_path / "data" / "a" / "S3_0002.dcm").read_bytes())
    (case,) = read_card(card(tmp_path, PEOPLE + SWI)).cases
    assert "its pictures may hold burned-in text" in case.notes[Role.SWI]
    assert "1 files were there twice; each was taken once" in case.notes[Role.SWI]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("SeriesDescription", "SeriesDescripton", r"images\.SWI\.dicom\.SeriesDescripton: DICOM knows no tag .*nearest "
         r"is SeriesDescription"),
        ("SeriesDescription", "SequenceName", r"images\.SWI\.dicom\.SequenceName: no DICOM file under .* has a value "
         r"for SequenceName; the nearest is \w+"),
        ("sub: PatientID", "sub: PatientsID", r"entities\.sub: DICOM knows no tag 'PatientsID'; the nearest is "
         r"PatientID"),
        ("ses: StudyDate", "ses: OtherPatientIDs", r"entities\.ses: no DICOM file .* has a value for OtherPatientIDs"),
        ("^swi$", "SWI", r"images\.SWI\.dicom: no series under .* has these tags"),
    ],
)  # fmt: skip
def test_a_card_that_does_not_fit_says_so_in_one_line(tmp_path, dicom_files, old, new, message):
    person(dicom_files, tmp_path / "data", "A")
    with pytest.raises(CardError, match=message) as caught:
        read_card(card(tmp_path, (PEOPLE + SWI).replace(old, new)))
    assert "\n" not in str(caught.value)
    assert "Doe" not in str(caught.value)


def test_a_root_without_dicom_and_series_without_a_name(tmp_path, dicom_files):
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.txt").write_text("")
    with pytest.raises(CardError, match=r"root: .*data holds no DICOM files; say where they are with CARD=ROOT"):
        read_card(card(tmp_path, PEOPLE + SWI))
    person(dicom_files, data / "a", "A")
    person(dicom_files, data / "b", "")
    cohort = read_card(card(tmp_path, PEOPLE + SWI))
    assert [case.name for case in cohort.cases] == ["A_20200101"]
    assert "1 series left out: entities.sub finds nothing in their PatientID" in cohort.warnings[0]


SECRETS = ("Doe", "Jane", "PAT-00017", "19400102", "ACC777", "Hospital", "20200101", "20210505", "113355", "Mouse")


def test_pseudonyms_hide_people_dates_and_folders(tmp_path, dicom_files, capsys):
    data = tmp_path / "data"
    for seed, date in enumerate(("20210505", "20200101")):
        scan = person(
            dicom_files, data / "Doe_Jane_PAT-00017" / date, "PAT-00017", date, seed, ImageComments="Jane Doe"
        )
        mask = np.zeros((7, 6, 5), np.uint8)
        mask[2:4, 2:4, 2] = 1
        source = cases_of(read_card(card(tmp_path, PEOPLE + SWI)))[f"PAT-00017_{date}"].images[Role.SWI]
        write_volume(data / "masks" / f"PAT-00017_{date}.nii.gz", Volume(mask, read_grid(source)[1]), np.uint8)
        assert scan.data.shape == mask.shape
    broken = person(dicom_files, data / "Mouse", "P2", "20210505", 3)
    (data / "Mouse" / "S3_0003.dcm").unlink()
    assert broken.data.shape == (7, 6, 5)
    text = (
        'labels:\n  cmb: {{kind: mask, optional: true, path: "masks/{{sub}}_{{ses}}.nii.gz", values: {{cmb: 1}}}}\n'
        'meta: {{visit: {{from: ses}}, year: {{from: ses, regex: "^..(..)"}}}}\n'
        "privacy: {{hash_ids: true}}\nprep: {{brain: none}}\n"
    )
    capsys.readouterr()

    code = convert([card(tmp_path, PEOPLE + SWI + text), "-d", "501", "--workspace", str(tmp_path / "w")])

    assert code == 1  # one case is left out
    raw = tmp_path / "w" / "raw" / "Dataset501_NORTH"
    rows = read_tsv(raw / "cases.tsv")
    pseudonym = rows[0]["subject"]
    assert re.fullmatch("anon[0-9a-f]{12}", pseudonym)
    assert [row["case"] for row in rows] == [f"{pseudonym}_1", f"{pseudonym}_2"]
    assert [(row["session"], row["visit"], row["year"]) for row in rows] == [("1", "1", "20"), ("2", "2", "21")]
    assert rows[0]["source_files"].startswith("series 3 magnitude (5 files);masks/")
    assert rows[0]["source_digests"].count(";") == 1
    assert rows[0]["source_digests"] != rows[1]["source_digests"]
    (left_out,) = read_tsv(raw / "exclusions.tsv")
    assert left_out["reason"].startswith("images.SWI: series 3 magnitude: 1 of 5 slices are missing")
    said = capsys.readouterr()
    for secret in SECRETS:
        # The card's own path is named, not what it describes.
        assert secret not in (said.out + said.err).replace(str(tmp_path), "")
    for path in (tmp_path / "w").rglob("*"):
        assert not any(secret in path.name for secret in SECRETS)
        if path.is_file():
            content = nib.load(path).header.binaryblock if path.name.endswith(".nii.gz") else path.read_bytes()
            content = content.replace(str(tmp_path).encode(), b"")
            assert not [secret for secret in SECRETS if secret.encode() in content], path

    again = convert([str(tmp_path / "card.yaml"), "-d", "501", "--workspace", str(tmp_path / "w")])
    assert again == 1
    assert "2 unchanged" in capsys.readouterr().out


def lesion_centres_mm(volume):
    numbered, count = ndimage.label(volume.data, np.ones((3, 3, 3)))
    middles = ndimage.center_of_mass(volume.data, numbered, range(1, count + 1))
    return volume.to_ras_mm(np.array(middles).reshape(-1, 3))


@pytest.mark.parametrize("axes", ["dcm2niix", "turned"])
@pytest.mark.parametrize("acquisition", ["2D", "3D"])
@pytest.mark.parametrize("seed", [4, 27])
def test_lesions_of_an_oblique_scan_stay_where_they_are(tmp_path, dicom_files, seed, acquisition, axes):
    """A mask drawn on what dcm2niix makes of the scan, and one on the same voxels in another order of axes."""
    scan = dicom_files.rotated(seed, shape=(20, 18, 9))
    scan.data[scan.data == 0] = 1
    dicom_files.write_series(tmp_path / "data" / "a", scan, MRAcquisitionType=acquisition)
    swi = read_card(card(tmp_path, "entities: {{sub: PatientID}}\n" + SWI)).cases[0].images[Role.SWI]
    converted = read_source(swi)
    truth = [(4, 5, 3), (12, 9, 6)]
    middles_mm = []
    mask = np.zeros(converted.shape, np.uint8)
    for column, row, k in truth:
        lps = scan.position(k) + scan.row * 0.9 * column + scan.column * 0.8 * row
        middles_mm.append(lps * [-1, -1, 1])
        mask[tuple(np.rint(converted.to_voxels(middles_mm[-1][None]))[0].astype(int))] = 1
    drawn = Volume(mask, converted.affine, converted.header)
    if axes == "turned":
        flip = np.array([[0, 0, -1, mask.shape[0] - 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
        drawn = Volume(np.ascontiguousarray(mask[::-1].transpose(1, 2, 0)), converted.affine @ flip)
    write_volume(tmp_path / "data" / "P1_CMB.nii.gz", drawn, np.uint8)
    text = 'labels:\n  cmb: {{kind: mask, path: "{{sub}}_CMB.nii.gz"}}\nprep: {{brain: none}}\n'
    path = card(tmp_path, "entities: {{sub: PatientID}}\n" + SWI + text)

    assert cohort_command(["check", path, "--count-lesions"]) == 0
    assert convert([path, "-d", "501", "--workspace", str(tmp_path / "w")]) == 0

    (label,) = (tmp_path / "w" / "raw" / "Dataset501_NORTH" / "labelsTr").iterdir()
    found = lesion_centres_mm(read_volume(label))
    assert len(found) == 2
    for middle in middles_mm:
        assert np.linalg.norm(found - middle, axis=1).min() < 1e-3


@needs_scan
def test_a_real_scan_of_two_echoes_and_phase_converts(tmp_path):
    text = (
        "entities: {{sub: PatientID}}\nprivacy: {{hash_ids: true}}\nimages:\n"
        "  T2S: {{role: gre_mag, echo: ECHO, dicom: {{SeriesDescription: FieldMap_GRE}}}}\n"
        "  PHASE: {{role: gre_phase, dicom: {{SeriesDescription: FieldMap_GRE}}}}\n"
    )
    stored = []
    for echo in (1, 2):
        path = card(tmp_path, text.replace("ECHO", str(echo)), SCAN)
        (case,) = read_card(path).cases
        assert set(case.images) == {Role.GRE_MAG, Role.GRE_PHASE}
        stored.append(read_source(case.images[Role.GRE_MAG]))
        phase = read_source(case.images[Role.GRE_PHASE])
        assert (phase.data.min(), phase.data.max()) == (-4096, 4092)
        assert len(case.images[Role.GRE_MAG].files) == len(case.images[Role.GRE_PHASE].files) == 36
    assert convert([path, "-d", "501", "--workspace", str(tmp_path / "w")]) == 0
    raw = tmp_path / "w" / "raw" / "Dataset501_NORTH"
    (row,) = read_tsv(raw / "cases.tsv")
    assert row["sequences"] == "gre_mag"
    (image,) = (raw / "imagesUn").iterdir()
    prepared = read_volume(image)
    inside = prepared.data != 0
    places = stored[1].to_voxels(prepared.to_ras_mm(np.argwhere(inside)))
    np.testing.assert_allclose(places, np.rint(places), atol=1e-3)
    values = stored[1].data[tuple(np.rint(places).astype(int).T)]
    np.testing.assert_allclose(prepared.data[inside][values > 0], values[values > 0])
    assert np.abs(stored[0].data - stored[1].data).max() > 100


def test_a_missing_file_is_told_when_the_case_is_read(tmp_path, dicom_files):
    person(dicom_files, tmp_path / "data", "A")
    (case,) = read_card(card(tmp_path, PEOPLE + SWI)).cases
    (tmp_path / "data" / "S3_0003.dcm").unlink()
    with pytest.raises(InputError, match=r"series 3 magnitude: 1 of 5 slices are missing"):
        read_source(case.images[Role.SWI])


def test_files_that_cannot_be_read_are_counted(tmp_path, dicom_files):
    data = tmp_path / "data"
    person(dicom_files, data / "a", "A")
    paths = [dicom_files.write_series(data / "b", dicom_files.scan(1), series=4)[n] for n in range(5)]
    paths[0].write_bytes(paths[0].read_bytes()[:400])
    paths[1].rename(data / "b" / os.fsdecode(b"\xff.dcm"))
    for path in paths[2:]:
        path.unlink()
    cohort = read_card(card(tmp_path, PEOPLE + SWI))
    assert len(cohort.cases) == 1
    assert cohort.warnings[0].startswith("NORTH: 2 DICOM files that cannot be read left out (first ")
    hidden = read_card(card(tmp_path, PEOPLE + SWI + "privacy: {{hash_ids: true}}\n"))
    assert hidden.warnings == ("NORTH: 2 DICOM files that cannot be read left out",)
