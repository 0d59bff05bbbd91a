import time
import zipfile

import numpy as np
import pytest

from cmb_autoseg.dataset_conversion import read_card
from cmb_autoseg.dataset_conversion.sorting.choice import Wanted
from cmb_autoseg.dataset_conversion.sorting.naming import safe_name
from cmb_autoseg.dataset_conversion.sorting.patterns import compile_pattern
from cmb_autoseg.errors import CardError
from cmb_autoseg.records import Role

from .conftest import CARD, affine_of, save, scan


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def card_with(images: str, rest: str = "") -> str:
    return f"schema: 1\nname: tiny\nimages:\n  {images}\n{rest}"


@pytest.mark.parametrize(
    ("pattern", "path", "entities"),
    [
        ("{sub}/a.nii", "x/a.nii", {"sub": "x"}),
        ("{sub}/a.nii", "x_y/a.nii", None),
        ("{sub}/a.nii", "x/y/a.nii", None),
        (r"{sub:s-\d{3}}/{sub}_b.nii", "s-001/s-001_b.nii", {"sub": "s-001"}),
        (r"{sub:s-\d{3}}/{sub}_b.nii", "s-001/s-002_b.nii", None),
        (r"{sub:\d{1,2}(?:x{2})?}.nii", "12xx.nii", {"sub": "12xx"}),
        (r"{sub:a\}b}.nii", "a}b.nii", {"sub": "a}b"}),
        ("a+({sub}).nii", "a+(7).nii", {"sub": "7"}),
        ("{sub}/{ses:(?:ses-.)?}.nii", "x/.nii", {"sub": "x", "ses": ""}),
    ],
)
def test_pattern(pattern, path, entities):
    assert compile_pattern(pattern).match(path) == entities


def test_one_entity_with_two_regexes_is_refused():
    with pytest.raises(ValueError, match="has two regexes"):
        compile_pattern(r"{sub:\d}/{sub:\w}.nii")


@pytest.mark.parametrize(
    ("text", "name"),
    [("sub-01_2019", "sub-01-2019"), ("Ä 1/x", "1-x"), ("sub-01_", "sub-01"), ("..a", "a"), ("a_0000_b", "a_0000_b")],
)
def test_names_are_safe_for_files_and_nnunet(text, name):
    assert safe_name(text) == name


def test_names_that_fall_together_are_refused(tmp_path, write_card):
    touch(tmp_path, "a 1/s.nii", "a+1/s.nii")
    with pytest.raises(CardError, match=r"the name 'a-1', as .* does"):
        read_card(write_card(card_with('s: {role: swi, path: "{sub}/s.nii"}')))


def test_missing_required_sequence_excludes_by_rule(tiny_cohort, write_card):
    (tiny_cohort / "sub-102/sub-102_T2S.nii.gz").unlink()
    cohort = read_card(write_card())
    assert [case.name for case in cohort.cases] == ["sub-101", "sub-103"]
    assert [(e.case, e.by_rule) for e in cohort.exclusions] == [("sub-102", True)]
    assert "no file for images.T2S" in cohort.exclusions[0].reason


def test_two_files_for_one_sequence_are_ambiguous(tiny_cohort, write_card):
    save(tiny_cohort / "sub-101/sub-101_x_T2S.nii.gz", scan(1))
    cohort = read_card(write_card(CARD.replace("{sub}_T2S", "{sub}{any:.*}_T2S")))
    (exclusion,) = cohort.exclusions
    assert not exclusion.by_rule
    assert "2 files for images.T2S: sub-101/sub-101_T2S.nii.gz and sub-101/sub-101_x_T2S.nii.gz" in exclusion.reason


def test_case_without_susceptibility_sequence_is_excluded(tmp_path, write_card):
    touch(tmp_path, "1_swi.nii", "1_t1.nii", "2_t1.nii")
    images = 's: {role: swi, optional: true, path: "{sub}_swi.nii"}\n  t: {role: t1, path: "{sub}_t1.nii"}'
    cohort = read_card(write_card(card_with(images)))
    assert [case.name for case in cohort.cases] == ["1"]
    assert "no sequence in which microbleeds are visible" in cohort.exclusions[0].reason


def test_file_of_two_patterns_is_refused(tmp_path, write_card):
    touch(tmp_path, "1_swi.nii")
    images = 's: {role: swi, path: "{sub}_swi.nii"}\n  t: {role: t1, path: "{sub}_{x}.nii"}'
    with pytest.raises(CardError, match=r"images\.t: matches 1_swi\.nii, which images\.s matches too"):
        read_card(write_card(card_with(images)))


def test_first_sequence_of_a_role_wins(tmp_path, write_card):
    touch(tmp_path, "1_a.nii", "1_b.nii", "2_b.nii")
    images = (
        'a: {role: swi, optional: true, path: "{sub}_a.nii"}\n  b: {role: swi, optional: true, path: "{sub}_b.nii"}'
    )
    cases = read_card(write_card(card_with(images))).cases
    assert [case.images[Role.SWI].path.rpartition("/")[2] for case in cases] == ["1_a.nii", "2_b.nii"]


def test_sessions_share_their_subject(tmp_path, write_card):
    touch(tmp_path, "s1/v1/swi.nii", "s1/v2/swi.nii", "s2/v1/swi.nii")
    cases = read_card(write_card(card_with('s: {role: swi, path: "{sub}/{ses}/swi.nii"}'))).cases
    assert [(c.name, c.subject, c.session) for c in cases] == [
        ("s1_v1", "s1", "v1"),
        ("s1_v2", "s1", "v2"),
        ("s2_v1", "s2", "v1"),
    ]


def test_grouping_that_tears_a_person_apart_is_refused(tmp_path, write_card):
    touch(tmp_path, "s1/v1/swi.nii", "s1/v2/swi.nii")
    with pytest.raises(CardError, match="group_by: sub s1 falls into s1_v1 and s1_v2"):
        read_card(write_card(card_with('s: {role: swi, path: "{sub}/{ses}/swi.nii"}', "group_by: [sub, ses]")))


def test_meta_rules_and_participants(tmp_path, write_card):
    touch(tmp_path, "101.nii", "201.nii", "301.nii")
    (tmp_path / "people.tsv").write_text("participant_id\tage\tgroup\nsub-101\t70\ttrain\nsub-201\t\ttest\n")
    rest = """meta:
  participants: {path: people.tsv, key: sub}
  site: {from: sub, regex: "^(.)"}
  field_strength_t: {from: site, map: {1: 3.0, "2": 1.5, "3": 7}}
  split: {from: group, map: {train: train, test: test, n/a: train}}
"""
    cases = read_card(write_card(card_with('s: {role: swi, path: "{sub}.nii"}', rest))).cases
    assert [(c.split, c.meta["site"], c.meta["field_strength_t"], c.meta["age"]) for c in cases] == [
        ("train", "1", "3.0", "70"),
        ("test", "2", "1.5", "n/a"),
        ("train", "3", "7", "n/a"),
    ]


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("meta: {split: {value: validation}}", "meta.split: case 101: found 'validation', legal are train and test"),
        ("meta: {site: {from: sub, map: {x: y}}}", "meta.site.map: case 101: has no entry for '101'"),
        ("meta: {site: {from: scanner}}", "meta.site.from: nothing is called scanner here"),
        ("meta: {participants: {path: none.tsv}}", "meta.participants.path: no readable table"),
    ],
)
def test_wrong_meta(rest, message, tmp_path, write_card):
    touch(tmp_path, "101.nii")
    with pytest.raises(CardError, match=message):
        read_card(write_card(card_with('s: {role: swi, path: "{sub}.nii"}', rest)))


def test_unmatched_files_are_listed_unless_ignored(tiny_cohort, write_card):
    touch(tiny_cohort, "sub-101/other.nii.gz", "derived/x.nii", "notes.txt", ".hidden/y.nii")
    assert read_card(write_card()).unmatched == ("derived/x.nii", "sub-101/other.nii.gz")
    assert read_card(write_card(CARD + 'ignore: ["derived/*"]\n')).unmatched == ("sub-101/other.nii.gz",)


def test_an_optional_sequence_that_nobody_has_is_told_only_where_scans_are_left_over(tmp_path, write_card):
    touch(tmp_path, "1_swi.nii", "2_swi.nii")
    images = 's: {role: swi, path: "{sub}_swi.nii"}\n  g: {role: gre_mag, optional: true, path: "{sub}_gre.nii"}'
    assert read_card(write_card(card_with(images))).warnings == ()

    touch(tmp_path, "1_grE.nii", "notes.txt")
    (warning,) = read_card(write_card(card_with(images))).warnings
    assert "images.g.path (optional): '{sub}_gre.nii' matches nothing" in warning
    assert warning.endswith("the nearest file is 1_grE.nii")
    ignoring = card_with(images, 'ignore: ["*_grE.nii"]\n')
    assert read_card(write_card(ignoring)).warnings == ()


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".TAR.GZ"])
def test_an_optional_sequence_that_lies_packed_is_told(suffix, tmp_path, write_card):
    touch(tmp_path, "1_swi.nii", "2_swi.nii", f"1_gre.nii{suffix}")
    images = 's: {role: swi, path: "{sub}_swi.nii"}\n  g: {role: gre_mag, optional: true, path: "{sub}_gre.nii"}'
    cohort = read_card(write_card(card_with(images)))
    (warning,) = cohort.warnings
    assert "images.g.path (optional): '{sub}_gre.nii' matches nothing" in warning
    assert warning.endswith(f"the nearest file is 1_gre.nii{suffix}")
    assert cohort.unmatched == ()
    assert read_card(write_card(card_with(images, f'ignore: ["*_gre.nii{suffix}"]\n'))).warnings == ()


def test_archives_that_a_sequence_comes_from_are_not_left_over(tmp_path, write_card):
    with zipfile.ZipFile(tmp_path / "1.zip", "w") as archive:
        archive.writestr("swi.nii", b"")
    images = 's: {role: swi, path: "{sub}.zip!/swi.nii"}\n  g: {role: gre_mag, optional: true, path: "{sub}_gre.nii"}'
    assert read_card(write_card(card_with(images))).warnings == ()


def test_optional_labels_and_members_of_archives_that_nobody_has_are_always_told(tmp_path, write_card):
    touch(tmp_path, "1_swi.nii")
    labels = 'labels: {no_cmb: {path: "{sub}_read.txt"}}\n'
    (warning,) = read_card(write_card(card_with('s: {role: swi, path: "{sub}_swi.nii"}', labels))).warnings
    assert "labels.no_cmb.path (optional)" in warning
    images = 's: {role: swi, path: "{sub}_swi.nii"}\n  g: {role: gre_mag, optional: true, path: "{sub}.zip!/gre.nii"}'
    (warning,) = read_card(write_card(card_with(images))).warnings
    assert "images.g.path (optional)" in warning


def test_identifiers_are_hashed_everywhere(tiny_cohort, write_card):
    card = write_card(CARD + "privacy: {hash_ids: true}\n")
    cohort = read_card(card, salt="pepper")
    names = [case.name for case in cohort.cases] + [case.subject for case in cohort.cases]
    assert not any("sub-10" in name for name in names)
    assert read_card(card, salt="pepper").cases == cohort.cases
    assert read_card(card, salt="other").cases != cohort.cases
    assert "sub-101" not in cohort.disguise("sub-101/sub-101_T2S.nii.gz")


def test_prediction_needs_no_labels(tiny_cohort, write_card):
    card = CARD.replace('_CMB.nii.gz", values: {cmb: 1}, optional: true', '_nothing.nii.gz"')
    cohort = read_card(write_card(card), labels=False)
    assert [case.label for case in cohort.cases] == [None, None, None]


def test_bids_card_with_and_without_sessions(tmp_path):
    touch(
        tmp_path,
        "sub-01/anat/sub-01_T2starw.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_acq-swi_T2starw.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_Chimap.nii.gz",
        "sub-02/ses-b/swi/sub-02_ses-b_part-mag_GRE.nii.gz",
        "sub-02/ses-b/swi/sub-02_ses-b_part-phase_GRE.nii.gz",
        "sub-03/anat/sub-03_part-mag_MEGRE.nii.gz",
        "sub-04/swi/sub-04_swi.nii.gz",
        "derivatives/reader/sub-01/anat/sub-01_label-CMB_mask.nii.gz",
    )
    cohort = read_card(f"bids={tmp_path}")
    found = {case.name: tuple(case.images) for case in cohort.cases}
    assert found == {
        "sub-01": (Role.GRE_MAG,),
        "sub-02_ses-a": (Role.SWI, Role.QSM),
        "sub-02_ses-b": (Role.GRE_MAG,),
        "sub-03": (Role.GRE_MAG,),
        "sub-04": (Role.SWI,),
    }
    assert [case.name for case in cohort.cases if case.label] == ["sub-01"]
    assert cohort.unmatched == ()


BIDS_FILES = (
    "sub-01/swi/sub-01_run-1_swi.nii.gz",
    "sub-01/swi/sub-01_run-2_swi.nii.gz",
    "sub-01/swi/sub-01_run-10_swi.nii.gz",
    "sub-01/swi/sub-01_run-1_part-mag_swi.nii.gz",
    "sub-01/swi/sub-01_run-2_part-mag_swi.nii.gz",
    "sub-01/swi/sub-01_run-1_part-phase_swi.nii.gz",
    "sub-01/swi/sub-01_rec-mIP_swi.nii.gz",
    "sub-01/swi/sub-01_acq-phase_swi.nii.gz",
    "sub-01/swi/sub-01_minIP.nii.gz",
    "sub-02/anat/sub-02_part-mag_SWI.nii.gz",
    "sub-03/anat/sub-03_acq-swi_T2starw.nii",
    "sub-03/anat/sub-03_acq-swi_part-mag_T2starw.nii",
    "sub-03/anat/sub-03_acq-swi_part-phase_T2starw.nii",
    "sub-04/anat/sub-04_part-phase_T2starw.nii.gz",
    "sub-04/anat/sub-04_part-imag_MEGRE.nii.gz",
    "sub-05/swi1/sub-05_swi.nii.gz",
    "sub-06/ses-1/anat/sub-06_ses-1_acq-hires_dir-AP_part-mag_MEGRE.nii.gz",
    "sub-06/ses-1/anat/sub-06_ses-1_acq-lowres_dir-AP_part-mag_MEGRE.nii.gz",
    "sourcedata/sub-07/anat/sub-07_T2starw.nii.gz",
    "derivatives/x/sub-08/anat/sub-08_T2starw.nii.gz",
)


def taken(root, **wishes):
    cohort = read_card(f"bids={root}", labels=False, wanted=Wanted(**wishes))
    return {
        case.name: {role: image.path.rpartition("/")[2].split(".")[0] for role, image in case.images.items()}
        for case in cohort.cases
    }, {case.name: case.notes for case in cohort.cases}


def test_bids_names_found_in_the_wild(tmp_path):
    touch(tmp_path, *BIDS_FILES)
    files, notes = taken(tmp_path)
    assert files == {
        "sub-01": {Role.SWI: "sub-01_run-1_swi", Role.GRE_MAG: "sub-01_run-1_part-mag_swi"},
        "sub-02": {Role.GRE_MAG: "sub-02_part-mag_SWI"},
        "sub-03": {Role.SWI: "sub-03_acq-swi_T2starw", Role.GRE_MAG: "sub-03_acq-swi_part-mag_T2starw"},
        "sub-05": {Role.SWI: "sub-05_swi"},
        "sub-06_ses-1": {Role.GRE_MAG: "sub-06_ses-1_acq-hires_dir-AP_part-mag_MEGRE"},
    }
    assert "took sub-01_run-1_swi.nii.gz, not sub-01_run-2_swi.nii.gz, sub-01_run-10_swi" in notes["sub-01"][Role.SWI]
    assert "not sub-06_ses-1_acq-lowres" in notes["sub-06_ses-1"][Role.GRE_MAG]
    assert not notes["sub-02"]


def test_preferred_tags_go_first_and_other_sequences_follow_the_reference(tmp_path):
    touch(tmp_path, *BIDS_FILES)
    files, _ = taken(tmp_path, prefer=("run-02", "acq-lowres"))
    assert files["sub-01"] == {Role.SWI: "sub-01_run-2_swi", Role.GRE_MAG: "sub-01_run-2_part-mag_swi"}
    assert files["sub-06_ses-1"] == {Role.GRE_MAG: "sub-06_ses-1_acq-lowres_dir-AP_part-mag_MEGRE"}


def test_of_separate_echoes_one_is_taken_by_its_time_or_by_wish(tmp_path):
    stem = "sub-01/anat/sub-01_run-1_echo-{}_part-mag_MEGRE"
    touch(tmp_path, *(f"{stem.format(n)}.nii.gz" for n in (1, 2, 3)))
    files, notes = taken(tmp_path)
    assert files["sub-01"] == {Role.GRE_MAG: "sub-01_run-1_echo-3_part-mag_MEGRE"}
    assert "nearest to an echo time of 20 ms, else the last; --echo takes another" in notes["sub-01"][Role.GRE_MAG]
    for number, seconds in ((1, 0.004), (2, 0.019), (3, 0.034)):
        (tmp_path / f"{stem.format(number)}.json").write_text(f'{{"EchoTime": {seconds}}}')
    assert taken(tmp_path)[0]["sub-01"] == {Role.GRE_MAG: "sub-01_run-1_echo-2_part-mag_MEGRE"}
    files, notes = taken(tmp_path, echo=1)
    assert (files["sub-01"][Role.GRE_MAG], notes["sub-01"]) == ("sub-01_run-1_echo-1_part-mag_MEGRE", {})
    (exclusion,) = read_card(f"bids={tmp_path}", wanted=Wanted(echo=4)).exclusions
    assert "no echo 4 (there: 1, 2, 3)" in exclusion.reason
    touch(tmp_path, "sub-01/anat/sub-01_run-1_part-mag_MEGRE.nii.gz")
    assert taken(tmp_path)[0]["sub-01"] == {Role.GRE_MAG: "sub-01_run-1_part-mag_MEGRE"}


def test_a_sequence_on_another_grid_is_left_out_where_the_card_says_so(tmp_path, write_card):
    turned = np.diag([-1.0, 1, 1, 1]) @ affine_of()
    save(tmp_path / "01_T2starw.nii.gz", scan(1))
    save(tmp_path / "01_T1w.nii.gz", scan(2)[:, :, :-1])
    save(tmp_path / "01_FLAIR.nii.gz", scan(3)[::-1], affine_of() @ flip(20))
    save(tmp_path / "01_T2w.nii.gz", scan(3), turned)
    roles = {"T1w": "t1", "FLAIR": "flair", "T2w": "t2"}
    images = 'g: {role: gre_mag, path: "{sub}_T2starw.nii.gz"}' + "".join(
        f'\n  {name}: {{role: {role}, optional: true, other_grid: leave_out, path: "{{sub}}_{name}.nii.gz"}}'
        for name, role in roles.items()
    )
    card = card_with(images)
    (case,) = read_card(write_card(card)).cases
    assert set(case.images) == {Role.GRE_MAG, Role.FLAIR}
    assert set(case.notes) == {Role.T1, Role.T2}
    assert "01_T1w.nii.gz is on another grid than 01_T2starw" in case.notes[Role.T1]
    (case,) = read_card(write_card(card.replace(" other_grid: leave_out,", ""))).cases
    assert set(case.images) == {Role.GRE_MAG, Role.FLAIR, Role.T1, Role.T2}


def flip(size):
    """Voxel indices of an array of `size` along the first axis, from its other end."""
    matrix = np.diag([-1.0, 1, 1, 1])
    matrix[0, 3] = size - 1
    return matrix


def test_of_several_files_the_one_on_the_reference_grid_is_taken(tmp_path):
    save(tmp_path / "sub-01/swi/sub-01_swi.nii.gz", scan(1))
    save(tmp_path / "sub-01/anat/sub-01_T2starw.nii.gz", scan(1)[:-1])
    save(tmp_path / "sub-01/swi/sub-01_part-mag_swi.nii.gz", scan(1))
    assert taken(tmp_path)[0]["sub-01"][Role.GRE_MAG] == "sub-01_part-mag_swi"
    # A model that knows magnitudes alone takes the T2*-weighted scan, whatever the grid of the SWI.
    assert taken(tmp_path, roles=(Role.GRE_MAG,))[0]["sub-01"] == {Role.GRE_MAG: "sub-01_T2starw"}


def test_notes_hide_identifiers_where_the_card_wants_that(tmp_path, write_card):
    touch(tmp_path, "p7/p7_a_swi.nii", "p7/p7_b-1_swi.nii")
    images = 's: {role: swi, pick: first, path: "{sub}/{sub}{any:.*}_swi.nii"}'
    (case,) = read_card(write_card(card_with(images, "privacy: {hash_ids: true}\n")), salt="pepper").cases
    assert "took anon" in case.notes[Role.SWI]
    assert "p7" not in case.notes[Role.SWI]


def test_valdo_card(tmp_path):
    name = "sub-101/sub-101_space-T2S_"
    touch(tmp_path, *(f"{name}{end}.nii.gz" for end in ("desc-masked_T2S", "desc-masked_T1", "desc-masked_T2", "CMB")))
    (case,) = read_card(f"valdo={tmp_path}").cases
    assert (case.name, case.meta["site"], case.reference_role) == ("sub-101", "1", Role.GRE_MAG)
    assert case.images[Role.T1].copy_geometry_from is Role.GRE_MAG
    assert case.label is not None


def test_ten_thousand_cases_take_seconds(tmp_path, write_card, monkeypatch):
    paths = sorted(f"c{n:05d}/{kind}.nii" for n in range(10_000) for kind in ("swi", "t1", "cmb"))
    monkeypatch.setattr("cmb_autoseg.dataset_conversion.sorting.resolver.list_files", lambda root: paths)
    images = 's: {role: swi, path: "{sub}/swi.nii"}\n  t: {role: t1, path: "{sub}/t1.nii"}'
    start = time.process_time()
    cohort = read_card(write_card(card_with(images, 'labels: {cmb: {kind: mask, path: "{sub}/cmb.nii"}}')))
    assert len(cohort.cases) == 10_000
    assert time.process_time() - start < 20
