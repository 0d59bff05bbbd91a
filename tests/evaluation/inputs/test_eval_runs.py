"""What the runs that predicted say: seconds, and whom their models have learned from."""

import pytest

from cmb_autoseg.errors import InputError, LeakageError
from cmb_autoseg.evaluation.inputs.leakage import refuse_training_subjects
from cmb_autoseg.evaluation.inputs.run_times import read_seconds, seconds_of_run
from cmb_autoseg.files import write_json, write_text


@pytest.fixture
def run(tmp_path):
    """A run of two folds of three."""
    model = tmp_path / "CMBTrainer__supervised__3d"
    for fold, subjects in enumerate((["VALDO/01", "VALDO/02"], ["VALDO/03"], ["VALDO/04"])):
        write_json(model / f"fold_{fold}" / "fold.json", {"training_subjects": subjects, "fold": fold})
    steps = {"prepare: brain": 2.0, "prepare: bias": 1.0, "prepare": 4.0, "network": 5.5, "lesions": 0.25, "write": 1}
    record = {"model": {"folder": str(model), "folds": [0, 1], "digest": "x"}, "seconds": {"a": steps}}
    write_json(tmp_path / "predicted" / "run.json", record)
    return tmp_path / "predicted", model


def test_seconds_are_the_sum_of_steps_without_their_parts(run):
    assert seconds_of_run(run[0]) == {"a": 10.75}


def test_bids_runs_leave_their_records_in_logs(run):
    write_json(run[0] / "logs" / "sub-1_run.json", {"model": {}, "seconds": {"b": {"network": 3}, "a": {"network": 1}}})

    assert seconds_of_run(run[0]) == {"a": 10.75, "b": 3}


def test_folders_of_other_tools_have_no_seconds(tmp_path):
    write_json(tmp_path / "run.json", ["another tool's"])
    assert seconds_of_run(tmp_path) == {}
    write_text(tmp_path / "run.json", "no JSON")
    assert seconds_of_run(tmp_path) == {}
    assert seconds_of_run(tmp_path / "found.tsv") == {}


def test_seconds_of_a_table(tmp_path):
    write_text(tmp_path / "t.tsv", "case\tseconds\na\t2.5\nb\tn/a\n")
    assert read_seconds(tmp_path / "t.tsv", ["a", "c"]) == {"a": 2.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case\tminutes\na\t1\n", r"t\.tsv: no column seconds \(there: case, minutes\)"),
        ("case\tseconds\na\t-1\n", r"t\.tsv line 2: seconds -1 of a is not above 0"),
        ("case\tseconds\na\t1\na\t2\n", r"t\.tsv line 3: a second row of a"),
        (
            "case\tseconds\nx\t1\n",
            r"t\.tsv: has no seconds of any case \(a, c\); its column case holds x; name them al",
        ),
        ("case\tseconds\na\tfast\n", r"t\.tsv line 2: column seconds holds 'fast', a number is needed"),
    ],
)
def test_bad_times_are_one_line(tmp_path, text, message):
    write_text(tmp_path / "t.tsv", text)
    with pytest.raises(InputError, match=message):
        read_seconds(tmp_path / "t.tsv", ["a", "c"])


def of_people(*subjects):
    """Subjects of cases that are called otherwise."""
    return {f"scan_{n}": subject for n, subject in enumerate(subjects)}


def test_subjects_of_the_training_are_refused(run):
    predicted, model = run
    with pytest.raises(
        LeakageError, match=rf"-p {predicted}: fold 1 of {model} predicted, .* learned from VALDO/03; sc.*finalize$"
    ):
        refuse_training_subjects(predicted, of_people("VALDO/03", "VALDO/99"))
    with pytest.raises(LeakageError, match=r"--validation .*: fold 0 of .*VALDO/01, VALDO/02; score subjects"):
        refuse_training_subjects(predicted, of_people("VALDO/02", "VALDO/01"), "--validation")


@pytest.mark.parametrize("subject", ["03", "sub-03"])
def test_without_a_cohort_the_number_is_compared(run, subject):
    with pytest.raises(LeakageError, match=rf"learned from {subject}; .*; if these are other people .* with --cases$"):
        refuse_training_subjects(run[0], of_people(subject))


def test_other_scans_of_people_of_the_same_names_are_a_warning_and_the_same_scans_are_refused(tmp_path):
    model = tmp_path / "w" / "results" / "Dataset501_X" / "CMBTrainer__demo__3d"
    learned = {"training_subjects": ["X/sub-01", "X/sub-02"], "training_cases": ["sub-01", "sub-02"]}
    write_json(model / "fold_0" / "fold.json", learned)
    raw = tmp_path / "w" / "raw" / "Dataset501_X"
    raw.mkdir(parents=True)
    write_text(raw / "cases.tsv", "case\tsource_digests\nsub-01\tsha256:aa;sha256:ab\nsub-02\tsha256:bb\n")
    predicted = tmp_path / "predicted"
    write_json(predicted / "run.json", {"model": {"folder": str(model), "folds": [0]}})

    def scored(digest):
        write_json(predicted / "sub-01.json", {"inputs": [{"digest": "sha256:zz"}, {"digest": digest}]})
        return refuse_training_subjects(predicted, {"sub-01": "sub-01"})

    (warning,) = scored("sha256:yy")
    assert "has learned from people called like sub-01, but from other scans" in warning
    with pytest.raises(LeakageError, match="has learned from sub-01"):
        scored("sha256:ab")
    write_text(raw / "cases.tsv", "case\tsource_digests\nsub-01\tsha256:aa\n")
    with pytest.raises(LeakageError, match="give cohort and subject with --cases"):  # not all scans are known
        scored("sha256:yy")


@pytest.fixture
def namesakes(tmp_path):
    """Writes what two folds of a model learned from and what a scan p1 was predicted from; then looks for p1."""
    model = tmp_path / "w" / "results" / "Dataset501_X" / "CMBTrainer__demo__3d"
    for fold, cases in enumerate((["p1", "p2"], ["p1", "p3"])):
        learned = {"training_subjects": [f"X/{case}" for case in cases], "training_cases": cases}
        write_json(model / f"fold_{fold}" / "fold.json", learned)
    raw, predicted = tmp_path / "w" / "raw" / "Dataset501_X", tmp_path / "predicted"
    raw.mkdir(parents=True)
    write_json(predicted / "run.json", {"model": {"folder": str(model), "folds": [0, 1]}})

    def check(trained, scan):
        rows = [f"p{n}\t{trained};b/p{n}.txt\tsha256:{n};sha256:label{n}" for n in (1, 2, 3)]
        write_text(raw / "cases.tsv", "\n".join(["case\tsource_files\tsource_digests", *rows, ""]))
        write_json(predicted / "p1.json", {"inputs": [scan]})
        return refuse_training_subjects(predicted, {"p1": "p1"})

    return check


MANY = {
    "pictures": ("a (32 pictures)", {"kind": "pictures", "n_files": 32}),
    "dicom": ("a (32 files)", {"kind": "dicom", "n_files": 32}),
    "volume": ("a.nii.gz", {"kind": "volume"}),
}


@pytest.mark.parametrize("kind", MANY)
def test_the_same_scans_of_many_files_are_refused_and_others_are_one_warning(namesakes, kind):
    trained, scan = MANY[kind]
    with pytest.raises(LeakageError, match="has learned from p1"):
        namesakes(trained, {**scan, "digest": "sha256:1"})
    (warning,) = namesakes(trained, {**scan, "digest": "sha256:other"})
    assert "CMBTrainer__demo__3d has learned from people called like p1, but from other scans" in warning


@pytest.mark.parametrize(
    ("trained", "scan"),
    [
        ("a (32 pictures)", MANY["dicom"][1]),
        ("a (32 files)", MANY["volume"][1]),
        ("a.jpg", MANY["pictures"][1]),  # a table of an earlier version, with each picture on its own
        ("a (32 pictures)", {"kind": "pictures"}),  # a record of an earlier version
        ("a (32 files)", {"kind": "dicom"}),
    ],
)
def test_digests_that_cannot_agree_do_not_tell_other_scans(namesakes, trained, scan):
    with pytest.raises(LeakageError, match=r"has learned from p1; .*give cohort and subject with --cases"):
        namesakes(trained, {**scan, "digest": "sha256:other"})


def test_names_of_cases_are_compared_too(run):
    predicted, model = run
    write_json(
        model / "fold_1" / "fold.json",
        {"training_subjects": ["V/7"], "training_cases": ["a", "b"], "unlabelled_cases": ["c"]},
    )
    for case in "abc":
        with pytest.raises(LeakageError, match=rf"fold 1 of .* has learned from {case};"):
            refuse_training_subjects(predicted, {case: case})

    (warning,) = refuse_training_subjects(predicted, {"a": "OTHER/7"})

    assert f"-p {predicted}: a are called like training cases of {model}, though the table gives other" in warning


def test_a_list_in_the_folder_of_a_run_is_of_that_run(run):
    with pytest.raises(LeakageError, match=r"lesions\.tsv: fold 1 of .* VALDO/03"):
        refuse_training_subjects(run[0] / "lesions.tsv", of_people("VALDO/03"))
    assert seconds_of_run(run[0] / "lesions.tsv") == {"a": 10.75}


def test_folds_that_did_not_predict_and_other_cohorts_say_nothing(run):
    assert refuse_training_subjects(run[0], of_people("VALDO/04", "DOU/01", "05", "scan")) == ()
    assert refuse_training_subjects(run[0] / "nowhere" / "else", of_people("VALDO/03")) == ()


def test_a_model_that_has_learned_from_nobody_needs_no_record(run):
    predicted, model = run
    for fold in model.glob("fold_*"):
        (fold / "fold.json").unlink()
    assert refuse_training_subjects(predicted, of_people("VALDO/01"))
    write_json(model / "plans.json", {"dataset_name": "Dataset000_SIMULATED"})
    assert refuse_training_subjects(predicted, of_people("VALDO/01")) == ()


def test_what_cannot_be_checked_is_told(run):
    predicted, model = run
    record = model / "fold_0" / "fold.json"
    begin = f"leakage could not be checked: -p {predicted}: "
    for change, reason in (
        (record.unlink, "is gone"),
        (lambda: write_text(record, "no JSON"), "is not readable"),
        (lambda: write_json(record, ["another tool's"]), "lists neither subjects nor cases"),
    ):
        change()
        (warning,) = refuse_training_subjects(predicted, of_people("VALDO/01"))
        assert warning.startswith(f"{begin}{record} {reason}, which says whom fold 0 has learned from")
    # What the other fold says holds all the same.
    with pytest.raises(LeakageError):
        refuse_training_subjects(predicted, of_people("VALDO/03"))

    write_json(predicted / "run.json", {"model": {"digest": "x"}})
    (warning,) = refuse_training_subjects(predicted, of_people("VALDO/03"))
    assert warning == f"{begin}its run.json names no folder and folds of a model"
    write_json(predicted / "run.json", {"model": None})
    assert refuse_training_subjects(predicted, of_people("VALDO/03")) == ()
