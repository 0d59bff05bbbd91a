"""What the documentation of cards prints is what the tool does."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cmb_autoseg.cli import cohort, convert
from cmb_autoseg.dataset_conversion import card_json_schema, read_card
from cmb_autoseg.records import Role

from .conftest import TWO_BALLS, ball_mask, save, scan

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS = {"cmb_cohort": cohort.main, "cmb_convert": convert.main}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def test_card_of_the_reference_works(tmp_path):
    card, points = blocks("reference/cards.md", "yaml")
    (tmp_path / "card.yaml").write_text(card)
    (tmp_path / "participants.tsv").write_text("participant_id\tgroup\nP101\ttrain\nP201\ttest\n")
    for sub in ("P101", "P201"):
        for name in (f"{sub}/a/{sub}_swi", f"{sub}/a/{sub}_t2", f"reads/{sub}_a"):
            (tmp_path / f"{name}.nii.gz").parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / f"{name}.nii.gz").touch()
    one, two = read_card(str(tmp_path / "card.yaml")).cases
    assert (one.name, one.split, one.meta["site"], one.meta["field_strength_t"]) == ("P101_a", "train", "1", "3.0")
    assert (two.split, set(two.images)) == ("test", {Role.SWI, Role.T2})

    with_points = {**yaml.safe_load(card), **yaml.safe_load(points)}
    (tmp_path / "points.yaml").write_text(yaml.safe_dump(with_points, sort_keys=False))
    for sub in ("P101", "P201"):
        (tmp_path / "ratings").mkdir(exist_ok=True)
        (tmp_path / "ratings" / f"{sub}_a.tsv").write_text("right\tfront\tup\n")
    labels = [case.label for case in read_card(str(tmp_path / "points.yaml")).cases]
    assert [label.columns for label in labels] == [{"x": "right", "y": "front", "z": "up"}] * 2


def test_reference_names_every_key():
    page = (DOCS / "reference/cards.md").read_text()
    schema = card_json_schema()
    for key in [
        *schema["properties"],
        *schema["$defs"]["ImageCard"]["properties"],
        *schema["$defs"]["LabelCard"]["properties"],
    ]:
        assert re.search(rf"`(?:\w+\.)*{key}\b|\b{key}:", page), key


def test_commands_of_the_guide_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CMB_WORKSPACE", raising=False)
    (layout,) = (text for text in blocks("how-to/my-own-cohort.md", "text") if text.startswith("my_cohort/"))
    for number, name in enumerate(layout.split()):
        if name.endswith(".nii.gz"):
            save(tmp_path / name, ball_mask(TWO_BALLS) if "_cmb" in name else scan(number))
    (tmp_path / "my_cohort/participants.tsv").write_text("participant_id\tage\nP001\t70\nP002\t71\n")
    for line in "".join(blocks("how-to/my-own-cohort.md", "bash")).splitlines():
        command, *arguments = shlex.split(line)
        assert COMMANDS[command](arguments) == 0, capsys.readouterr()
    rows = (tmp_path / "cmb_workspace/raw/Dataset501_mycohort/cases.tsv").read_text().splitlines()[1:]
    assert [row.split("\t")[0] for row in rows] == ["P001_visit1", "P001_visit2", "P002_visit1"]


@pytest.mark.parametrize("arguments", [["list"], ["check", "no_such_card"]])
def test_cards_are_checked_without_torch(arguments):
    code = (
        "import sys; from cmb_autoseg.cli.cohort import main\n"
        f"main({arguments!r})\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'nnunetv2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
