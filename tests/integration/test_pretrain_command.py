"""`cmb_pretrain` through its command, on the tiny cohort with unlabelled scans, and on a second one without labels."""

import shutil
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from cmb_autoseg import locking
from cmb_autoseg.cli import convert, plan_preprocess, pretrain
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json, read_tsv, write_json
from cmb_autoseg.locking import own_folder
from cmb_autoseg.pretraining import loop
from cmb_autoseg.pretraining.encoder_file import read_encoder
from cmb_autoseg.pretraining.objectives import BarlowTwins
from cmb_autoseg.records import Encoder
from cmb_autoseg.workspace import LATEST_CHECKPOINT

RECIPE = """\
schema: 1
name: ssl_tiny
description: seconds, for tests
epochs: 1
steps_per_epoch: 1
network: {features: [4, 8]}
pretraining:
  method: barlow_twins
  epochs: 2
  steps_per_epoch: 1
  batch_size: 2
  warmup_steps: 1
  barlow_twins: {projector: [8, 8]}
"""
UNREAD_CARD = """\
schema: 1
name: Unread
root: .
licence: {id: none, redistribute: false}
case: "{sub}"
images:
  swi: {role: swi, optional: true, path: "{sub:u\\\\d+}/{sub}-swi.nii.gz"}
  qsm: {role: qsm, optional: true, path: "{sub:u\\\\d+}/{sub}-qsm.nii.gz"}
labels: {}
"""


def write_other_scan(source, target, seed):
    """A scan of somebody else."""
    image = nib.load(source)
    values = np.asarray(image.dataobj, dtype=np.float32)
    noise = np.random.default_rng(seed).normal(0, 6, values.shape)
    target.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.where(values > 0, values + noise, 0).astype(np.float32), image.affine), target)


@dataclass(frozen=True)
class Prepared:
    """A workspace with Dataset501 and Dataset502, and a recipe."""

    workspace: Path
    recipe: Path

    def run(self, *arguments, recipe=None, datasets=("501",)):
        where = ["-d", *datasets, "-r", str(recipe or self.recipe), "--workspace", str(self.workspace)]
        return pretrain.main([*where, "-device", "cpu", *map(str, arguments)])

    def refused(self, capsys, *arguments, **further):
        """The one line of a refusal, after which the encoders are as they were."""
        before = self.encoder_files()
        assert self.run(*arguments, **further) == 2
        assert self.encoder_files() == before
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith("cmb_pretrain: error: ")
        return lines[-1]

    def encoder_files(self):
        paths = sorted((self.workspace / "encoders").rglob("*"))
        return {path: path.read_bytes() for path in paths if path.is_file()}

    def encoder(self, name="ssl_tiny", fold=None):
        folder = self.workspace / "encoders" / name
        return (folder if fold is None else folder / f"fold_{fold}") / "encoder.pt"


@pytest.fixture(scope="module")
def prepared(tiny_cohort, tmp_path_factory):
    """Dataset501: p0 to p5 labelled, an unlabelled session of p5, and p6, p7 unlabelled. Dataset502: nobody labelled,
    u0 has no gre_mag, and u1 nothing that the plan of 501 knows."""
    base = tmp_path_factory.mktemp("pretrain")
    cohort, unread = shutil.copytree(tiny_cohort, base / "cohort"), base / "unread"
    scan = cohort / "centreA" / "p1" / "visit1" / "scans" / "p1-susc.nii.gz"
    for seed, sub in enumerate(("p6", "p7")):
        for part in ("susc", "mag"):
            write_other_scan(scan, cohort / "centreA" / sub / "visit1" / "scans" / f"{sub}-{part}.nii.gz", seed)
    write_other_scan(scan, unread / "u0" / "u0-swi.nii.gz", 5)
    write_other_scan(scan, unread / "u1" / "u1-qsm.nii.gz", 6)
    (unread / "card.yaml").write_text(UNREAD_CARD)
    recipe = base / "ssl_tiny.yaml"
    recipe.write_text(RECIPE)
    there = ["--workspace", str(base / "workspace")]
    plan = ["-d", "501", "-c", str(cohort / "card.yaml"), "-device", "cpu", *there]
    assert plan_preprocess.main(plan) == 0
    assert convert.main([str(unread / "card.yaml"), "-d", "502", *there]) == 0
    return Prepared(base / "workspace", recipe)


@pytest.fixture
def with_pictures(prepared, monkeypatch):
    """The prepared workspace without encoders."""
    monkeypatch.setattr("cmb_autoseg.pretraining.loop.N_PROBES", 4)
    monkeypatch.setattr("cmb_autoseg.pretraining.neighbors.N_PLACES", 8)
    yield prepared
    shutil.rmtree(prepared.workspace / "encoders", ignore_errors=True)


@pytest.fixture
def fresh(with_pictures, monkeypatch):
    """Likewise, and without pictures, which take longest here."""
    monkeypatch.setattr("cmb_autoseg.pipeline.pretraining_pictures.draw_pictures", lambda *_: None)
    return with_pictures


def test_one_encoder_for_all_folds_learns_from_people_whom_no_fold_judges(with_pictures, capsys):
    assert with_pictures.run(datasets=("501", "502")) == 0

    said = capsys.readouterr()
    assert "next: cmb_train -d 501 -f all -r " in said.out
    assert str(with_pictures.encoder()) in said.out
    assert "for neighbors.png" in said.err
    assert (
        "learns from 3 cases of 3 subjects (2 of Dataset501_Elsewhere, 1 of Dataset502_Unread); left out: "
        "8 cases of 6 subjects (labelled or tested), 1 case of 1 subject (without swi or gre_mag)"
    ) in said.err
    record = Encoder.read(with_pictures.encoder().with_name("encoder.json"))
    assert record.subjects == ("Elsewhere/p6", "Elsewhere/p7", "Unread/u0")
    assert (record.n_cases, record.steps, record.fold, record.method) == (3, 2, None, "barlow_twins")
    assert record.topology.features_per_stage == (4, 8)
    assert read_encoder(with_pictures.encoder())[1] == record
    made = {path.name for path in with_pictures.encoder().parent.iterdir()}
    pictures = {"progress.png", "neighbors.png"}
    assert made == {"encoder.pt", "encoder.json", "settings.json", "progress.tsv", *pictures}
    assert len(read_tsv(with_pictures.encoder().with_name("progress.tsv"))) == 3

    settings = read_json(with_pictures.encoder().with_name("settings.json"))
    assert settings["datasets"].keys() == {"Dataset501_Elsewhere", "Dataset502_Unread"}
    assert "micro_batch_size" not in settings["recipe"]["pretraining"]

    first = with_pictures.encoder_files()
    assert with_pictures.run(datasets=("501", "502")) == 0
    assert "finished already with the same settings" in capsys.readouterr().err
    assert with_pictures.encoder_files() == first

    shutil.rmtree(with_pictures.encoder().parent)
    assert with_pictures.run(datasets=("501", "502")) == 0
    assert with_pictures.encoder_files() == first


def test_an_encoder_of_a_fold_learns_from_its_training_subjects_too(fresh):
    folds = read_json(fresh.workspace / "raw" / "Dataset501_Elsewhere" / "splits_final.json")
    of_p5 = next(number for number, fold in enumerate(folds) if "p5_1" in fold["val"])
    other = (of_p5 + 1) % 5

    assert fresh.run("-f", of_p5, other) == 0

    for number in (of_p5, other):
        _, record = read_encoder(fresh.encoder(fold=number))
        training = {f"Elsewhere/{name.partition('_')[0]}" for name in folds[number]["train"]}
        assert record.subjects == tuple(sorted(training | {"Elsewhere/p6", "Elsewhere/p7"}))
        assert record.fold == number
        # p5's unlabelled session is learned from where p5 is in training, and only there.
        assert record.n_cases == len(folds[number]["train"]) + 2 + (number == other)


def test_a_stopped_pretraining_goes_on_to_the_same_weights(fresh, monkeypatch):
    assert fresh.run() == 0
    through = fresh.encoder_files()
    shutil.rmtree(fresh.encoder().parent)
    save = loop._Run.save

    def save_and_stop(run):
        save(run)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "save", save_and_stop)
        assert fresh.run() == 130
    assert not fresh.encoder().exists()
    assert fresh.run() == 0
    assert fresh.encoder_files() == through


def test_other_settings_under_the_same_name_are_refused(fresh, capsys):
    assert fresh.run() == 0
    cure = "give the new one a name of its own with --name, or move that folder away"
    for arguments, datasets, found in (
        (("--seed", "1"), ("501",), "another seed (0)"),
        (("--epochs", "1"), ("501",), "another recipe or schedule (barlow_twins, 2 epochs of 1 steps of 2)"),
        (("--batch-size", "4"), ("501",), "another recipe or schedule"),
        ((), ("501", "502"), "other datasets or cases (Dataset501_Elsewhere)"),
        (("-f", "0", "--seed", "1"), ("501",), "another seed (0)"),
    ):
        message = fresh.refused(capsys, *arguments, datasets=datasets)
        assert found in message
        assert message.endswith(cure)
    assert fresh.run("--seed", "1", "--epochs", "1", "--name", "other") == 0
    assert read_encoder(fresh.encoder("other"))[1].seed == 1
    assert fresh.encoder().is_file()


def test_what_differs_by_fold_or_memory_alone_makes_no_other_kind_of_encoder(fresh, tmp_path):
    assert fresh.run("-f", "0", "--epochs", "1") == 0
    frugal = tmp_path / "frugal.yaml"
    frugal.write_text(
        RECIPE.replace("  batch_size: 2\n", "  batch_size: 2\n  micro_batch_size: 2\n").replace(
            "epochs: 1\nsteps_per_epoch: 1\n", "epochs: 7\nsteps_per_epoch: 7\n", 1
        )
    )
    assert fresh.run("-f", "1", "--epochs", "1", recipe=frugal) == 0
    one, two = (read_encoder(fresh.encoder(fold=fold))[1] for fold in (0, 1))
    assert one.weights != two.weights
    assert one.identity == two.identity
    assert one.recipe == two.recipe == read_json(fresh.encoder(fold=0).with_name("settings.json"))["recipe"]
    assert one.recipe["pretraining"]["barlow_twins"]["projector"] == [8, 8]
    assert "elastic_mm" in one.recipe["augmentation"]
    plan = read_json(fresh.workspace / "preprocessed" / "Dataset501_Elsewhere" / "adaptive_plan.json")
    assert list(one.spacing_mm) == plan["spacing_mm"]

    for name, change, datasets in (
        ("other_seed", ("--seed", "1"), ("501",)),
        ("longer", ("--epochs", "2"), ("501",)),
        ("more", (), ("501", "502")),
    ):
        assert fresh.run("-f", "0", "--epochs", "1", "--name", name, *change, datasets=datasets) == 0
        assert read_encoder(fresh.encoder(name, fold=0))[1].identity != one.identity


@pytest.fixture
def another_run(monkeypatch):
    """Makes an encoder's folder appear between the first look and the lock."""

    def makes(module, source, target):
        own = locking.own_folder

        @contextmanager
        def own_late(folder, *arguments, **named):
            shutil.copytree(source, target)
            with own(folder, *arguments, **named):
                yield

        monkeypatch.setattr(f"cmb_autoseg.pipeline.{module}.own_folder", own_late)

    return makes


@pytest.mark.parametrize("seed", [0, 1])
def test_what_another_run_made_meanwhile_is_left_and_compared(fresh, capsys, another_run, seed):
    assert fresh.run("--epochs", "1", "--seed", seed) == 0
    kept, made = fresh.workspace / "kept", fresh.encoder().parent
    shutil.move(made, kept)
    another_run("pretraining", kept, made)
    capsys.readouterr()
    assert fresh.run("--epochs", "1") == 2 * seed
    found = {path.name: path.read_bytes() for path in made.iterdir()}
    assert found == {path.name: path.read_bytes() for path in kept.iterdir()}
    said = capsys.readouterr().err
    assert ("finished meanwhile by another run" if seed == 0 else "made with another seed (1)") in said
    shutil.rmtree(kept)


def test_one_that_was_stopped_before_its_first_checkpoint_binds_to_nothing(fresh, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cmb_autoseg.pretraining.loop.pretrain", stop)
        assert fresh.run() == 130
    assert fresh.encoder().with_name("settings.json").is_file()
    assert fresh.run("--epochs", "1", "--seed", "3") == 0
    assert read_encoder(fresh.encoder())[1].seed == 3


def test_the_checkpoint_that_binds_is_the_one_that_the_loop_writes():
    assert loop.CHECKPOINT == LATEST_CHECKPOINT


def test_damaged_and_foreign_files_are_named(fresh, capsys):
    assert fresh.run("--epochs", "1") == 0
    settings, encoder = fresh.encoder().with_name("settings.json"), fresh.encoder()
    whole = encoder.read_bytes()
    encoder.write_bytes(whole[:1000])
    assert "encoder.pt: damaged" in fresh.refused(capsys, "--epochs", "1")
    encoder.write_bytes(whole)
    settings.write_text("{")
    assert "settings.json: not readable as JSON" in fresh.refused(capsys, "--epochs", "1")
    settings.unlink()
    assert "nothing beside it says" in fresh.refused(capsys, "--epochs", "1")


def test_a_file_in_the_place_of_the_folder_is_told(fresh, capsys):
    (fresh.workspace / "encoders").mkdir()
    (fresh.workspace / "encoders" / "ssl_tiny").touch()
    assert "encoders/ssl_tiny" in fresh.refused(capsys)


def without(settings, tmp_path, key):
    path = tmp_path / "recipe.yaml"
    path.write_text("".join(settings.partition(key)[:1]))
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch-size", "1"), "--batch-size 1: views are compared across the patches of a step; give at least 2"),
        (("--name", "../x"), "--name ../x: part of a folder's name"),
        (("-f", "5"), "-f: found 5, but Dataset"),
        (("--weights", "resnet.pth"), "learns by barlow_twins from random weights; leave it out"),
        (("-p", "s0"), "not planned with preset s0; run cmb_plan_preprocess"),
    ],
)
def test_options_that_do_not_fit(fresh, capsys, arguments, message):
    assert message in fresh.refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        (("77",), "-d 77: no such dataset"),
        (("501", "501"), "-d: Dataset501_Elsewhere is named twice"),
        (("501", "Elsewhere"), "-d: Dataset501_Elsewhere is named twice"),
        (("502",), "Dataset502_Unread: not planned with preset adaptive; run cmb_plan_preprocess -d 502"),
    ],
)
def test_datasets_that_do_not_fit(fresh, capsys, datasets, message):
    assert message in fresh.refused(capsys, datasets=datasets)


def changed(tmp_path, *changes):
    """The recipe with some of its words replaced."""
    text = RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "changed.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("role", ["swi", "gre_mag"])
def test_an_encoder_of_one_sequence_sees_no_other(fresh, tmp_path, monkeypatch, role):
    seen = []
    accumulate = BarlowTwins.accumulate

    def watched(self, encoder, batch, execution):
        seen.append((batch["first"] != 0).any(dim=(0, 2, 3, 4)))
        return accumulate(self, encoder, batch, execution)

    monkeypatch.setattr(BarlowTwins, "accumulate", watched)
    assert fresh.run(recipe=changed(tmp_path, ("network:", f"sequences: [{role}]\nnetwork:"))) == 0
    _, record = read_encoder(fresh.encoder())
    assert [tuple(channels.tolist()) for channels in seen] == [tuple(role == each for each in record.channels)] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            [("{projector", "{places: voxels, voxel_level: 9, projector")],
            "pretraining.barlow_twins.voxel_level: found 9, expected 0 to 1",
        ),
        (
            [("barlow_twins\n", "masked_autoencoding\n"), ("  warmup", "  masking: {block: 1000}\n  warmup")],
            "pretraining.masking: ratio 0.6 and block 1000 blank 1 of 1 blocks of the plan's patch of",
        ),
        (
            [("barlow_twins\n", "masked_autoencoding\n"), ("  warmup", "  masking: {ratio: 1.0e-9}\n  warmup")],
            "pretraining.masking: ratio 1e-09 and block 8 blank 0 of",
        ),
        ([("[8, 8]", "[]")], "pretraining.barlow_twins.projector: found []"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_written(fresh, capsys, tmp_path, changes, message):
    assert message in fresh.refused(capsys, recipe=changed(tmp_path, *changes))


def test_a_damaged_network_input_is_refused_before_anything_is_written(fresh, capsys):
    image = fresh.workspace / "preprocessed" / "Dataset501_Elsewhere" / "adaptive_3d" / "p6_1.b2nd"
    whole = image.read_bytes()
    image.write_bytes(whole[:20])
    try:
        assert "the network input of p6_1 is damaged" in fresh.refused(capsys)
    finally:
        image.write_bytes(whole)


def test_weights_that_run_away_are_told_with_the_cure(fresh, capsys, tmp_path):
    assert fresh.run(recipe=changed(tmp_path, ("  warmup", "  learning_rate: 1.0e+30\n  warmup"))) == 2
    (message,) = (line for line in capsys.readouterr().err.splitlines() if "error" in line)
    assert "no finite number; lower pretraining.learning_rate in the recipe (found 1e+30)" in message
    assert not fresh.encoder().exists()


def test_a_rank_without_other_processes_changes_nothing(fresh, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    assert fresh.run() == 0
    assert fresh.encoder().is_file()
    assert str(fresh.encoder()) in capsys.readouterr().out


SECOND_OF_TWO = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}
"""What torchrun sets."""


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (dict.fromkeys(("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")), "WORLD_SIZE: found 2 in the environment"),
        ({"MASTER_ADDR": None}, "but no MASTER_ADDR, which torchrun sets"),
        ({"MASTER_PORT": "", "RANK": None}, "but no RANK, MASTER_PORT, which torchrun sets"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: found 'two' in the environment, expected a whole number, 1 or more"),
        ({"WORLD_SIZE": "-2"}, "WORLD_SIZE: found '-2'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE: found '0'"),
        ({"RANK": "first"}, "RANK: found 'first' in the environment, expected a whole number, 0 to 1"),
        ({"RANK": "-1"}, "RANK: found '-1'"),
        ({"RANK": "2"}, "RANK: found '2'"),
        ({"LOCAL_RANK": "1.5"}, "LOCAL_RANK: found '1.5' in the environment, expected a whole number, 0 to 1"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK: found '-1'"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT: found 'http' in the environment, expected a whole number, 1 to 65535"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT: found '0'"),
    ],
)
def test_half_of_what_torchrun_sets_is_refused_with_the_variables_name(fresh, capsys, monkeypatch, changes, found):
    for name, value in {**SECOND_OF_TWO, **changes}.items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    message = fresh.refused(capsys)
    assert found in message
    assert "start with torchrun (torchrun --nproc-per-node" in message
    assert message.endswith("or unset WORLD_SIZE")


def test_processes_that_cannot_meet_are_refused_in_one_line(fresh, capsys, monkeypatch):
    for name, value in SECOND_OF_TWO.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("cmb_autoseg.pretraining.distributed.SECONDS_FOR_A_NAME", 0)
    monkeypatch.setenv("MASTER_ADDR", "nosuch.invalid")
    assert "process 1: MASTER_ADDR: no machine is known as nosuch.invalid" in fresh.refused(capsys)
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = str(other.getsockname()[1])
        for name, value in {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, value)
        message = fresh.refused(capsys)
    assert f"MASTER_ADDR, MASTER_PORT: the 2 processes cannot meet at localhost, port {port} (" in message
    assert message.endswith("one free port there, and start all of them")


def test_what_a_further_process_meets_is_said_and_refusals_that_all_meet_are_said_once(fresh, capsys, monkeypatch):
    for name, value in SECOND_OF_TWO.items():
        monkeypatch.setenv(name, value)
    assert fresh.run("--seed", "1", datasets=("77",)) == 2
    assert "error" not in capsys.readouterr().err

    def fail(*_):
        raise InputError("scan.b2nd: damaged")

    monkeypatch.setattr("cmb_autoseg.pipeline.pretraining._made_meanwhile", lambda *_: False)
    monkeypatch.setattr("cmb_autoseg.pipeline.pretraining.open_cases", fail)
    assert fresh.run() == 2
    assert "cmb_pretrain: error: process 1: scan.b2nd: damaged" in capsys.readouterr().err


def test_a_recipe_that_makes_no_encoder_is_refused_with_those_that_do(fresh, capsys, tmp_path):
    message = fresh.refused(capsys, recipe=without(RECIPE, tmp_path, "pretraining:"))
    assert "-r ssl_tiny: makes no encoder" in message
    assert "ssl_barlow_twins" in message


def test_nobody_to_learn_from_is_told_with_the_cure(fresh, capsys, monkeypatch):
    table = fresh.workspace / "raw" / "Dataset501_Elsewhere" / "cases.tsv"
    before = table.read_text()
    monkeypatch.setattr("cmb_autoseg.pipeline.pretraining.refuse_stale_plan", lambda *_: None)
    table.write_text("".join(line for line in before.splitlines(True) if not line.startswith(("p6_", "p7_"))))
    try:
        message = fresh.refused(capsys)
    finally:
        table.write_text(before)
    assert "no unlabelled case to learn from (left out: 8 cases of 6 subjects (labelled or tested))" in message
    assert "with -f all, or add a cohort without labels" in message


def test_a_plan_that_is_older_than_the_cases_is_refused(fresh, capsys):
    table = fresh.workspace / "raw" / "Dataset501_Elsewhere" / "cases.tsv"
    before = table.read_text()
    table.write_text(before.replace("p7", "p8").replace("p8_1", "p7_1"))
    try:
        assert "its cases changed since it was planned; run cmb_plan_preprocess" in fresh.refused(capsys)
    finally:
        table.write_text(before)


def test_a_missing_network_input_is_named(fresh, capsys):
    image = fresh.workspace / "preprocessed" / "Dataset501_Elsewhere" / "adaptive_3d" / "p6_1.b2nd"
    kept = image.rename(image.with_suffix(".kept"))
    try:
        assert "so p6_1 is not preprocessed; run cmb_plan_preprocess -d 501" in fresh.refused(capsys)
    finally:
        kept.rename(image)


def test_a_further_dataset_is_preprocessed_anew_when_the_plan_was_another(fresh):
    folder = fresh.workspace / "preprocessed" / "Dataset502_Unread" / "Dataset501_Elsewhere_adaptive_3d"
    image, record = folder / "u0.b2nd", folder.with_name(f"{folder.name}_made_by.json")
    assert fresh.run("--epochs", "1", datasets=("501", "502")) == 0
    old = image.stat().st_mtime_ns
    assert fresh.run("--epochs", "1", "--name", "kept", datasets=("501", "502")) == 0
    assert image.stat().st_mtime_ns == old

    write_json(record, {**read_json(record), "plan": "sha256:older"})
    assert fresh.run("--epochs", "1", "--name", "anew", datasets=("501", "502")) == 0
    assert image.stat().st_mtime_ns > old


def test_inputs_that_another_pretraining_reads_are_not_replaced(fresh, capsys):
    assert fresh.run("--epochs", "1", datasets=("501", "502")) == 0
    base = fresh.workspace / "preprocessed" / "Dataset502_Unread"
    record = base / "Dataset501_Elsewhere_adaptive_3d_made_by.json"
    write_json(record, {**read_json(record), "plan": "sha256:older"})
    with own_folder(fresh.encoder().parent, "cmb_pretrain"):
        message = fresh.refused(capsys, "--epochs", "1", "--name", "anew", datasets=("501", "502"))
    assert "Dataset502_Unread: the plan changed, but cmb_pretrain, process" in message
    assert (base / "Dataset501_Elsewhere_adaptive_3d" / "u0.b2nd").is_file()


def resnet18(n_features=(64, 128, 256, 512)):
    """A random state dict with torchvision's names and shapes."""
    rng = torch.Generator().manual_seed(0)

    def norm(name, n):
        statistics = {
            "running_mean": torch.zeros(n),
            "running_var": torch.ones(n),
            "num_batches_tracked": torch.tensor(0),
        }
        affine = {"weight": torch.rand(n, generator=rng), "bias": torch.rand(n, generator=rng)}
        return {f"{name}.{key}": value for key, value in {**affine, **statistics}.items()}

    def conv(name, *shape):
        return {f"{name}.weight": torch.randn(shape, generator=rng)}

    state = {
        **conv("conv1", 64, 3, 7, 7),
        **norm("bn1", 64),
        "fc.weight": torch.zeros(1000, 512),
        "fc.bias": torch.zeros(1000),
    }
    n_in = 64
    for layer, n_out in enumerate(n_features, 1):
        for block in range(2):
            name = f"layer{layer}.{block}"
            state |= conv(f"{name}.conv1", n_out, n_in, 3, 3) | norm(f"{name}.bn1", n_out)
            state |= conv(f"{name}.conv2", n_out, n_out, 3, 3) | norm(f"{name}.bn2", n_out)
            if n_in != n_out:
                state |= conv(f"{name}.downsample.0", n_out, n_in, 1, 1) | norm(f"{name}.downsample.1", n_out)
            n_in = n_out
    return state


IMAGENET = """\
schema: 1
name: imagenet_tiny
description: for tests
epochs: 1
steps_per_epoch: 1
network: {features: [64, 128]}
pretraining: {method: imagenet}
"""


def test_of_several_processes_the_first_one_inflates_and_the_others_leave_well(fresh, capsys, monkeypatch, tmp_path):
    recipe, weights = tmp_path / "imagenet_tiny.yaml", tmp_path / "resnet18.pth"
    recipe.write_text(IMAGENET)
    torch.save(resnet18(), weights)
    for name, value in SECOND_OF_TWO.items():
        monkeypatch.setenv(name, value)
    path = fresh.encoder("imagenet_tiny")
    with own_folder(path.parent, "cmb_pretrain"):  # As the first process does meanwhile.
        assert fresh.run("--weights", weights, recipe=recipe) == 0
    assert not path.parent.exists()
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert fresh.run("--weights", weights, recipe=recipe) == 0
    assert path.is_file()
    assert str(capsys.readouterr()).count("imagenet_tiny: 30 of the encoder's 30 tensors") == 1
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert fresh.run("--weights", weights, recipe=recipe) == 0
    assert capsys.readouterr().err.count("finished already with the same settings") == 1


def test_imagenet_weights_become_an_encoder_that_has_seen_nobody(fresh, capsys, tmp_path, another_run):
    recipe, weights = tmp_path / "imagenet_tiny.yaml", tmp_path / "resnet18.pth"
    recipe.write_text(IMAGENET)
    torch.save(resnet18(), weights)

    assert fresh.run("--weights", weights, recipe=recipe) == 0

    assert "30 of the encoder's 30 tensors come from" in capsys.readouterr().err
    found, record = read_encoder(fresh.encoder("imagenet_tiny"))
    assert (record.method, record.subjects, record.steps) == ("imagenet", (), 0)
    assert len(record.parents) == 3
    assert record.identity.startswith("sha256:")
    assert record.recipe["pretraining"]["method"] == "imagenet"
    assert torch.equal(found["stages.1.1.norm2.bias"], resnet18()["layer2.1.bn2.bias"])
    kept = shutil.copytree(fresh.encoder("imagenet_tiny").parent, tmp_path / "kept")
    shutil.rmtree(fresh.encoder("imagenet_tiny").parent)
    another_run("inflating", kept, fresh.encoder("imagenet_tiny").parent)
    assert fresh.run("--weights", weights, recipe=recipe) == 0
    assert "finished meanwhile by another run" in capsys.readouterr().err
    torch.save(resnet18() | {"bn1.bias": torch.ones(64)}, weights)
    assert "another file of --weights" in fresh.refused(capsys, "--weights", weights, recipe=recipe)
    assert "--weights is missing" in fresh.refused(capsys, recipe=recipe)
    assert "one encoder serves all folds; leave -f out" in fresh.refused(
        capsys, "--weights", weights, "-f", "0", recipe=recipe
    )
    assert "-d 502: recipe imagenet_tiny learns from no scan" in fresh.refused(
        capsys, "--weights", weights, recipe=recipe, datasets=("501", "502")
    )
    assert "no such file; give torchvision's ResNet-18" in fresh.refused(capsys, "--weights", "gone", recipe=recipe)
