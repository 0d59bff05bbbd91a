from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.dataset_conversion.conversion import workspace_salt
from cmb_autoseg.dataset_conversion.sorting.resolver import read_card
from cmb_autoseg.errors import CardError, InputError
from cmb_autoseg.inference.inputs import InputSettings, find_cases
from cmb_autoseg.records import DERIVED_ROLES, Role
from cmb_autoseg.workspace import Workspace

ROLES = (Role.SWI, Role.GRE_MAG, Role.T1)
"""Channels of the model: _0000 SWI, _0001 magnitude, _0002 T1."""


def save(path: Path, shape: tuple[int, ...] = (6, 6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones(shape, np.float32), np.eye(4)), path)
    return path


def roles_of(source: Path, roles: tuple[Role, ...] = ROLES, **options) -> dict[str, dict[Role, str]]:
    """Case name to role to file name."""
    cases, failures = find_cases(source, InputSettings(roles, **options))
    assert failures == []
    return {case.name: {role: Path(image.path).name for role, image in case.images.items()} for case in cases}


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("sub-01_swi", Role.SWI),
        ("sub-01_SWI_mag", Role.GRE_MAG),
        ("sub-01_T2starw", Role.GRE_MAG),
        ("Axial_T2_STAR", Role.GRE_MAG),
        ("Axial T2 STAR", Role.GRE_MAG),
        ("sub-101_space-T2S_desc-masked_T2S", Role.GRE_MAG),
        ("gre", Role.GRE_MAG),
        ("p7_Chimap", Role.QSM),
        ("p7-qsm", Role.QSM),
        ("sub-01_acq-swi_T2starw", Role.SWI),
        ("sub-01_part-mag_swi", Role.GRE_MAG),
    ],
)
def test_a_single_file_says_its_role_by_its_name(tmp_path, name, role):
    roles = (*ROLES, Role.QSM)
    cases, _ = find_cases(save(tmp_path / f"{name}.nii.gz"), InputSettings(roles, echo=None))
    assert list(cases[0].images) == [role]
    assert (cases[0].name, cases[0].notes) == (name, {})


def test_a_name_that_says_nothing_is_taken_as_the_first_susceptibility_channel_with_a_note(tmp_path):
    path = save(tmp_path / "swine.nii")  # "swi" is no word of its own here
    cases, _ = find_cases(path, InputSettings((Role.T1, Role.GRE_MAG, Role.SWI)))
    assert list(cases[0].images) == [Role.GRE_MAG]
    assert "does not say which sequence it is; taken as gre_mag" in next(iter(cases[0].notes.values()))


def test_a_sequence_that_the_model_does_not_know_is_taken_as_one_that_it_knows_with_a_note(tmp_path):
    cases, _ = find_cases(save(tmp_path / "a_swi.nii"), InputSettings((Role.GRE_MAG,)))
    assert list(cases[0].images) == [Role.GRE_MAG]
    assert "says swi, which the model does not know; taken as gre_mag" in next(iter(cases[0].notes.values()))


def test_the_chosen_role_goes_before_the_name(tmp_path):
    assert roles_of(save(tmp_path / "a_swi.nii"), role=Role.GRE_MAG) == {"a_swi": {Role.GRE_MAG: "a_swi.nii"}}
    (case,), _ = find_cases(tmp_path / "a_swi.nii", InputSettings(ROLES, role=Role.GRE_MAG))
    assert case.notes == {Role.GRE_MAG: "a_swi.nii: its name says swi; read as gre_mag, as --role says"}
    (case,), _ = find_cases(tmp_path / "a_swi.nii", InputSettings(ROLES, role=Role.SWI))
    assert case.notes == {}
    with pytest.raises(InputError, match="role t1: the model cannot use it alone; choose one of swi, gre_mag"):
        find_cases(tmp_path / "a_swi.nii", InputSettings(ROLES, role=Role.T1))


@pytest.mark.parametrize("name", ["sub-01_rec-mIP_swi", "a_swi_minip", "mIP"])
def test_a_projection_is_refused_and_left_out_of_folders(tmp_path, name, capsys):
    path = save(tmp_path / f"{name}.nii.gz")
    with pytest.raises(InputError, match=rf"{name}\.nii\.gz: its name says that it is a projection .*; give the scan"):
        find_cases(path, InputSettings(ROLES))
    assert list(find_cases(path, InputSettings(ROLES, role=Role.SWI))[0][0].images) == [Role.SWI]
    save(tmp_path / "b_swi.nii.gz")
    assert roles_of(tmp_path) == {"b_swi": {Role.SWI: "b_swi.nii.gz"}}
    assert f"1 projections left out, by their names: {name}.nii.gz" in capsys.readouterr().err


def test_parts_of_one_scan_by_bids_names_are_one_case(tmp_path):
    for name in ("swi", "part-mag_swi", "part-phase_swi"):
        save(tmp_path / f"sub-01_{name}.nii.gz")
    (case,), failures = find_cases(tmp_path, InputSettings((*ROLES, Role.GRE_PHASE)))
    assert failures == []
    assert (case.name, set(case.images)) == ("sub-01_swi", {Role.SWI, Role.GRE_MAG, Role.GRE_PHASE})


def test_channels_of_one_case_and_a_role_for_both_are_refused(tmp_path):
    for channel in ("0000", "0001"):
        save(tmp_path / f"a_{channel}.nii.gz")
    _, (failure,) = find_cases(tmp_path, InputSettings(ROLES, role=Role.SWI))
    assert failure.reason.endswith("a_0001.nii.gz: a second file of case a; leave out --role swi")


@pytest.mark.parametrize("name", ["a_phase", "a_T1w", "t2_flair", "sub-01_part-phase_T2starw"])
def test_a_single_file_that_shows_no_microbleeds_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=rf"{name}.*does not show microbleeds.*say so with --role"):
        find_cases(save(tmp_path / f"{name}.nii.gz"), InputSettings(ROLES))


def test_a_single_file_with_a_channel_number(tmp_path):
    assert roles_of(save(tmp_path / "p1_0001.nii.gz")) == {"p1": {Role.GRE_MAG: "p1_0001.nii.gz"}}
    with pytest.raises(InputError, match=r"p1_0002.*channel 0002 is t1"):
        find_cases(save(tmp_path / "p1_0002.nii.gz"), InputSettings(ROLES))


def test_a_single_file_with_a_channel_number_names_those_beside_it(tmp_path):
    for name in ("p1_0001.nii.gz", "p1_0002.nii", "p11_0000.nii.gz", "p1_x_0000.nii.gz"):
        save(tmp_path / name)
    cases, _ = find_cases(save(tmp_path / "p1_0000.nii.gz"), InputSettings(ROLES))
    assert cases[0].notes == {
        Role.SWI: "p1_0000.nii.gz alone is looked at, not p1_0001.nii.gz, p1_0002.nii beside it; give their folder to "
        "use all"
    }


def test_echo_is_handed_on(tmp_path):
    cases, _ = find_cases(save(tmp_path / "mag.nii.gz", (6, 6, 4, 3)), InputSettings(ROLES, echo=2))
    assert cases[0].images[Role.GRE_MAG].echo == 2


def test_a_folder_with_channel_numbers(tmp_path):
    for name in ("b_0000.nii.gz", "a_0000.nii.gz", "a_0001.nii", "a_0002.nii.gz", "c_0001.nii.gz", ".b_0001.nii.gz"):
        save(tmp_path / name)
    save(tmp_path / "sub" / "d_0000.nii.gz")
    (tmp_path / "notes.txt").write_text("x")
    assert roles_of(tmp_path) == {
        "a": {Role.SWI: "a_0000.nii.gz", Role.GRE_MAG: "a_0001.nii", Role.T1: "a_0002.nii.gz"},
        "b": {Role.SWI: "b_0000.nii.gz"},
        "c": {Role.GRE_MAG: "c_0001.nii.gz"},
    }


def test_bad_cases_of_a_folder_fail_and_the_others_go_on(tmp_path):
    for name in ("good_0000", "range_0000", "range_0003", "missing_0002", "stray", "twice_0000"):
        save(tmp_path / f"{name}.nii.gz")
    save(tmp_path / "twice_0000.nii")

    cases, failures = find_cases(tmp_path, InputSettings(ROLES))

    assert [case.name for case in cases] == ["good"]
    reasons = {failure.case: failure.reason for failure in failures}
    assert set(reasons) == {"range", "missing", "stray", "twice"}
    assert "range_0003.nii.gz: channel 0003 is unknown" in reasons["range"]
    assert "_0000 swi, _0001 gre_mag, _0002 t1" in reasons["range"]
    assert "no susceptibility sequence (found t1); the model needs one of swi, gre_mag" in reasons["missing"]
    assert "no channel number among files that have one" in reasons["stray"]
    assert "a second file of channel 0000" in reasons["twice"]


def test_echo_is_for_the_four_dimensional_channel_only(tmp_path):
    save(tmp_path / "a_0000.nii.gz")
    save(tmp_path / "a_0001.nii.gz", (6, 6, 4, 3))
    cases, _ = find_cases(tmp_path, InputSettings(ROLES, echo=3))
    assert {role: image.echo for role, image in cases[0].images.items()} == {Role.SWI: None, Role.GRE_MAG: 3}


def test_a_folder_of_any_names_has_one_case_a_file_and_leaves_phase_out(tmp_path, capsys):
    for name in ("x_mag", "x_phase", "scan_2019"):
        save(tmp_path / f"{name}.nii.gz")
    assert set(roles_of(tmp_path)) == {"x_mag", "scan_2019"}
    assert "1 phase images left out, by their names: x_phase.nii.gz" in capsys.readouterr().err


def test_a_folder_of_any_names_keeps_failures_apart(tmp_path):
    for name in ("a_swi.nii", "a_swi.nii.gz", "b_flair.nii.gz"):
        save(tmp_path / name)
    cases, failures = find_cases(tmp_path, InputSettings(ROLES))
    assert [case.name for case in cases] == ["a_swi"]
    assert ["second file of case a_swi" in failure.reason for failure in failures] == [True, False]


def test_files_whose_names_differ_in_the_sequence_alone_are_one_case(tmp_path, capsys):
    for name in ("s1_swi", "s1_T2star_run1", "s1_t1", "s2_swi", "s2_flair", "s2_phase", "x-T2S_d_T2S", "x-T2S_d_T1"):
        save(tmp_path / f"{name}.nii.gz")
    save(tmp_path / "mag.nii.gz")
    save(tmp_path / "swi.nii.gz")
    assert roles_of(tmp_path) == {
        "s1_swi": {Role.SWI: "s1_swi.nii.gz", Role.T1: "s1_t1.nii.gz"},
        "s1_T2star_run1": {Role.GRE_MAG: "s1_T2star_run1.nii.gz"},
        "s2_swi": {Role.SWI: "s2_swi.nii.gz"},
        "x-T2S_d_T2S": {Role.GRE_MAG: "x-T2S_d_T2S.nii.gz", Role.T1: "x-T2S_d_T1.nii.gz"},
        "swi": {Role.SWI: "swi.nii.gz", Role.GRE_MAG: "mag.nii.gz"},
    }
    shown = capsys.readouterr().err
    assert "left out, since the model knows only swi, gre_mag, t1: s2_flair.nii.gz" in shown


def test_the_roles_of_the_tool_are_words_of_names(tmp_path):
    roles = tuple(role for role in Role if role not in DERIVED_ROLES)
    names = {role: f"s1_{role}_run-2.nii.gz" for role in roles}
    for name in names.values():
        save(tmp_path / name)
    assert roles_of(tmp_path, roles) == {"s1_swi_run-2": names}


def test_a_role_that_comes_twice_keeps_its_files_apart(tmp_path):
    for name in ("s1_mag", "s1_T2star", "s1_swi"):
        save(tmp_path / f"{name}.nii.gz")
    assert set(roles_of(tmp_path)) == {"s1_mag", "s1_T2star", "s1_swi"}
    assert set(roles_of(tmp_path, role=Role.SWI)) == {"s1_mag", "s1_T2star", "s1_swi"}


def test_the_echo_is_for_the_grouped_file_that_has_echoes(tmp_path):
    save(tmp_path / "s1_swi.nii.gz")
    save(tmp_path / "s1_mag.nii.gz", (6, 6, 4, 3))
    (case,), _ = find_cases(tmp_path, InputSettings(ROLES, echo=2))
    assert {role: image.echo for role, image in case.images.items()} == {Role.SWI: None, Role.GRE_MAG: 2}


def notes_of(source: Path, **options) -> list[str]:
    (case,), _ = find_cases(source, InputSettings(ROLES, **options))
    return list(case.notes.values())


@pytest.mark.parametrize("names", [("s1_swi", "s1_mag"), ("s1_0000", "s1_0001")])
def test_an_echo_that_fits_no_scan_of_a_case_is_a_note(tmp_path, names):
    one, other = (save(tmp_path / f"{name}.nii.gz").name for name in names)
    found = f"{one} has one echo; {other} has one echo"
    assert notes_of(tmp_path, echo=7) == [f"--echo 7 not used: {found}"]
    assert notes_of(tmp_path, echo=1) == notes_of(tmp_path) == []
    save(tmp_path / other, (6, 6, 4, 3))
    assert notes_of(tmp_path, echo=7) == []  # Reading it will say that there is no echo 7.


def test_an_echo_that_fits_no_scan_of_a_bids_session_is_a_note(tmp_path):
    anat = tmp_path / "sub-01" / "anat"
    save(anat / "sub-01_run-1_T2starw.nii.gz")
    save(anat / "sub-01_run-2_T2starw.nii.gz")
    (note,) = notes_of(tmp_path, echo=7)
    assert note.startswith("gre_mag: took sub-01_run-1_T2starw.nii.gz, not")
    assert note.endswith("; --echo 7 not used: sub-01_run-1_T2starw.nii.gz has one echo")
    assert not any("--echo 1 " in note for note in notes_of(tmp_path, echo=1))
    save(anat / "sub-01_echo-7_T2starw.nii.gz")
    assert not any("not used" in note for note in notes_of(tmp_path, echo=7))


def test_an_echo_beside_that_of_the_card_is_a_note(tmp_path):
    (tmp_path / "mine.yaml").write_text(CARD.replace("role: gre_mag,", "role: gre_mag, echo: 2,"))
    save(tmp_path / "p1" / "G.nii.gz", (6, 6, 4, 3))
    assert notes_of(tmp_path / "mine.yaml", echo=3) == ["--echo 3 not used: of G.nii.gz the card takes echo 2"]
    assert notes_of(tmp_path / "mine.yaml", echo=2) == []


def test_a_preferred_tag_that_no_scan_has_is_refused(tmp_path):
    for name in ("sub-01_run-01", "sub-01_acq-hires_run-02", "sub-02"):
        save(tmp_path / "bids" / name[:6] / "anat" / f"{name}_T2starw.nii.gz")
    save(tmp_path / "bids" / "sub-01" / "func" / "sub-01_task-rest_bold.nii.gz")
    for wrong in ("run2", "run-3", "task-rest"):
        with pytest.raises(InputError, match=rf"--prefer {wrong}: in no scan's .* there are: acq-hires, run-1, run-2$"):
            find_cases(tmp_path / "bids", InputSettings(ROLES, prefer=("acq-hires", wrong)))
    assert len(find_cases(tmp_path / "bids", InputSettings(ROLES, prefer=("run-002",)))[0]) == 2
    for source in (save(tmp_path / "files" / "a_swi.nii.gz"), tmp_path / "files"):
        with pytest.raises(InputError, match=r"--prefer run-2: .*; tags there are: none"):
            find_cases(source, InputSettings(ROLES, prefer=("run-2",)))


def test_an_empty_folder_names_itself_and_what_is_expected(tmp_path):
    (tmp_path / ".hidden.nii.gz").touch()
    with pytest.raises(InputError, match=rf"-i {tmp_path}: nothing to predict.*CASE_0000\.nii\.gz.*DICOM"):
        find_cases(tmp_path, InputSettings(ROLES))


def test_what_is_no_input_says_what_may_be(tmp_path):
    (tmp_path / "table.csv").touch()
    with pytest.raises(InputError, match=r"table.csv: a file of another kind; -i takes a \.nii"):
        find_cases(tmp_path / "table.csv", InputSettings(ROLES))
    with pytest.raises(InputError, match="no such file or folder; -i takes"):
        find_cases(tmp_path / "absent", InputSettings(ROLES))
    with pytest.raises(InputError, match="knows no susceptibility sequence"):
        find_cases(tmp_path, InputSettings((Role.T1,)))


CARD = """
schema: 1
name: Mine
root: .
images:
  S: {role: swi, optional: true, path: "{sub}/S.nii.gz"}
  G: {role: gre_mag, optional: true, path: "{sub}/G.nii.gz"}
  T: {role: t1, optional: true, path: "{sub}/T.nii.gz", copy_geometry_from: S}
labels: {}
"""


def test_a_card_gives_the_sequences_that_the_model_knows(tmp_path):
    card = tmp_path / "mine.yaml"
    card.write_text(CARD)
    for name in ("p1/S", "p1/G", "p1/T", "p2/S", "p2/T"):
        save(tmp_path / f"{name}.nii.gz")

    cases, failures = find_cases(card, InputSettings((Role.GRE_MAG, Role.T1)))

    # S stays in p1 although the model does not know it: T takes its geometry.
    assert {case.name: set(case.images) for case in cases} == {"p1": {Role.SWI, Role.GRE_MAG, Role.T1}}
    assert [failure.case for failure in failures] == ["p2"]
    assert "no susceptibility sequence" in failures[0].reason


def test_a_card_with_a_root_and_a_mistyped_card(tmp_path):
    save(tmp_path / "data" / "p1" / "S.nii.gz")
    (tmp_path / "mine.yaml").write_text(CARD)
    cases, _ = find_cases(Path(f"{tmp_path}/mine.yaml={tmp_path}/data"), InputSettings(ROLES))
    assert [case.name for case in cases] == ["p1"]
    with pytest.raises(CardError):
        find_cases(Path(f"valdoo={tmp_path}"), InputSettings(ROLES))
    with pytest.raises(InputError, match="--role swi: card Mine says what each of its scans is; leave the option out"):
        find_cases(tmp_path / "mine.yaml", InputSettings(ROLES, role=Role.SWI))


def test_a_card_with_pseudonyms_names_cases_as_conversion_does(tmp_path):
    save(tmp_path / "77810" / "S.nii.gz")
    (tmp_path / "77811").mkdir()
    save(tmp_path / "77811" / "T.nii.gz")
    card = tmp_path / "mine.yaml"
    card.write_text(CARD + "privacy: {hash_ids: true}\n")
    workspace = Workspace(tmp_path / "w")

    (case,), (failure,) = find_cases(card, InputSettings(ROLES, workspace=workspace))

    cohort = read_card(str(card), workspace_salt(workspace), labels=False)
    assert [case.name] == [known.name for known in cohort.cases]
    assert [failure.case] == [known.case for known in cohort.exclusions]
    assert "7781" not in f"{case.name} {case.subject} {failure.case} {failure.reason}"
    assert case.shown_file(Role.SWI) == "swi"
    assert case.shown(f"{tmp_path}/77810/S.nii.gz: cut") == f"{case.name}/S.nii.gz: cut"
    assert "disguise" not in case.model_dump()
    with pytest.raises(CardError, match=r"privacy.hash_ids: pseudonyms are made with the secret of a workspace"):
        find_cases(card, InputSettings(ROLES))
    assert not (tmp_path / "cmb_workspace").exists()


def test_no_secret_is_made_where_none_is_needed(tmp_path):
    save(tmp_path / "p1" / "S.nii.gz")
    (tmp_path / "mine.yaml").write_text(CARD)
    (case,), _ = find_cases(tmp_path / "mine.yaml", InputSettings(ROLES, workspace=Workspace(tmp_path / "w")))
    assert (case.name, case.shown_file(Role.SWI)) == ("p1", "S.nii.gz")
    assert not (tmp_path / "w").exists()


def test_a_bids_root(tmp_path):
    save(tmp_path / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_T2starw.nii.gz")
    cases, failures = find_cases(tmp_path, InputSettings(ROLES))
    assert failures == []
    assert [(case.subject, list(case.images)) for case in cases] == [("sub-01", [Role.GRE_MAG])]
    with pytest.raises(InputError, match="--role swi: names in a BIDS dataset say what each scan is"):
        find_cases(tmp_path, InputSettings(ROLES, role=Role.SWI))
