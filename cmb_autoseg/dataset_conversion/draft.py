"""A first card for a folder, guessed from the names of its files."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cmb_autoseg.dataset_conversion.card import LABEL_NAME
from cmb_autoseg.dataset_conversion.naming import safe_name
from cmb_autoseg.dataset_conversion.walk import list_files
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import NIFTI_SUFFIXES
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role

__all__ = ["draft_card"]

ROLE_WORDS: Mapping[str, Role] = {
    **dict.fromkeys(("swi", "swan", "venobold"), Role.SWI),
    **dict.fromkeys(("t2star", "t2starw", "t2s", "t2sw", "gre", "megre", "mag", "magnitude"), Role.GRE_MAG),
    **dict.fromkeys(("phase", "pha", "ph"), Role.GRE_PHASE),
    **dict.fromkeys(("qsm", "chimap", "chi", "susceptibility"), Role.QSM),
    **dict.fromkeys(("t1", "t1w", "mprage"), Role.T1),
    **dict.fromkeys(("t2", "t2w"), Role.T2),
    **dict.fromkeys(("flair", "t2flair"), Role.FLAIR),
}
LABEL_WORDS = frozenset(
    ["cmb", "cmbs", "mb", "microbleed", "microbleeds", "lesion", "lesions", "mask", "seg", "dseg", "label", "labels"]
)
FOREIGN_WORDS = frozenset(["brain", "brainmask", "mip", "minip", "wmh", "bet", "vessel", "vessels", "csf"])
"""A file with one of these in its name is neither a sequence to learn from nor the microbleeds."""
SESSION_FOLDER = re.compile(
    r"(?:ses|session|visit|tp|time|scan|year|v|y|m)[-_]?\w*\d\w*|baseline|followup|\d{8}|\d{4}-\d\d-\d\d", re.IGNORECASE
)
TABLE_SUFFIXES = (".tsv", ".csv", ".json")


@dataclass(frozen=True)
class _Template:
    """Files whose paths differ only in their entities."""

    pattern: str
    keys: frozenset[tuple[str, ...]]
    """Subject, and session if the pattern has one, of each file."""
    example: str

    @property
    def is_table(self) -> bool:
        return self.pattern.endswith(TABLE_SUFFIXES)


Cut = Callable[[str], str | None]
"""Finds the text that names the subject in a path."""


def draft_card(folder: Path) -> str:
    """Write a card's YAML for the NIfTI files of a folder; the guesses are for a person to check.

    Raises:
        InputError: the folder holds no NIfTI file.
    """
    paths = [path for path in list_files(folder) if path.endswith((*NIFTI_SUFFIXES, *TABLE_SUFFIXES))]
    if not any(path.endswith(NIFTI_SUFFIXES) for path in paths):
        raise InputError(f"{folder}: no NIfTI files (.nii, .nii.gz) in it; convert the scans, or choose another folder")
    templates = _across_sites(min((_group(paths, cut) for cut in _cuts()), key=_cost))
    return _yaml(folder, sorted(templates, key=lambda template: template.pattern), "participants.tsv" in paths)


def _cuts() -> Iterator[Cut]:
    """Where a subject's name may stand, the likelier places first."""
    yield lambda path: _first_match(r"sub-[A-Za-z0-9]+", path)
    for depth in range(4):
        yield lambda path, depth=depth: _folder(path, depth)  # type: ignore[misc]
    yield lambda path: PurePosixPath(path).name.partition("_")[0] if "_" in PurePosixPath(path).name else None
    yield lambda path: _first_match(r"[A-Za-z]*\d+", PurePosixPath(path).name)
    yield lambda path: PurePosixPath(path).name.partition(".")[0]


def _first_match(regex: str, text: str) -> str | None:
    found = re.search(regex, text)
    return found[0] if found else None


def _folder(path: str, depth: int) -> str | None:
    folders = PurePosixPath(path).parts[:-1]
    return folders[depth] if depth < len(folders) else None


def _group(paths: Sequence[str], cut: Cut) -> list[_Template]:
    found: dict[str, dict[tuple[str, ...], str]] = defaultdict(dict)
    for path in paths:
        subject = cut(path)
        if subject and "{" not in path and "}" not in path:
            pattern, key = _replace(path, subject)
            found[pattern][key] = path
        else:
            found[path][()] = path
    subjects = [key[0] for keys in found.values() for key in keys if key]
    sessions = [key[1] for keys in found.values() for key in keys if len(key) > 1]
    return [
        _Template(_with_regex(pattern, subjects, sessions), frozenset(keys), next(iter(keys.values())))
        for pattern, keys in found.items()
    ]


def _replace(path: str, subject: str) -> tuple[str, tuple[str, ...]]:
    """Put entities in the place of the subject and of a session; returns pattern and values."""
    parts = [_with_entity(part, subject, "{sub}") for part in path.split("/")]
    session = next((part for part in parts[:-1] if "{" not in part and SESSION_FOLDER.fullmatch(part)), None)
    session = session or _first_match(r"(?<=_)ses-[A-Za-z0-9]+", parts[-1])
    if session is None:
        return "/".join(parts), (subject,)
    return "/".join(_with_entity(part, session, "{ses}") for part in parts), (subject, session)


def _with_entity(part: str, value: str, entity: str) -> str:
    return re.sub(rf"(?<![A-Za-z0-9{{]){re.escape(value)}(?![A-Za-z0-9}}])", entity, part)


def _with_regex(pattern: str, subjects: Sequence[str], sessions: Sequence[str]) -> str:
    """Say at its first place what an entity looks like, where `[^/_]+` would be too wide or too narrow."""
    for entity, values in (("sub", subjects), ("ses", sessions)):
        prefix = f"{entity}-" if values and all(value.startswith(f"{entity}-") for value in values) else ""
        allowed = "[^/]+" if any("_" in value for value in values) else "[^/_]+"
        if prefix or allowed == "[^/]+":
            pattern = pattern.replace(f"{{{entity}}}", f"{{{entity}:{prefix}{allowed}}}", 1)
    return pattern


def _cost(templates: Sequence[_Template]) -> tuple[int, int, int]:
    """Fewer images without a meaning, fewer templates and more files per subject are better."""
    images = [template for template in templates if not template.is_table]
    unnamed = sum(len(template.keys) for template in images if _meaning(template) is None)
    without_subject = sum(len(template.keys) for template in images if "{sub" not in template.pattern)
    return (without_subject, unnamed, len(images))


def _across_sites(templates: Sequence[_Template]) -> list[_Template]:
    """Templates that differ in one folder only, and share no subject, become one with `{site}` for the folder."""
    shapes: dict[tuple[str, str], list[_Template]] = defaultdict(list)
    for template in templates:
        for before, _, after in _plain_folders(template.pattern):
            shapes[before, after].append(template)
    merged: dict[str, _Template] = {}
    for (before, after), alike in shapes.items():
        if _are_sites(alike) and not any(template.pattern in merged for template in alike):
            folders = [template.pattern.removeprefix(before).removesuffix(after) for template in alike]
            site = "{site:[^/]+}" if any("_" in folder for folder in folders) else "{site}"
            keys = frozenset[tuple[str, ...]]().union(*(template.keys for template in alike))
            whole = replace(alike[0], pattern=f"{before}{site}{after}", keys=keys)
            merged.update(dict.fromkeys((template.pattern for template in alike), whole))
    return list(dict.fromkeys(merged.get(template.pattern, template) for template in templates))


def _plain_folders(pattern: str) -> Iterator[tuple[str, str, str]]:
    """Each folder without entity in a pattern that names the subject, with what is before and after it."""
    parts = re.split(r"/(?![^{}]*\})", pattern)
    for number, part in enumerate(parts[:-1]):
        if "{sub" in pattern and "{" not in part:
            yield "".join(f"{part}/" for part in parts[:number]), part, "/" + "/".join(parts[number + 1 :])


def _are_sites(alike: Sequence[_Template]) -> bool:
    """Several of one meaning, each with subjects of its own."""
    subjects = [{key[0] for key in template.keys} for template in alike]
    disjoint = len(set[str]().union(*subjects)) == sum(map(len, subjects))
    return len(alike) > 1 and disjoint and len({_meaning(template) for template in alike}) == 1


def _meaning(template: _Template) -> Role | str | None:
    """A role, `labels.cmb`, or None; the file's name counts before its folders, its last word first."""
    pattern = re.sub(r"\{[^{}]*\}", "", template.pattern)
    for part in reversed(pattern.split("/")):
        words = re.findall(r"[a-z0-9]+", part.lower())
        if FOREIGN_WORDS & set(words):
            return None
        if {"phase", "pha", "ph"} & set(words):
            return Role.GRE_PHASE
        for word in reversed(words):
            if word in LABEL_WORDS:
                return LABEL_NAME
            if word in ROLE_WORDS and not template.is_table:
                return ROLE_WORDS[word]
    return None


def _yaml(folder: Path, templates: Sequence[_Template], has_participants: bool) -> str:
    images, labels, unused = _sort_out(folder, templates)
    everyone = frozenset[tuple[str, ...]]().union(*(template.keys for template in images.values()))
    common = max((len(template.keys) for template in images.values()), default=0)
    label = labels[0] if labels else None
    has_sessions = any("{ses" in template.pattern for template in images.values())
    # Labels that name no session fit where each person has one.
    by_person = has_sessions and label is not None and "{ses" not in label.pattern and _have_one_session(everyone)
    lines = [
        "# Drafted from the names of the files: check every line, then run cmb_cohort check on this card.",
        "schema: 1",
        f"name: {safe_name(folder.resolve().name) or 'my_cohort'}",
        f"root: {_quoted(str(folder.resolve()))}",
        *(['case: "{sub}"  # one session a person'] if by_person else []),
        "images:",
    ]
    guessed = not any(role in SUSCEPTIBILITY_ROLES for role in images)
    for number, (role, template) in enumerate(images.items()):
        shown = Role.SWI if guessed and number == 0 else role
        optional = ", optional: true" if len(template.keys) < max(common, len(everyone)) else ""
        hint = "  # GUESS: nothing in the name says what it is" if shown is not role else ""
        lines.append(f"  {shown.value}: {{role: {shown.value}{optional}, path: {_quoted(template.pattern)}}}{hint}")
    if label is not None:
        kind = _point_keys(_point_columns(folder, label)) if label.is_table else "mask, values: {cmb: 1}"
        optional = ", optional: true" if _lacks_some(label, everyone, by_person) else ""
        lines += ["labels:", f"  cmb: {{kind: {kind}{optional}, path: {_quoted(label.pattern)}}}"]
    else:
        lines.append(
            "labels: {}  # no mask or point list recognized; if there is one, add labels.cmb (docs/reference/cards.md)"
        )
    if has_participants:
        lines += ["meta:", "  participants: {path: participants.tsv, key: sub}"]
    lines += [f"# not used: {template.pattern}" for template in (*labels[1:], *unused)]
    return "\n".join(lines) + "\n"


def _have_one_session(keys: frozenset[tuple[str, ...]]) -> bool:
    with_session = [key for key in keys if len(key) > 1]
    return len({key[0] for key in with_session}) == len(with_session)


def _lacks_some(label: _Template, everyone: frozenset[tuple[str, ...]], by_person: bool) -> bool:
    """Whether some case (a person's session, or with `by_person` a person) has no label."""
    if by_person:
        return not {key[0] for key in everyone} <= {key[0] for key in label.keys}
    return len(label.keys & everyone) < len(everyone)


def _point_keys(columns: Mapping[str, str]) -> str:
    named = ", ".join(f"{axis}: {_quoted(name)}" for axis, name in columns.items() if axis != name)
    return "points, space: ras_mm" + (f", columns: {{{named}}}" if named else "")


def _sort_out(
    folder: Path, templates: Sequence[_Template]
) -> tuple[dict[Role, _Template], list[_Template], list[_Template]]:
    """Images by role, possible labels (masks first), and the rest; the fullest template of a role wins."""
    images: dict[Role, _Template] = {}
    labels: list[_Template] = []
    unused: list[_Template] = []
    for template in sorted(templates, key=lambda template: -len(template.keys)):
        meaning = _meaning(template) if "{sub" in template.pattern else None
        if meaning == LABEL_NAME and (not template.is_table or _point_columns(folder, template)):
            labels.append(template)
        elif isinstance(meaning, Role) and meaning not in images:
            images[meaning] = template
        elif not template.is_table:
            unused.append(template)
    if not any(role in SUSCEPTIBILITY_ROLES for role in images) and unused:
        images = {Role.SWI: unused.pop(0), **images}
    return images, sorted(labels, key=lambda label: label.is_table), unused


def _point_columns(folder: Path, template: _Template) -> dict[str, str]:
    """The columns of a table that hold x, y and z; empty where it has none."""
    try:
        text = (folder / template.example).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return {}
    if template.example.endswith(".json"):
        return {axis: axis for axis in "xyz"} if re.search(r'"x"\s*:|\[\s*\[?\s*-?\d', text) else {}
    header = re.split(r"[\t,;]", text.partition("\n")[0].strip())
    found = {axis: name for axis in "xyz" for name in header if re.fullmatch(rf"{axis}(?:_?mm)?", name.strip(), re.I)}
    return found if len(found) == 3 else {}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
