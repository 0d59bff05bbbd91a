import re

import pytest

from cmb_autoseg.cli.cohort import main
from cmb_autoseg.dataset_conversion import read_card
from cmb_autoseg.records import Role

from .conftest import CARD, affine_of, ball_mask, save, scan


def test_check_counts_and_is_content(tiny_cohort, write_card, capsys):
    assert main(["check", write_card(), "--count-lesions"]) == 0
    out = capsys.readouterr().out
    for line in ("usable cases: 3, from 3 subjects", "labelled for training: 2", "unlabelled: 1 (in no fold)",
                 "lesions: 2 in 2 labelled cases", "sub-101: 2"):  # fmt: skip
        assert line in out


def test_check_is_content_with_exclusion_by_rule(tiny_cohort, write_card, capsys):
    (tiny_cohort / "sub-102/sub-102_T2S.nii.gz").unlink()
    assert main(["check", write_card()]) == 0
    assert "left out by rule: 1" in capsys.readouterr().out


def test_check_finds_geometry_from_headers(tiny_cohort, write_card, capsys):
    card = CARD.replace(", copy_geometry_from: T2S", "")
    assert main(["check", write_card(card)]) == 0
    assert "sequences on another grid, to be co-registered (affine): 1 in 1 cases" in capsys.readouterr().out
    card = card.replace("already_masked}", "already_masked, coregister: refuse}")
    assert main(["check", write_card(card)]) == 2
    out = capsys.readouterr().out
    assert re.search(r"unusable: 1\n    sub-101: .*T1.nii.gz: on another grid than .*; register them first", out)


def test_check_finds_mask_geometry_and_4d_and_ambiguity(tiny_cohort, write_card, capsys):
    import numpy as np

    save(tiny_cohort / "sub-101/sub-101_CMB.nii.gz", ball_mask(()), affine_of(origin_mm=(1, 1, 1)))
    save(tiny_cohort / "sub-102/sub-102_T2S.nii.gz", np.stack([scan(1)] * 2, axis=-1))
    save(tiny_cohort / "sub-103/sub-103_b_T2S.nii.gz", scan(1))
    assert main(["check", write_card(CARD.replace("{sub}_T2S", "{sub}{any:.*}_T2S"))]) == 2
    out = capsys.readouterr().out
    assert "labels.cmb.resample: nearest" in out
    assert "a 4D file with 2 volumes" in out
    assert "ambiguous: 1\n    sub-103: 2 files for images.T2S" in out


def test_list_names_the_shipped_cards(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.split(r" {2,}", lines[0]) == ["card", "cohort", "status", "sequences", "licence"]
    (valdo,) = (line for line in lines if line.startswith("valdo "))
    assert re.split(r" {2,}", valdo) == ["valdo", "VALDO", "unverified", "gre_mag, t1, t2", "CC-BY-NC-SA-4.0"]
    assert len({line.find("unverified") for line in lines[1:]} - {-1}) == 1


LAYOUTS = {
    "folders": ["sub-{n}/sub-{n}_T2S.nii.gz", "sub-{n}/sub-{n}_T1.nii.gz", "sub-{n}/sub-{n}_CMB.nii.gz"],
    "valdo": ["sub-{n}/sub-{n}_space-T2S_desc-masked_T2S.nii.gz", "sub-{n}/sub-{n}_space-T2S_CMB.nii.gz"],
    "flat": ["{n}_swi.nii", "{n}_mask.nii"],
    "role_first": ["swi_{n}.nii", "lesions_{n}.nii"],
    "by_type": ["images_qsm/p{n}.nii.gz", "labels/p{n}.nii.gz"],
    "named_by_folder": ["P_{n}/SWI/SWI.nii.gz", "P_{n}/microbleeds.nii.gz"],
    "sessions": ["sub-{n}/ses-01/anat/sub-{n}_ses-01_swi.nii", "sub-{n}/ses-01/anat/sub-{n}_ses-01_desc-cmb_mask.nii"],
    "visits": ["people/{n}/visit1/gre.nii", "people/{n}/visit2/gre.nii", "people/{n}/visit1/cmb.nii"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_drafted_card_passes_its_check(layout, tmp_path, capsys):
    for number in (101, 102, 103):
        for template in LAYOUTS[layout]:
            is_label = any(word in template.lower() for word in ("cmb", "_mask", "lesion", "label", "bleeds"))
            save(tmp_path / "c" / template.format(n=number), ball_mask([((9, 9, 7), 1)]) if is_label else scan(number))
    card = tmp_path / "card.yaml"
    assert main(["init", str(tmp_path / "c"), "-o", str(card)]) == 0
    assert main(["check", str(card)]) == 0
    cohort = read_card(str(card))
    assert cohort.unmatched == ()
    assert sum(case.label is not None for case in cohort.cases) == 3
    assert len({case.subject for case in cohort.cases}) == 3
    assert "GUESS" not in card.read_text()


def test_draft_finds_points_sessions_and_optional_sequences(tmp_path):
    for number in (1, 2):
        save(tmp_path / f"c/{number}/swi.nii", scan(number))
    save(tmp_path / "c/1/flair.nii", scan(1))
    (tmp_path / "c/1/cmb.csv").write_text("x_mm,y_mm,z_mm\n0,0,0\n")
    (tmp_path / "c/participants.tsv").write_text("participant_id\tage\n1\t70\n")
    main(["init", str(tmp_path / "c"), "-o", str(tmp_path / "card.yaml")])
    one, two = read_card(str(tmp_path / "card.yaml")).cases
    assert set(one.images) == {Role.SWI, Role.FLAIR}
    assert (one.label.kind, one.label.columns["x"]) == ("points", "x_mm")
    assert (one.meta["age"], two.label) == ("70", None)


def test_init_refuses_empty_folders_and_existing_files(tiny_cohort, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["init", str(tmp_path / "empty")]) == 2
    assert "no NIfTI files" in capsys.readouterr().err
    (tmp_path / "card.yaml").write_text("mine")
    assert main(["init", str(tiny_cohort), "-o", str(tmp_path / "card.yaml")]) == 2
    assert (tmp_path / "card.yaml").read_text() == "mine"


def test_show_prints_a_shipped_card(capsys):
    from cmb_autoseg.dataset_conversion import shipped_cards

    assert main(["show", "dicom"]) == 0
    assert capsys.readouterr().out == shipped_cards()["dicom"].read_text()
    assert main(["show", "uk_biobnk"]) == 2
    assert "did you mean uk_biobank?" in capsys.readouterr().err


def test_init_prints_a_card(tiny_cohort, capsys):
    assert main(["init", str(tiny_cohort)]) == 0
    assert "role: gre_mag" in capsys.readouterr().out


@pytest.mark.parametrize("before", [True, False])
def test_a_traceback_is_shown_on_demand_only(tmp_path, capsys, before):
    (tmp_path / "file").touch()
    action = ["init", str(tmp_path / "file")]
    assert main(action) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["--debug", *action] if before else [*action, "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_card_that_cannot_be_written_is_named_as_the_user_did(tiny_cohort, capsys):
    out = tiny_cohort / "sub-101/sub-101_T2S.nii.gz/card.yaml"
    assert main(["init", str(tiny_cohort), "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"cmb_cohort: error: {out}: cannot be written")
    assert error.count("\n") == 1


def two_sites(folder, mask_value=3, sessions=("baseline",) * 4):
    """Two subjects a site, each with a session's folder; the masks lie aside and name no session."""
    for number, site, session in zip(range(1, 5), ("siteA", "siteA", "siteB", "siteB"), sessions, strict=True):
        save(folder / f"{site}/K{number}/{session}/K{number}_SWI.nii.gz", scan(number))
        save(folder / f"readings/K{number}_mb.nii.gz", mask_value * ball_mask([((9, 9, 7), 1)]))
    return folder


def drafted(folder, tmp_path):
    card = tmp_path / "card.yaml"
    assert main(["init", str(folder), "-o", str(card)]) == 0
    return card


@pytest.mark.parametrize("sessions", [("baseline",) * 4, ("ses-1", "ses-2", "ses-1", "ses-3")])
def test_draft_spans_sites_and_labels_without_session(tmp_path, capsys, sessions):
    card = drafted(two_sites(tmp_path / "c", mask_value=1, sessions=sessions), tmp_path)
    assert main(["check", str(card), "--count-lesions"]) == 0
    out = capsys.readouterr().out
    assert "usable cases: 4, from 4 subjects" in out
    assert "lesions: 4 in 4 labelled cases" in out
    assert "not used" not in card.read_text()
    assert [case.session for case in read_card(str(card)).cases] == list(sessions)


def test_draft_keeps_folders_apart_that_share_subjects(tmp_path):
    for number in (1, 2, 3):
        for folder in ("raw", "denoised"):
            save(tmp_path / f"c/{folder}/K{number}/K{number}_SWI.nii.gz", scan(number))
    card = drafted(tmp_path / "c", tmp_path)
    assert "{site" not in card.read_text()
    assert [case.name for case in read_card(str(card)).cases] == ["K1", "K2", "K3"]


def test_label_without_session_is_refused_with_both_cures(tmp_path, capsys):
    card = drafted(two_sites(tmp_path / "c"), tmp_path)
    card.write_text(re.sub("case: .*\n", "", card.read_text()))
    assert main(["check", str(card)]) == 2
    error = capsys.readouterr().err
    assert 'add {ses}, or set case: "{sub}" where everybody has one session' in error


def test_check_warns_of_a_value_that_gives_no_lesion(tmp_path, capsys):
    card = drafted(two_sites(tmp_path / "c"), tmp_path)
    card.write_text(card.read_text().replace("{cmb: 1}", "{cmb: 1, other: 3}"))
    assert main(["check", str(card), "--count-lesions"]) == 0
    assert (
        "warning: c: no lesion in any of 4 labelled cases; "
        "if microbleeds have another value in the masks, write values: {cmb: 3}\n"
    ) in capsys.readouterr().err
    card.write_text(card.read_text().replace("{cmb: 1, other: 3}", "{cmb: 3}"))
    assert main(["check", str(card), "--count-lesions"]) == 0
    assert "warning" not in capsys.readouterr().err


def test_check_without_usable_case_is_bad_input(tmp_path, write_card, capsys):
    for number in (101, 102):
        save(tmp_path / f"sub-{number}/sub-{number}_T1.nii.gz", scan(number))
    save(tmp_path / "sub-103/sub-103_T2S.nii.gz", scan(103))
    card = CARD.replace(", optional: true, copy_geometry_from: T2S", "").replace(", optional: true}", "}")
    save(tmp_path / "sub-103/sub-103_CMB.nii.gz", ball_mask(()))
    assert main(["check", write_card(card)]) == 2
    shown = capsys.readouterr()
    assert "no case is usable" in shown.err
    assert "by rule" not in shown.out
    assert "left out: 3" in shown.out
