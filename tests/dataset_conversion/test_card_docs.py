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
from cmb_autoseg.quality_control.settings import QualitySettings
from cmb_autoseg.records import Role

from .conftest import TWO_BALLS, ball_mask, save, scan

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS = {"cmb_cohort": cohort.main, "cmb_convert": convert.main}


def blocks(page: str, language: str, marked: bool = True) -> list[str]:
    """Fenced blocks of a page; with `marked` also those that a comment says are not run."""
    before = "" if marked else "(?<!-->\n)"
    return re.findall(rf"{before}^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def test_card_of_the_reference_works(tmp_path):
    card, points, *_ = blocks("reference/cards.md", "yaml")
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


PAGES_OF_KEYS = {
    **dict.fromkeys(("PrepSettings", "RegistrationBounds", "BrainNetworkSettings"), "preparation"),
    "QualitySettings": "quality",
}


def test_reference_names_every_key():
    schema = card_json_schema()
    pages = {name: (DOCS / f"reference/{name}.md").read_text() for name in ("cards", "preparation", "quality")}
    for model, definition in {"Card": schema, **schema["$defs"]}.items():
        page = pages[PAGES_OF_KEYS.get(model, "cards")]
        for key in definition.get("properties", ()):
            assert re.search(rf"`(?:\w+\.)*{key}\b|\b{key}:", page), f"{model}.{key}"


def test_defaults_of_quality_control_are_those_of_the_page():
    page = (DOCS / "reference/quality.md").read_text()
    printed = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| `([^`]*)` \|", page, re.MULTILINE)
    written = {key: yaml.safe_load(value) for keys, value in printed for key in re.findall(r"\w+", keys)}
    assert len(written) > 15
    assert QualitySettings.model_validate(written) == QualitySettings()


def run_commands_of(page, capsys):
    for line in "".join(blocks(page, "bash", marked=False)).splitlines():
        command, *arguments = shlex.split(line)
        assert COMMANDS[command](arguments) == 0, capsys.readouterr()


def files_of(page, folder):
    (layout,) = (text for text in blocks(page, "text") if text.startswith(f"{folder}/"))
    return layout.split()


def in_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CMB_WORKSPACE", raising=False)


def test_a_card_is_adapted_as_the_page_does_it(tmp_path, monkeypatch, capsys):
    in_a_new_folder(tmp_path, monkeypatch)
    page = "how-to/adapt-a-card.md"
    for number, name in enumerate(files_of(page, "clinic")):
        save(tmp_path / name, ball_mask(TWO_BALLS) if "_mb" in name else scan(number))
    (card,) = blocks(page, "yaml")
    (tmp_path / "clinic.yaml").write_text(card)
    run_commands_of(page, capsys)
    out = capsys.readouterr().out
    assert "files that no pattern matches: 2\n    P001/P001_mb.nii.gz" in out
    assert "lesions: 4 in 2 labelled cases" in out
    rows = (tmp_path / "cmb_workspace/raw/Dataset510_CLINIC/cases.tsv").read_text().splitlines()[1:]
    assert len(rows) == 3


def test_commands_on_dicom_run(tmp_path, monkeypatch, capsys):
    from .test_shipped_cards import series

    in_a_new_folder(tmp_path, monkeypatch)
    for n in (1, 2):
        for number, description in enumerate(("SWI_Images", "t1_mprage")):
            series(tmp_path / f"export/{n}{number}", f"ID{n}", "20200101", number, description)
    run_commands_of("how-to/dicom-cohort.md", capsys)
    assert len(list((tmp_path / "cmb_workspace/raw/Dataset511_export/imagesUn").glob("anon*_0000.nii.gz"))) == 2


def test_commands_on_pictures_run(tmp_path, monkeypatch, capsys):
    from PIL import Image

    in_a_new_folder(tmp_path, monkeypatch)
    page = "how-to/pictures-with-boxes.md"
    for name in files_of(page, "slices"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            Image.fromarray(scan(int(name[-6:-4]), (40, 40, 9))[..., 4].clip(0, 255).astype("uint8")).save(path)
        else:
            path.write_text("0 0.5 0.5 0.2 0.2\n" if "_001" in name else "")
    run_commands_of(page, capsys)
    assert "lesions: 1 in 1 labelled cases" in capsys.readouterr().out


def test_commands_of_the_guide_run(tmp_path, monkeypatch, capsys):
    in_a_new_folder(tmp_path, monkeypatch)
    for number, name in enumerate(files_of("how-to/my-own-cohort.md", "my_cohort")):
        if name.endswith(".nii.gz"):
            save(tmp_path / name, ball_mask(TWO_BALLS) if "_cmb" in name else scan(number))
    (tmp_path / "my_cohort/participants.tsv").write_text("participant_id\tage\nP001\t70\nP002\t71\n")
    run_commands_of("how-to/my-own-cohort.md", capsys)
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
