"""Folds that begin with a pretrained encoder: whose it may be, what is loaded, and what the records say."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from cmb_autoseg.cli import finalize, train
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json, write_json
from cmb_autoseg.networks.residual_unet import ResidualEncoder
from cmb_autoseg.pipeline.training import TrainSettings
from cmb_autoseg.pipeline.training import train as train_folds
from cmb_autoseg.pretraining.encoder_file import write_encoder
from cmb_autoseg.records import Encoder, Plan
from cmb_autoseg.trainers.recipe import read_recipe
from cmb_autoseg.workspace import Workspace

DATASET = "Dataset501_Elsewhere"
FEATURES = (4, 8)


@dataclass(frozen=True)
class Pretrained:
    """A planned dataset and encoders of a recipe `dots` for folds 0 and 1, each of whom saw its training subjects."""

    workspace: Path
    recipe: str

    def train(self, tmp_path, fold, *options, transfer="{}", name="tiny", epochs=1):
        recipe = tmp_path / f"{name}.yaml"
        text = self.recipe.replace("name: tiny", f"name: {name}").replace("epochs: 2", f"epochs: {epochs}")
        recipe.write_text(f"{text}transfer: {transfer}\n")
        where = ["-d", "501", "--workspace", str(self.workspace), "-device", "cpu", "-r", str(recipe)]
        return train.main([*where, "-f", *str(fold).split(), *options])

    def fold(self, fold, name="tiny"):
        return self.workspace / "results" / DATASET / f"CMBTrainer__{name}__3d" / f"fold_{fold}"

    def encoder(self, fold):
        return Workspace(self.workspace).encoder("dots", fold)


def encoder_of(plan, fold, subjects, seed, **changes):
    topology = plan.topology.with_features(FEATURES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = ResidualEncoder(
            len(plan.channels), FEATURES, topology.kernel_sizes, topology.strides, topology.n_blocks_per_stage
        )
    record = Encoder(
        name="dots",
        method="barlow_twins",
        datasets=(plan.dataset,),
        fold=fold,
        seed=seed,
        steps=1,
        channels=plan.channels,
        topology=topology,
        patch_shape=plan.patch_shape,
        subjects=tuple(sorted(subjects)),
        n_cases=len(subjects),
        weights="",
        parents=(plan.digest, "sha256:dots"),
        spacing_mm=plan.spacing_mm,
        identity="sha256:made alike",
    )
    return encoder.state_dict(), record.model_copy(update=changes)


def subjects_of(names):
    return {f"Elsewhere/{name.partition('_')[0]}" for name in names}


@pytest.fixture
def pretrained(trained, tmp_path):
    workspace = tmp_path / "workspace"
    for kind in ("raw", "preprocessed"):
        shutil.copytree(trained.workspace / kind, workspace / kind)
    plan = Plan.read(workspace / "preprocessed" / DATASET / "adaptive_plan.json")
    folds = read_json(workspace / "raw" / DATASET / "splits_final.json")
    for fold in (0, 1):
        weights, record = encoder_of(plan, fold, subjects_of(folds[fold]["train"]), seed=fold)
        write_encoder(Workspace(workspace).encoder("dots", fold), weights, record)
    return Pretrained(workspace, trained.recipe.read_text())


def weights(path):
    return torch.load(path, weights_only=True)


def test_a_fold_begins_with_its_own_encoder_exactly_and_its_record_names_it(pretrained, tmp_path):
    assert pretrained.train(tmp_path, 0, "--encoder", "dots", transfer="{frozen_steps: 99}") == 0
    trained = weights(pretrained.fold(0) / "checkpoint_final.pth")
    given = weights(pretrained.encoder(0))
    for name, value in given["weights"].items():
        assert torch.equal(trained["network_weights"][f"encoder.{name}"], value)
    record = read_json(pretrained.fold(0) / "fold.json")
    assert record["encoder"] == given["record"]
    assert record["parents"][2] == given["record"]["weights"] == trained["encoder"]
    assert set(given["record"]["subjects"]) <= set(record["training_subjects"])
    (log,) = (pretrained.workspace / "logs").iterdir()
    assert f"{len(given['weights'])} of {len(given['weights'])} tensors loaded" in log.read_text()


def test_another_folds_encoder_is_refused_with_the_subjects_named(pretrained, tmp_path, capsys):
    seen = set(weights(pretrained.encoder(1))["record"]["subjects"])
    folds = read_json(pretrained.workspace / "raw" / DATASET / "splits_final.json")
    leaked = sorted(seen & subjects_of(folds[0]["val"]))
    assert pretrained.train(tmp_path, 0, "--encoder", str(pretrained.encoder(1))) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert "encoder dots: has learned from fold 1 too" in line
    assert all(subject in line for subject in leaked)
    assert not (pretrained.workspace / "results").exists()


def test_the_recipe_names_its_encoder_and_a_missing_one_is_told_with_its_cure(pretrained, tmp_path, capsys):
    assert pretrained.train(tmp_path, 0, transfer="{encoder: dots, learning_rate_factor: 0.1}") == 0
    assert read_json(pretrained.fold(0) / "fold.json")["encoder"]["fold"] == 0
    assert pretrained.train(tmp_path, 2, transfer="{encoder: ssl_barlow_twins}", name="other") == 2
    assert "run cmb_pretrain -d 501 -r ssl_barlow_twins" in capsys.readouterr().err
    assert pretrained.train(tmp_path, 2, "--encoder", "dots", name="other") == 2
    error = capsys.readouterr().err
    assert "(there: fold_0, fold_1)" in error
    assert "-f 2 --name dots" in error
    assert pretrained.train(tmp_path, 2, "--encoder", "none", transfer="{encoder: dots}", name="other") == 0
    assert read_json(pretrained.fold(2, "other") / "fold.json")["encoder"] is None


def test_an_encoder_that_is_to_be_made_is_told_with_the_users_own_recipe(pretrained, tmp_path, capsys):
    own = "{encoder: mine}\npretraining: {method: barlow_twins}"
    assert pretrained.train(tmp_path, 0, transfer=own, name="mine") == 2
    made = f"run cmb_pretrain -d 501 -r {tmp_path / 'mine.yaml'}"
    assert f"{made}, or train with --encoder none" in capsys.readouterr().err
    assert pretrained.train(tmp_path, 0, "--encoder", "other", transfer=own, name="mine") == 2
    assert f"{made} --name other, or train with" in capsys.readouterr().err
    assert pretrained.train(tmp_path, 0, "--encoder", "ssl_mae", transfer=own, name="mine") == 2
    assert "run cmb_pretrain -d 501 -r ssl_mae, or train with" in capsys.readouterr().err


def test_what_comes_after_training_is_told(pretrained, trained, tmp_path, monkeypatch, capsys):
    assert pretrained.train(tmp_path, 1, "--encoder", "dots", "--seed", "3", "--steps-per-epoch", "1") == 0
    again = f"-r {tmp_path / 'tiny.yaml'} --encoder dots --steps-per-epoch 1 --seed 3"
    said = capsys.readouterr().out
    assert f"\nnext: cmb_train -d 501 -f 0 2 3 4 {again} --workspace {tmp_path / 'workspace'}\n" in said
    whole = ["-d", "501", "--workspace", str(trained.workspace), "-device", "cpu", "-r", str(trained.recipe)]
    where = f" --workspace {trained.workspace}"
    predict = f"cmb_predict -i SCANS -o OUT -d 501 -r tiny{where}"
    assert train.main([*whole, "-f", "0"]) == 0
    assert f"\nnext: cmb_finalize -d 501 -r tiny{where}, then {predict}\n" in capsys.readouterr().out
    monkeypatch.setattr("cmb_autoseg.pipeline.finalizing.finalize", lambda *_: "a table")
    assert train.main([*whole, "-f", "all"]) == 0
    assert capsys.readouterr().out.endswith(f"\na table\nnext: {predict}\n")


def test_folds_of_one_model_share_the_encoder_and_not_its_weights(pretrained, tmp_path, capsys):
    assert pretrained.train(tmp_path, 0, "--encoder", "dots") == 0
    assert pretrained.train(tmp_path, 1, "--encoder", "dots") == 0
    digests = [read_json(pretrained.fold(fold) / "fold.json")["encoder"]["weights"] for fold in (0, 1)]
    assert digests[0] != digests[1]
    assert pretrained.train(tmp_path, 2, "--encoder", "none") == 2
    error = capsys.readouterr().err
    assert "folds trained with another encoder" in error
    assert "encoder dots" in error


def stop_after(monkeypatch, steps):
    from cmb_autoseg.trainers.patches.cmb_trainer import CMBTrainer

    step = CMBTrainer.train_step

    def broken(self, batch):
        if self.steps_done == steps:
            self.stop.number = 15
        return step(self, batch)

    monkeypatch.setattr(CMBTrainer, "train_step", broken)


def test_frozen_steps_and_the_learning_rates_ratio_hold_over_a_stop(pretrained, tmp_path, monkeypatch):
    transfer = "{encoder: dots, frozen_steps: 3, learning_rate_factor: 0.25}"
    assert pretrained.train(tmp_path, 0, transfer=transfer, name="whole", epochs=3) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        assert pretrained.train(tmp_path, 0, transfer=transfer, name="stopped", epochs=3) == 143
    stopped = weights(pretrained.fold(0, "stopped") / "checkpoint_latest.pth")
    for name, value in weights(pretrained.encoder(0))["weights"].items():
        assert torch.equal(stopped["network_weights"][f"encoder.{name}"], value)
    rest, encoder = stopped["optimizer_state"]["param_groups"]
    assert encoder["lr"] == pytest.approx(0.25 * rest["lr"])
    assert pretrained.train(tmp_path, 0, transfer=transfer, name="stopped", epochs=3) == 0
    one, two = (
        weights(pretrained.fold(0, n) / "checkpoint_final.pth")["network_weights"] for n in ("whole", "stopped")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    given = weights(pretrained.encoder(0))["weights"]
    assert not torch.equal(one["encoder.stem.0.weight"], given["stem.0.weight"])


def test_a_checkpoint_of_an_encoder_that_was_pretrained_anew_is_refused(pretrained, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        stop_after(patch, 0)
        assert pretrained.train(tmp_path, 0, "--encoder", "dots") == 143
    plan = Plan.read(pretrained.workspace / "preprocessed" / DATASET / "adaptive_plan.json")
    state, record = encoder_of(plan, 0, (), seed=9)
    write_encoder(pretrained.encoder(0), state, record)
    assert pretrained.train(tmp_path, 0, "--encoder", "dots") == 2
    assert "began with other weights of the encoder" in capsys.readouterr().err


def one_error(capsys):
    (line,) = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    return line


def rewrite(pretrained, fold, seed=0, **changes):
    """The fold's encoder anew, with another seed of its weights or another record."""
    plan = Plan.read(pretrained.workspace / "preprocessed" / DATASET / "adaptive_plan.json")
    state, record = encoder_of(plan, fold, (), seed, **changes)
    write_encoder(pretrained.encoder(fold), state, record)


def test_a_fold_begins_at_step_zero_with_the_files_tensors(pretrained, tmp_path, monkeypatch):
    from cmb_autoseg.trainers.patches.cmb_trainer import CMBTrainer

    begun = {}

    def stop_at_once(self):
        begun.update(self.network.state_dict())
        raise KeyboardInterrupt

    monkeypatch.setattr(CMBTrainer, "run_training", stop_at_once)
    assert pretrained.train(tmp_path, 0, "--encoder", "dots") == 130
    given = weights(pretrained.encoder(0))["weights"]
    assert {name for name in begun if name.startswith("encoder.")} == {f"encoder.{name}" for name in given}
    assert all(torch.equal(begun[f"encoder.{name}"], value) for name, value in given.items())


def test_folds_whose_encoders_were_made_otherwise_are_not_one_model(pretrained, tmp_path, capsys):
    rewrite(pretrained, 1, identity="sha256:another seed")
    assert pretrained.train(tmp_path, "0 1", "--encoder", "dots") == 2
    line = one_error(capsys)
    assert "fold 0 would begin with" in line
    assert str(pretrained.encoder(1)) in line
    assert not (pretrained.workspace / "results").exists()
    assert pretrained.train(tmp_path, 0, "--encoder", "dots") == 0
    capsys.readouterr()
    assert pretrained.train(tmp_path, 1, "--encoder", "dots") == 2
    assert "folds trained with another encoder" in one_error(capsys)


def fold_one_without_its_own(pretrained):
    """The encoder for all folds, which fold 1 is to take; made as fold 0's own one was, and of the same name."""
    plan = Plan.read(pretrained.workspace / "preprocessed" / DATASET / "adaptive_plan.json")
    pretrained.encoder(1).unlink()
    for_all = Workspace(pretrained.workspace).encoder("dots")
    write_encoder(for_all, *encoder_of(plan, None, ("Elsewhere/p9",), seed=0))
    return for_all


def test_an_encoder_of_one_fold_and_one_for_all_are_not_of_one_model(pretrained, tmp_path, capsys):
    for_all, options = fold_one_without_its_own(pretrained), ("--encoder", "dots")
    assert pretrained.train(tmp_path, "0 1", *options) == 2
    line = one_error(capsys)
    assert (
        f"fold 0 would begin with {pretrained.encoder(0)} and fold 1 with {for_all}, which have seen training" in line
    )
    assert not (pretrained.workspace / "results").exists()
    assert pretrained.train(tmp_path, 0, *options) == 0
    capsys.readouterr()
    assert pretrained.train(tmp_path, 1, *options) == 2
    line = one_error(capsys)
    assert "folds trained with another encoder" in line
    assert "--encoder FILE (of dots, made for one fold)" in line
    assert not pretrained.fold(1).exists()
    assert pretrained.train(tmp_path, "1 2", *options, name="shared") == 0


def test_nor_are_they_where_a_part_of_the_subjects_is_trained_on(pretrained, tmp_path):
    fold_one_without_its_own(pretrained)
    (tmp_path / "tiny.yaml").write_text(pretrained.recipe.replace("epochs: 2", "epochs: 1"))
    folders, recipe = Workspace(pretrained.workspace).dataset("501"), read_recipe(str(tmp_path / "tiny.yaml"))
    settings = TrainSettings("cpu", encoder="dots", budget=0.5)
    with pytest.raises(InputError, match=r"fold 0 would begin with .*/fold_0/encoder.pt and fold 1 with"):
        train_folds(folders, recipe, (0, 1), settings)
    train_folds(folders, recipe, (0,), settings)
    with pytest.raises(
        InputError, match=r"folds trained with another encoder; .* budget 0.5, --encoder FILE \(of dots, made for one"
    ):
        train_folds(folders, recipe, (1,), settings)


def test_a_fold_of_another_encoder_that_was_copied_into_a_model_is_not_finalized(pretrained, tmp_path, capsys):
    plan = Plan.read(pretrained.workspace / "preprocessed" / DATASET / "adaptive_plan.json")
    write_encoder(Workspace(pretrained.workspace).encoder("dots"), *encoder_of(plan, None, (), seed=0))
    assert pretrained.train(tmp_path, 0, "--encoder", "dots") == 0
    own = read_json(pretrained.fold(0) / "fold.json")
    validated = [fold["val"] for fold in read_json(pretrained.workspace / "raw" / DATASET / "splits_final.json")]
    for fold in (1, 2, 3, 4):
        shutil.copytree(pretrained.fold(0), pretrained.fold(fold))
        record = own | {"fold": fold, "training_subjects": [], "validation_cases": validated[fold]}
        if fold == 3:
            record["encoder"] = own["encoder"] | {"fold": None}
        write_json(pretrained.fold(fold) / "fold.json", record)
    capsys.readouterr()
    where = ["--workspace", str(pretrained.workspace), "-device", "cpu", "-d", "501"]
    assert finalize.main([*where, "-r", "tiny"]) == 2
    line = one_error(capsys)
    assert "fold 0 began with encoder dots of barlow_twins, made for fold 0 (sha256:" in line
    assert "and fold 3 with encoder dots of barlow_twins, made for all folds (sha256:" in line
    assert f"move {pretrained.fold(3)} away and run cmb_train -d 501 -r tiny -p adaptive -f 3 with the encoder" in line


def test_a_longer_training_schedule_is_no_other_encoder(pretrained, tmp_path):
    rewrite(pretrained, 1, parents=("sha256:plan", "sha256:a recipe of other steps_per_epoch"))
    assert pretrained.train(tmp_path, 0, "--encoder", "dots") == 0
    assert pretrained.train(tmp_path, 1, "--encoder", "dots") == 0


def test_encoders_that_do_not_say_how_they_were_made_are_one_only_by_their_weights(pretrained, tmp_path, capsys):
    for fold in (0, 1):
        rewrite(pretrained, fold, seed=7, identity=None)
    assert pretrained.train(tmp_path, "0 1", "--encoder", "dots") == 0
    rewrite(pretrained, 1, seed=8, identity=None)
    assert pretrained.train(tmp_path, "0 1", "--encoder", "dots", name="other") == 2
    assert "folds of one model must share these" in one_error(capsys)


def test_a_finished_fold_is_not_taken_for_one_of_another_encoder(pretrained, tmp_path, capsys):
    old = tmp_path / "old.pt"
    shutil.copy(pretrained.encoder(0), old)
    assert pretrained.train(tmp_path, 0, "--encoder", "dots") == 0
    before = (pretrained.fold(0) / "fold.json").read_bytes()
    rewrite(pretrained, 0, seed=9)
    capsys.readouterr()
    assert pretrained.train(tmp_path, "0 1", "--encoder", "dots") == 2
    line = one_error(capsys)
    assert "fold_0: is finished and began with encoder dots of weights sha256:" in line
    assert f"move {pretrained.fold(0).parent} away to train it anew, or begin as before: " in line
    assert "cmb_train --encoder FILE (of dots, made for one fold)" in line
    assert not pretrained.fold(1).exists()
    assert pretrained.train(tmp_path, 0, "--encoder", str(old)) == 0
    assert (pretrained.fold(0) / "fold.json").read_bytes() == before


def test_what_is_no_encoder_is_told_in_one_line_and_only_our_own_files_are_to_be_deleted(pretrained, tmp_path, capsys):
    notes, numbers = tmp_path / "notes.txt", tmp_path / "numbers.pt"
    notes.write_text("about the scanner")
    torch.save([1, 2], numbers)
    for wanted, found in (
        ("", "--encoder: found nothing; give the name"),
        (str(tmp_path), f"--encoder {tmp_path}: a folder; give an encoder.pt, as cmb_pretrain makes it"),
        (str(pretrained.encoder(0).parent), f": a folder; give {pretrained.encoder(0)}"),
        (str(notes), "notes.txt: damaged, or no file of weights alone; give an encoder.pt"),
        (str(numbers), "numbers.pt: no encoder file of this version; give an encoder.pt"),
    ):
        assert pretrained.train(tmp_path, 0, "--encoder", wanted) == 2
        line = one_error(capsys)
        assert found in line
        assert "delete" not in line
    pretrained.encoder(0).write_bytes(b"half")
    assert pretrained.train(tmp_path, 0, "--encoder", "dots") == 2
    assert "delete it and run cmb_pretrain again" in one_error(capsys)
    assert not (pretrained.workspace / "results").exists()


def test_an_encoder_of_other_features_is_refused_before_anything_is_written(pretrained, tmp_path, capsys):
    options = ("--encoder", "dots")
    wide = Pretrained(pretrained.workspace, pretrained.recipe.replace("[4, 8]", "[6, 8]"))
    assert wide.train(tmp_path, 0, *options) == 2
    assert "features of the file 4-8" in capsys.readouterr().err
    assert not (pretrained.workspace / "results").exists()


def test_a_fold_that_cannot_begin_is_refused_before_the_others_train(pretrained, tmp_path, capsys):
    pretrained.encoder(1).unlink()
    assert pretrained.train(tmp_path, "0 1", "--encoder", "dots") == 2
    assert "none of that name for fold 1" in capsys.readouterr().err
    assert not (pretrained.workspace / "results").exists()
