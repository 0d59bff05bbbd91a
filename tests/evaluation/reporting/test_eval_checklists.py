"""Checklists: complete, filled from facts where these suffice, marked where a person has to write."""

import re
from collections import Counter

import pytest

from cmb_autoseg.evaluation.reporting.checklist import FACTS, MARKER, as_markdown, fill_checklists

TRIPOD = (
    *(
        "1",
        "2",
        "3a",
        "3b",
        "3c",
        "4",
        "5a",
        "5b",
        "6a",
        "6b",
        "6c",
        "7",
        "8a",
        "8b",
        "8c",
        "9a",
        "9b",
        "9c",
        "10",
        "11",
    ),
    *("12a", "12b", "12c", "12d", "12e", "12f", "12g", "13", "14", "15", "16", "17"),
    *("18a", "18b", "18c", "18d", "18e", "18f", "19", "20a", "20b", "20c", "21", "22", "23a", "23b", "24"),
    *("25", "26", "27a", "27b", "27c"),
)
MI_CLAIM = {
    "study design": 5,
    "data and optimization": 5,
    "model performance": 3,
    "model examination": 5,
    "reproducibility": 1,
}


def test_every_item_is_there():
    tripod, mi_claim = fill_checklists({})
    assert [line.number for line in tripod.lines] == list(TRIPOD)
    assert len({re.match(r"\d+", line.number)[0] for line in tripod.lines}) == 27
    assert Counter(line.part for line in mi_claim.lines) == MI_CLAIM


def test_without_facts_a_person_writes_all_but_what_the_tool_itself_does():
    for checklist in fill_checklists({}):
        for line in checklist.lines:
            assert line.name
            assert line.known or line.person
        assert checklist.n_filled <= 1


def test_all_facts_are_taken_and_leave_no_gap():
    lists = fill_checklists({key: f"«{key}»" for key in FACTS})
    known = " ".join(line.known for checklist in lists for line in checklist.lines)
    assert "{" not in known
    unused = {key for key in FACTS if f"«{key}»" not in known}
    assert not unused
    assert sum(checklist.n_filled for checklist in lists) == 42


def test_items_without_facts_stay_a_persons_though_others_are_filled():
    tripod = fill_checklists(dict.fromkeys(FACTS, "x"))[0]
    by_number = {line.number: line for line in tripod.lines}
    for number in ("8b", "8c", "17", "18a", "18b", "19", "25"):
        assert not by_number[number].known
        assert by_number[number].person
    assert by_number["12g"].known
    assert not by_number["12g"].person
    assert by_number["5a"].known
    assert by_number["5a"].person, "filled, but not enough"


def test_an_empty_fact_counts_as_unknown_and_a_foreign_one_is_refused():
    lines = {
        line.number: line for line in fill_checklists({"folds": "Five folds.", "split": "", "n_cases": "3"})[0].lines
    }
    assert (lines["12a"].known, bool(lines["12a"].person)) == ("Five folds.", True), "but not what keeps people apart"
    assert (lines["10"].known, bool(lines["10"].person)) == ("", True), "three more facts are missing"
    with pytest.raises(KeyError, match="no fact of a checklist: n_people"):
        fill_checklists({"n_people": "3"})


def test_markdown_has_every_item_and_marks_what_is_open():
    lists = fill_checklists({"n_cases": "16", "results": "F1 | 0.8"})
    text = as_markdown(lists)
    assert len(re.findall(r"^\| [\d.]+[a-g]? \|", text, re.MULTILINE)) == 52 + 19
    assert text.count(f"**{MARKER}**:") == sum(bool(line.person) for one in lists for line in one.lines)
    assert "F1 \\| 0.8" in text
    for one in lists:
        assert f"{one.told[0]} **{MARKER}**, {one.told[1]}" in text
    assert text == as_markdown(fill_checklists({"n_cases": "16", "results": "F1 | 0.8"}))


def test_it_is_told_how_many_items_need_a_person_though_there_is_text():
    tripod = fill_checklists(dict.fromkeys(FACTS, "x"))[0]
    n_filled, n_open = sum(bool(line.known) for line in tripod.lines), sum(bool(line.person) for line in tripod.lines)
    n_both = sum(bool(line.known and line.person) for line in tripod.lines)
    assert n_both
    assert " ".join(tripod.told) == (
        f"{n_filled} of 52 items have text from the records. {n_open} are marked {n_both} of these "
        f"beside such text; {52 - n_open} need no person."
    )


def test_subgroups_are_reported_and_not_said_to_be_compared():
    lines = {line.number: line for line in fill_checklists({"subgroups": "sex, age"})[0].lines}
    assert lines["12d"].known.startswith("Figures are reported by sex, age;")
    assert lines["12d"].person, "how centers were handled is more than columns"
