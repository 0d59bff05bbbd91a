"""A card for folders of DICOM: sequences by the series' descriptions, people by PatientID.

Of who was scanned only PatientID and StudyDate are read, to see who has several visits and whose a mask is;
neither is written.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cmb_autoseg.dataset_conversion.card import LABEL_NAME
from cmb_autoseg.dataset_conversion.draft.meaning import quoted, role_of_description
from cmb_autoseg.dataset_conversion.draft.templates import Template, find_templates
from cmb_autoseg.dataset_conversion.sorting.naming import safe_name
from cmb_autoseg.errors import InputError
from cmb_autoseg.readers.dicom_frames import Frame, read_frames, tag_number
from cmb_autoseg.readers.dicom_kinds import oddity_of
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Role

__all__ = ["draft_dicom"]

YAML_WORDS = frozenset(["yes", "true", "false", "null", "off"])
"""Not texts but values where they stand without quotes."""
HEADERS_READ = 3000
HEADERS_A_FOLDER = 8
PATIENT, DATE = tag_number("PatientID") or 0, tag_number("StudyDate") or 0


@dataclass
class _Kind:
    """Series of one description and part."""

    description: str
    part: str | None
    odd: str = ""
    series: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Series to person and visit."""
    echo_times_ms: set[float] = field(default_factory=set)

    @property
    def role(self) -> Role | None:
        return None if self.odd else role_of_description(self.description, self.part)

    @property
    def is_repeated(self) -> bool:
        """Whether some visit has several such series."""
        return len(set(self.series.values())) < len(self.series)

    @property
    def shown(self) -> str:
        return ", ".join(filter(None, [self.description or "without description", self.part or "", self.odd]))


def draft_dicom(folder: Path, files: Sequence[str], volumes: Sequence[str]) -> str:
    """The card's YAML.

    Args:
        folder: the cohort's.
        files: paths of DICOM files.
        volumes: paths of other scans, among which masks may be.

    Raises:
        InputError: no header of them can be read.
    """
    kinds = _kinds(folder, files)
    if not kinds:
        raise InputError(f"{folder}: DICOM files, but none of their headers can be read; copy them again, whole")
    people = {person for kind in kinds for person, _ in kind.series.values()}
    visits = {visit for kind in kinds for visit in kind.series.values()}
    taken, others = _sort_out(kinds)
    label = _label(volumes, people) if len(visits) == len(people) else None
    lines = [
        "# Drafted from the descriptions of the series: check every line, then run cmb_cohort check on this card.",
        "schema: 1",
        f"name: {safe_name(folder.resolve().name) or 'my_cohort'}",
        f"root: {quoted(str(folder.resolve()))}",
        "source: dicom",
        *_entity_lines(visits),
        "images:",
        *_image_lines(taken, visits),
        *_label_lines(label, people),
        "privacy: {hash_ids: true}  # people get pseudonyms",
        *(f"# not used: {kind.shown}: {len(kind.series)} series" for kind in others),
    ]
    return "\n".join(lines) + "\n"


def _entity_lines(visits: set[tuple[str, str]]) -> Iterator[str]:
    """Tags that name people and visits; anonymized exports often lack one or the other."""
    people = {person for person, _ in visits}
    dates = {date for _, date in visits}
    ses = ", ses: StudyDate" if "" not in dates else ""
    if "" in people:
        yield f"entities: {{sub: StudyInstanceUID{ses}}}  # GUESS: no PatientID; what else tells people apart?"
        return
    yield f"entities: {{sub: PatientID{ses}}}"
    if ses:
        yield f'case: "{"{sub}" if len(visits) == len(people) else "{sub}_{ses}"}"'


def _kinds(folder: Path, files: Sequence[str]) -> list[_Kind]:
    kinds: dict[tuple[str, str | None, str], _Kind] = {}
    for path in _sample(files):
        try:
            frame = read_frames(folder / path, (PATIENT, DATE))[0]
        except (InputError, IndexError):
            continue
        odd = oddity_of(frame)
        key = (frame.description, frame.part, odd.kind if odd else "")
        kind = kinds.setdefault(key, _Kind(*key))
        kind.series[frame.series_uid] = _visit(frame)
        if frame.echo_time_ms is not None:
            kind.echo_times_ms.add(frame.echo_time_ms)
    return [kinds[key] for key in sorted(kinds, key=lambda key: (key[0], key[1] or "", key[2]))]


def _visit(frame: Frame) -> tuple[str, str]:
    return frame.tags.get(PATIENT, ""), frame.tags.get(DATE, "")


def _sample(files: Sequence[str]) -> Iterator[str]:
    """Some files of each folder, evenly; of a folder with everything in it many."""
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for path in files:
        folders[path.rpartition("/")[0]].append(path)
    each = max(HEADERS_A_FOLDER, HEADERS_READ // len(folders)) if len(folders) < HEADERS_READ else 1
    for inside in folders.values():
        yield from inside[:: max(1, len(inside) // each)]


def _sort_out(kinds: Sequence[_Kind]) -> tuple[list[tuple[Role, _Kind, str]], list[_Kind]]:
    """Roles with their kinds and why they are guesses, most series first; and the kinds of no use."""
    ranked = sorted(kinds, key=lambda kind: -len(kind.series))
    taken = [(kind.role, kind, "") for kind in ranked if kind.role is not None]
    if not any(role in SUSCEPTIBILITY_ROLES for role, *_ in taken):
        plain = [kind for kind in ranked if kind.role is None and not kind.odd and kind.part in (None, "magnitude")]
        taken += [(Role.SWI, kind, "nothing in the description says what it is") for kind in plain[:1]]
    used = {id(kind) for _, kind, _ in taken}
    order = list(Role)
    taken.sort(key=lambda item: order.index(item[0]))
    return taken, [kind for kind in kinds if id(kind) not in used]


def _image_lines(taken: Sequence[tuple[Role, _Kind, str]], visits: set[tuple[str, str]]) -> Iterator[str]:
    names: dict[str, int] = {}
    for role, kind, guess in taken:
        stem = re.sub(r"\W+", "_", kind.description).strip("_") or role.value
        names[stem] = names.get(stem, 0) + 1
        name = stem if names[stem] == 1 else f"{stem}_{names[stem]}"
        optional = ", optional: true" if set(kind.series.values()) != visits else ""
        # Echoes are told apart by the rule of `first`; of repeated series the youngest is the one that succeeded.
        several = len(kind.echo_times_ms) > 1
        pick = ", pick: first" if several else ", pick: latest" if kind.is_repeated else ""
        rule = f"SeriesDescription: {quoted(f'^{_plain_escape(kind.description)}$')}"
        if not kind.description:
            rule = 'Modality: "MR"'
            guess = "the series have no description; tell them apart by other tags"
        hint = f"  # GUESS: {guess}" if guess else ""
        key = name if re.fullmatch(r"[A-Za-z]\w{2,}", name) and name.lower() not in YAML_WORDS else quoted(name)
        yield f"  {key}: {{role: {role.value}{optional}{pick}, dicom: {{{rule}}}}}{hint}"


def _plain_escape(text: str) -> str:
    """Only what means something in a regular expression is escaped, so that the card stays readable."""
    return re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", text)


def _label(volumes: Sequence[str], people: set[str]) -> Template | None:
    """Masks with a PatientID in their names."""
    longest_first = sorted(filter(None, people), key=len, reverse=True)

    def person(path: str) -> str | None:
        return next((name for name in longest_first if name in path), None)

    templates = find_templates(volumes, [person]) if volumes else []
    labels = [template for template in templates if template.has_subject and template.meaning == LABEL_NAME]
    return max(labels, key=lambda template: len(template.keys), default=None)


def _label_lines(label: Template | None, people: set[str]) -> Iterator[str]:
    if label is None:
        yield "labels: {}  # no masks recognized; if there are some, add labels.cmb (docs/reference/cards.md)"
        return
    optional = "" if {key[0] for key in label.keys} >= set(people) else ", optional: true"
    yield "labels:"
    yield f"  cmb: {{kind: mask, values: {{cmb: 1}}{optional}, path: {quoted(label.pattern)}}}"
