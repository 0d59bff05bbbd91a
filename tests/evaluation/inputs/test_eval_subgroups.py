import pytest

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.subgroups import SubgroupSpec, read_subgroup_spec, split


def groups(values, text, n_lesions=None):
    columns = [{} if value is None else {"age": str(value), "other": "1"} for value in values]
    people = list(map(str, range(len(values))))
    found = split(columns, n_lesions or [0] * len(values), people, read_subgroup_spec(text))
    return {group.label: group.indices for group in found}


def test_texts_make_a_group_each_and_what_is_not_known_another():
    assert groups(["b", None, "a", "b"], "age") == {"a": (2,), "b": (0, 3), "not known": (1,)}


def test_few_numbers_make_a_group_each_in_their_order():
    assert groups(["3", "1.5", "3.0", "10"], "age") == {"1.5": (1,), "3": (0, 2), "10": (3,)}


def test_many_numbers_are_cut_into_thirds():
    assert groups([70, 10, 20, 30, 40, 50, 60, 80, None], "age") == {
        "below 34": (1, 2, 3),
        "34 to below 57": (4, 5),
        "57 and above": (0, 6, 7),
        "not known": (8,),
    }, "the quantiles are 33.3 and 56.7"
    assert groups([0.5, 1, 2, 3, 4, 5], "age") == {
        "below 1.66667": (0, 1),
        "1.66667 to below 3.33333": (2, 3),
        "3.33333 and above": (4, 5),
    }
    assert list(groups([1, 2, 3, 4, 5, 6, 7], "age")) == ["below 3", "3 to below 5", "5 and above"], "these are whole"


def test_cut_points_are_the_users_and_a_number_on_one_is_above_it():
    assert groups([64.9, 65, 74, 75, 99], "age:65,75") == {
        "below 65": (0,),
        "65 to below 75": (1, 2),
        "75 and above": (3, 4),
    }
    assert groups([1, 2], "age:65") == {"below 65": (0, 1)}


def test_small_groups_are_warned_of():
    columns = [{"sex": "F"}] * 10 + [{"sex": "M"}] * 9
    lesions = [1] * 5 + [0] * 5 + [2] * 5 + [0] * 4

    people = list(map(str, range(19)))
    female, male = split(columns, lesions, people, SubgroupSpec("sex"))

    assert female.warnings == ()
    assert male.warnings == (
        "sex M: small group, 9 subjects (fewer than 10), 4 without lesions (fewer than 5); its figures are uncertain",
    )
    (few,) = split(columns[:10], [1] * 4 + [0] * 6, people[:10], SubgroupSpec("sex"))
    assert few.warnings == ("sex F: small group, 4 with lesions (fewer than 5); its figures are uncertain",)


def test_many_scans_of_few_people_are_a_small_group():
    (group,) = split([{"sex": "F"}] * 12, [0, 1] * 6, ["a"] * 6 + ["b"] * 6, SubgroupSpec("sex"))

    assert group.warnings == (
        "sex F: small group, 2 subjects (fewer than 10), 2 with lesions (fewer than 5), 0 without lesions (fewer than "
        "5); its figures are uncertain",
    )


def test_every_case_is_in_one_group():
    values = [None, *range(20), None]
    found = groups(values, "age")
    assert sorted(index for indices in found.values() for index in indices) == list(range(len(values)))


@pytest.mark.parametrize(
    ("values", "text", "message"),
    [
        ([1, 2], "scanner", r"--subgroups scanner: no case has this column \(there: age, other\)"),
        ([None], "scanner", r"no case has this column \(there: none; give a table with --cases\)"),
        (["F", "1"], "age:65", r"--subgroups age: cut points need numbers, but the column holds 'F'"),
        ([f"t{n}" for n in range(31)], "age", r"--subgroups age: 31 different texts such as 't0' make no subgroups"),
        ([1], "age:75,65", r"--subgroups age:75,65: expected rising numbers after age:, such as age:65,75"),
        ([1], "age:", r"expected rising numbers"),
        ([1], "age:x", r"expected rising numbers"),
        ([1], "age:nan", r"expected rising numbers"),
        ([1], ":5", r"--subgroups ':5': no column"),
    ],
)
def test_what_cannot_be_split_is_one_line(values, text, message):
    with pytest.raises(InputError, match=message):
        groups(values, text)
