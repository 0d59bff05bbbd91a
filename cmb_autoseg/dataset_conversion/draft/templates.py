"""Paths that differ only in who and when: patterns with entities, guessed from the names of files."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from cmb_autoseg.dataset_conversion.draft.meaning import meaning_of
from cmb_autoseg.records import Role

__all__ = ["SLICE", "Cut", "Template", "find_templates"]

TABLE_SUFFIXES = (".tsv", ".csv", ".json", ".xlsx", ".txt", ".xml")
SESSION_FOLDER = re.compile(
    r"(?:ses|session|visit|tp|time|scan|year|v|y|m)[-_]?\w*\d\w*|baseline|followup|\d{8}|\d{4}-\d\d-\d\d", re.IGNORECASE
)
SLICE = "@slice@"
"""Stands in paths where the number of a slice was."""

PROBED = 1000
"""So many files from either end show where a subject's name stands."""

Cut = Callable[[str], str | None]
"""Finds the text that names the subject in a path."""


@dataclass(frozen=True)
class Template:
    """Files whose paths differ only in their entities."""

    pattern: str
    keys: frozenset[tuple[str, ...]]
    """Subject, and session if the pattern has one, of each file."""
    example: str
    files: int = 0

    @property
    def is_table(self) -> bool:
        return self.pattern.endswith(TABLE_SUFFIXES)

    @property
    def has_subject(self) -> bool:
        return "{sub" in self.pattern

    @property
    def has_session(self) -> bool:
        return "{ses" in self.pattern

    @property
    def meaning(self) -> Role | str | None:
        return meaning_of(self.pattern, self.is_table)


def find_templates(paths: Sequence[str], cuts: Sequence[Cut] = ()) -> list[Template]:
    """The patterns of a folder's files, by the place for the subject's name that explains most.

    Args:
        paths: relative, with `/`.
        cuts: where to look for the subject's name, instead of the usual places.
    """
    probe = paths if len(paths) <= 2 * PROBED else [*paths[:PROBED], *paths[-PROBED:]]
    cut = min(cuts or _usual_cuts(), key=lambda cut: _cost(_group(probe, cut)))
    return sorted(_across_sites(_group(paths, cut)), key=lambda template: template.pattern)


def _usual_cuts() -> Iterator[Cut]:
    """Where a subject's name may stand, the likelier places first."""
    yield lambda path: _first_match(r"sub-[A-Za-z0-9]+", path)
    for depth in range(4):
        yield lambda path, depth=depth: _folder(path, depth)  # type: ignore[misc]
    yield lambda path: _name(path).partition("_")[0] if "_" in _name(path) else None
    yield lambda path: _first_match(r"[A-Za-z]*\d+", _name(path))
    yield lambda path: _name(path).partition(".")[0]


def _name(path: str) -> str:
    """The file's name; of a member of an archive the archive's."""
    return PurePosixPath(path.partition("!/")[0]).name


def _first_match(regex: str, text: str) -> str | None:
    found = re.search(regex, text)
    return found[0] if found else None


def _folder(path: str, depth: int) -> str | None:
    folders = PurePosixPath(path.partition("!/")[0]).parts[:-1]
    return folders[depth] if depth < len(folders) else None


def _group(paths: Sequence[str], cut: Cut) -> list[Template]:
    found: dict[str, dict[tuple[str, ...], str]] = defaultdict(dict)
    counts: dict[str, int] = defaultdict(int)
    for path in paths:
        subject = cut(path)
        pattern, key = path, tuple[str, ...]()
        if subject and SLICE not in subject and "{" not in path and "}" not in path:
            pattern, key = _replace(path, subject)
        found[pattern].setdefault(key, path)
        counts[pattern] += 1
    subjects = [key[0] for keys in found.values() for key in keys if key]
    sessions = [key[1] for keys in found.values() for key in keys if len(key) > 1]
    regexes = _regexes(subjects, sessions)
    return [
        Template(_with_regexes(pattern, regexes), frozenset(keys), next(iter(keys.values())), counts[pattern])
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


def _regexes(subjects: Sequence[str], sessions: Sequence[str]) -> dict[str, str]:
    """By entity what it looks like, where `[^/_]+` would be too wide or too narrow."""
    regexes: dict[str, str] = {}
    for entity, values in (("sub", subjects), ("ses", sessions)):
        prefix = f"{entity}-" if values and all(value.startswith(f"{entity}-") for value in values) else ""
        allowed = "[^/]+" if any("_" in value for value in values) else "[^/_]+"
        if prefix or allowed == "[^/]+":
            regexes[entity] = prefix + allowed
    return regexes


def _with_regexes(pattern: str, regexes: Mapping[str, str]) -> str:
    """Say at its first place what an entity looks like."""
    for entity, regex in regexes.items():
        pattern = pattern.replace(f"{{{entity}}}", f"{{{entity}:{regex}}}", 1)
    return pattern


def _cost(templates: Sequence[Template]) -> tuple[int, int, int]:
    """Fewer images without a meaning, fewer templates and more files per subject are better."""
    images = [template for template in templates if not template.is_table]
    unnamed = sum(len(template.keys) for template in images if template.meaning is None)
    without_subject = sum(len(template.keys) for template in images if not template.has_subject)
    return (without_subject, unnamed, len(images))


def _across_sites(templates: Sequence[Template]) -> list[Template]:
    """Templates that differ in one folder only, and share no subject, become one with `{site}` for the folder."""
    shapes: dict[tuple[str, str], list[Template]] = defaultdict(list)
    for template in templates:
        for before, _, after in _plain_folders(template.pattern):
            shapes[before, after].append(template)
    merged: dict[str, Template] = {}
    for (before, after), alike in shapes.items():
        if _are_sites(alike) and not any(template.pattern in merged for template in alike):
            folders = [template.pattern.removeprefix(before).removesuffix(after) for template in alike]
            site = "{site:[^/]+}" if any("_" in folder for folder in folders) else "{site}"
            keys = frozenset[tuple[str, ...]]().union(*(template.keys for template in alike))
            files = sum(template.files for template in alike)
            whole = replace(alike[0], pattern=f"{before}{site}{after}", keys=keys, files=files)
            merged.update(dict.fromkeys((template.pattern for template in alike), whole))
    return list(dict.fromkeys(merged.get(template.pattern, template) for template in templates))


def _plain_folders(pattern: str) -> Iterator[tuple[str, str, str]]:
    """Each folder without entity in a pattern that names the subject, with what is before and after it."""
    parts = re.split(r"/(?![^{}]*\})", pattern)
    for number, part in enumerate(parts[:-1]):
        if "{sub" in pattern and "{" not in part and not part.endswith("!"):
            yield "".join(f"{part}/" for part in parts[:number]), part, "/" + "/".join(parts[number + 1 :])


def _are_sites(alike: Sequence[Template]) -> bool:
    """Several of one meaning, each with subjects of its own."""
    subjects = [{key[0] for key in template.keys} for template in alike]
    disjoint = len(set[str]().union(*subjects)) == sum(map(len, subjects))
    return len(alike) > 1 and disjoint and len({template.meaning for template in alike}) == 1
