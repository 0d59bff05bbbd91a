"""A card for slices as pictures, with boxes or masks beside them."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from cmb_autoseg.dataset_conversion.card import LABEL_NAME
from cmb_autoseg.dataset_conversion.draft.marks import box_keys
from cmb_autoseg.dataset_conversion.draft.meaning import quoted
from cmb_autoseg.dataset_conversion.draft.templates import SLICE, Cut, Template, find_templates
from cmb_autoseg.dataset_conversion.sorting.naming import safe_name
from cmb_autoseg.errors import InputError
from cmb_autoseg.records import Role

__all__ = ["draft_pictures"]

PLAIN_WORDS = frozenset(["", "slice", "slices", "img", "image", "im", "z", "s", "axial", "swi"])
"""Before a number they name no person."""
EXAMPLES = 200
"""Files of boxes that are looked into: most have none."""
SLICE_COLUMNS = frozenset(["image", "x_mm", "y_mm", "z_mm", "pixel_mm", "slice_mm"])


def draft_pictures(folder: Path, pictures: Sequence[str], marks: Sequence[str]) -> str:
    """The card's YAML.

    Args:
        folder: the cohort's.
        pictures: their paths.
        marks: paths of files that may hold boxes, or the places of slices.

    Raises:
        InputError: no name holds the number of a slice.
    """
    numbered = [_without_slice(path) for path in pictures]
    cuts = _cuts()
    people = {key[0] for template in find_templates(numbered, cuts) for key in template.keys if key}
    marked = [_without_slice(path) for path in marks]
    templates = [
        *find_templates([*numbered, *(path for path in marked if _names_one_of(path, people))], cuts),
        *find_templates([path for path in marks if _stem(path) in people], [_stem]),
        *find_templates([path for path in marks if path.endswith(".json")]),
    ]
    scans = [template for template in templates if _is_picture(template)]
    masks = [template for template in scans if template.meaning == LABEL_NAME]
    images = [template for template in scans if template.meaning != LABEL_NAME and template.has_subject]
    if not images:
        raise InputError(
            f"{folder}: pictures, but their names do not say whose and which slice; name them PERSON_NUMBER.png, "
            f"as in p001_017.png (found {pictures[0]})"
        )
    image = max(images, key=lambda template: template.files)
    stacked = SLICE in image.pattern
    table = _slice_table(folder, templates) if stacked else None
    lines = [
        "# Drafted from the names of the files: check every line, then run cmb_cohort check on this card.",
        "schema: 1",
        f"name: {safe_name(folder.resolve().name) or 'my_cohort'}",
        f"root: {quoted(str(folder.resolve()))}",
        "dim: 2",
        "images:",
        *_image_lines(image, stacked, table),
        *_label_lines(folder, image, masks, templates),
    ]
    if "participants.tsv" in marks:
        lines += ["meta:", "  participants: {path: participants.tsv, key: sub}"]
    used = {image.pattern, *(template.pattern for template in masks[:1])}
    lines += [f"# not used: {_shown(template.pattern)}" for template in scans if template.pattern not in used]
    return "\n".join(lines) + "\n"


def _cuts() -> list[Cut]:
    """Where a person's name may stand beside the slice's number: before it, or as the nearest folder."""

    def before(path: str) -> str | None:
        name, numbered, _ = path.rpartition("/")[2].partition(SLICE)
        name = name.strip("_-")
        return name if numbered and name.lower() not in PLAIN_WORDS else None

    return [before, *(partial(_folder_above, up=up) for up in (1, 2, 3))]


def _folder_above(path: str, up: int) -> str | None:
    folders = path.split("/")[:-1]
    return folders[-up] if up <= len(folders) else None


def _without_slice(path: str) -> str:
    """The last number of a file's name is the slice's, if something else is left that names the person."""
    parent, _, name = path.rpartition("/")
    stem, dot, suffix = name.partition(".")
    found = list(re.finditer(r"\d+", stem))
    if not found or not (parent or stem[: found[-1].start()].strip("_-")):
        return path
    last = found[-1]
    return f"{parent}{'/' * bool(parent)}{stem[: last.start()]}{SLICE}{stem[last.end() :]}{dot}{suffix}"


def _names_one_of(path: str, people: set[str]) -> bool:
    """Whether something beside the slice's number, in the name or a folder's, is a person."""
    before, found, _ = path.rpartition("/")[2].partition(SLICE)
    return bool(found) and bool({before.strip("_-"), *path.split("/")[:-1]} & people)


def _stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0]


def _is_picture(template: Template) -> bool:
    return not template.is_table


def _shown(pattern: str) -> str:
    r"""With `{slice:\d+}` at its first place."""
    return pattern.replace(SLICE, r"{slice:\d+}", 1).replace(SLICE, "{slice}")


def _image_lines(image: Template, stacked: bool, table: str | None) -> list[str]:
    meaning = image.meaning
    role = meaning if isinstance(meaning, Role) else Role.SWI
    hint = "" if isinstance(meaning, Role) else "  # GUESS: nothing in the name says what it is"
    lines = [f"  {role.value}:", f"    role: {role.value}{hint}", f"    path: {quoted(_shown(image.pattern))}"]
    if stacked:
        lines.append("    stack: slice")
    if table is not None:
        lines.append(f"    slices: {{path: {quoted(table)}}}")
    else:
        lines.append(
            "    spacing_mm: [0.5, 0.5, 2.0]  # GUESS: mm between columns, rows and slices; ask who exported them"
        )
    lines.append("    axes: LPS  # GUESS: columns run to the patient's left, rows to the back, slices upwards")
    return lines


def _slice_table(folder: Path, templates: Sequence[Template]) -> str | None:
    """Tables that say where the pictures lie."""
    for template in templates:
        if template.pattern.endswith(".tsv") and template.has_subject:
            path = folder / template.example
            with path.open(encoding="utf-8", errors="replace") as stream:
                header = stream.readline().split("\t")
            if {name.strip() for name in header} >= SLICE_COLUMNS:
                return template.pattern
    return None


def _label_lines(folder: Path, image: Template, masks: Sequence[Template], templates: Sequence[Template]) -> list[str]:
    boxes = [(template, _boxes_of(folder, template)) for template in templates if template.is_table]
    found = [(template, keys) for template, keys in boxes if keys is not None]
    people = {key[0] for key in image.keys}
    if found:
        template, keys = max(found, key=lambda item: (item[0].has_subject, item[0].files))
        lacking = template.has_subject and not people <= {key[0] for key in template.keys}
        optional = ", optional: true" if lacking or not template.has_subject else ""
        return ["labels:", f"  cmb: {{{keys}{optional}, path: {quoted(_shown(template.pattern))}}}"]
    if masks:
        return [
            "labels:",
            f"  cmb: {{kind: mask, optional: true, path: {quoted(_shown(masks[0].pattern))}, values: {{cmb: 255}}}}"
            "  # GUESS: the grey value of microbleeds",
        ]
    return ["labels: {}  # no boxes or masks recognized; if there are some, add labels.cmb (docs/reference/cards.md)"]


def _boxes_of(folder: Path, template: Template) -> str | None:
    """What a card says of boxes in files like this; None if they hold none."""
    if SLICE not in template.pattern and not template.pattern.endswith(".json"):
        return None
    path = folder / template.example.replace(SLICE, "*")
    if SLICE not in template.example:
        return box_keys([path])
    parent = PurePosixPath(template.example).parent
    files = sorted((folder / parent).glob(PurePosixPath(template.example).name.replace(SLICE, "*")))
    return box_keys(files[:EXAMPLES])
