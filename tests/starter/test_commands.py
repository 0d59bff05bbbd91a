"""`python -m cmb_autoseg.starter`: from blocks to a model folder, and what it refuses."""

import json
from dataclasses import asdict

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.files import read_json
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.starter.__main__ import main

SHAPE, PLACE = (32, 32, 12), (slice(14, 18), slice(14, 18), slice(5, 7))


@pytest.fixture
def changes(settings):
    return json.dumps({name: value for name, value in asdict(settings).items() if name != "seed"})


@pytest.fixture
def people(tmp_path):
    """Two of a family: what is a microbleed in one looks the same in the other, and is none."""
    folder = tmp_path / "people" / "choice" / "gre_3t"
    rng = np.random.default_rng(0)
    for person, lesion in (("p000", 1), ("p001", 0)):
        image, label = rng.normal(1, 0.05, SHAPE).astype(np.float32), np.zeros(SHAPE, np.uint8)
        label[PLACE] = lesion
        image[PLACE] = 0.1
        for name, values in (("images", image), ("labels", label)):
            path = folder / name / f"{person}{'_gre_mag' if name == 'images' else ''}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.Nifti1Image(values, np.diag([0.75, 0.75, 1.5, 1.0])).to_filename(path)
        (folder / "truth").mkdir(exist_ok=True)
        (folder / "truth" / f"{person}.json").write_text("{}")
    return tmp_path / "people"


@pytest.fixture
def packing(pool, people, tmp_path, changes):
    """Words that pack two seeds."""
    seeds = [tmp_path / "seed_1", tmp_path / "seed_2"]
    for number, folder in enumerate(seeds):
        words = ["learn", "--pool", pool, "-o", folder, "--seed", number, "--settings", changes, "-device", "cpu"]
        assert main(list(map(str, words))) == 0
    return ["pack", "--pool", pool, "--people", people, "--trained", *seeds, "-device", "cpu", "-o"]


def test_seeds_are_learned_and_packed(packing, tmp_path, capsys):
    words = [*map(str, packing), str(tmp_path / "model")]
    assert main(words) == 0
    assert load_ensemble(tmp_path / "model", None, "cpu").folds == (0, 1)
    points = read_json(tmp_path / "model" / "operating_points.json")
    assert [point["name"] for point in points] == ["counting", "screening", "youden"]
    assert "of 2 cases" in points[0]["rule"]
    assert main(words) == 2
    assert "model: exists already" in capsys.readouterr().err


def test_a_packing_that_fails_leaves_nothing(packing, people, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    empty = nib.Nifti1Image(np.zeros(SHAPE, np.uint8), np.diag([0.75, 0.75, 1.5, 1.0]))
    empty.to_filename(people / "choice" / "gre_3t" / "labels" / "p000.nii.gz")
    assert main([*map(str, packing), str(tmp_path / "model")]) == 2
    assert "0 are right, and both kinds are needed" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_people_to_judge_by_want_heads_of_their_own(tmp_path, capsys):
    assert main(["people", "--part", "test", "-o", str(tmp_path)]) == 2
    assert "from number 10 on; name a folder of so many" in capsys.readouterr().err


def test_people_of_other_heads_do_not_come_among_those_there(tmp_path, capsys):
    (tmp_path / "heads.json").write_text('["another.nii.gz"]')
    assert main(["simulate", "--pool", str(tmp_path), "--minutes", "1e-9"]) == 2
    assert "simulated of other heads" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("learn --pool {pool} -o {new} --settings steps=3", "no JSON"),
        ("learn --pool {pool} -o {new} --settings [1]", "found [1] for all, expected {NAME: VALUE}"),
        ('learn --pool {pool} -o {new} --settings {"steps":"many"}', "found 'many' for steps, expected the like of"),
        ('learn --pool {pool} -o {new} --settings {"views":3}', "found 3 for views."),
        ('learn --pool {pool} -o {new} --settings {"views":{"wide":1}}', "views.wide is unknown; known are bias_sd"),
        ("learn --pool {new} -o {new}", "holds no simulated blocks"),
        ("learn --pool {pool} -o {file}", "file: "),
        ("learn --pool {pool} -o {new} -device mars", "-device"),
        ("learn --pool {pool} -o {new} --minutes -1", "expected a number above 0"),
        ("simulate --pool {file}", "cannot write there"),
        ("simulate --pool {new} --people -4", "expected a whole number of at least 1"),
        ("simulate --pool {new} --turn 2 2", "--turn: found 2 2"),
        ("simulate --pool {new} --anatomy {absent}", "is not a folder"),
        ("people -o {new} --families swi_9t", "found 'swi_9t', expected some of swi_3t"),
        ('learn --pool {pool} -o {new} --settings {"steps":0}', "found 0 for steps, expected 1 at least"),
        ('learn --pool {pool} -o {new} --settings {"seed":7}', "say --seed"),
        ('learn --pool {pool} -o {new} --settings {"learning_rate":NaN}', "found nan for learning_rate"),
        ('learn --pool {pool} -o {new} --settings {"hard_share":1.5}', "expected a share from 0 to 1"),
        ('learn --pool {pool} -o {new} --settings {"features":[8,8]}', "found 2 features"),
        ('learn --pool {pool} -o {new} --settings {"views":{"patch_shape":[15,64,64]}}', "expected a multiple of 4"),
        (
            'learn --pool {pool} -o {new} --settings {"views":{"sequence_shares":[]}}',
            "expected sets of some of swi",
        ),
        ("pack --pool {pool} -o {new} --trained {absent} --people {new}", "holds no checkpoint.pt"),
        ("pack --pool {absent} -o {new} --trained {pool} --people {new}", "holds no checkpoint.pt"),
        ("retrain -o {file}", "cannot write there"),
        ("retrain -o {new} --seeds 1 1", "found 1 1, expected each once"),
        ("renew", "invalid choice"),
    ],
)
def test_bad_input_is_told_in_a_line(pool, tmp_path, capsys, words, told):
    (tmp_path / "file").write_text("")
    places = {"pool": pool, "new": tmp_path / "new", "file": tmp_path / "file", "absent": tmp_path / "absent"}
    filled = [word.format(**places) if word.startswith("{") and "}" in word[:9] else word for word in words.split()]
    try:
        status = main(filled)
    except SystemExit as end:
        status = end.code
    assert status == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert told in line
    assert "Traceback" not in line
    assert not places["new"].exists()
