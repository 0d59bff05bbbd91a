"""Reporting checklists, filled with what the records know and marked where a person has to write."""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import yaml

from cmb_autoseg.records import Record

__all__ = ["CHECKLISTS", "FACTS", "MARKER", "Checklist", "ChecklistLine", "as_markdown", "fill_checklists"]

CHECKLISTS = ("tripod_ai", "mi_claim")
MARKER = "to be written by a person"
FACTS = {
    "title": "of the report",
    "predictions": "where they come from",
    "reference": "where it comes from, and its kind",
    "protocol": "name of the rule of matching",
    "definition": "that rule in words",
    "lesion_rule": "what counts as a lesion",
    "data": "the kind of data, such as simulated",
    "n_cases": "scored cases",
    "n_subjects": "people they are of",
    "n_lesions": "reference lesions",
    "n_negative": "cases without reference lesion",
    "flow": "cases found, paired, failed, left out",
    "failures": "how many cases could not be scored, and what was done about them",
    "results": "main figures with intervals",
    "calibration": "its figures",
    "threshold": "which, and from what it was chosen",
    "statistics": "draws, seed, grouping",
    "subgroups": "columns that were looked at",
    "subgroup_results": "figures of the groups, and where to find them",
    "systems": "compared on the same cases",
    "versions": "of the software",
    "power": "of a comparison, with its assumptions",
    "dataset": "that the model was trained on",
    "n_training_cases": "of all folds",
    "folds": "how many, grouped and stratified by what",
    "split": "what keeps subjects of training out of the evaluation",
    "recipe": "name of the settings of training",
    "model": "its kind, folds and digest",
    "intended_use": "of the model, in its own words",
    "encoder": "pretrained weights and what they have seen",
    "sequences": "roles of the images that the model takes",
    "preparation": "steps before the network",
    "seeds": "of training",
    "seconds": "that a prediction takes",
    "explanation": "what Grad-CAM maps there are",
    "licence": "of the software",
}
"""What a checklist may be filled from: key, and what its value says. A key that is not known is left out."""


class ChecklistItem(Record):
    """One item as it stands in a checklist's file."""

    number: str
    part: str
    name: str
    known: tuple[str, ...] = ()
    """Sentences with `{fact}` for each of `FACTS` that they take; each is used where all of its facts are known."""
    person: str
    """What a person writes."""
    always: bool = False
    """Whether a person has to write even where the records fill the item."""


class ChecklistFile(Record):
    """A checklist's file."""

    name: str
    source: str
    items: tuple[ChecklistItem, ...]


@dataclass(frozen=True)
class ChecklistLine:
    """One item, filled."""

    number: str
    part: str
    name: str
    known: str
    """From the records; empty where they know nothing."""
    person: str
    """What is left to a person; empty where nothing is."""


@dataclass(frozen=True)
class Checklist:
    """A filled checklist."""

    key: str
    name: str
    source: str
    lines: tuple[ChecklistLine, ...]
    marker: str = MARKER

    @property
    def n_filled(self) -> int:
        """Items of which the records know something."""
        return sum(bool(line.known) for line in self.lines)

    @property
    def told(self) -> tuple[str, str]:
        """How far it is filled: what stands before and after the marker."""
        n_open = sum(bool(line.person) for line in self.lines)
        n_both = sum(bool(line.known) and bool(line.person) for line in self.lines)
        before = f"{self.n_filled} of {len(self.lines)} items have text from the records. {n_open} are marked"
        n_rest = len(self.lines) - n_open
        return before, f"{n_both} of these beside such text; {n_rest} need{'s' if n_rest == 1 else ''} no person."


def fill_checklists(facts: Mapping[str, str]) -> tuple[Checklist, ...]:
    """TRIPOD+AI and MI-CLAIM, filled.

    Args:
        facts: by a key of `FACTS`; empty ones count as unknown.

    Raises:
        KeyError: a fact that is none of `FACTS`.
    """
    if unknown := facts.keys() - FACTS.keys():
        raise KeyError(f"no fact of a checklist: {', '.join(sorted(unknown))}")
    known = {key: value for key, value in facts.items() if value}
    return tuple(_fill(key, known) for key in CHECKLISTS)


def _fill(key: str, facts: Mapping[str, str]) -> Checklist:
    text = (files("cmb_autoseg.evaluation.reporting") / "checklists" / f"{key}.yaml").read_text(encoding="utf-8")
    content = ChecklistFile.model_validate(yaml.safe_load(text))
    return Checklist(key, content.name, content.source, tuple(_line(item, facts) for item in content.items))


def _line(item: ChecklistItem, facts: Mapping[str, str]) -> ChecklistLine:
    sentences = [sentence.format_map(facts) for sentence in item.known if _facts_of(sentence) <= facts.keys()]
    complete = bool(sentences) and len(sentences) == len(item.known)
    person = "" if complete and not item.always else item.person
    return ChecklistLine(item.number, item.part, item.name, " ".join(sentences), person)


def _facts_of(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def as_markdown(checklists: tuple[Checklist, ...]) -> str:
    """All of them as one text, for `checklists.md`."""
    parts = []
    for checklist in checklists:
        rows = [
            f"| {line.number} | {line.part} | {_cell(line.name)} | {_cell(_filled(line))} |" for line in checklist.lines
        ]
        head = [f"# {checklist.name}", "", checklist.source, ""]
        before, after = checklist.told
        counted = f"{before} **{checklist.marker}**, {after}"
        table = ["| item | part | asks for | from the records |", "| --- | --- | --- | --- |", *rows]
        parts.append("\n".join([*head, counted, "", *table]))
    return "\n\n".join(parts) + "\n"


def _filled(line: ChecklistLine) -> str:
    return " ".join(filter(None, (line.known, f"**{MARKER}**: {line.person}" if line.person else "")))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
