"""Folders in the layout of a card that comes with the tool need no card of their own but its name."""

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

from cmb_autoseg.dataset_conversion.card import LABEL_NAME, Card
from cmb_autoseg.dataset_conversion.card_file import parse_card
from cmb_autoseg.dataset_conversion.draft.meaning import quoted
from cmb_autoseg.dataset_conversion.draft.templates import find_templates
from cmb_autoseg.dataset_conversion.sorting.card_paths import card_patterns
from cmb_autoseg.dataset_conversion.sorting.naming import safe_name
from cmb_autoseg.dataset_conversion.sorting.patterns import Pattern
from cmb_autoseg.geometry import NIFTI_SUFFIXES
from cmb_autoseg.readers.archive import is_archive
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES

__all__ = ["draft_of_shipped"]

RECOGNIZED = ("bids", "valdo", "uk_biobank", "dou2016", "momeni_csiro")
"""Cards whose names of files are found nowhere else."""
BIDS_MARK = "dataset_description.json"
FILES_COMPARED = 5000


def draft_of_shipped(folder: Path, paths: Sequence[str]) -> str | None:
    """A card that extends a shipped one; None where the folder is in no layout that is known."""
    scans = [path for path in paths if path.lower().endswith(NIFTI_SUFFIXES) or is_archive(path)]
    compared = scans[:: max(1, len(scans) // FILES_COMPARED)]
    for name in RECOGNIZED:
        opened = parse_card(name)
        patterns = card_patterns(opened, labels=True)
        is_bids = name == "bids" and BIDS_MARK in paths
        if _fits(opened.card, patterns, compared, paths, others_allowed=is_bids):
            label = _own_label(patterns[LABEL_NAME], compared) if name == "bids" else ""
            return _yaml(folder, name, label, "participants.tsv" in paths)
    return None


def _fits(
    card: Card, patterns: Mapping[str, Pattern], scans: Sequence[str], paths: Sequence[str], others_allowed: bool
) -> bool:
    """Whether the card's needed patterns are met, and nothing is left over unless that is allowed."""
    seen: set[str] = set()
    for path in scans:
        owners = {name for name, pattern in patterns.items() if _matches(pattern, path)}
        if not owners and not others_allowed and not any(fnmatch.fnmatchcase(path, glob) for glob in card.ignore):
            return False
        seen |= owners
    needed = {f"images.{name}" for name, image in card.images.items() if not image.optional}
    visible = {f"images.{name}" for name, image in card.images.items() if image.role in SUSCEPTIBILITY_ROLES}
    if card.label is not None and not card.label.optional and not seen >= {LABEL_NAME}:
        seen |= {LABEL_NAME} if any(_matches(patterns[LABEL_NAME], path) for path in paths) else set()
        needed |= {LABEL_NAME}
    return needed <= seen and bool(visible & seen)


def _matches(pattern: Pattern, path: str) -> bool:
    """Archives are not opened: their names are enough."""
    return (pattern.archive or pattern).match(path) is not None


def _own_label(known: Pattern, scans: Sequence[str]) -> str:
    """Masks that the card does not look for."""
    others = [path for path in scans if not _matches(known, path)]
    if len(others) < len(scans) or not others:
        return ""
    labels = [template for template in find_templates(others) if template.meaning == LABEL_NAME]
    usable = [template for template in labels if template.has_subject]
    if not usable:
        return ""
    label = max(usable, key=lambda template: len(template.keys))
    keys = f"kind: mask, optional: true, path: {quoted(label.pattern)}, values: {{cmb: 1}}"
    case = "" if label.has_session else 'case: "{sub}"  # the masks name no session\n'
    return f"{case}labels:\n  cmb: {{{keys}}}  # GUESS: found by its name\n"


def _yaml(folder: Path, name: str, label: str, has_participants: bool) -> str:
    lines = [
        f"# The files are named as the card {name} has it, which comes with the tool: its rules hold,",
        "# and here stands only what differs. Check it, then run cmb_cohort check on this card.",
        "schema: 1",
        f"name: {safe_name(folder.resolve().name) or 'my_cohort'}",
        f"extends: {name}",
        f"root: {quoted(str(folder.resolve()))}",
        *label.splitlines(),
        *(["meta:", "  participants: {path: participants.tsv, key: sub}"] if has_participants else []),
    ]
    return "\n".join(lines) + "\n"
