"""Every command and block that the documentation prints is run, parsed or checked; every link leads somewhere."""

import re
import shlex
import subprocess

import numpy as np
import pytest
import yaml

from cmb_autoseg.cli._help import examples_of
from cmb_autoseg.dataset_conversion.card import Card
from cmb_autoseg.dataset_conversion.card_file import parse_card
from cmb_autoseg.files import read_json
from cmb_autoseg.trainers.recipe import Recipe, read_recipe

from .blocks import (
    COMMANDS,
    DOCS,
    PROJECT,
    blocks,
    environment_without_tool_variables,
    pages,
    reference_generator,
    run_page,
)

TUTORIAL = "tutorials/simulated-cohort.md"


def all_blocks(language):
    return [block for page in pages() for block in blocks(page) if block.language == language]


def parser_of(words):
    parsers = reference_generator().build_parsers()
    return parsers[words[0]]


def parse(words):
    """Parse a command; options that print and stop leave with 0."""
    code = 0
    try:
        parser_of(words).parse_args(words[1:])
    except SystemExit as end:
        code = end.code
    assert code == 0, words


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory, small_scanner, small_recipes):
    """The folder in which the tutorial was followed to its end."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        environment_without_tool_variables(patch)
        patch.chdir(folder)
        assert run_page(TUTORIAL, patch) >= 9
    return folder / "cmb_tutorial"


@pytest.fixture(scope="module")
def server(tutorial):
    """The tutorial's folder after the dataset was trained as on a server."""
    with pytest.MonkeyPatch.context() as patch:
        environment_without_tool_variables(patch)
        patch.chdir(tutorial)
        assert run_page("how-to/train-on-a-gpu-server.md", patch) == 3
    return tutorial


@pytest.fixture
def reader(server, monkeypatch):
    """A reader in the server's folder, with new scans and masks."""
    environment_without_tool_variables(monkeypatch)
    monkeypatch.chdir(server)
    raw = server / "cmb_workspace" / "raw" / "Dataset501_SIMULATED"
    for name, source in (("new_scans", "imagesTs"), ("masks", "labelsTs")):
        if not (server / name).exists():
            (server / name).symlink_to(raw / source)
    return server


def test_the_tutorial_ends_with_a_report(tutorial):
    metrics = read_json(tutorial / "evaluation" / "metrics.json")
    assert metrics["n_cases"] == 1
    assert (tutorial / "evaluation" / "report.html").is_file()


@pytest.mark.parametrize(
    "page",
    [
        "how-to/install.md",
        "how-to/predict-a-folder.md",
        "how-to/explain-a-finding.md",
        "how-to/follow-a-run.md",
        "how-to/after-a-failure.md",
    ],
)
def test_how_tos_run_as_they_stand(page, reader, monkeypatch):
    assert run_page(page, monkeypatch) > 0


def test_plain_nnunet_gives_our_probabilities_when_used_as_the_page_says(reader, monkeypatch):
    from cmb_autoseg.geometry import read_volume
    from cmb_autoseg.inference.patches import PatchEnsemble
    from cmb_autoseg.records import Role

    run_page("how-to/plain-nnunet.md", monkeypatch)
    model = next((reader / "cmb_workspace/results/Dataset501_SIMULATED").glob("CMBTrainer__demo__3d"))
    images = reader / "cmb_workspace/raw/Dataset501_SIMULATED/imagesTs"
    case = sorted(images.glob("*_0000.nii.gz"))[0].name.removesuffix("_0000.nii.gz")
    theirs = np.load(reader / "nnunet_out" / f"{case}.npz")["probabilities"][1]
    channels = {Role.SWI: "0000", Role.GRE_MAG: "0001", Role.T1: "0002"}
    volumes = {role: read_volume(images / f"{case}_{number}.nii.gz") for role, number in channels.items()}
    ours = PatchEnsemble(model, None, "cpu").probability(volumes).data.transpose(2, 1, 0)
    brain = np.any([volume.data.transpose(2, 1, 0) != 0 for volume in volumes.values()], axis=0)
    assert np.abs(ours - theirs)[brain].max() < 1e-3
    assert theirs[brain].std() > 1e-4


def test_every_block_that_is_not_run_says_why_and_its_commands_parse():
    skipped = [block for block in all_blocks("bash") if not block.runs]
    assert skipped
    for block in skipped:
        assert re.fullmatch(r"not run: \w.+", block.mark), block.page
        subprocess.run(["bash", "-n", "-c", block.text], check=True)
        for line in block.lines():
            found = re.search(r"(?:^|\s)(cmb_\w+ -.*|cmb_convert .*)", line)
            words = shlex.split(found[1].split(" > ")[0].split(" &")[0]) if found else []
            if words and words[0] in COMMANDS and "$SLURM" not in line:
                parse(words)


def test_pages_with_blocks_that_run_are_all_in_a_test():
    tested = {
        TUTORIAL,
        "how-to/train-on-a-gpu-server.md",
        "how-to/install.md",
        "how-to/predict-a-folder.md",
        "how-to/explain-a-finding.md",
        "how-to/follow-a-run.md",
        "how-to/after-a-failure.md",
        "how-to/plain-nnunet.md",
        *(f"how-to/{name}.md" for name in ("my-own-cohort", "adapt-a-card", "dicom-cohort", "pictures-with-boxes")),
        # tests/dataset_conversion/test_card_docs.py
        "how-to/predict-bids.md",  # tests/integration/test_bids.py
    }
    assert {block.page for block in all_blocks("bash") if block.runs} <= tested


def test_yaml_blocks_are_cards_or_recipes(tmp_path):
    assert len(all_blocks("yaml")) >= 4
    for block in all_blocks("yaml"):
        content = yaml.safe_load(block.text)
        if block.mark.startswith("part of a card"):
            whole = {"schema": 1, "name": "X", "images": {"s": {"role": "swi", "path": "{sub}.nii"}}}
            Card.model_validate({**whole, **content})
        elif block.mark.startswith("part of a recipe"):
            Recipe.model_validate({"name": "x", "description": "", "epochs": 1, "steps_per_epoch": 1, **content})
        elif "extends" in content:
            (tmp_path / "card.yaml").write_text(block.text)
            parse_card(str(tmp_path / "card.yaml"))
        elif "epochs" in content:
            (tmp_path / "recipe.yaml").write_text(block.text)
            read_recipe(str(tmp_path / "recipe.yaml"))
        else:
            Card.model_validate(content)


def test_recipe_reference_explains_every_key():
    page = (DOCS / "reference/recipes.md").read_text()
    rows = re.findall(r"^\| `([\w.]+)` \|.*\| ([^|]*) \|$", page, re.M)
    assert len(rows) > 25
    assert all(meaning.strip() for _, meaning in rows)
    assert "<class" not in page
    assert "| `boxes.batch_norm` | `true` or `false` | `true` |" in page
    for key in ("epochs", "steps_per_epoch"):
        assert re.search(rf"^\| `{key}` \|.*\| required; a mixture has none \|", page, re.M)
    assert re.search(r"^\| `name` \|.*\| required \|", page, re.M)
    assert re.search(r"^\| `ensemble` \|.*\| none of its own \|$", page, re.M)


@pytest.mark.parametrize("command", reference_generator().build_parsers())
def test_every_help_has_examples_that_parse_and_exit_codes(command):
    parser = reference_generator().build_parsers()[command]
    assert parser.description
    text = parser.format_help()
    assert "exit codes:" in text
    examples = examples_of(parser.epilog)
    assert examples
    for line in examples:
        words = shlex.split(line)
        parse(words)
        assert words[0] == command.split()[0]


@pytest.mark.parametrize("command", reference_generator().build_parsers())
def test_every_option_is_explained_and_states_its_default(command):
    parser = reference_generator().build_parsers()[command]
    for action in parser._actions:
        if action.option_strings:
            assert action.help, (command, action.option_strings)
        if action.default not in (None, False, [], "==SUPPRESS==") and action.option_strings:
            shown = action.help % {"default": action.default, "prog": command}
            assert f"{action.default}" in shown, (command, action.option_strings)
            assert "default" in shown


def test_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path, monkeypatch):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config = load_config(str(PROJECT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path / "site"))
    config.plugins.on_startup(command="build", dirty=False)
    build(config)
    built = list((tmp_path / "site").rglob("*.html"))
    assert len(built) > 20
    for page in built:
        html = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=[\"']?([^\"' >]+)", html)
        loaded += re.findall(r"<link[^>]*rel=[\"']?(?:stylesheet|preconnect)[^>]*href=[\"']?([^\"' >]+)", html)
        assert not [url for url in loaded if re.match(r"(https?:)?//", url)], page


def test_pictures_are_small():
    for picture in (DOCS / "images").glob("*.png"):
        assert picture.stat().st_size < 150_000, picture
