"""A card for scans that are files: NIfTI, MetaImage, NRRD and .mat, also in archives."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from cmb_autoseg.dataset_conversion.card import LABEL_NAME
from cmb_autoseg.dataset_conversion.draft.marks import case_table_keys, point_keys
from cmb_autoseg.dataset_conversion.draft.meaning import quoted
from cmb_autoseg.dataset_conversion.draft.templates import Template, find_templates
from cmb_autoseg.dataset_conversion.sorting.naming import safe_name
from cmb_autoseg.readers import MATLAB_SUFFIX
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role

__all__ = ["draft_volumes"]

PARTICIPANTS = "participants.tsv"
TABLES_TRIED = 20
"""Tables of all cases that are opened."""
PATHS_TRIED = 200

Keys = frozenset[tuple[str, ...]]


def draft_volumes(folder: Path, volumes: Sequence[str], marks: Sequence[str]) -> str:
    """The card's YAML.

    Args:
        folder: the cohort's.
        volumes: paths of scans and masks; also of .mat files that may hold points.
        marks: paths of tables that may hold points.
    """
    marked = [path for path in marks if not path.lower().endswith((".txt", ".xml"))]
    templates = find_templates([*volumes, *marked])
    images, labels, unused = _sort_out(folder, templates)
    everyone = Keys().union(*(template.keys for template in images.values()))
    common = max((len(template.keys) for template in images.values()), default=0)
    label = labels[0] if labels else None
    has_sessions = any(template.has_session for template in images.values())
    # Labels that name no session fit where each person has one.
    by_person = has_sessions and label is not None and not label.has_session and _have_one_session(everyone)
    lines = [
        "# Drafted from the names of the files: check every line, then run cmb_cohort check on this card.",
        "schema: 1",
        f"name: {safe_name(folder.resolve().name) or 'my_cohort'}",
        f"root: {quoted(str(folder.resolve()))}",
        *(['case: "{sub}"  # one session a person'] if by_person else []),
        "images:",
    ]
    guessed = not any(role in SUSCEPTIBILITY_ROLES for role in images)
    for number, (role, template) in enumerate(images.items()):
        shown = Role.SWI if guessed and number == 0 else role
        optional = ", optional: true" if len(template.keys) < max(common, len(everyone)) else ""
        hints = ["nothing in the name says what it is"] if shown is not role else []
        sizes = ""
        if template.pattern.endswith(MATLAB_SUFFIX):
            sizes = ", spacing_mm: [1.0, 1.0, 1.0]"
            hints.append("a .mat file says no sizes of voxels: write them along i, j, k")
        hint = f"  # GUESS: {'; '.join(hints)}" if hints else ""
        lines.append(
            f"  {shown.value}: {{role: {shown.value}{optional}{sizes}, path: {quoted(template.pattern)}}}{hint}"
        )
    lines += _label_lines(folder, label, images, everyone, by_person, marks)
    if PARTICIPANTS in marks:
        lines += ["meta:", f"  participants: {{path: {PARTICIPANTS}, key: sub}}"]
    lines += [f"# not used: {template.pattern}" for template in (*labels[1:], *unused)]
    return "\n".join(lines) + "\n"


def _label_lines(
    folder: Path,
    label: Template | None,
    images: Mapping[Role, Template],
    everyone: Keys,
    by_person: bool,
    marks: Sequence[str],
) -> list[str]:
    if label is not None:
        points = _points_of(folder, label)
        kind = points or "kind: mask, values: {cmb: 1}"
        optional = ", optional: true" if _lacks_some(label, everyone, by_person) else ""
        hint = "  # GUESS: whether they count from 0 or 1, or are millimetres" if points and "voxel" in points else ""
        return ["labels:", f"  cmb: {{{kind}{optional}, path: {quoted(label.pattern)}}}{hint}"]
    whole = _table_of_all(folder, images, marks)
    if whole is not None:
        path, keys = whole
        return [
            "labels:",
            f"  cmb: {{{keys}, optional: true, path: {quoted(path)}}}  # GUESS: units and origin of the points",
        ]
    return ["labels: {}  # no mask or point list recognized; if there is one, add labels.cmb (docs/reference/cards.md)"]


def _have_one_session(keys: Keys) -> bool:
    with_session = [key for key in keys if len(key) > 1]
    return len({key[0] for key in with_session}) == len(with_session)


def _lacks_some(label: Template, everyone: Keys, by_person: bool) -> bool:
    """Whether some case (a person's session, or with `by_person` a person) has no label."""
    if by_person:
        return not {key[0] for key in everyone} <= {key[0] for key in label.keys}
    return len(label.keys & everyone) < len(everyone)


def _sort_out(
    folder: Path, templates: Sequence[Template]
) -> tuple[dict[Role, Template], list[Template], list[Template]]:
    """Images by role, possible labels (masks first), and the rest; the fullest template of a role wins."""
    images: dict[Role, Template] = {}
    labels: list[Template] = []
    unused: list[Template] = []
    for template in sorted(templates, key=lambda template: -len(template.keys)):
        if not template.has_subject:
            unused += [] if template.is_table else [template]
            continue
        meaning = template.meaning
        points = _points_of(folder, template)
        if points is not None and (not template.is_table or meaning == LABEL_NAME):
            labels.append(template)
        elif template.is_table:
            continue
        elif meaning == LABEL_NAME:
            labels.append(template)
        elif isinstance(meaning, Role) and meaning not in images:
            images[meaning] = template
        else:
            unused.append(template)
    if not any(role in SUSCEPTIBILITY_ROLES for role in images) and unused:
        first = next((template for template in unused if template.has_subject), unused[0])
        unused.remove(first)
        images = {Role.SWI: first, **images}
    return images, sorted(labels, key=lambda label: _points_of(folder, label) is not None), unused


def _points_of(folder: Path, template: Template) -> str | None:
    """What a card says of points in the template's example; None of scans and of other tables."""
    if not template.is_table and not template.pattern.endswith(MATLAB_SUFFIX):
        return None
    return None if "!/" in template.example else point_keys(folder / template.example)


def _table_of_all(folder: Path, images: Mapping[Role, Template], marks: Sequence[str]) -> tuple[str, str] | None:
    """A table that names the scans or people in one column and has points in others."""
    tables = [path for path in marks if path.lower().endswith((".xlsx", ".csv", ".tsv")) and path != PARTICIPANTS]
    for path in tables[:TABLES_TRIED]:
        keys = case_table_keys(folder / path, _names_of_cases(images))
        if keys is not None:
            return path, keys
    return None


def _names_of_cases(images: Mapping[Role, Template]) -> dict[str, dict[str, str]]:
    """What a table may call the cases, by its pattern: the scan's file, with or without suffix, or the person."""
    template = next((images[role] for role in SUSCEPTIBILITY_ROLES if role in images), None)
    if template is None:
        return {}
    keys = sorted(template.keys)[:PATHS_TRIED]
    said: dict[str, dict[str, str]] = {}
    for pattern in (*_file_names(template), "{sub}"):
        texts = {key[0]: _filled(pattern, key) for key in keys}
        said[pattern] = texts
    return said


def _file_names(template: Template) -> list[str]:
    """The last part of the template's pattern, entities without their regexes."""
    name = PurePosixPath(re.sub(r"\{(\w+):[^{}]*\}", r"{\1}", template.pattern)).name
    stem = re.sub(r"\.(nii(\.gz)?|mha|mhd|nrrd|mat)$", "", name)
    return [name, stem]


def _filled(pattern: str, key: tuple[str, ...]) -> str:
    return pattern.replace("{sub}", key[0]).replace("{ses}", key[1] if len(key) > 1 else "")
