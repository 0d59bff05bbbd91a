"""A cohort predicted in parts: the files of one run, byte for byte, whatever the order of the parts."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from cmb_autoseg import locking
from cmb_autoseg.cli import predict
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import RUN_TOKEN
from cmb_autoseg.inference import parts
from cmb_autoseg.inference import run as predict_run
from cmb_autoseg.inference.inputs import InputFailure
from cmb_autoseg.inference.parts import Part, slurm_part
from cmb_autoseg.locking import own_folder
from cmb_autoseg.records import Case


@pytest.fixture(scope="module")
def scans(trained, tmp_path_factory):
    """Eight prepared scans of six subjects, two of which are damaged or blank."""
    folder = tmp_path_factory.mktemp("scans")
    for part in ("imagesTr", "imagesUn"):
        for path in (trained.raw / part).glob("*.nii.gz"):
            shutil.copy(path, folder)
    for path in folder.glob("p2_1_*.nii.gz"):
        path.write_bytes(path.read_bytes()[:3000])
    return folder


def run(trained, scans, out, *more):
    words = ["-i", str(scans), "-o", str(out), "-m", str(trained.model), "-f", "0", "-device", "cpu"]
    return predict.main([*words, "--operating-point", "0.02", *more])


@pytest.fixture(scope="module")
def whole(trained, scans, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    assert run(trained, scans, out) == 1
    return contents(out)


def contents(out):
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "run.json" and "logs" not in path.parts
    }


@pytest.mark.parametrize("layout", [(), ("--bids",)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_parts_make_what_one_run_makes(trained, scans, whole, tmp_path, capsys, order, layout):
    out = tmp_path / "out"
    expected = whole
    if layout:
        assert run(trained, scans, tmp_path / "one", *layout) == 1
        expected = contents(tmp_path / "one")
    codes = []
    for place, number in enumerate(order):
        codes.append(run(trained, scans, out, "-num_parts", "3", "-part_id", str(number), *layout))
        said = capsys.readouterr().err
        assert ("the tables come with the last part" in said) == (place < 2)
        assert (out / "counts.tsv").is_file() == (place == 2)
        assert ("of all scans 2 failed: failures.tsv" in said) == (place == 2)
    assert sorted(codes) == [0, 1, 1]
    assert len(expected) > 30
    assert contents(out) == expected


def test_a_part_that_is_repeated_joins_the_tables_anew(trained, scans, whole, tmp_path):
    out = tmp_path / "out"
    for number in (0, 1, 1, 0):
        run(trained, scans, out, "-num_parts", "2", "-part_id", str(number))
    assert contents(out) == whole


def test_parts_of_other_settings_are_not_joined(trained, scans, whole, tmp_path, capsys):
    out = tmp_path / "out"
    for number in (0, 1):
        run(trained, scans, out, "-num_parts", "2", "-part_id", str(number))
    before = contents(out)
    capsys.readouterr()
    words = ["-num_parts", "2", "-part_id"]
    run(trained, scans, out, *words, "0", "--operating-point", "0.9")
    said = capsys.readouterr().err
    assert "; done with another operating point, so to be predicted again: -part_id 1" in said
    assert "finished by another operating point; it and others alike are predicted anew" in said
    assert said.count("predicted anew") == 1
    assert "still to be done" not in said
    assert (out / "counts.tsv").read_bytes() == before["counts.tsv"]
    run(trained, scans, out, *words, "1", "--operating-point", "0.9")
    assert "their tables are joined" in capsys.readouterr().err
    assert (out / "counts.tsv").read_bytes() != before["counts.tsv"]


NO_RECORD = '{"order": [], "done": {"p1_1": "x"}, "failed": [], "no_cases": [], "run": {}}'


@pytest.mark.parametrize("content", ["{}", '{"order": [', "[]", '{"order": []}', NO_RECORD])
def test_a_broken_note_is_a_part_that_is_not_done(trained, scans, tmp_path, capsys, content):
    out = tmp_path / "out"
    note = out / "logs" / "part_1_of_2" / "part.json"
    note.parent.mkdir(parents=True)
    note.write_text(content)
    assert run(trained, scans, out, "-num_parts", "2", "-part_id", "0") in (0, 1)
    assert "the tables come with the last part" in capsys.readouterr().err


def test_more_parts_than_subjects_leave_some_empty(trained, scans, whole, tmp_path, monkeypatch):
    out = tmp_path / "out"
    array = {"MIN": "1", "MAX": "17", "COUNT": "9", "STEP": "2"}
    for name, value in array.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    for task in range(1, 18, 2):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        run(trained, scans, out, "--slurm-array")
    assert contents(out) == whole


def test_a_part_and_the_whole_keep_out_of_each_others_way(trained, scans, tmp_path, capsys):
    out = tmp_path / "out"
    with own_folder(out, "cmb_predict"):
        assert run(trained, scans, out, "-num_parts", "2", "-part_id", "0") == 2
    assert "in use by cmb_predict" in capsys.readouterr().err
    with own_folder(out / "logs" / "part_1_of_2", "cmb_predict, part 1 of 2"):
        assert run(trained, scans, out) == 2
        assert "in use by cmb_predict, part 1 of 2" in capsys.readouterr().err
        for count in ("2", "3"):
            assert run(trained, scans, out, "-num_parts", count, "-part_id", "1") == 2
            assert "in use by cmb_predict, part 1 of 2" in capsys.readouterr().err
    assert not contents(out)


@pytest.mark.parametrize("words", [(), ("-num_parts", "3", "-part_id", "0")])
def test_who_comes_at_the_same_moment_is_seen_after_the_own_lock(trained, scans, tmp_path, capsys, monkeypatch, words):
    """The other one enters between the first check and the own lock."""
    out, entered = tmp_path / "out", ExitStack()
    taking = locking.own_folder

    def own_after_another(folder, *more, **settings):
        if not (out / "logs" / "part_1_of_2").exists():
            entered.enter_context(taking(out / "logs" / "part_1_of_2", "another run"))
        return taking(folder, *more, **settings)

    monkeypatch.setattr(parts if words else predict_run, "own_folder", own_after_another)
    with entered:
        assert run(trained, scans, out, *words) == 2
        assert "in use by another run" in capsys.readouterr().err
    assert not contents(out)


def test_parts_in_bids_own_their_subjects(trained, scans, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(trained, scans, out, "--bids", "-num_parts", "6", "-part_id", "0") in (0, 1)
    subject = next(out.glob("sub-*"))
    with own_folder(subject, "cmb_bids"):
        assert run(trained, scans, out, "--bids", "-num_parts", "6", "-part_id", "0") == 2
    assert f"{subject}: in use by cmb_bids" in capsys.readouterr().err


def test_a_part_whose_files_are_gone_is_not_joined(trained, scans, whole, tmp_path, capsys):
    out = tmp_path / "out"
    run(trained, scans, out, "-num_parts", "2", "-part_id", "0")
    lesions = next(out.glob("*_lesions.tsv"))
    lesions.with_name(lesions.name.replace("_lesions.tsv", ".json")).unlink()
    capsys.readouterr()
    run(trained, scans, out, "-num_parts", "2", "-part_id", "1")
    assert "still to be done: -part_id 0" in capsys.readouterr().err
    run(trained, scans, out, "-num_parts", "2", "-part_id", "0")
    assert contents(out) == whole


def test_what_a_killed_part_left_is_cleared(trained, scans, tmp_path):
    out = tmp_path / "out"
    run(trained, scans, out, "-num_parts", "2", "-part_id", "0")
    left = out / f".tmp{RUN_TOKEN}_p9_prob.nii.gz"
    left.write_bytes(b"half")
    with own_folder(out / "logs" / "part_0_of_2", "another run"):
        run(trained, scans, out, "-num_parts", "2", "-part_id", "1")
        assert left.is_file()
    run(trained, scans, out, "-num_parts", "2", "-part_id", "1")
    assert not left.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-num_parts", "3"], "-num_parts: found without -part_id"),
        (["-part_id", "0"], "-part_id: found without -num_parts"),
        (["-num_parts", "3", "-part_id", "3"], "-part_id: found 3, expected a number from 0 to 2 with -num_parts 3"),
        (["--slurm-array", "-part_id", "0"], "give either"),
        (["--slurm-array"], "SLURM_ARRAY_TASK_ID is not set"),
    ],
)
def test_half_a_part_is_refused(trained, scans, tmp_path, capsys, words, message):
    assert run(trained, scans, tmp_path / "out", *words) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


def array(task, first, last, count, step="1"):
    values = dict(zip(("ID", "MIN", "MAX", "COUNT", "STEP"), (task, first, last, count, step), strict=True))
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def test_slurms_tasks_are_parts():
    assert [slurm_part(array(task, 3, 9, 4, 2)) for task in (3, 5, 7, 9)] == [Part(n, 4) for n in range(4)]
    assert slurm_part(array(0, 0, 9, 10)) == Part(0, 10)
    assert slurm_part(array(9, 0, 10, 4, 3)) == Part(3, 4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (array(3, 1, 7, 3), "found tasks 1 to 7 in steps of 1, 3 in all, expected a plain range"),
        (array("x", 0, 9, 10), "SLURM_ARRAY_TASK_ID is 'x', expected a whole number"),
        (array(0, 0, 9, "1e1"), "SLURM_ARRAY_TASK_COUNT is '1e1', expected a whole number"),
        (array(2, 1, 9, 3, 4), "SLURM_ARRAY_TASK_ID is 2, expected one of tasks 1 to 9 in steps of 4"),
        (array(12, 0, 9, 10), "SLURM_ARRAY_TASK_ID is 12, expected one of tasks 0 to 9"),
        (array(-1, 0, 9, 10), "SLURM_ARRAY_TASK_ID is '-1', expected a whole number"),
        (array(0, 0, 9, 10, 0), "expected a plain range"),
        (array(1, 1, 0, 0), "expected a plain range"),
        (array(3, 3, 3, 1), "found task 3 alone"),
    ],
)
def test_odd_arrays_are_refused(values, message):
    with pytest.raises(InputError, match=rf"--slurm-array: .*{message}"):
        slurm_part(values)


def test_sessions_of_a_subject_stay_together():
    cases = [Case.model_construct(name=f"{sub}_{ses}", subject=sub) for sub in "abcde" for ses in (1, 2)]
    for count in (1, 2, 3, 7):
        parts = [[case.name for case in Part(number, count).takes(cases)] for number in range(count)]
        assert sorted(name for names in parts for name in names) == [case.name for case in cases]
        assert all(names[::2] == [f"{name[0]}_1" for name in names[::2]] for names in parts)
        sizes = [len(names) for names in parts]
        assert max(sizes) - min(sizes) <= 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--fast",), "choice of --fast"),
        (("--brain", "none"), "preparation or content of scans"),
        ((), "model or folds"),
    ],
)
def test_parts_of_other_ways_are_not_joined(trained, scans, tmp_path, capsys, words, told):
    out, model = tmp_path / "out", tmp_path / "model"
    shutil.copytree(trained.model, model)
    plans = json.loads((model / "plans.json").read_text())
    plans["cmb_autoseg"]["recipe"]["inference"]["tile_step"] = None  # which leaves no choice
    (model / "plans.json").write_text(json.dumps(plans))
    covering = SimpleNamespace(model=model)
    assert run(covering if words else trained, scans, out, "-num_parts", "2", "-part_id", "0", *words) in (0, 1)
    run(covering, scans, out, "-num_parts", "2", "-part_id", "1")
    assert f"; done with another {told}, so to be predicted again: -part_id 0" in capsys.readouterr().err
    assert not (out / "counts.tsv").exists()


def test_parts_of_other_scans_are_not_joined(trained, scans, tmp_path, capsys):
    out, others = tmp_path / "out", tmp_path / "others"
    run(trained, scans, out, "-num_parts", "2", "-part_id", "0")
    shutil.copytree(scans, others)
    shutil.copy(others / "p3_1_0000.nii.gz", others / "p1_1_0000.nii.gz")
    run(trained, others, out, "-num_parts", "2", "-part_id", "1")
    assert "predicted again: -part_id 0" in capsys.readouterr().err


def test_a_part_whose_files_a_whole_run_replaced_is_not_joined(trained, scans, tmp_path, capsys):
    out = tmp_path / "out"
    for number in ("0", "1"):
        run(trained, scans, out, "-num_parts", "2", "-part_id", number)
    run(trained, scans, out, "--operating-point", "0.9")
    capsys.readouterr()
    run(trained, scans, out, "-num_parts", "2", "-part_id", "0")
    assert "still to be done: -part_id 1" in capsys.readouterr().err


@pytest.mark.parametrize("stopped", [False, True])
def test_a_note_holds_until_cases_are_replaced(trained, scans, tmp_path, monkeypatch, stopped):
    out = tmp_path / "out"
    words = ["-num_parts", "2", "-part_id", "0"]
    run(trained, scans, out, *words)
    note = out / "logs" / "part_0_of_2" / "part.json"
    assert note.is_file()
    if stopped:
        monkeypatch.setattr("cmb_autoseg.inference.predict.predict_cases", lambda *more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(trained, scans, out, *words)
    else:
        assert run(trained, scans, out, *words, "-f", "0", "9") == 2
    assert note.is_file() != stopped


def test_what_is_no_case_goes_with_its_subject(trained, scans, whole, tmp_path):
    """A mask beside the scans has a case's name: that of another part than the first."""
    folder, names = tmp_path / "scans", sorted({path.name.rpartition("_")[0] for path in scans.glob("*.nii.gz")})
    shutil.copytree(scans, folder)
    for name in names:
        shutil.copy(scans / f"{name}_0000.nii.gz", folder / f"{name}.nii.gz")
    one, out = tmp_path / "one", tmp_path / "out"
    assert run(trained, folder, one) == 1
    for number in ("1", "2", "0"):
        run(trained, folder, out, "-num_parts", "3", "-part_id", number)
    assert contents(out) == contents(one)


def test_failures_are_dealt_as_the_subjects():
    cases = [Case.model_construct(name=f"{sub}_1", subject=sub) for sub in ("a", "b", "a_b")]
    failures = [InputFailure(name, "") for name in ("b_2", "a_b_7_x", "c", "a_b_1", "a")]
    dealt = [[failure.case for failure in Part(number, 3).failures(failures, cases)] for number in range(3)]
    assert dealt == [["c", "a"], ["b_2"], ["a_b_7_x", "a_b_1"]]


def test_others_who_ask_are_no_owners(tmp_path):
    """A killed run has left its lock's file; ten processes ask at once whether it is at work."""
    (tmp_path / locking.LOCK_NAME).write_text("cmb_predict, process 999999")
    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(locking.is_owned, [tmp_path] * 200)) == {None}


def test_folds_that_were_not_copied_are_told(trained, scans, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(trained.model, model)
    (model / "fold_3").mkdir(exist_ok=True)
    (model / "fold_3" / "checkpoint_final.pth").unlink(missing_ok=True)
    words = ["-i", str(scans / "p1_1_0000.nii.gz"), "-o", str(tmp_path / "out"), "-m", str(model), "-device", "cpu"]
    assert predict.main([*words, "--operating-point", "0.02"]) == 0
    said = capsys.readouterr().err
    assert "warning: model: no weights of fold" in said
    assert said.index("no weights of fold") < said.index("Predicting")
    assert predict.main([*words, "--operating-point", "0.02", "-f", "0"]) == 0
    assert "no weights" not in capsys.readouterr().err
