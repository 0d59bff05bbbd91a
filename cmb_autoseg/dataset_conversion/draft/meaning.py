"""What words in the names of files and series mean."""

import json
import re
from collections.abc import Mapping, Sequence

from cmb_autoseg.dataset_conversion.card import LABEL_NAME
from cmb_autoseg.records import Role

__all__ = ["LABEL_WORDS", "meaning_of", "quoted", "role_of_description"]

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
DESCRIPTIONS: Sequence[tuple[str, Role]] = (
    (r"swi|swan|susc|venobold", Role.SWI),
    (r"qsm", Role.QSM),
    (r"t2[ _-]*(?:\*|star|s(?![a-z]))|(?<![a-z])m?e?gre(?![a-z])|hemo|(?<![a-z])fl[23]d", Role.GRE_MAG),
    (r"flair|dark[ _-]*fluid", Role.FLAIR),
    (r"mp[ _-]?rage|spgr|bravo|(?<![a-z])tfe|(?<![a-z])t1", Role.T1),
    (r"(?<![a-z])t2", Role.T2),
)
"""In series descriptions; the first that is found counts."""


def meaning_of(pattern: str, is_table: bool) -> Role | str | None:
    """A role, `labels.cmb`, or None; the file's name counts before its folders, its last word first."""
    plain = re.sub(r"\{[^{}]*\}", "", pattern)
    for part in reversed(plain.split("/")):
        words = re.findall(r"[a-z0-9]+", part.lower())
        if FOREIGN_WORDS & set(words):
            return None
        if {"phase", "pha", "ph"} & set(words):
            return Role.GRE_PHASE
        for word in reversed(words):
            if word in LABEL_WORDS:
                return LABEL_NAME
            if word in ROLE_WORDS and not is_table:
                return ROLE_WORDS[word]
    return None


def role_of_description(description: str, part: str | None) -> Role | None:
    """What a DICOM series is by its description; None where no word says it."""
    role = next((role for words, role in DESCRIPTIONS if re.search(words, description, re.IGNORECASE)), None)
    if part == "phase" and role in (Role.SWI, Role.GRE_MAG):
        return Role.GRE_PHASE
    return role if part in (None, "magnitude") or role is Role.QSM else None


def quoted(text: str) -> str:
    """A text as YAML has it in double quotes."""
    return json.dumps(text, ensure_ascii=False)
