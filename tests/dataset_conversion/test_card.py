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
            r"card.yaml:5: images.T2S.role: found 'gre_magn', legal are swi, gre_mag, .*flair; did you mean gre_mag",
        ),
        (
            change("kind: mask", "kind: maske"),
            "labels.cmb.kind: found 'maske', legal are mask, points or boxes; did you",
        ),
        (change("kind: mask", "kind: boxes"), "labels.cmb: boxes need a format: yolo, voc, coco or table"),
        (change("kind: mask", "kind: points"), "labels.cmb: values cannot go with kind: points"),
        (change("values: {cmb: 1}", "values: {bleed: 1}"), "values names bleed but not cmb"),
        (change("values: {cmb: 1}", "values: {cmb: 1.5}"), "labels.cmb.values.cmb: found 1.5"),
        (change("  cmb: {", "  wmh: {"), r"labels.wmh: unknown key \(legal keys: cmb, no_cmb\)"),
        (change("_CMB.nii.gz", "_CMB.mgz"), r"labels.cmb.path: ends in .mgz; read are .nii.gz, .nii, .mha, "),
        (change("_T2S.nii.gz", "_T2S.mgz"), r"images.T2S.path: ends in .mgz; read are .*: convert the files"),
        (change("root: .", "root: .\nsource: dicom"), "images.T2S: with source: dicom a sequence has dicom: {Tag"),
        (
            change("root: .", "root: .\ndim: 2"),
            r"images.T2S.path: ends in .nii.gz; with dim: 2 images are pictures \(.jpg",
        ),
        (change("{sub}_T2S", "scans.zip!/{sub}_T2S"), r"scans.zip!/\{sub\}_T2S.nii.gz' matches nothing under"),
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
        (change("prep: {brain: already_masked}", "prep: {brian: auto}"), "prep.brian: unknown key; did you mean"),
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


HEAD = "schema: 1\nname: x\n"
IMAGES = HEAD + 'images: {S: {role: swi, path: "{sub}_swi.nii"}}\n'
NUMBER, KEYS, TEXT = "a number is needed", "keys and values are needed", "a text is needed; put it in quotes"


def image(keys: str, path: str = "{sub}_swi.nii", rest: str = "") -> str:
    return f'{HEAD}{rest}images: {{S: {{role: swi, path: "{path}", {keys}}}}}\n'


def picture(keys: str, rest: str = "") -> str:
    return image(keys, "{sub}_{slice}.png", f"dim: 2\n{rest}")


def dicom(keys: str, entities: str = "{sub: PatientID}") -> str:
    return f"{HEAD}source: dicom\nentities: {entities}\nimages: {{S: {{role: swi, {keys}}}}}\n"


def label(keys: str) -> str:
    return f"{IMAGES}labels: {{cmb: {{{keys}}}}}\n"


MASK = 'kind: mask, path: "{sub}_cmb.nii"'
POINTS = 'kind: points, path: "{sub}.tsv"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            IMAGES.replace("images", "source: dicm\nimages"),
            "card.yaml:3: source: found 'dicm', legal are files or dicom",
        ),
        (IMAGES + "entities: {sub: PatientID}\n", "entities: {sub: PatientID} goes with source: dicom"),
        (dicom("dicom: {}"), "images.S: with source: dicom a sequence has dicom: {Tag: regex} and no path"),
        (
            dicom("dicom: {description: a}"),
            r"card.yaml:5: images.S.dicom: 'description' is no DICOM tag; write its key",
        ),
        (dicom("dicom: {EchoTime: {min: a}}"), f"images.S.dicom.EchoTime.min: found 'a'; {NUMBER}"),
        (dicom("dicom: {EchoTime: {}}"), "images.S.dicom.EchoTime: give a regex, or min, max or both"),
        (dicom("dicom: {EchoTime: '('}"), r"images.S.dicom.EchoTime: '\(' is no regular expression"),
        (dicom("dicom: {EchoTime: 3}, exclude: {x: y}"), "images.S.exclude: 'x' is no DICOM tag"),
        (dicom("dicom: {EchoTime: 3}", "{sub: {tag: patient}}"), "entities.sub: 'patient' is no DICOM tag"),
        (image("dicom: {EchoTime: 3}"), "images.S: needs a path; dicom and exclude go with source: dicom"),
        (image("role: swi", rest="dim: 4\n").replace(", role: swi", ""), "card.yaml:3: dim: found 4, legal are 2 or"),
        (image("echo: 1", "{sub}.png"), "images.S.path: ends in .png; set dim: 2"),
        (image("stack: sub"), "images.S: stack and slices are of pictures; set dim: 2"),
        (picture("stack: k"), r"images.S.stack: \{k\} is not in its path \(there: \{sub\}, \{slice\}\); name one"),
        (
            picture("stack: slice", 'case: "{sub}_{slice}"\n'),
            r"case: .* makes each \{slice\} a case, but images.S.stack",
        ),
        (picture("spacing_mm: [1, 1]"), "images.S.spacing_mm.2: missing; give all values of the list"),
        (picture("spacing_mm: [1, 1, 0]"), "images.S.spacing_mm.2: found 0; it should be greater than 0"),
        (picture("spacing_mm: 1"), r"images.S.spacing_mm: found 1; a list is needed, as in \[a, b\]"),
        (picture("spacing_mm: [1, 1, a]"), f"images.S.spacing_mm.2: found 'a'; {NUMBER}"),
        (picture("axes: RRA"), "images.S.axes: found 'RRA'; three letters are needed, one of R L, of A P and of S I"),
        (picture("axes: LP"), "images.S.axes: found 'LP'; three letters are needed"),
        (picture("slices: {path: a.tsv}, spacing_mm: [1, 1, 1]"), "images.S: slices and spacing_mm both give sizes"),
        (
            picture("slices: {paht: a.tsv}"),
            r"images.S.slices.paht: unknown key; did you mean path\? \(legal keys: path, k",
        ),
        (picture("slices: a.tsv"), "images.S.slices: found 'a.tsv'; keys are needed here: path, key, columns"),
        (picture("slices: {path: a.tsv, columns: {x: y}}"), "slices.columns.x: found 'x', legal are x_mm, y_mm, z_mm"),
        (image("spacing_mm: [1, 1, 1]"), r"images.S.spacing_mm: is of .mat files and pictures; files in .nii say it"),
        (image("axes: RAS"), "images.S.axes: is of .mat files and pictures"),
        (image("variable: x"), "images.S.variable: is of .mat files, these end in .nii; remove it"),
        (image("variable: [x]", "{sub}.mat"), f"images.S.variable: found a list; {TEXT}"),
        (image("pick: newest"), "images.S.pick: found 'newest', legal are error, first or latest"),
        (image("other_grid: refuse"), "images.S.other_grid: found 'refuse', legal are register or leave_out"),
        (image("optional: perhaps"), "images.S.optional: found 'perhaps'; true or false is needed"),
        (
            IMAGES.replace("role: swi", "role: frst"),
            r"images.S.role: frst is made by preparation; ask for it with prep.d",
        ),
        (image("echo: 1", "{sub}.rar!/a.nii"), r"looks into .rar before !/; read are .zip, .tar, .tar.gz, .tgz"),
        (image("echo: 1", "{sub}.zip!/b.tar!/a.nii"), "looks inside an archive in an archive; unpack the outer ones"),
        (label(f"{POINTS}, space: mni"), "labels.cmb.space: found 'mni', legal are ras_mm, lps_mm, voxel0 or voxel1"),
        (label(f"{POINTS}, columns: {{w: a}}"), "labels.cmb.columns.w: found 'w', legal are x, y, z, radius_mm"),
        (label(f"{POINTS}, sheet: 3"), f"labels.cmb.sheet: found 3; {TEXT}"),
        (label(f"{POINTS}, rows: {{column: a}}"), "labels.cmb.rows.equals: missing; add it"),
        (
            label(f"{POINTS}, rows: {{column: a, equals: b, wide: 3}}"),
            "labels.cmb.rows.wide: found 3; true or false is",
        ),
        (label("kind: points, path: all.tsv"), r"lacks \{sub\}.*; add \{sub\}, or say with labels.cmb.rows which"),
        (
            label('kind: boxes, format: yolov8, path: "{sub}.txt"'),
            "format: found 'yolov8', legal are yolo, voc, coco or t",
        ),
        (label('kind: boxes, format: voc, radius_mm: 2, path: "{sub}.xml"'), "radius_mm cannot go with kind: boxes"),
        (label(f"{MASK}, format: coco"), "labels.cmb: format cannot go with kind: mask; remove it or change kind"),
        (label(f"{MASK}, raters: {{combine: mean}}"), "raters.combine: found 'mean', legal are union, majority or"),
        (
            label(f"{MASK}, raters: {{combine: one}}"),
            "labels.cmb.raters: combine: one goes with one: NAME of the reader",
        ),
        (
            label(f"{MASK}, raters: {{entity: who}}"),
            r"labels.cmb.raters.entity: \{who\} is not in labels.cmb.path; write",
        ),
        (label(f"{MASK}, grid: U"), "labels.cmb.grid: no sequence called U; there are S"),
        (label(f"{MASK}, values: {{cmb: a}}"), r"values of a mask are whole numbers, as in \{cmb: 1\}"),
        (IMAGES + "labels: {no_cmb: {from: sub}}\n", "labels.no_cmb: give either path, or from and is"),
        (
            IMAGES + "labels: {no_cmb: {from: who, is: 1}}\n",
            r"labels.no_cmb.from: nothing is called who here \(there: sub",
        ),
        (IMAGES + "brain_mask: {path: b.mgz}\n", "brain_mask.path: ends in .mgz; read are"),
        (IMAGES + "brain_mask: b.nii\n", "brain_mask: found 'b.nii'; keys are needed here: path, grid"),
        (IMAGES + 'brain_mask: {path: "{sub}_b.nii", grid: Z}\n', "brain_mask.grid: no sequence called Z; there are"),
        (IMAGES + "exclude: [a]\n", f"exclude: found a list; {KEYS}"),
        (IMAGES + "exclude: {a: 3}\n", f"exclude.a: found 3; {TEXT}"),
        (
            IMAGES + "prep: {coregister: always}\n",
            "prep.coregister: found 'always', legal are affine, rigid, header or ref",
        ),
        (
            IMAGES + "prep: {coregister_when: never}\n",
            "prep.coregister_when: found 'never', legal are other_grid or alw",
        ),
        (IMAGES + "prep: {bias: n3}\n", "prep.bias: found 'n3', legal are none or n4"),
        (IMAGES + "prep: {derived: [qsm]}\n", "prep.derived.0: found 'qsm', legal are frst, local_phase or qsm_sign"),
        (IMAGES + "prep: {derived: frst}\n", r"prep.derived: found 'frst'; a list is needed, as in \[a, b\]"),
        (IMAGES + "prep: {frst_radii_mm: []}\n", "prep.frst_radii_mm: found a list; at least one value is needed"),
        (IMAGES + "prep: {normalize: minmax}\n", "prep.normalize: found 'minmax', legal are none or zscore"),
        (IMAGES + "prep: {reference: pd}\n", "prep.reference: found 'pd', legal are swi, gre_mag"),
        (IMAGES + "prep: {hd_bet: /w}\n", "prep.hd_bet: found '/w'; keys are needed here: folder, sha256"),
        (
            IMAGES + "prep: {registration: {max_scale: 0.5}}\n",
            "registration.max_scale: found 0.5; it should be greater t",
        ),
        (IMAGES + "prep: {distortion: [a]}\n", f"prep.distortion: found a list; {TEXT}"),
        (IMAGES + "privacy: {hash: true}\n", r"privacy.hash: unknown key; did you mean hash_ids\?"),
    ],
)
def test_wrong_value_of_each_key_is_one_line_with_the_cure(text, message, tmp_path, write_card):
    for name in ("1_swi.nii", "1_cmb.nii", "1_001.png", "1.mat", "1.tsv", "all.tsv"):
        (tmp_path / name).touch()
    with pytest.raises(CardError, match=message) as error:
        read_card(write_card(text))
    assert "\n" not in str(error.value)
    assert "card.yaml" in str(error.value)


BOOLEANS = {
    "simulated": IMAGES + "simulated: VALUE\n",
    "images.S.optional": image("optional: VALUE"),
    "labels.cmb.optional": label(f"{MASK}, optional: VALUE"),
    "labels.cmb.rows.wide": label(f"{POINTS}, rows: {{column: a, equals: b, wide: VALUE}}"),
    "licence.redistribute": IMAGES + "licence: {id: CC0, redistribute: VALUE}\n",
    "privacy.hash_ids": IMAGES + "privacy: {hash_ids: VALUE}\n",
}


@pytest.mark.parametrize("key", BOOLEANS)
def test_true_and_false_are_not_written_as_numbers_or_texts(key, write_card):
    for value in ("1", "0.0", '"true"', "'no'", "y"):
        with pytest.raises(CardError, match=rf"{key}: found .*; true or false is needed, without quotes"):
            parse_card(write_card(BOOLEANS[key].replace("VALUE", value)))
    for value in ("true", "no"):  # YAML reads a plain yes, no, on and off as true and false, too
        parse_card(write_card(BOOLEANS[key].replace("VALUE", value)))


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
