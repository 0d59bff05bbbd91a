"""What users get wrong, as data: one row a fault, each through the real command.

A row is an id, what is done to a sound folder, the command line, and what the one line must say:
the file, field or case, what was found, and the cure. Whatever the fault, the command leaves with
exit code 2, writes nothing, touches no input, and shows no traceback.
"""

import gzip
import hashlib
import io
import os
import re
import shlex
import shutil
import signal
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from cmb_autoseg.cli import cohort, convert, demo, evaluate, finalize, plan_preprocess, predict, simulate, train
from cmb_autoseg.files import read_json, write_json

COMMANDS = {
    "cmb_cohort": cohort.main,
    "cmb_convert": convert.main,
    "cmb_plan_preprocess": plan_preprocess.main,
    "cmb_train": train.main,
    "cmb_finalize": finalize.main,
    "cmb_predict": predict.main,
    "cmb_evaluate": evaluate.main,
    "cmb_simulate": simulate.main,
    "cmb_demo": demo.main,
}
LOG_LINE = re.compile(
    r"(warning|left out|failed): .+|[A-Z][\w -]*: \d+/\d+, .+|\d+ (?:phase images|projections) left out.+"
)
"""What may stand on standard error before the one line: notes on cases, and progress."""

SECONDS = 10
SHAPE = (16, 18, 10)
SCAN, MASK = "cohort/s0/s0_T2S.nii.gz", "cohort/s0/s0_CMB.nii.gz"
CARD = """\
schema: 1
name: Small
images:
  T2S: {role: gre_mag, path: "{sub}/{sub}_T2S.nii.gz"}
labels:
  cmb: {kind: mask, path: "{sub}/{sub}_CMB.nii.gz", values: {cmb: 1}}
prep: {brain: already_masked}
"""
POINTS = 'kind: points, path: "{sub}/{sub}.tsv"'
MASKS = 'kind: mask, path: "{sub}/{sub}_CMB.nii.gz", values: {cmb: 1}'
MODEL = "results/Dataset501_Elsewhere/CMBTrainer__tiny__3d"

CONVERT = "cmb_convert cohort/card.yaml -d 7 --workspace ws"
CHECK = "cmb_cohort check cohort/card.yaml"
PLAN = "cmb_plan_preprocess -d 501 --workspace trained -device cpu"
TRAIN = "cmb_train -d 501 -r tiny.yaml -f 0 --workspace trained -device cpu"
FINALIZE = "cmb_finalize -d 501 -r tiny --workspace trained -device cpu"
PREDICT = f"cmb_predict -i {SCAN} -o out -m model -device cpu"
EVALUATE = "cmb_evaluate -p pred --reference ref -o out"

Spoil = Callable[[], None]


@dataclass(frozen=True)
class Fault:
    """One thing that users get wrong."""

    id: str
    command: str
    says: tuple[str, ...]
    """Regular expressions that the one line must hold: where, what was found, the cure."""
    spoil: Spoil = lambda: None
    """Works in the current folder, which holds `cohort` and what the command line names."""


def scan(shape=SHAPE):
    data = np.zeros(shape, dtype=np.float32)
    inside = tuple(slice(1, -1) if size > 2 else slice(None) for size in shape[:3])
    data[inside] = 100 + np.random.default_rng(0).normal(0, 5, data[inside].shape)
    return data


def mask(shape=SHAPE, value=1):
    data = np.zeros(shape, dtype=np.uint8)
    data[8, 8, 5] = value
    return data


def save(path, data, affine=None):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)


# What is done to the sound folder


def write(path, content):
    """A file with this text or these bytes."""

    def spoil():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def card(old, new):
    """The card with another text in one place."""
    assert old in CARD
    return write("cohort/card.yaml", CARD.replace(old, new))


def image(data, path=SCAN, affine=None):
    """Another volume in a file's place."""
    return lambda: save(path, data, affine)


def header(path=SCAN, **fields):
    """Other numbers in a file's header; keys as in NIfTI-1."""

    def spoil():
        whole = bytearray(gzip.decompress(Path(path).read_bytes()))
        known = nib.Nifti1Header(bytes(whole[:348]), check=False)
        for key, value in fields.items():
            known[key] = value
        whole[:348] = known.binaryblock
        Path(path).write_bytes(gzip.compress(bytes(whole)))

    return spoil


def keep(path, share):
    """Only the first part of a file."""

    def spoil():
        whole = Path(path).read_bytes()
        Path(path).write_bytes(whole[: int(len(whole) * share)])

    return spoil


def move(old, new):
    return lambda: shutil.move(old, new)


def remove(path):
    return lambda: shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()


def edit_json(path, change):
    def spoil():
        content = read_json(Path(path))
        change(content)
        write_json(Path(path), content)

    return spoil


def both(*spoils):
    def spoil():
        for each in spoils:
            each()

    return spoil


def copies(n, **more):
    """More subjects, each with a scan of its own."""

    def spoil():
        for index in range(n):
            noise = np.random.default_rng(index).normal(0, 1, SHAPE).astype(np.float32) * (scan() > 0)
            save(f"cohort/s{index}/s{index}_T2S.nii.gz", scan() + noise)
            save(f"cohort/s{index}/s{index}_CMB.nii.gz", more.get("label", mask()))

    return spoil


def rgb():
    colour = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colour, np.eye(4)), SCAN)


def flip_bytes():
    whole = bytearray(Path(SCAN).read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 40] = bytes(255 - value for value in whole[middle : middle + 40])
    Path(SCAN).write_bytes(whole)


def spreadsheet():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", os.urandom(200))
    both(card(MASKS, POINTS), write("cohort/s0/s0.tsv", packed.getvalue()))()


def points(text, keys=""):
    return both(card(MASKS, POINTS + keys), write("cohort/s0/s0.tsv", text))


def folder_in_place_of_the_scan():
    Path(SCAN).unlink()
    Path(SCAN).mkdir()


def link_to_itself():
    Path("cohort/loop").symlink_to("loop")
    remove(SCAN)()


def pickled_payload():
    import torch

    checkpoint = torch.load("model/fold_0/checkpoint_final.pth", weights_only=False)
    torch.save({**checkpoint, "payload": shutil.rmtree}, "model/fold_0/checkpoint_final.pth")


def masks(predicted, reference):
    """Folders `pred` and `ref` with these files."""
    return both(
        lambda: [Path(folder).mkdir() for folder in ("pred", "ref")],
        *(image(data, f"pred/{name}") for name, data in predicted.items()),
        *(image(data, f"ref/{name}") for name, data in reference.items()),
    )


def a_network_input():
    return next(path for path in Path("trained/preprocessed").rglob("*.b2nd") if "_seg" not in path.name)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGE_BOMB = "a: &a {x: 1, y: 2}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}], {name}: 1}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

CARDS = [
    Fault(
        "card_path_mistyped", "cmb_convert cohort/crad.yaml -d 7", ("crad.yaml", "no such card", "mean cohort/card.y")
    ),
    Fault("shipped_card_mistyped", "cmb_cohort check valdoo=cohort", ("valdoo", "no such card", "did you mean valdo")),
    Fault("folder_given_as_card", "cmb_convert cohort -d 7", ("cohort", "a folder", "cmb_cohort init cohort")),
    Fault("scan_given_as_card", f"cmb_cohort check {SCAN}", ("s0_T2S.nii.gz", "not a UTF-8 text", "YAML text file")),
    Fault("card_without_root", "cmb_cohort check cohort/card.yaml=", ("nothing after =", "CARD=/data/cohort")),
    Fault("card_empty", CHECK, ("card.yaml", "found nothing", "cmb_cohort init"), write("cohort/card.yaml", "")),
    Fault("card_a_sentence", CHECK, ("card.yaml", "'see the", "cmb_cohort init"), write("cohort/card.yaml", "see the")),
    Fault(
        "card_in_utf16", CHECK, ("not a UTF-8", "save it as UTF-8"), write("cohort/card.yaml", CARD.encode("utf-16"))
    ),
    Fault("card_with_tabs", CHECK, ("card.yaml:4", "YAML", "spaces"), card("  T2S", "\tT2S")),
    Fault("card_with_open_quote", CHECK, ("card.yaml:", "YAML", "correct"), card('T2S.nii.gz"}', "T2S.nii.gz}")),
    Fault(
        "key_twice", CHECK, ("card.yaml:3", "name stands twice", "remove one"), card("name: Small", "name: A\nname: B")
    ),
    Fault(
        "key_mistyped", CHECK, ("card.yaml:4", "optinal", "did you mean optional"), card("{role", "{optinal: 1, role")
    ),
    Fault(
        "key_of_another_kind",
        CHECK,
        ("labels.cmb", "radius_mm cannot go", "remove"),
        card("values:", "radius_mm: 2, values:"),
    ),
    Fault(
        "schema_of_the_future",
        CHECK,
        ("card.yaml:1", "schema", "found 2", "legal are 1"),
        card("schema: 1", "schema: 2"),
    ),
    Fault("role_unknown", CHECK, ("images.T2S.role", "'t2star'", "legal are swi, gre_mag"), card("gre_mag", "t2star")),
    Fault("no_susceptibility", CHECK, ("images", "none has a role", "add such"), card("gre_mag", "t1")),
    Fault(
        "regex_broken",
        CHECK,
        ("images.T2S.path", r"s\(", "no regular expression", "correct it"),
        card('"{sub}/', '"{sub:s(}/'),
    ),
    Fault(
        "regex_without_end",
        CHECK,
        ("images.T2S.path", r"\(s\+\)\+", "takes too long", "simpler"),
        both(card('"{sub}/{sub}_T2S', '"{sub:(s+)+$}/{sub}_T2S'), write(f"cohort/{'s' * 60}/x.nii.gz", "")),
    ),
    Fault("brace_open", CHECK, ("images.T2S.path", "without its }", "close it"), card("{sub}_T2S", "{sub_T2S")),
    Fault(
        "pattern_matches_nothing",
        CHECK,
        ("images.T2S.path", "_SWI.nii.gz' matches nothing", "nearest file is s0/s0_"),
        card("_T2S.nii", "_SWI.nii"),
    ),
    Fault(
        "pattern_of_dicom",
        CHECK,
        ("images.T2S.path", "ends in .dcm", "convert the files"),
        card("T2S.nii.gz", "T2S.dcm"),
    ),
    Fault(
        "two_patterns_on_one_file",
        CHECK,
        ("images.T2S", "images.B matches too", "distinct"),
        card("images:", "images:\n  B: {role: swi, path: '{sub}/{sub}_{x:T2S}.nii.gz'}"),
    ),
    Fault(
        "label_of_several_cases",
        CHECK,
        ("labels.cmb.path", r"lacks \{sub\}", r"add \{sub\}"),
        card("{sub}/{sub}_CMB", "s0/s0_CMB"),
    ),
    Fault(
        "root_variable_unset",
        CHECK,
        ("root", r"\$CMB_NOT_SET is not set", "CARD=ROOT"),
        card("name: Small", "name: Small\nroot: $CMB_NOT_SET/x"),
    ),
    Fault(
        "root_not_there", CHECK, ("root", "no folder", "CARD=ROOT"), card("name: Small", "name: Small\nroot: nowhere")
    ),
    Fault(
        "root_without_files",
        "cmb_cohort check cohort/card.yaml=empty",
        ("root", "holds no files", "CARD=ROOT"),
        lambda: Path("empty").mkdir(),
    ),
    Fault(
        "group_unknown",
        CHECK,
        ("group_by", r"\{site\} is in no image path", r"there: \{sub\}"),
        card("images:", "group_by: [site]\nimages:"),
    ),
    Fault(
        "two_cases_of_one_name",
        CONVERT,
        ("case", "the name 's-0'", "add an entity that differs"),
        both(
            *(image(scan(), f"cohort/{name}/{name}_T2S.nii.gz") for name in ("s 0", "s+0")),
            card('labels:\n  cmb: {kind: mask, path: "{sub}/{sub}_CMB.nii.gz", values: {cmb: 1}}\n', ""),
        ),
    ),
    Fault(
        "subject_in_train_and_test",
        CONVERT,
        ("subject s0", "in train with s0_train", "in test with s0_test", "meta.split"),
        both(
            *(image(scan() + index, f"cohort/s0/s0_{ses}_T2S.nii.gz") for index, ses in enumerate(("train", "test"))),
            write(
                "cohort/card.yaml",
                CARD.replace("{sub}_T2S", "{sub}_{ses}_T2S").split("labels")[0] + "meta:\n  split: {from: ses}\n",
            ),
        ),
    ),
    Fault(
        "participants_not_there",
        CHECK,
        ("meta.participants.path", "people.tsv", "correct the path"),
        card("prep:", "meta: {participants: {path: people.tsv}}\nprep:"),
    ),
    Fault(
        "participants_key_no_entity",
        CHECK,
        ("meta.participants.key", r"\{subject\} is in no image path", r"there: \{sub\}"),
        both(
            card("prep:", "meta: {participants: {path: p.tsv, key: subject}}\nprep:"),
            write("cohort/p.tsv", "subject\tage\ns0\t70\n"),
        ),
    ),
    Fault(
        "participants_twice",
        CHECK,
        ("p.tsv", "s0 has two rows", "keep one"),
        both(
            card("prep:", "meta: {participants: {path: p.tsv}}\nprep:"),
            write("cohort/p.tsv", "sub\tage\ns0\t70\ns0\t71\n"),
        ),
    ),
    Fault(
        "participants_in_utf16",
        CHECK,
        ("p.tsv", "not a UTF-8 text", "save it as UTF-8"),
        both(
            card("prep:", "meta: {participants: {path: p.tsv}}\nprep:"),
            write("cohort/p.tsv", "sub\tage\ns0\t70\n".encode("utf-16")),
        ),
    ),
    Fault(
        "map_without_entry",
        CHECK,
        ("meta.site.map", "case s0", "no entry for 's0'", "add it"),
        card("prep:", "meta: {site: {from: sub, map: {s1: A}}}\nprep:"),
    ),
    Fault(
        "meta_from_nothing",
        CHECK,
        ("meta.site.from", "nothing is called centre", "there: sub"),
        card("prep:", "meta: {site: {from: centre}}\nprep:"),
    ),
    Fault("billion_laughs", CHECK, ("card.yaml", "unknown key", "legal keys"), write("cohort/card.yaml", CARD + BOMB)),
    Fault(
        "merge_bomb", CHECK, ("card.yaml", "unknown key", "legal keys"), write("cohort/card.yaml", CARD + MERGE_BOMB)
    ),
]

SCANS = [
    Fault(
        "text_as_nifti",
        CONVERT,
        ("s0_T2S.nii.gz", "not readable as NIfTI", "convert it again"),
        write(SCAN, "see the folder next door"),
    ),
    Fault("file_of_no_bytes", CONVERT, ("s0_T2S.nii.gz", "Empty file", "copy or convert it again"), write(SCAN, "")),
    Fault("gzip_damaged", CONVERT, ("s0_T2S.nii.gz", "damaged", "copy the file again"), flip_bytes),
    Fault("gzip_cut_off", CONVERT, ("s0_T2S.nii.gz", "damaged or truncated", "copy the file again"), keep(SCAN, 0.6)),
    Fault("two_dimensions", CONVERT, ("s0_T2S.nii.gz", r"\(16, 18\)", "3D volume is needed"), image(scan()[:, :, 5])),
    Fault(
        "echoes_without_choice",
        CONVERT,
        ("s0_T2S.nii.gz", "4D file with 2 volumes", "images.<name>.echo"),
        image(np.stack([scan()] * 2, -1)),
    ),
    Fault(
        "five_dimensions",
        CONVERT,
        ("s0_T2S.nii.gz", r"\(16, 18, 10, 2, 2\)", "3D volume is needed"),
        image(np.zeros((*SHAPE, 2, 2), np.float32)),
    ),
    Fault("colours", CONVERT, ("s0_T2S.nii.gz", r"colour \(RGB\)", "grey values"), rgb),
    Fault(
        "complex_values",
        CONVERT,
        ("s0_T2S.nii.gz", "complex values", "separate files"),
        image(scan().astype(np.complex64)),
    ),
    Fault(
        "only_nan",
        CONVERT,
        ("s0_T2S.nii.gz", "every voxel is NaN", "export the scan again"),
        image(np.full(SHAPE, np.nan, np.float32)),
    ),
    Fault(
        "only_infinite",
        CONVERT,
        ("s0_T2S.nii.gz", "NaN or infinite", "export the scan again"),
        image(np.full(SHAPE, np.inf, np.float32)),
    ),
    Fault(
        "only_zero",
        CONVERT,
        ("s0_T2S.nii.gz", "every voxel is zero", "export the scan again"),
        image(np.zeros(SHAPE, np.float32)),
    ),
    Fault(
        "only_one_value",
        CONVERT,
        ("s0_T2S.nii.gz", "every voxel is 7", "export the scan again"),
        image(np.full(SHAPE, 7, np.float32)),
    ),
    Fault(
        "nan_refused_by_card",
        CONVERT,
        ("s0_T2S.nii.gz", "1 voxels are NaN", "prep.nan: repair"),
        both(card("already_masked", "already_masked, nan: refuse"), image(np.where(mask(), np.nan, scan()))),
    ),
    Fault(
        "affine_singular",
        CONVERT,
        ("s0_T2S.nii.gz", "not invertible", "repair the header"),
        header(srow_x=0, srow_y=0, srow_z=0),
    ),
    Fault("affine_of_nan", CONVERT, ("s0_T2S.nii.gz", "not invertible", "repair the header"), header(srow_x=np.nan)),
    Fault(
        "voxels_of_no_size",
        CONVERT,
        ("s0_T2S.nii.gz", "voxel size", "repair the header"),
        header(sform_code=0, qform_code=1, pixdim=[1, 0, 1, 1, 0, 0, 0, 0]),
    ),
    Fault(
        "voxels_of_metres",
        CONVERT,
        ("s0_T2S.nii.gz", "voxel size", "millimetres"),
        image(scan(), affine=np.diag([1000.0, 1000, 1000, 1])),
    ),
    Fault(
        "header_claims_too_much",
        CONVERT,
        ("s0_T2S.nii.gz", r"30000 x 30000 x 30000", "copy the file again"),
        header(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]),
    ),
    Fault(
        "header_claims_two_more_slices",
        CONVERT,
        ("s0_T2S.nii.gz", "truncated", "copy the file again"),
        header(dim=[3, 16, 18, 12, 1, 1, 1, 1]),
    ),
    Fault(
        "header_with_unknown_type",
        CONVERT,
        ("s0_T2S.nii.gz", "not readable as NIfTI", "convert it again"),
        header(datatype=77),
    ),
    Fault(
        "header_with_no_slices",
        CONVERT,
        ("s0_T2S.nii.gz", "3D volume is needed"),
        header(dim=[3, 16, 18, 0, 1, 1, 1, 1]),
    ),
    Fault(
        "scan_is_a_folder",
        CONVERT,
        ("images.T2S.path", "matches nothing", "nearest file is s0/s0_CMB"),
        folder_in_place_of_the_scan,
    ),
    Fault(
        "suffix_in_capitals",
        CONVERT,
        ("images.T2S.path", "matches nothing", "nearest file is s0/s0_T2S.NII.GZ"),
        move(SCAN, "cohort/s0/s0_T2S.NII.GZ"),
    ),
    Fault("link_to_itself", CONVERT, ("images.T2S.path", "matches nothing", "nearest file"), link_to_itself),
    Fault(
        "link_to_nothing",
        CONVERT,
        ("s0_T2S.nii.gz", "not readable", "restore the file"),
        both(remove(SCAN), lambda: Path(SCAN).symlink_to("gone.nii.gz")),
    ),
    Fault(
        "mask_of_another_grid",
        CONVERT,
        ("s0_CMB.nii.gz", r"\(16, 18, 11\)", "labels.cmb.resample"),
        image(mask((16, 18, 11)), MASK),
    ),
    Fault(
        "mask_shifted",
        CONVERT,
        ("s0_CMB.nii.gz", "mm off", "labels.cmb.resample"),
        image(mask(), MASK, np.diag([1.1, 1, 1, 1])),
    ),
    Fault(
        "mask_with_a_third_value",
        CONVERT,
        ("s0_CMB.nii.gz", "value 3", "labels.cmb.values"),
        image(mask(value=3), MASK),
    ),
    Fault(
        "mask_of_probabilities",
        CONVERT,
        ("s0_CMB.nii.gz", "value 0.25", "labels.cmb.values"),
        image(mask() * 0.25, MASK),
    ),
    Fault(
        "mask_of_nan",
        CONVERT,
        ("s0_CMB.nii.gz", "value nan", "correct the mask"),
        image(np.where(mask(), np.nan, 0), MASK),
    ),
    Fault(
        "points_outside",
        CONVERT,
        ("s0.tsv line 2", r"\(812, 9, 5\) lies outside", "labels.cmb.space"),
        points("x\ty\tz\n812\t9\t5\n"),
    ),
    Fault(
        "points_with_other_columns",
        CONVERT,
        ("s0.tsv header", "no column x", "there: X, Y, Z", "labels.cmb.columns"),
        points("X\tY\tZ\n8\t9\t5\n"),
    ),
    Fault(
        "points_with_decimal_commas",
        CONVERT,
        ("s0.tsv line 2", "column x holds '8,5'", "number is needed"),
        points("x\ty\tz\n8,5\t9\t5\n"),
    ),
    Fault(
        "points_with_a_gap",
        CONVERT,
        ("s0.tsv line 3", "column y holds ''", "number is needed"),
        points("x\ty\tz\n8\t9\t5\n8\t\t5\n"),
    ),
    Fault(
        "points_without_radius",
        CONVERT,
        ("s0.tsv line 2", "radius_mm -1 is not positive", "correct it"),
        points("x\ty\tz\tradius_mm\n8\t9\t5\t-1\n"),
    ),
    Fault("points_in_utf16", CONVERT, ("s0.tsv", "UTF-8", "save"), points("x\ty\tz\n8\t9\t5\n".encode("utf-16"))),
    Fault("points_in_a_spreadsheet", CONVERT, ("s0.tsv", "not text but a workbook", "name it .xlsx"), spreadsheet),
    Fault(
        "points_of_the_wrong_unit",
        CONVERT,
        ("s0.tsv line 2", "lies outside", "labels.cmb.space"),
        points("x\ty\tz\n-8\t-9\t5\n"),
    ),
]

COHORTS = [
    Fault("no_action", "cmb_cohort", ("init.check.show.list", "--help")),
    Fault("action_mistyped", "cmb_cohort chekc x", ("chekc", "check", "--help")),
    Fault("init_of_nothing", "cmb_cohort init nowhere", ("DIR nowhere", "no such file or folder")),
    Fault("init_of_a_file", "cmb_cohort init cohort/card.yaml", ("card.yaml", "a file", "folder is needed")),
    Fault(
        "init_without_nifti",
        "cmb_cohort init empty",
        ("empty", "no NIfTI files", "convert the scans"),
        lambda: Path("empty").mkdir(),
    ),
    Fault(
        "init_over_a_card",
        "cmb_cohort init cohort -o cohort/card.yaml",
        ("card.yaml", "exists already", "another name"),
    ),
    Fault("convert_without_dataset", "cmb_convert cohort/card.yaml", ("-d", "required", "--help")),
    Fault("dataset_number_too_large", CONVERT.replace("-d 7", "-d 1000"), ("-d 1000", "1 to 999")),
    Fault(
        "dataset_name_of_no_form", CONVERT.replace("-d 7", "-d ../evil"), ("-d ../evil", "1 to 999", "Dataset501_NAME")
    ),
    Fault(
        "dataset_number_taken",
        "cmb_convert cohort/card.yaml -d Dataset501_Mine --workspace trained",
        ("501 is taken by Dataset501_Elsewhere", "choose another number"),
    ),
    Fault(
        "dataset_of_others",
        "cmb_convert cohort/card.yaml -d 501 --workspace trained",
        ("holds Elsewhere", "choose another number"),
    ),
    Fault("jobs_zero", f"{CONVERT} --jobs 0", ("--jobs", "found '0'", "at least 1")),
    Fault("option_mistyped", f"{CONVERT} --job 2", ("--job", "unrecognized", "--help")),
    Fault("workspace_is_a_file", CONVERT, ("ws", "cannot write there", "choose another folder"), write("ws", "")),
    Fault(
        "workspace_below_a_file",
        CONVERT.replace("ws", "ws/deeper"),
        ("ws/deeper", "cannot write there", "choose another folder"),
        write("ws", ""),
    ),
    Fault(
        "one_cohort_twice",
        "cmb_convert cohort/card.yaml cohort/card.yaml -d 7 --workspace ws",
        ("case s0", "is also in", "different names"),
    ),
]

PLANS = [
    Fault(
        "plan_of_no_dataset",
        PLAN.replace("501", "502"),
        ("-d 502", "no such dataset", "Dataset501_Elsewhere", "cmb_convert CARD -d 502"),
    ),
    Fault("memory_zero", f"{PLAN} -gpu_memory_target 0", ("gpu_memory_target", "found '0'", "above 0")),
    Fault(
        "memory_negative", f"{PLAN} -gpu_memory_target -4", ("gpu_memory_target", "-4|one argument", "above 0|--help")
    ),
    Fault("memory_a_word", f"{PLAN} -gpu_memory_target abc", ("gpu_memory_target", "found 'abc'", "above 0")),
    Fault("preset_mistyped", f"{PLAN} --preset s1", ("--preset", "'s1'", "adaptive")),
    Fault("seed_a_word", f"{PLAN} --seed abc", ("--seed", "'abc'", "whole number|int")),
    Fault(
        "too_few_subjects",
        PLAN.replace("501", "7").replace("trained", "ws"),
        ("found 4 labelled", "5 folds need", "add labelled subjects"),
        both(copies(4), lambda: convert.main(CONVERT.split()[1:])),
    ),
    Fault(
        "no_lesion_at_all",
        PLAN.replace("501", "7").replace("trained", "ws"),
        ("no lesion in any labelled case", "labels.cmb.values"),
        both(copies(5, label=mask() * 0), lambda: convert.main(CONVERT.split()[1:])),
    ),
    Fault(
        "cases_table_cut",
        PLAN,
        ("cases.tsv", "column 'labelled'", "cmb_convert"),
        lambda: drop_column("trained/raw/Dataset501_Elsewhere/cases.tsv", "labelled"),
    ),
    Fault(
        "cases_table_with_unknown_split",
        PLAN,
        ("cases.tsv", "split is 'trian'", "legal are train and test", "cmb_convert"),
        lambda: replace_in("trained/raw/Dataset501_Elsewhere/cases.tsv", "train", "trian"),
    ),
    Fault(
        "dataset_json_broken",
        PLAN,
        ("dataset.json", "not readable as JSON", "cmb_convert|write the file anew"),
        write("trained/raw/Dataset501_Elsewhere/dataset.json", "{"),
    ),
    Fault(
        "dataset_json_without_channels",
        PLAN,
        ("dataset.json", "channel_names", "cmb_convert"),
        write("trained/raw/Dataset501_Elsewhere/dataset.json", "{}"),
    ),
    Fault(
        "prepared_scan_cut_off",
        PLAN,
        ("_0000.nii.gz", "damaged or truncated", "copy the file again|cmb_convert"),
        lambda: (
            keep(str(next(Path("trained/raw").rglob("p0*_0000.nii.gz"))), 0.5)(),
            shutil.rmtree("trained/preprocessed"),
        ),
    ),
    Fault(
        "prepared_label_gone",
        PLAN,
        ("p1_1.nii.gz", "no such file", "cmb_convert"),
        both(remove("trained/raw/Dataset501_Elsewhere/labelsTr/p1_1.nii.gz"), remove("trained/preprocessed")),
    ),
]


def drop_column(path, name):
    rows = [line.split("\t") for line in Path(path).read_text().splitlines()]
    index = rows[0].index(name)
    Path(path).write_text("".join("\t".join(row[:index] + row[index + 1 :]) + "\n" for row in rows))


def replace_in(path, old, new):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


PREPROCESSED = "trained/preprocessed/Dataset501_Elsewhere"
SPLITS = "trained/raw/Dataset501_Elsewhere/splits_final.json"
FRESH = remove(f"trained/{MODEL}")
TRAININGS = [
    Fault("train_without_fold", TRAIN.replace("-f 0", ""), ("-f FOLD is missing", "cmb_train -d 501 -f 0")),
    Fault("train_without_dataset", "cmb_train -f 0", ("-d DATASET is missing", "cmb_train -d 501 -f 0")),
    Fault("fold_seven", TRAIN.replace("-f 0", "-f 7"), ("-f: found 7", "has 5 folds", "0 to 4, or all")),
    Fault("fold_in_words", TRAIN.replace("-f 0", "-f first"), ("-f", "found 'first'", "numbers of folds", "or all")),
    Fault(
        "recipe_unknown",
        TRAIN.replace("tiny.yaml", "supervized"),
        ("-r supervized", "no such recipe", "did you mean supervised"),
    ),
    Fault("recipe_empty", TRAIN, ("tiny.yaml", "found nothing", "name, description"), write("tiny.yaml", "")),
    Fault(
        "recipe_with_key_mistyped",
        TRAIN,
        ("tiny.yaml", "epoch: unknown key", "did you mean epochs"),
        lambda: replace_in("tiny.yaml", "epochs: 2", "epochs: 2\nepoch: 3"),
    ),
    Fault(
        "recipe_with_value_out_of_range",
        TRAIN,
        ("tiny.yaml", "epochs", "found 0", "greater than 0"),
        lambda: replace_in("tiny.yaml", "epochs: 2", "epochs: 0"),
    ),
    Fault("recipe_in_utf16", TRAIN, ("tiny.yaml", "UTF-8"), write("tiny.yaml", "name: x".encode("utf-16"))),
    Fault(
        "recipe_with_shares_over_one",
        TRAIN,
        ("tiny.yaml", "sampling", "sum to 1"),
        lambda: replace_in("tiny.yaml", "batch", "sampling: {lesion: 0.9}\nbatch"),
    ),
    Fault("epochs_zero", f"{TRAIN} --epochs 0", ("--epochs", "found '0'", "at least 1")),
    Fault(
        "train_before_planning", TRAIN, ("not planned", "cmb_plan_preprocess -d 501"), remove("trained/preprocessed")
    ),
    Fault(
        "plan_broken",
        TRAIN,
        ("adaptive_plan.json", "not readable as JSON", "cmb_plan_preprocess -d 501"),
        both(FRESH, write(f"{PREPROCESSED}/adaptive_plan.json", "{")),
    ),
    Fault(
        "plan_edited",
        TRAIN,
        ("adaptive_plan.json", "patch_shape", "cmb_plan_preprocess -d 501"),
        both(FRESH, edit_json(f"{PREPROCESSED}/adaptive_plan.json", lambda plan: plan.update(patch_shape="big"))),
    ),
    Fault(
        "splits_broken",
        TRAIN,
        ("splits_final.json", "not readable as JSON", "cmb_plan_preprocess -d 501"),
        both(FRESH, write(SPLITS, "[{")),
    ),
    Fault(
        "splits_without_a_case",
        TRAIN,
        ("splits_final.json", "p1_1", "cmb_plan_preprocess -d 501"),
        both(
            FRESH,
            edit_json(
                SPLITS,
                lambda splits: [part.remove("p1_1") for fold in splits for part in fold.values() if "p1_1" in part],
            ),
        ),
    ),
    Fault(
        "splits_with_a_strange_case",
        TRAIN,
        ("splits_final.json", "p99", "cmb_plan_preprocess -d 501"),
        both(FRESH, edit_json(SPLITS, lambda splits: splits[0]["train"].append("p99"))),
    ),
    Fault(
        "splits_that_share_a_subject",
        TRAIN,
        ("splits_final.json", "both sides", "cmb_plan_preprocess -d 501"),
        both(FRESH, edit_json(SPLITS, lambda splits: splits[0]["train"].append(splits[0]["val"][0]))),
    ),
    Fault(
        "splits_of_two_folds",
        TRAIN.replace("-f 0", "-f 3"),
        ("splits_final.json", "2 folds", "name some of 0 to 1, or all"),
        both(FRESH, edit_json(SPLITS, lambda splits: splits.__delitem__(slice(2, None)))),
    ),
    Fault(
        "network_input_cut_off",
        TRAIN,
        ("b2nd", "damaged", "delete the file", "cmb_plan_preprocess -d Dataset501_Elsewhere"),
        both(FRESH, lambda: [keep(str(path), 0.5)() for path in Path(PREPROCESSED).rglob("p?_?.b2nd")]),
    ),
    Fault(
        "network_inputs_gone",
        TRAIN,
        ("not preprocessed", "cmb_plan_preprocess -d 501"),
        both(FRESH, remove(f"{PREPROCESSED}/adaptive_3d")),
    ),
    Fault(
        "network_input_of_a_case_gone",
        TRAIN,
        ("p1_1", "not preprocessed", "cmb_plan_preprocess -d 501"),
        both(FRESH, *(remove(f"{PREPROCESSED}/adaptive_3d/p1_1{end}") for end in (".b2nd", "_seg.b2nd", ".pkl"))),
    ),
    Fault("another_seed_than_before", f"{TRAIN} --seed 5", ("another seed", "same settings as before")),
    Fault(
        "finalize_without_training",
        FINALIZE.replace("tiny", "supervised"),
        ("-r supervised", "not trained", "trained: tiny", "cmb_train -d 501 -r supervised"),
    ),
    Fault(
        "finalize_without_a_fold",
        FINALIZE,
        ("fold 3 is not trained", "cmb_train -d 501 -r tiny", "-f 3"),
        remove(f"trained/{MODEL}/fold_3"),
    ),
    Fault(
        "finalize_with_a_broken_record",
        FINALIZE,
        ("fold_2/fold.json", "not readable as JSON", "cmb_train -d 501 -r tiny"),
        write(f"trained/{MODEL}/fold_2/fold.json", ""),
    ),
    Fault("finalize_of_no_dataset", FINALIZE.replace("501", "9"), ("-d 9", "no such dataset", "Dataset501_Elsewhere")),
]

PREDICTIONS = [
    Fault("two_models", f"{PREDICT} -d 501", ("-m and -d", "found both", "not both")),
    Fault(
        "model_not_there",
        PREDICT.replace("-m model", "-m nowhere"),
        ("-m nowhere", "no such folder", "results/Dataset501"),
    ),
    Fault(
        "model_is_a_dataset",
        PREDICT.replace("-m model", "-m cohort"),
        ("-m cohort", "no plans.json", "results/Dataset501"),
    ),
    Fault(
        "model_without_checkpoints",
        PREDICT,
        ("model", "no checkpoint", "cmb_train"),
        lambda: [shutil.rmtree(fold) for fold in Path("model").glob("fold_*")],
    ),
    Fault(
        "model_without_dataset_json", PREDICT, ("model", "no dataset.json", "check -m"), remove("model/dataset.json")
    ),
    Fault(
        "model_of_a_newer_version",
        PREDICT,
        ("plans.json", "new_key", "another version"),
        edit_json("model/plans.json", lambda plans: plans["cmb_autoseg"]["plan"].update(new_key=1)),
    ),
    Fault(
        "model_with_plans_of_another_tool",
        PREDICT,
        ("plans.json", "cmb_autoseg", "not made by cmb_train"),
        write("model/plans.json", "{}"),
    ),
    Fault(
        "model_with_a_foreign_network",
        PREDICT,
        ("evil.Network", "--trust-model"),
        edit_json(
            "model/plans.json",
            lambda plans: plans["configurations"]["3d"]["architecture"].update(network_class_name="evil.Network"),
        ),
    ),
    Fault(
        "model_with_other_levels",
        PREDICT,
        ("model", "plans.json.*checkpoints do not fit", "copy the model folder again"),
        edit_json(
            "model/plans.json",
            lambda plans: plans["configurations"]["3d"]["architecture"]["arch_kwargs"].update(
                features_per_stage=[8, 8]
            ),
        ),
    ),
    Fault(
        "model_lacking_a_setting",
        PREDICT,
        ("model", "configurations", "copy the model folder again"),
        edit_json("model/plans.json", lambda plans: plans.pop("configurations")),
    ),
    Fault(
        "model_with_a_patch_of_another_network",
        PREDICT,
        ("patch_size: found .*, expected multiples of", "copy the model folder again"),
        edit_json("model/plans.json", lambda plans: plans["configurations"]["3d"].update(patch_size=[7, 31, 33])),
    ),
    Fault(
        "model_with_two_spacings",
        PREDICT,
        ("spacing: found .*, expected three sizes in mm", "copy the model folder again"),
        edit_json("model/plans.json", lambda plans: plans["configurations"]["3d"].update(spacing=[1.0, 0.0])),
    ),
    Fault(
        "model_of_another_spacing",
        PREDICT,
        ("spacing: found .*, but it has learned with", "copy the model folder again"),
        edit_json("model/plans.json", lambda plans: plans["configurations"]["3d"].update(spacing=[1.5, 1.5, 1.5])),
    ),
    Fault(
        "model_with_an_axis_twice",
        PREDICT,
        ("transpose_forward: found", "copy the model folder again"),
        edit_json("model/plans.json", lambda plans: plans.update(transpose_forward=[0, 1, 1])),
    ),
    Fault(
        "model_with_windows_that_go_back",
        PREDICT,
        ("model/plans.json", "field tile_step", "greater than 0"),
        edit_json("model/plans.json", lambda plans: plans["cmb_autoseg"]["recipe"]["inference"].update(tile_step=-1)),
    ),
    Fault(
        "checkpoint_cut_off",
        PREDICT,
        ("checkpoint_final.pth", "damaged", "copy it again"),
        keep("model/fold_0/checkpoint_final.pth", 0.5),
    ),
    Fault(
        "checkpoint_a_text",
        PREDICT,
        ("checkpoint_final.pth", "more than plain tensors|damaged", "train the fold anew|trust-model"),
        write("model/fold_0/checkpoint_final.pth", "weights"),
    ),
    Fault(
        "checkpoint_with_code",
        PREDICT,
        ("checkpoint_final.pth", "more than plain tensors", "--trust-model"),
        pickled_payload,
    ),
    Fault(
        "fold_not_trained",
        f"{PREDICT} -f 3",
        ("found finished folds", r"needed \[3\]", "choose others with -f, or train them"),
        remove("model/fold_3"),
    ),
    Fault("point_in_percent", f"{PREDICT} --operating-point 35", ("--operating-point", "'35'", "did you mean 0.35")),
    Fault(
        "point_in_percent_before_finalizing",
        f"{PREDICT} --operating-point 35",
        ("--operating-point", "'35'", "did you mean 0.35"),
        remove("model/operating_points.json"),
    ),
    Fault("point_unknown", f"{PREDICT} --operating-point best", ("'best'", "counting, screening, youden")),
    Fault(
        "point_before_finalizing",
        f"{PREDICT} --operating-point screening",
        ("no operating points yet", "cmb_finalize -d 501 -r tiny"),
        remove("model/operating_points.json"),
    ),
    Fault(
        "points_broken",
        PREDICT,
        ("operating_points.json", "threshold", "cmb_finalize -d 501 -r tiny|again"),
        write("model/operating_points.json", '[{"name": "counting"}]'),
    ),
    Fault(
        "echo_nine",
        f"{PREDICT} --echo 9",
        ("s0_T2S.nii.gz", "echo 9", "choose 1..2"),
        image(np.stack([scan()] * 2, -1)),
    ),
    Fault("echo_zero", f"{PREDICT} --echo 0", ("--echo", "found '0'", "at least 1")),
    Fault("role_mistyped", f"{PREDICT} --role sw1", ("--role", "'sw1'", "swi")),
    Fault("scan_not_there", PREDICT.replace("s0_T2S", "s0_SWI"), ("s0_SWI.nii.gz", "no such file", "-i takes")),
    Fault(
        "scan_is_a_text",
        PREDICT.replace(SCAN, "notes.txt"),
        ("notes.txt", "another kind", "-i takes"),
        write("notes.txt", "a"),
    ),
    Fault(
        "scan_in_analyze", PREDICT.replace(SCAN, "s.img"), ("s.img", "another kind", "-i takes"), write("s.img", "a")
    ),
    Fault(
        "scan_named_after_t1",
        PREDICT.replace(SCAN, "s_T1w.nii.gz"),
        ("s_T1w.nii.gz", "does not show microbleeds", "--role"),
        move(SCAN, "s_T1w.nii.gz"),
    ),
    Fault(
        "scan_of_an_unknown_channel",
        PREDICT.replace(SCAN, "s_0007.nii.gz"),
        ("s_0007.nii.gz", "channel 0007", "_0000 swi"),
        move(SCAN, "s_0007.nii.gz"),
    ),
    Fault(
        "folder_of_nothing",
        PREDICT.replace(SCAN, "empty"),
        ("-i empty", "nothing to predict", "CASE_0000.nii.gz"),
        lambda: Path("empty").mkdir(),
    ),
    Fault(
        "folder_named_like_a_scan",
        PREDICT.replace(SCAN, "x.nii.gz"),
        ("x.nii.gz", "nothing to predict", "CASE_0000.nii.gz"),
        lambda: Path("x.nii.gz").mkdir(),
    ),
    Fault("input_of_no_name", "cmb_predict -i '' -o out -m model", ("-i", "found nothing", "expected a scan")),
    Fault("output_is_a_file", PREDICT, ("-o out", "is a file", "name a folder"), write("out", "")),
    Fault(
        "output_is_the_input",
        PREDICT.replace(SCAN, "cohort/s0").replace("-o out", "-o cohort/s0"),
        ("-o cohort/s0", "holds the scans", "choose another"),
    ),
    Fault(
        "split_without_cases",
        PREDICT.replace(SCAN, "cohort/card.yaml") + " --split test",
        ("no usable case", "split test"),
    ),
    Fault(
        "predicted_text",
        PREDICT,
        ("s0_T2S.nii.gz", "not readable as NIfTI", "convert it again"),
        write(SCAN, "nothing"),
    ),
    Fault(
        "predicted_huge_claim",
        PREDICT,
        ("s0_T2S.nii.gz", "30000 x 30000 x 30000", "copy the file again"),
        header(dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]),
    ),
    Fault(
        "predicted_zero",
        PREDICT,
        ("s0_T2S.nii.gz", "every voxel is zero", "export the scan again"),
        image(np.zeros(SHAPE, np.float32)),
    ),
]

EVALUATIONS = [
    Fault(
        "no_common_case",
        EVALUATE,
        ("no case is in both", "a", "b", "name them alike"),
        masks({"a.nii.gz": mask()}, {"b.nii.gz": mask()}),
    ),
    Fault("no_prediction", EVALUATE, ("pred", "found no mask", "<case>_mask.nii.gz"), masks({}, {"a.nii.gz": mask()})),
    Fault("predictions_not_there", EVALUATE, ("-p pred", "no such file or folder")),
    Fault(
        "prediction_of_no_kind",
        EVALUATE.replace("-p pred", "-p pred.yaml"),
        ("-p pred.yaml", "neither a mask", "nor a list"),
        both(masks({}, {"a.nii.gz": mask()}), write("pred.yaml", "a: 1")),
    ),
    Fault(
        "two_masks_of_a_case",
        EVALUATE,
        ("a.nii.gz and a_mask.nii.gz", "keep one"),
        masks({"a.nii.gz": mask(), "a_mask.nii.gz": mask()}, {"a.nii.gz": mask()}),
    ),
    Fault(
        "only_channels",
        EVALUATE,
        ("ref", "found no mask", "a_0000.nii.gz"),
        masks({"a.nii.gz": mask()}, {"a_0000.nii.gz": scan()}),
    ),
    Fault(
        "scores_among_masks",
        EVALUATE.replace("-o out", "-o pred"),
        ("-o pred", "holds files to be read", "another folder"),
        masks({"a.nii.gz": mask()}, {"a.nii.gz": mask()}),
    ),
    Fault("protocol_mistyped", f"{EVALUATE} --protocol valdoo", ("--protocol", "'valdoo'", "valdo")),
    Fault(
        "scores_into_a_file",
        EVALUATE,
        ("out", "cannot write there"),
        both(masks({"a.nii.gz": mask()}, {"a.nii.gz": mask()}), write("out", "")),
    ),
]

SIMULATIONS = [
    Fault("people_negative", "cmb_simulate -o out -n -3", ("-n", "-3|one argument", "at least 1|--help")),
    Fault("people_none", "cmb_simulate -o out -n 0", ("-n", "found '0'", "at least 1")),
    Fault("people_too_many", "cmb_simulate -o out -n 100000", ("-n", "found 100000", "expected 1..")),
    Fault(
        "more_test_people_than_people", "cmb_simulate -o out -n 2 --n-test 3", ("--n-test", "found 3", r"expected 0..2")
    ),
    Fault(
        "share_over_one", "cmb_simulate -o out -n 2 --lesion-free-share 33", ("--lesion-free-share", "found 33", "0..1")
    ),
    Fault("layout_unknown", "cmb_simulate -o out -n 2 --layout bidz", ("--layout", "'bidz'", "valdo")),
    Fault(
        "simulated_over_a_real_cohort", "cmb_simulate -o cohort -n 2", ("-o cohort", "holds s0", "new or empty folder")
    ),
    Fault(
        "simulated_into_a_file", "cmb_simulate -o tiny.yaml -n 2", ("-o tiny.yaml", "is a file", "new or empty folder")
    ),
    Fault("demo_into_a_file", "cmb_demo -o tiny.yaml", ("tiny.yaml", "cannot write there", "another folder")),
    Fault("demo_over_a_real_cohort", "cmb_demo -o .", ("cohort", "holds", "new or empty folder")),
]

FAULTS = [*CARDS, *SCANS, *COHORTS, *PLANS, *TRAININGS, *PREDICTIONS, *EVALUATIONS, *SIMULATIONS]


@pytest.fixture(autouse=True)
def no_hang():
    """A command that takes longer than this hangs."""

    def stop(*_):
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """The current folder, with a sound cohort of one subject."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CMB_WORKSPACE", raising=False)
    save(SCAN, scan())
    save(MASK, mask())
    Path("cohort/card.yaml").write_text(CARD)
    return tmp_path


def bring(trained, command):
    """Copies of what the command line names of the session's model."""
    if " -m model" in command:
        shutil.copytree(trained.model, "model", ignore=shutil.ignore_patterns("crossvalidation"))
    if "trained" in command:
        shutil.copytree(trained.workspace, "trained")
    if "tiny.yaml" in command:
        shutil.copy(trained.recipe, "tiny.yaml")


def contents(folder):
    """Everything below a folder: files with digest, folders, links."""
    return {
        path.relative_to(folder).as_posix(): (
            str(path.readlink())
            if path.is_symlink()
            else hashlib.md5(path.read_bytes()).hexdigest()
            if path.is_file()
            else ""
        )
        for path in folder.rglob("*")
    }


def run(command):
    name, *arguments = shlex.split(command)
    try:
        return COMMANDS[name](arguments)
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_fault_is_one_line_with_its_cure_and_nothing_is_written(fault, here, request, capfd):
    if any(part in fault.command for part in ("-m model", "trained", "tiny.yaml")):
        bring(request.getfixturevalue("trained"), fault.command)
    fault.spoil()
    before = contents(here)
    capfd.readouterr()
    code = run(fault.command)
    captured = capfd.readouterr()
    *notes, line = captured.err.splitlines() or [""]
    assert (code, [note for note in notes if not LOG_LINE.fullmatch(note)]) == (2, []), captured.err
    assert re.match(r"cmb_\w+( \w+)?: error: \S", line), line
    assert [part for part in fault.says if not re.search(part, line)] == [], line
    assert contents(here) == before


def test_the_faults_are_many_and_none_stands_twice():
    assert len({fault.id for fault in FAULTS}) == len({(fault.command, fault.spoil) for fault in FAULTS}) == len(FAULTS)
    assert len(FAULTS) >= 60
    assert {fault.command.split()[0] for fault in FAULTS} == set(COMMANDS)
