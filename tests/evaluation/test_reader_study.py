"""Tables of verdicts: counted by hand, a study like a published one, and files that are wrong."""

import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.readers.reader_study import VERDICTS, Verdict, doubts, read_verdicts, reader_study
from cmb_autoseg.evaluation.statistics.intervals import Resampling

TABLE = """case\tlesion\trater\tverdict\tnote
sub-1\t1\tAnn\tcorrect\t
sub-1\t2\tAnn\tincorrect\tvessel
sub-2\t1\tAnn\tcorrect\t
sub-2\tm1\tAnn\tmissed\t
sub-1\t1\tBob\tCorrect\t
sub-1\t2\tBob\tcorrect\t
sub-2\t1\tBob\tcorrect\t
"""


def written(tmp_path, text):
    path = tmp_path / "verdicts.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def study_of(judged, n_cases):
    """(n_findings, n_raters) indices into VERDICTS, -1 where not judged; findings dealt to cases in turn."""
    return [
        Verdict(case=f"sub-{n % n_cases:02d}", lesion=str(n), rater=f"R{rater}", verdict=VERDICTS[index])
        for n, row in enumerate(judged)
        for rater, index in enumerate(row)
        if index >= 0
    ]


def test_a_table_by_hand(tmp_path):
    found = reader_study(read_verdicts(written(tmp_path, TABLE)), Resampling(100))
    assert (found.raters, found.n_cases, found.n_findings) == (("Ann", "Bob"), 2, 4)
    counts = {row["rater"]: [row[key] for key in ("n", *VERDICTS)] for row in found.verdicts}
    assert counts == {"Ann": [4, 2, 1, 1], "Bob": [3, 3, 0, 0], "all": [7, 5, 1, 1]}
    assert found.verdicts[-1]["correct_share"].value == pytest.approx(5 / 7)
    assert [(row["n_cases"], row["n_findings"]) for row in found.verdicts] == [(2, 4), (2, 3), (2, 4)]
    assert (found.n_judged_by_all, found.n_left_out) == (3, 1)
    assert found.unanimous.value == pytest.approx(2 / 3)
    (pair,) = found.pairs
    assert (pair["rater"], pair["other"], pair["n"]) == ("Ann", "Bob", 3)
    assert pair["agreement"].value == pytest.approx(2 / 3)
    # Bob says correct throughout, so what they agree on is what chance gives.
    assert pair["kappa"].value == pytest.approx(0)


def test_a_study_of_five_readers():
    """Kappas are those of scikit-learn and statsmodels over findings judged by both, and by all."""
    rng = np.random.default_rng(1)
    truth = rng.choice(3, 300, p=[0.9, 0.06, 0.04])
    judged = np.where(rng.random((300, 5)) < 0.93, truth[:, None], rng.choice(3, (300, 5)))
    judged[rng.random((300, 5)) < 0.01] = -1
    found = reader_study(study_of(judged, 40), Resampling(200))
    by_all = judged[(judged >= 0).all(axis=1)]
    assert (found.n_judged_by_all, found.n_left_out) == (len(by_all), 300 - len(by_all))
    assert found.n_left_out > 5
    assert found.fleiss_kappa.value == pytest.approx(fleiss_kappa(aggregate_raters(by_all)[0]))
    assert found.fleiss_kappa.ci[0] < found.fleiss_kappa.value < found.fleiss_kappa.ci[1]
    assert len(found.pairs) == 10
    for row, (one, other) in zip(found.pairs, [(i, j) for i in range(5) for j in range(i + 1, 5)], strict=True):
        both = judged[(judged[:, [one, other]] >= 0).all(axis=1)]
        assert row["n"] == len(both)
        assert row["kappa"].value == pytest.approx(cohen_kappa_score(both[:, one], both[:, other]))
    everyone = found.verdicts[-1]
    assert everyone["correct"] == np.count_nonzero(judged == 0)
    assert sum(everyone[f"{name}_share"].value for name in VERDICTS) == pytest.approx(1)
    json.loads(found.model_dump_json())


def test_findings_of_a_case_are_drawn_together():
    """Ten cases of 20 findings on which all depends: far wider than 200 findings by themselves would be."""
    judged = np.repeat([[0, 0]] * 7 + [[1, 1]] * 3, 20, axis=0)
    together = [
        Verdict(case=f"sub-{n // 20}", lesion=str(n), rater=f"R{rater}", verdict=VERDICTS[index])
        for n, row in enumerate(judged)
        for rater, index in enumerate(row)
    ]
    wide = reader_study(together).verdicts[-1]["correct_share"].ci
    narrow = reader_study(study_of(judged, 200)).verdicts[-1]["correct_share"].ci
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])


def test_one_rater_and_one_case():
    found = reader_study([Verdict(case="sub-1", lesion="1", rater="Ann", verdict="correct")])
    assert found.pairs == ()
    assert (found.fleiss_kappa.value, found.fleiss_kappa.why) == (None, "there is one rater")
    assert found.verdicts[0]["correct_share"].value == 1
    assert found.verdicts[0]["correct_share"].ci is None


def test_raters_of_different_findings():
    found = reader_study(study_of(np.array([[0, -1], [-1, 1]]), 2))
    assert (found.n_judged_by_all, found.n_left_out) == (0, 2)
    assert found.fleiss_kappa.why == found.unanimous.why == "no item was judged by all raters"
    assert found.pairs[0]["agreement"].why == "no item was judged by both raters"


def test_the_order_of_lines_does_not_matter(tmp_path):
    head, *lines = TABLE.strip().split("\n")
    turned = "\n".join([head, *reversed(lines)]) + "\n"
    assert reader_study(read_verdicts(written(tmp_path, turned))) == reader_study(
        read_verdicts(written(tmp_path, TABLE))
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no verdict in it"),
        ("case\tlesion\trater\tverdict\n", "no verdict in it"),
        ("case\tlesion\tverdict\n", "no column rater; found case, lesion, verdict"),
        ("case,lesion,rater,verdict\n", "no column case, lesion, rater, verdict; found case,lesion.*with tabs"),
        (TABLE + "sub-2\t9\tAnn\twrong\t\n", r"verdicts.tsv, line 9: verdict wrong; give one of correct, incorrect"),
        (TABLE + "\nsub-2\t9\tAnn\n", "line 10: no verdict; fill it in"),
        (TABLE + "sub-2\t\tAnn\tcorrect\t\n", "line 9: no lesion; fill it in"),
        (TABLE + "sub-1\t1\tBob\tmissed\t\n", "line 9: Bob judged lesion 1 of sub-1 before, in line 6; keep one"),
    ],
)
def test_wrong_files(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_verdicts(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_verdicts(tmp_path / "none.tsv")
    (tmp_path / "picture.tsv").write_bytes(b"\xff\xfe\x00\x9f")
    with pytest.raises(InputError, match="not readable as a tab-separated table"):
        read_verdicts(tmp_path / "picture.tsv")


def test_verdicts_of_other_cases_and_on_what_was_and_was_not_marked_are_doubted():
    def said(case, *own):
        return [Verdict(case=case, lesion="1", rater=str(n), verdict=verdict) for n, verdict in enumerate(own)]

    sound = [*said("a", "correct", "incorrect"), *said("b", "missed", "missed")]
    assert doubts(sound, ["a", "b"]) == ()
    assert doubts(sound, []) == ()
    stranger, torn = doubts([*sound, *said("c", "missed", "correct")], ["a", "b"])
    assert stranger.startswith("--verdicts: c: judged by readers, but not scored")
    assert torn.startswith("--verdicts: c lesion 1: missed by some raters' verdicts, marked by others'")
