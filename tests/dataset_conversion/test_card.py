import random

import pytest
import yaml

from cmb_autoseg.dataset_conversion import card_json_schema, parse_card, read_card, shipped_cards
from cmb_autoseg.errors import CardError

from .conftest import CARD


def change(old: str, new: str) -> str:
    assert old in CARD
    return CARD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            change("optional: true, copy", "optionel: true, copy"),
            r"card.yaml:6: images.T1.optionel: unknown key; did you mean optional\?",
        ),
        (change("{role: gre_mag,", "{rol: gre_mag,"), r"images.T2S.rol: unknown key; did you mean role\?"),
        (
            change("role: gre_mag", "role: gre_magn"),
            r"card.yaml:5: images.T2S.role: found 'gre_magn', legal are swi, gre_mag, .*did you mean gre_mag",
        ),
        (change("kind: mask", "kind: maske"), "labels.cmb.kind: found 'maske', legal are mask or points"),
        (change("kind: mask", "kind: boxes"), "labels.cmb.kind: boxes are not supported yet"),
        (change("kind: mask", "kind: points"), "labels.cmb: values cannot go with kind: points"),
        (change("values: {cmb: 1}", "values: {bleed: 1}"), "values names bleed but not cmb"),
        (change("values: {cmb: 1}", "values: {cmb: 1.5}"), "labels.cmb.values.cmb: found 1.5"),
        (change("  cmb: {", "  wmh: {"), "labels.wmh: found 'wmh', legal are cmb"),
        (change("_CMB.nii.gz", "_CMB.mat"), r"labels.cmb.path: ends in .mat|.mat are not supported yet"),
        (change("_T2S.nii.gz", "_T2S.mgz"), "only .nii and .nii.gz are read"),
        (change("root: .", "root: .\nsource: dicom"), "source: 'dicom' is not supported yet"),
        (change("root: .", "root: .\ndim: 2"), "dim: 2 is not supported yet"),
        (change("{sub}_T2S", "scans.zip!/{sub}_T2S"), "files inside archives are not supported yet"),
        (change("root: .", "root: .\nroot: ."), r"card.yaml:4: .*the key root stands twice"),
        (change("root: .", "root: [."), r"card.yaml:\d+: not readable as YAML"),
        (change("root: .", "root: $NOT_SET_ANYWHERE/x"), r"root: \$NOT_SET_ANYWHERE is not set.*CARD=ROOT"),
        (change("root: .", "root: not_there"), "root: no folder .*not_there"),
        (change("schema: 1\n", ""), "schema: missing; add it"),
        (change("schema: 1", "schema: 2"), "schema: found 2, legal are 1"),
        (
            change("copy_geometry_from: T2S", "copy_geometry_from: T3"),
            "images.T1.copy_geometry_from: no sequence called T3",
        ),
        (change("{role: gre_mag", "{role: flair"), "none has a role in which microbleeds are visible"),
        (change("prep: {brain: already_masked}", "prep: {brian: auto}"), "prep.brian: unknown key; did you mean brain"),
        (change("prep:", "meta: {site: {valu: A}}\nprep:"), r"meta.site.valu: unknown key; did you mean value\?"),
        (change("prep:", "meta: {case: {value: A}}\nprep:"), "case cannot be a column here"),
        (change("prep:", "meta: {site: {from: sub, regex: '('}}\nprep:"), r"meta.site: '\(' is no regular expression"),
        (change("prep:", "case: '{subject}'\nprep:"), r"case: \{subject\} is in no image path \(there: \{sub\}\)"),
        (change("prep:", "group_by: [family]\nprep:"), r"group_by: \{family\} is in no image path"),
        (change("_T2S.nii.gz", "_T2S_{run.nii.gz"), "a { without its }"),
        (change("{sub}_T2S", "{1x}_T2S"), "has no entity name"),
        (
            change("_T2S.nii.gz", "_T2star.nii.gz"),
            r"images.T2S.path: '.*_T2star.nii.gz' matches nothing .* nearest file is sub-10\d/sub-10\d_T2S.nii.gz",
        ),
        (
            change('_CMB.nii.gz", values: {cmb: 1}, optional: true', '_CBM.nii.gz"'),
            "labels.cmb.path: .* matches nothing .* nearest file is .*_CMB.nii.gz",
        ),
        ("- a\n- b\n", "found a list, expected keys and values"),
        ("", "found nothing, expected keys and values"),
        ("a: &a [*a]\n" + CARD, "a: "),
    ],
)
def test_mistake_is_one_line_with_the_cure(text, message, tiny_cohort, write_card):
    with pytest.raises(CardError, match=message) as error:
        read_card(write_card(text))
    assert "\n" not in str(error.value)


def test_unknown_card_names_the_nearest():
    with pytest.raises(CardError, match=r"valdoo: no such card.*did you mean valdo\?"):
        parse_card("valdoo")


def test_shipped_cards_are_sound():
    for name in shipped_cards():
        assert parse_card(name).card.status in ("verified", "unverified")
    assert {"bids", "dicom", "nifti_masks", "slices_boxes", "valdo"} <= set(shipped_cards())


def test_root_comes_from_argument_then_card(tiny_cohort, write_card, monkeypatch, tmp_path):
    monkeypatch.setenv("COHORT_HOME", str(tmp_path))
    card = write_card(CARD.replace("root: .", "root: $COHORT_HOME"), "elsewhere/card.yaml")
    assert parse_card(card).root == tmp_path
    assert parse_card(f"{card}={tmp_path / 'sub-101'}").root == tmp_path / "sub-101"


def test_extending_merges_removes_and_replaces(write_card):
    child = write_card(
        "extends: valdo\nname: OURS\nroot: .\n"
        "images: {T1: null, T2S: {echo: 2}}\n"
        "labels: {}\n"
        "meta: {site: {value: 7}}\n"
    )
    card = parse_card(child).card
    assert (card.name, list(card.images), card.images["T2S"].echo) == ("OURS", ["T2S", "T2"], 2)
    assert card.label is None
    assert card.meta.rules["site"].value == "7"
    assert card.prep.brain == "already_masked"


def test_circle_of_cards_is_refused(write_card):
    write_card("extends: b.yaml\n", "a.yaml")
    with pytest.raises(CardError, match="break the circle"):
        parse_card(write_card("extends: a.yaml\n", "b.yaml"))


def test_json_schema_knows_the_keys():
    schema = card_json_schema()
    assert {"schema", "images", "labels", "meta"} <= set(schema["properties"])


def test_mutated_cards_never_raise_anything_else(tiny_cohort, write_card):
    rng = random.Random(5)
    values = [None, 3, -1.5, True, "", "x", "{", "{sub", "((", [], {}, ["a"], {"a": 1}, "a" * 300, "\0", {1: 2}]
    refused = 0
    for _ in range(250):
        content = yaml.safe_load(CARD)
        content["meta"] = {"site": {"from": "sub", "regex": "\\d"}, "participants": {"path": "p.tsv"}}
        for _ in range(rng.randint(1, 3)):
            mutate(rng, content, values)
        try:
            read_card(write_card(yaml.safe_dump(content)))
        except CardError:
            refused += 1
    assert refused > 100


def mutate(rng: random.Random, content: dict, values: list) -> None:
    node = content
    while True:
        key = rng.choice(list(node))
        if isinstance(node[key], dict) and node[key] and rng.random() < 0.7:
            node = node[key]
            continue
        action = rng.choice(["set", "rename", "delete"])
        value = node.pop(key)
        if action == "set":
            node[key] = rng.choice(values)
        elif action == "rename":
            node[str(key)[:-1] + rng.choice("xyz")] = value
        if not content:
            content["name"] = "x"
        return
