"""Mixtures of recipes through the commands: five folds, finalize, predict, and what is refused."""

import shutil

import numpy as np
import pytest
import torch

from cmb_autoseg.cli import predict, train
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import read_json, read_tsv
from cmb_autoseg.geometry import Volume, read_volume, write_volume
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.lesions import label_components
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.mixture.mixing import aligned
from cmb_autoseg.workspace import model_folder_name

MIXTURE = """\
schema: 1
name: {name}
description: two tiny recipes
mixture: {{members: [{members}], combine: {combine}}}
"""
FOLDS = ("0", "1", "2", "3", "4")


def write_mixture(folder, name, members="tiny, other", combine="mean"):
    path = folder / f"{name}.yaml"
    path.write_text(MIXTURE.format(name=name, members=members, combine=combine))
    return str(path)


@pytest.fixture(scope="module")
def mixed(trained, write_echo_recipe, tmp_path_factory):
    """A copy of the workspace with a second recipe, of slices of one sequence, and mixtures; and its arguments."""
    base = tmp_path_factory.mktemp("mixture")
    shutil.copytree(trained.workspace, base / "workspace")
    where = ["-d", "501", "--workspace", str(base / "workspace"), "-device", "cpu"]
    assert train.main([*where, "-r", write_echo_recipe(base, "other"), "-f", *FOLDS]) == 0
    with pytest.MonkeyPatch.context() as patch:  # These networks have learned nothing and see microbleeds everywhere.
        patch.setattr("cmb_autoseg.trainers.mixture.judging.MOST_VOXELS", 500)
        assert train.main([*where, "-r", write_mixture(base, "joined"), "-f", "all"]) == 0
        assert train.main([*where, "-r", write_mixture(base, "voted", combine="vote"), "-f", "0"]) == 0
    return base, where


def model_of(base, name):
    return base / "workspace" / "results" / "Dataset501_Elsewhere" / model_folder_name(name)


def mixing_of(base, name, fold):
    content = torch.load(model_of(base, name) / f"fold_{fold}" / "checkpoint_final.pth", weights_only=True)
    return content["mixing"]


def volumes_of(trained, *roles):
    raw = trained.raw / "imagesTr"
    names = {Role.SWI: "p1_1_0000.nii.gz", Role.GRE_MAG: "p1_1_0001.nii.gz"}
    return {role: read_volume(raw / names[role]) for role in roles}


def error_of(capsys):
    return next(line for line in capsys.readouterr().err.splitlines() if ": error: " in line)


def test_five_folds_are_finalized(mixed):
    base, _ = mixed
    model = model_of(base, "joined")
    card = read_json(model / "model.json")
    assert card["recipe"] == "joined"
    assert len(card["folds"]) == 5
    assert (model / "operating_points.json").is_file()


@pytest.mark.parametrize(("name", "folds"), [("joined", 5), ("voted", 1)])
def test_each_fold_keeps_weights_that_were_tried_and_are_no_worse_than_equal_ones(mixed, name, folds):
    base, _ = mixed
    model = model_of(base, name)
    for fold in range(folds):
        rows = read_tsv(model / f"fold_{fold}" / "weights.tsv")
        assert all(float(row["tiny"]) + float(row["other"]) == pytest.approx(1) for row in rows)
        chosen = mixing_of(base, name, fold)["weights"][0]
        row = next(row for row in rows if float(row["tiny"]) == pytest.approx(chosen, abs=1e-6))
        assert float(row["average_precision"]) >= float(rows[0]["average_precision"])  # the first are equal weights


def test_a_fold_is_the_weighted_mean_of_the_members_brought_in_line(mixed, trained):
    base, _ = mixed
    volumes, mixing = volumes_of(trained, Role.SWI, Role.GRE_MAG), mixing_of(base, "joined", 2)
    found = load_ensemble(model_of(base, "joined"), (2,), "cpu").predict(volumes).probability.data
    expected = np.zeros(found.shape)
    for name, weight, threshold in zip(*(mixing[key] for key in ("members", "weights", "thresholds")), strict=True):
        own = load_ensemble(model_of(base, name), (2,), "cpu").predict(volumes).probability.data
        expected += weight * aligned(own, threshold, mixing["common"])
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["joined", "voted"])
def test_a_model_predicts_wherever_it_is_copied(mixed, trained, tmp_path, name):
    base, where = mixed
    shutil.copytree(model_of(base, name), tmp_path / "model")
    scan = tmp_path / "scans" / "new_0000.nii.gz"
    scan.parent.mkdir()
    shutil.copy(trained.cohort / "centreA" / "p1" / "visit1" / "scans" / "p1-susc.nii.gz", scan)
    shutil.copy(
        trained.cohort / "centreA" / "p1" / "visit1" / "scans" / "p1-mag.nii.gz", scan.with_name("new_0001.nii.gz")
    )
    point = ["--operating-point", "0.4"]
    assert predict.main(["-i", str(scan.parent), "-o", str(tmp_path / "one"), *where, "-r", name, *point]) == 0
    copied = ["-m", str(tmp_path / "model"), "-device", "cpu"]
    assert predict.main(["-i", str(scan.parent), "-o", str(tmp_path / "two"), *copied, *point]) == 0
    one, two = ((tmp_path / out / "new_prob.nii.gz").read_bytes() for out in ("one", "two"))
    assert one == two


def test_a_case_that_lacks_every_sequence_of_a_member_is_left_to_the_others(mixed, trained):
    base, _ = mixed
    joined = load_ensemble(model_of(base, "joined"), (0,), "cpu")
    assert set(joined.channels) == {Role.SWI, Role.GRE_MAG}
    volumes = volumes_of(trained, Role.SWI)
    tiny = load_ensemble(model_of(base, "tiny"), (0,), "cpu").predict(volumes).probability.data
    mixing = mixing_of(base, "joined", 0)
    expected = aligned(tiny, mixing["thresholds"][0], mixing["common"])
    assert joined.predict(volumes).probability.data == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InputError, match="has t1, but the model has learned from"):
        joined.predict({Role.T1: next(iter(volumes.values()))})


def test_parameters_are_those_of_all_members(mixed):
    base, _ = mixed
    joined, *members = (load_ensemble(model_of(base, name), (0,), "cpu") for name in ("joined", "tiny", "other"))
    assert joined.n_parameters == sum(member.n_parameters for member in members)


def overwrite_maps(base, name, values):
    """Replace what a member says of the cases that its folds have not seen."""
    labels = base / "workspace" / "raw" / "Dataset501_Elsewhere" / "labelsTr"
    for path in (model_of(base, name) / "crossvalidation").glob("*_prob.nii.gz"):
        reference = read_volume(labels / path.name.replace("_prob", ""), dtype="uint8")
        write_volume(path, values(reference), "float32")


@pytest.fixture
def handmade(mixed, tmp_path):
    """The workspace where one member is mostly right and the other is noise, as far as a mixture sees them."""
    base, _ = mixed
    shutil.copytree(base / "workspace", tmp_path / "workspace")
    rng = np.random.default_rng(0)

    def mostly_right(reference):
        lesions = label_components(reference.data > 0)
        values = np.array([0.0, *rng.uniform(0.3, 0.9, lesions.max())])[lesions]
        for place in rng.permutation(8)[:3]:
            values[4 + 4 * place : 6 + 4 * place, 4:6, 1] = rng.uniform(0.2, 0.6)
        return reference.with_data(values.astype(np.float32))

    overwrite_maps(tmp_path, "tiny", mostly_right)
    overwrite_maps(tmp_path, "other", lambda reference: reference.with_data(rng.random(reference.shape, np.float32)))
    return tmp_path, ["-d", "501", "--workspace", str(tmp_path / "workspace"), "-device", "cpu"]


def test_noise_gets_no_weight_and_validation_cases_play_no_part(handmade):
    base, where = handmade
    recipe = write_mixture(base, "fresh")
    assert train.main([*where, "-r", recipe, "-f", "1"]) == 0
    first = mixing_of(base, "fresh", 1)
    assert first["weights"][1] <= 0.25
    tried = (model_of(base, "fresh") / "fold_1" / "weights.tsv").read_text()
    shutil.rmtree(model_of(base, "fresh"))
    folds = read_json(base / "workspace" / "raw" / "Dataset501_Elsewhere" / "splits_final.json")
    judged = {f"{name}_prob.nii.gz" for name in folds[1]["val"]}
    for name in ("tiny", "other"):
        for path in (model_of(base, name) / "crossvalidation").glob("*_prob.nii.gz"):
            if path.name in judged:
                volume = read_volume(path)
                # So many false ones that whoever counts them takes a threshold above 0.62, where no other false one is.
                spots = np.zeros(volume.shape, dtype=np.float32)
                spots[::4, ::4, ::4] = 0.62
                write_volume(path, Volume(spots, volume.affine), "float32")
    assert train.main([*where, "-r", recipe, "-f", "1"]) == 0
    assert mixing_of(base, "fresh", 1) == first
    assert (model_of(base, "fresh") / "fold_1" / "weights.tsv").read_text() == tried


def test_equal_weights_are_not_learned(handmade):
    base, where = handmade
    recipe = base / "plain.yaml"
    text = MIXTURE.format(name="plain", members="tiny, other", combine="mean")
    recipe.write_text(text.replace("combine: mean", "combine: mean, weights: equal"))
    assert train.main([*where, "-r", str(recipe), "-f", "3"]) == 0
    assert mixing_of(base, "plain", 3)["weights"] == [0.5, 0.5]
    assert len(read_tsv(model_of(base, "plain") / "fold_3" / "weights.tsv")) == 1


def test_training_again_gives_the_same_bytes_and_finished_folds_are_left(mixed, tmp_path, monkeypatch):
    monkeypatch.setattr("cmb_autoseg.trainers.mixture.judging.MOST_VOXELS", 500)
    base, where = mixed
    path = model_of(base, "voted") / "fold_0" / "checkpoint_final.pth"
    before, written = path.read_bytes(), path.stat().st_mtime_ns
    assert train.main([*where, "-r", str(base / "voted.yaml"), "-f", "0"]) == 0
    assert path.stat().st_mtime_ns == written
    shutil.move(path.parent, tmp_path / "fold_0")
    assert train.main([*where, "-r", str(base / "voted.yaml"), "-f", "0"]) == 0
    assert path.read_bytes() == before


def test_a_member_of_other_weights_is_refused(mixed, tmp_path):
    base, _ = mixed
    shutil.copytree(model_of(base, "joined"), tmp_path / "model")
    member = tmp_path / "model" / "members" / "tiny"
    (member / "fold_0" / "checkpoint_final.pth").unlink()
    shutil.copy(member / "fold_1" / "checkpoint_final.pth", member / "fold_0")
    with pytest.raises(InputError, match=r"members/tiny/fold_0/checkpoint_final.pth: another one than fold 0 was made"):
        load_ensemble(tmp_path / "model", (0,), "cpu")
    shutil.rmtree(member)
    with pytest.raises(InputError, match=r"members/tiny: no plans.json.*copy that model folder again, whole$") as error:
        load_ensemble(tmp_path / "model", (0,), "cpu")
    assert "check -m" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "members", "message"),
    [
        ("early", "tiny, supervised", "is built on supervised, which is not trained .* run cmb_train .*-r supervised"),
        ("strange", "tiny, supervized", "did you mean supervised?"),
        (
            "itself",
            "tiny, itself",
            "mixture.members: found itself; a recipe cannot be built on itself; name another one",
        ),
        ("round", "tiny, turn", "is built in a circle, round on turn on round; take round out of turn"),
        ("twice", "tiny, tiny", "a member is named twice"),
        ("lonely", "tiny", "at least 2 items"),
        ("odd", "tiny, no/name", "String should match pattern"),
    ],
)
def test_members_that_cannot_be_joined(mixed, capsys, tmp_path, name, members, message):
    _, where = mixed
    write_mixture(tmp_path, "turn", "tiny, round")
    assert train.main([*where, "-r", write_mixture(tmp_path, name, members), "-f", "0"]) == 2
    line = error_of(capsys)
    with pytest.raises(InputError, match=message):
        raise InputError(line)


def test_a_member_that_is_partly_trained_is_refused_before_others_predict(mixed, capsys, tmp_path, monkeypatch):
    base, where = mixed
    monkeypatch.delattr("cmb_autoseg.pipeline.members.out_of_fold_maps")
    part = model_of(base, "part")
    shutil.copytree(model_of(base, "tiny"), part, ignore=shutil.ignore_patterns("fold_2", "fold_4"))
    assert train.main([*where, "-r", write_mixture(tmp_path, "half", "tiny, part"), "-f", "0"]) == 2
    beginning = "error: recipe half: is built on part, of which "
    command = "not trained; run cmb_train -d 501 -r part -p adaptive -f"
    assert f"{beginning}folds 2, 4 are {command} 2 4" in error_of(capsys)
    shutil.copytree(model_of(base, "tiny") / "fold_2", part / "fold_2")
    assert train.main([*where, "-r", str(tmp_path / "half.yaml"), "-f", "0"]) == 2
    assert f"{beginning}fold 4 is {command} 4" in error_of(capsys)
    shutil.rmtree(part)


def test_a_mixture_has_no_epochs_and_no_encoder(mixed, capsys):
    base, where = mixed
    for option in (["--epochs", "2"], ["--steps-per-epoch", "3"], ["--encoder", "ssl_mae"]):
        assert train.main([*where, "-r", str(base / "joined.yaml"), "-f", "0", *option]) == 2
        assert error_of(capsys).startswith(f"cmb_train: error: {option[0]}")


def test_a_mixture_of_mixtures(mixed, monkeypatch):
    monkeypatch.setattr("cmb_autoseg.trainers.mixture.judging.MOST_VOXELS", 500)
    base, where = mixed
    assert train.main([*where, "-r", write_mixture(base, "tower", "joined, tiny"), "-f", "0"]) == 0
    inner = model_of(base, "tower") / "members" / "joined" / "members" / "other" / "fold_0" / "checkpoint_final.pth"
    assert inner.is_file()
    assert load_ensemble(model_of(base, "tower"), None, "cpu").n_parameters > 0
