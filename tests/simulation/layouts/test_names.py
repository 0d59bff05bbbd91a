"""What a simulated cohort is called, and that its figures are marked whatever that is, on scans that are made up."""

import pytest

from cmb_autoseg.cli.cohort import main as cohort_command
from cmb_autoseg.cli.convert import main as convert
from cmb_autoseg.dataset_conversion.card_file import parse_card
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json, read_tsv, write_json
from cmb_autoseg.raw_dataset import kind_of_data, read_raw_dataset
from cmb_autoseg.simulation.cohort import simulate_cohort
from cmb_autoseg.simulation.layouts import LAYOUTS
from cmb_autoseg.workspace import Workspace

from .test_layouts import simulated

pytestmark = pytest.mark.usefixtures("made_up")


def converted(workspace, *cards):
    assert convert([*map(str, cards), "-d", "501", "--workspace", str(workspace)]) == 0
    return Workspace(workspace).dataset("501")


@pytest.fixture
def real(tmp_path):
    """A cohort that the simulator did not make, as far as anybody can tell: called almost like one of its own."""
    folder = simulated(tmp_path / "real", "dou", people=2)
    (folder / "truth" / "simulation.json").unlink()
    (folder / "participants.tsv").unlink()
    rules = "name: SIMULATOR_STUDY\nschema: 1\nimages:\n  SWI: {role: swi, path: 'nii/{sub}.nii'}\n"
    labels = "labels:\n  cmb: {kind: points, path: 'ground_truth/{sub}.mat', variable: cen, space: voxel1}\n"
    (folder / "card.yaml").write_text(rules + labels)
    return folder / "card.yaml"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_card_of_every_layout_has_the_name_and_says_that_it_is_simulated(layout, tmp_path):
    card = parse_card(str(simulated(tmp_path / "c", layout, "--name", "2024", people=1) / "card.yaml")).card
    assert (card.name, card.simulated) == ("2024", True)
    card = parse_card(str(simulated(tmp_path / "d", layout, people=1) / "card.yaml")).card
    assert (card.name, card.simulated) == ("SIMULATED", True)


@pytest.mark.parametrize("name", ["two words", "-x", "", "A\n"])
def test_the_core_refuses_a_name_that_no_card_may_have(name, tmp_path):
    with pytest.raises(InputError, match=r"--name: found .*; use letters, digits"):
        simulate_cohort(tmp_path / "c", 1, name=name)
    assert not (tmp_path / "c").exists()


def test_a_bids_cohort_says_its_name_itself(tmp_path):
    out = simulated(tmp_path / "c", "bids", "--name", "SCANS", people=1)
    assert read_json(out / "dataset_description.json")["Name"] == "SCANS: simulated microbleeds"
    assert (out / "README").read_text().startswith("SCANS: simulated cerebral microbleeds of 1 people")


def test_a_finished_cohort_of_another_name_is_refused(tmp_path, capsys):
    from cmb_autoseg.cli.simulate import main

    simulated(tmp_path / "c", "bids", people=1)
    arguments = ["-o", str(tmp_path / "c"), "-n", "1", "--layout", "bids", "--protocol", "flat", "oblique"]
    assert main([*arguments, "--n-test", "1", "--seed", "1", "--name", "OTHER"]) == 2
    assert "holds a simulation of other settings" in capsys.readouterr().err


def test_two_named_cohorts_make_one_dataset_that_is_called_simulated(tmp_path):
    one = simulated(tmp_path / "one", "bids", "--name", "LAB")
    two = simulated(tmp_path / "two", "bids", "--name", "UNL", "--unlabelled", "--seed", "2")
    folders = converted(tmp_path / "w", one / "card.yaml", two / "card.yaml")
    raw = read_raw_dataset(folders)
    assert {case.cohort for case in raw.cases} == raw.simulated == {"LAB", "UNL"}
    assert len(raw.cases) == 6
    assert kind_of_data((raw, case) for case in raw.cases) == "simulated"


def test_real_scans_are_never_called_simulated(real, tmp_path):
    raw = read_raw_dataset(converted(tmp_path / "w", real))
    assert raw.simulated == frozenset()
    assert kind_of_data((raw, case) for case in raw.cases) == ""

    made_up = simulated(tmp_path / "c", "dou", "--name", "NORTH", "--seed", "2")
    mixed = read_raw_dataset(converted(tmp_path / "mixed", real, made_up / "card.yaml"))
    assert mixed.simulated == {"NORTH"}
    assert kind_of_data((mixed, case) for case in mixed.cases) == "partly simulated"


def test_a_card_of_ones_own_does_not_hide_that_a_folder_was_simulated(tmp_path):
    out = simulated(tmp_path / "c", "bids")
    text = (out / "card.yaml").read_text().replace("simulated: true\n", "").replace("SIMULATED", "NORTH")
    (out / "own.yaml").write_text(text)
    raw = read_raw_dataset(converted(tmp_path / "w", out / "own.yaml"))
    assert raw.simulated == {"NORTH"}


def test_a_card_over_a_simulated_ones_is_not_simulated_by_that(real, tmp_path):
    simulated(tmp_path / "c", "dou")
    (real.parent / "over.yaml").write_text("extends: ../c/card.yaml\nname: OURS\nmeta: {}\n")
    assert not parse_card(str(real.parent / "over.yaml")).is_simulated


def test_a_simulated_ones_card_on_other_scans_is_told(real, tmp_path, capsys):
    out = simulated(tmp_path / "c", "dou")
    (out / "card.yaml").write_text((out / "card.yaml").read_text().partition("meta:")[0])
    cohort_command(["check", f"{out / 'card.yaml'}={real.parent}"])
    assert "take the line out of the card where these are scans of real people" in capsys.readouterr().err
    cohort_command(["check", str(out / "card.yaml")])
    assert "warning" not in capsys.readouterr().err


def test_one_cohort_cannot_be_both(real, tmp_path, capsys):
    out = simulated(tmp_path / "c", "dou", "--name", "SIMULATOR_STUDY")
    assert convert([str(real), str(out / "card.yaml"), "-d", "501", "--workspace", str(tmp_path / "w")]) == 2
    assert "is simulated here and not in" in capsys.readouterr().err
    assert list((tmp_path / "w").rglob("cases.tsv")) == []


def test_datasets_of_earlier_versions_keep_their_digest_and_are_told_by_their_columns(real, tmp_path):
    out = simulated(tmp_path / "c", "bids", "--name", "NORTH", "--seed", "3")
    folders = converted(tmp_path / "w", real, out / "card.yaml")
    digest = read_raw_dataset(folders).digest
    record = read_json(folders.raw / "dataset_record.json")
    assert record.pop("simulated") == ["NORTH"]
    write_json(folders.raw / "dataset_record.json", record)
    raw = read_raw_dataset(folders)
    assert raw.digest == digest
    assert raw.simulated == {"NORTH"}
    assert "average-3-0" in {row["anatomy"] for row in read_tsv(folders.raw / "cases.tsv")}


def test_a_real_ones_card_has_the_digest_that_it_had(tmp_path):
    """Computed before cards had `simulated`: conversions of real cohorts must not begin anew."""
    text = "schema: 1\nname: X\nimages: {s: {role: swi, path: '{sub}.nii'}}\n"
    (tmp_path / "card.yaml").write_text(text)
    (tmp_path / "no.yaml").write_text(text + "simulated: false\n")
    digest = "sha256:98731502ca1f2539f117ddbc665d4c8839ff6b1eb7a1eac0872f769ff9a4f34c"
    assert parse_card(str(tmp_path / "card.yaml")).digest == digest
    assert parse_card(str(tmp_path / "no.yaml")).digest == digest
