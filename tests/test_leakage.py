"""Two cohorts A and B; A/1 has a labelled and an unlabelled session, A/2 is unlabelled, A/3 is a test subject."""

from pathlib import Path

import pytest

from cmb_autoseg.errors import LeakageError
from cmb_autoseg.leakage import held_out_subjects, refuse_leaky_encoder, subject_of, unlabelled_cases
from cmb_autoseg.raw_dataset import RawCase, RawDataset
from cmb_autoseg.records import Encoder, Role, Topology
from cmb_autoseg.workspace import DatasetFolders


def case(cohort, subject, session, *, labelled=False, split="train"):
    name = f"{cohort}_{subject}_{session}"
    return RawCase(name, cohort, subject, (Role.SWI,), split, labelled, None, Path())


CASES = (
    case("A", "1", "x", labelled=True),
    case("A", "1", "y"),
    case("A", "2", "x"),
    case("A", "3", "x", split="test", labelled=True),
    case("A", "3", "y"),
    case("B", "1", "x"),
    case("B", "4", "x", labelled=True),
    case("B", "4", "y"),
)
FOLDS = [{"train": ["B_4_x"], "val": ["A_1_x"]}, {"train": ["A_1_x"], "val": ["B_4_x"]}]
RAW = RawDataset(DatasetFolders(Path(), "Dataset501_X"), (Role.SWI,), CASES, "")


@pytest.mark.parametrize(
    ("fold", "expected"),
    [
        (None, ["A_2_x", "B_1_x"]),
        (0, ["A_2_x", "B_1_x", "B_4_y"]),
        (1, ["A_1_y", "A_2_x", "B_1_x"]),
    ],
)
def test_unlabelled_sessions_of_people_who_are_judged_are_left_out(fold, expected):
    assert [one.name for one in unlabelled_cases(RAW, FOLDS, fold)] == expected


def test_the_same_number_in_two_cohorts_is_two_people():
    assert subject_of(CASES[0]) == "A/1"
    assert held_out_subjects(RAW, FOLDS, 0) == {"A/1", "A/3"}
    assert held_out_subjects(RAW, FOLDS, None) == {"A/1", "A/3", "B/4"}


def encoder(fold, *subjects):
    topology = Topology(
        features_per_stage=(4,), kernel_sizes=((3, 3, 3),), strides=((1, 1, 1),), n_blocks_per_stage=(2,)
    )
    return Encoder(
        name="ssl", method="barlow_twins", datasets=("D",), fold=fold, seed=0, steps=1, channels=(Role.SWI,),
        topology=topology, patch_shape=(8, 8, 8), subjects=subjects, n_cases=1, weights="", parents=(),
    )  # fmt: skip


def test_an_encoder_that_saw_a_judged_subject_is_refused_by_name():
    with pytest.raises(LeakageError, match=r"fold 1 too.*A/1.*fold 0 is judged.*-f 0"):
        refuse_leaky_encoder(encoder(1, "A/1", "A/2"), 0, held_out_subjects(RAW, FOLDS, 0))
    refuse_leaky_encoder(encoder(0, "A/2", "B/4"), 0, held_out_subjects(RAW, FOLDS, 0))


def test_many_subjects_are_counted_and_the_first_named():
    seen = [f"A/{number}" for number in range(8)]
    with pytest.raises(LeakageError, match=r"A/4 and 3 more,"):
        refuse_leaky_encoder(encoder(None, *seen), 0, seen)
