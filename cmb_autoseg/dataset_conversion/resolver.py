"""From a card to cases: which file is which sequence of whom.

One walk of the cohort's folder, one regular expression per pattern; no image is opened.
"""

import difflib
import fnmatch
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydantic import Field

from cmb_autoseg.dataset_conversion.card import LABEL_NAME, Card
from cmb_autoseg.dataset_conversion.card_file import OpenCard, parse_card
from cmb_autoseg.dataset_conversion.choice import NO_WISH, Chosen, FileMatch, Wanted, check_preferred, choose_images
from cmb_autoseg.dataset_conversion.columns import Participants, fill_columns
from cmb_autoseg.dataset_conversion.patience import Patience
from cmb_autoseg.dataset_conversion.patterns import Pattern, compile_pattern, pieces
from cmb_autoseg.errors import CardError, InputError
from cmb_autoseg.files import as_text
from cmb_autoseg.geometry import NIFTI_SUFFIXES
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Case, LabelSource, PrepSettings, Record

__all__ = ["Cohort", "Exclusion", "find_cases", "list_files", "read_card", "safe_name"]

FILES_COMPARED = 2000
"""At most so many files are compared with a pattern that matches nothing."""

PATTERN_SHOWN = 160
"""A longer pattern is shortened in messages."""

Entities = Mapping[str, str]


class Exclusion(Record):
    """A case that is left out, and why."""

    case: str
    cohort: str
    subject: str
    reason: str
    by_rule: bool = False
    """The card itself leaves it out (a required sequence is missing); not a fault of the files."""


class Cohort(Record):
    """The cases that a card describes."""

    name: str
    card: str
    """The card's file."""
    root: str
    cases: tuple[Case, ...]
    exclusions: tuple[Exclusion, ...] = ()
    file_counts: dict[str, int]
    """Files that each sequence (and the label) matched."""
    unmatched: tuple[str, ...] = ()
    """Scans, and files of points where points are the label, under the root that no pattern matched."""
    warnings: tuple[str, ...] = ()
    prep: PrepSettings = PrepSettings()
    aliases: dict[str, str] = Field(default_factory=dict)
    """With privacy.hash_ids: identifier to pseudonym. Never written."""
    card_digest: str

    def disguise(self, text: str) -> str:
        """Replace the identifiers in a text by their pseudonyms, where the card asks for it."""
        return _disguise(text, self.aliases)


def _disguise(text: str, aliases: Mapping[str, str]) -> str:
    for identifier, pseudonym in aliases.items():
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(identifier)}(?![A-Za-z0-9])", pseudonym, text)
    return text


def list_files(root: Path) -> list[str]:
    """All files under `root` as sorted relative paths with `/`; hidden ones are left out.

    Links are followed (as git-annex and DataLad need), but no folder is visited twice.
    """
    found: list[str] = []
    visited: set[str] = {os.path.realpath(root)}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                relative = folder + entry.name
                if not _is_folder(entry):
                    found += [relative] * _is_plain_file(entry)
                elif not entry.is_symlink() or _is_new(entry.path, visited):
                    waiting.append(relative + "/")
    return sorted(found)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _is_plain_file(entry: os.DirEntry[str]) -> bool:
    """Whether it can be read to its end: no pipe, socket or device. A link to nothing is told of when it is read."""
    try:
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        return entry.is_symlink()


def _is_new(path: str, visited: set[str]) -> bool:
    real = os.path.realpath(path)
    if real in visited:
        return False
    visited.add(real)
    return True


def safe_name(text: str) -> str:
    """A case name that is safe as a file name and that nnU-Net cannot take for a channel.

    Other characters than letters, digits, `_`, `-` and `.` become `-`; separators at the ends go;
    a trailing `_2019` becomes `-2019`, because `_0000` is how nnU-Net numbers channels.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text)
    plain = re.sub(r"_{2,}", "_", plain).strip("_-.")
    return re.sub(r"_(\d{4})$", r"-\1", plain)


def read_card(argument: str, salt: str | None = None, labels: bool = True, wanted: Wanted = NO_WISH) -> Cohort:
    """Read a card given as `CARD` or `CARD=ROOT` and find its cases.

    Args:
        argument: path of a card or name of a shipped one, perhaps with `=ROOT`.
        salt: of the pseudonyms that replace identifiers where the card says `privacy.hash_ids`;
            None leaves them as they are (a dry run, a prediction in place).
        labels: False where labels are of no use (prediction): none is needed, none is looked for.
        wanted: which of several files is taken, where the card leaves a choice.

    Raises:
        CardError: a mistake in the card, or it does not fit the files.
    """
    return find_cases(parse_card(argument), salt, labels, wanted)


@dataclass(frozen=True)
class _Sequence:
    """The files of one sequence, or of the label, by the case entities that their pattern has."""

    name: str
    pattern: Pattern
    key_entities: tuple[str, ...]
    files: dict[tuple[str, ...], list[FileMatch]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[FileMatch]:
        return (match for files in self.files.values() for match in files)

    def of(self, entities: Entities) -> list[FileMatch]:
        return self.files.get(tuple(entities[name] for name in self.key_entities), [])


def find_cases(opened: OpenCard, salt: str | None = None, labels: bool = True, wanted: Wanted = NO_WISH) -> Cohort:
    """Match the files under the card's root; see `read_card`."""

    def complain(what: str) -> CardError:
        where, _, matched = what.partition(": ")
        return opened.error(where, f"{matched} takes too long to match; write a simpler regex, without nested repeats")

    with Patience(complain) as patience:
        return _find_cases(opened, salt, labels, wanted, patience)


def _find_cases(opened: OpenCard, salt: str | None, labels: bool, wanted: Wanted, patience: Patience) -> Cohort:
    card = opened.card
    root = opened.root
    patterns = _patterns(opened, labels)
    template, case_entities = _case_template(opened, patterns)
    paths = list_files(root)
    sequences = {
        name: _Sequence(name, pattern, tuple(entity for entity in case_entities if entity in pattern.entities))
        for name, pattern in patterns.items()
    }
    unmatched = _assign(opened, paths, sequences, patience)
    warnings = list(_check_matches(opened, paths, sequences))
    check_preferred(
        wanted.prefer, (match.series for name in sequences if name != LABEL_NAME for match in sequences[name])
    )
    participants = Participants.read(opened, root)
    warnings += participants.warnings(card)
    namer = _Namer(opened, template, salt if card.privacy.hash_ids else None)

    cases: list[Case] = []
    exclusions: list[Exclusion] = []
    for entities in _case_keys(sequences.values(), case_entities):
        found = {name: sequence.of(entities) for name, sequence in sequences.items()}
        known = _all_entities(entities, found.values())
        name, subject, session = namer.name(known)
        reason, by_rule = _why_not(card, found, labels)
        chosen = Chosen({}, {})
        if not reason:
            try:
                chosen = choose_images(card, root, _images_found(found), wanted)
            except InputError as error:
                reason = str(error)
        if reason:
            exclusions.append(
                Exclusion(
                    case=name,
                    cohort=card.name,
                    subject=as_text(subject),
                    reason=_disguise(reason, namer.aliases),
                    by_rule=by_rule,
                )
            )
            continue
        meta = fill_columns(opened, name, known, participants, patience)
        split = meta.pop("split", "train")
        if split not in ("train", "test"):
            raise opened.error("meta.split", f"case {name}: found {split!r}, legal are train and test")
        cases.append(
            Case(
                name=name,
                cohort=card.name,
                subject=subject,
                session=session,
                images=chosen.images,
                label=_label(card, root, found),
                split="test" if split == "test" else "train",
                prep=card.prep,
                meta=meta,
                notes={role: _disguise(note, namer.aliases) for role, note in chosen.notes.items()},
            )
        )
    namer.check_groups()
    return Cohort(
        name=card.name,
        card=str(opened.path),
        root=str(root),
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        exclusions=tuple(sorted(exclusions, key=lambda exclusion: exclusion.case)),
        file_counts={name: sum(map(len, sequence.files.values())) for name, sequence in sequences.items()},
        unmatched=tuple(unmatched),
        warnings=tuple(warnings),
        prep=card.prep,
        aliases=namer.aliases,
        card_digest=opened.digest,
    )


def _patterns(opened: OpenCard, labels: bool) -> dict[str, Pattern]:
    """Compiled patterns by the field that holds them: `images.NAME` or `labels.cmb`."""
    texts = {f"images.{name}": image.path for name, image in opened.card.images.items() if image.path is not None}
    if labels and opened.card.label is not None:
        texts[LABEL_NAME] = opened.card.label.path
    compiled: dict[str, Pattern] = {}
    for name, text in texts.items():
        try:
            compiled[name] = compile_pattern(text)
        except ValueError as error:
            raise opened.error(f"{name}.path", str(error)) from None
        suffix = re.search(r"\.[A-Za-z0-9.]+$", text)
        nifti_needed = name != LABEL_NAME or (opened.card.label is not None and opened.card.label.kind == "mask")
        if nifti_needed and suffix and not suffix[0].endswith(NIFTI_SUFFIXES):
            raise opened.error(
                f"{name}.path", f"ends in {suffix[0]}; only .nii and .nii.gz are read, convert the files"
            )
    return compiled


def _case_template(opened: OpenCard, patterns: Mapping[str, Pattern]) -> tuple[str, tuple[str, ...]]:
    """The template of case names and the entities in it."""
    there = {entity for name, pattern in patterns.items() if name != LABEL_NAME for entity in pattern.entities}
    template = opened.card.case
    if template is None:
        if "sub" not in there:
            raise opened.error("images", "no path has {sub}; call the part that names the subject {sub}, or set case")
        template = "{sub}_{ses}" if "ses" in there else "{sub}"
    try:
        entities = tuple(dict.fromkeys(entity for _, entity in pieces(template) if entity is not None))
    except ValueError as error:
        raise opened.error("case", str(error)) from None
    listed = ", ".join(f"{{{entity}}}" for entity in sorted(there)) or "none"
    if not entities:
        raise opened.error("case", f"{template!r} names no entity; use those of the paths ({listed})")
    table = opened.card.meta.participants
    keys = (table.key,) if table else ()
    for owner, names in (("case", entities), ("group_by", opened.card.group_by), ("meta.participants.key", keys)):
        for entity in names:
            if entity not in there:
                raise opened.error(owner, f"{{{entity}}} is in no image path (there: {listed}); name one of these")
    if LABEL_NAME in patterns:
        lacking = [entity for entity in entities if entity not in patterns[LABEL_NAME].entities]
        if lacking:
            coarser = "_".join(f"{{{entity}}}" for entity in entities if entity not in lacking)
            what = " and ".join("session" if entity == "ses" else entity for entity in lacking)
            instead = f', or set case: "{coarser}" where everybody has one {what}' if coarser else ""
            raise opened.error(
                f"{LABEL_NAME}.path",
                f"lacks {{{lacking[0]}}}, so one label would serve several cases; add {{{lacking[0]}}}{instead}",
            )
    if not any(set(entities) <= set(pattern.entities) for name, pattern in patterns.items() if name != LABEL_NAME):
        raise opened.error("case", f"no image path holds all of {template!r}; add the missing entity to one")
    return template, entities


def _assign(
    opened: OpenCard, paths: Sequence[str], sequences: Mapping[str, _Sequence], patience: Patience
) -> list[str]:
    """Put every file where it belongs; returns the files of a kind in use that belong nowhere."""
    kinds = _kinds_of_files(opened.card)
    unmatched: list[str] = []
    for path in paths:
        owners: list[str] = []
        for name, sequence in sequences.items():
            patience.start(f"{name}.path: {sequence.pattern.text!r} on {path!r}")
            entities = sequence.pattern.match(path)
            if entities is not None:
                key = tuple(entities[entity] for entity in sequence.key_entities)
                sequence.files.setdefault(key, []).append(FileMatch(path, entities))
                owners.append(name)
        if len(owners) > 1:
            raise opened.error(owners[1], f"matches {path}, which {owners[0]} matches too; make the patterns distinct")
        if not owners and path.lower().endswith(kinds) and path != _participants_path(opened.card):
            unmatched.append(path)
    patience.start("")
    return [path for path in unmatched if not any(fnmatch.fnmatchcase(path, glob) for glob in opened.card.ignore)]


def _participants_path(card: Card) -> str | None:
    return card.meta.participants.path if card.meta.participants else None


def _kinds_of_files(card: Card) -> tuple[str, ...]:
    """Suffixes of scans, and of the files in which points are marked; small letters."""
    label = card.label
    if label is None or label.kind != "points":
        return NIFTI_SUFFIXES
    return (*NIFTI_SUFFIXES, *(PurePosixPath(label.path).suffix.lower() or ".tsv",))


def _check_matches(opened: OpenCard, paths: Sequence[str], sequences: Mapping[str, _Sequence]) -> Iterator[str]:
    """Refuse a needed pattern that matches nothing; warn of an optional one."""
    card = opened.card
    if not paths:
        raise opened.error("root", f"{opened.root} holds no files; say where they are with CARD=ROOT on the command")
    nothing = {name for name, sequence in sequences.items() if not sequence.files}
    if {name for name in sequences if name != LABEL_NAME} <= nothing:
        name = next(iter(sequences))
        raise opened.error(f"{name}.path", _matches_nothing(opened, sequences[name].pattern, paths))
    for name in sorted(nothing):
        optional = (
            card.label is not None and card.label.optional
            if name == LABEL_NAME
            else card.images[name.removeprefix("images.")].optional
        )
        problem = _matches_nothing(opened, sequences[name].pattern, paths)
        if not optional:
            raise opened.error(f"{name}.path", problem)
        yield f"{card.name}: {name}.path (optional): {problem}"


def _matches_nothing(opened: OpenCard, pattern: Pattern, paths: Sequence[str]) -> str:
    nearest = _nearest(pattern, paths)
    text = pattern.text if len(pattern.text) <= PATTERN_SHOWN else f"{pattern.text[:40]}...{pattern.text[-40:]}"
    return f"'{text}' matches nothing under {opened.root}; the nearest file is {nearest}"


def _nearest(pattern: Pattern, paths: Sequence[str]) -> str:
    """The file that looks most like the pattern with its entities cut out."""
    candidates = [path for path in paths if path.lower().endswith(NIFTI_SUFFIXES)] or list(paths)
    step = max(1, len(candidates) // FILES_COMPARED)
    literal = "".join(
        text if entity is None else text + entity.partition(":")[0] for text, entity in pieces(pattern.text)
    )
    return max(
        candidates[::step],
        key=lambda path: difflib.SequenceMatcher(None, literal.lower(), path.lower(), autojunk=False).ratio(),
    )


def _case_keys(sequences: Iterable[_Sequence], case_entities: tuple[str, ...]) -> list[dict[str, str]]:
    """The distinct values of the case entities, sorted, from the patterns that hold all of them."""
    keys = {key for sequence in sequences if sequence.key_entities == case_entities for key in sequence.files}
    return [dict(zip(case_entities, key, strict=True)) for key in sorted(keys)]


def _all_entities(entities: Entities, found: Iterable[Sequence[FileMatch]]) -> dict[str, str]:
    """The case entities and what else the paths of the case say; the first sequence wins."""
    known: dict[str, str] = {}
    for matches in found:
        for match in matches[:1]:
            known = {**match.entities, **known}
    return {**known, **entities}


def _images_found(found: Mapping[str, Sequence[FileMatch]]) -> dict[str, Sequence[FileMatch]]:
    return {name.removeprefix("images."): files for name, files in found.items() if name != LABEL_NAME}


def _why_not(card: Card, found: Mapping[str, Sequence[FileMatch]], labels: bool) -> tuple[str, bool]:
    """Why the case cannot be used ('' where it can), and whether that is a rule of the card."""
    odd = next((match.path for files in found.values() for match in files if as_text(match.path) != match.path), None)
    if odd is not None:
        return f"{as_text(odd)}: its name holds bytes that are no UTF-8 text; rename it", False
    if len(found.get(LABEL_NAME, ())) > 1:
        listed = " and ".join(match.path for match in found[LABEL_NAME])
        return f"{len(found[LABEL_NAME])} files for {LABEL_NAME}: {listed}; make the pattern match one of them", False
    missing = [name for name, image in card.images.items() if not image.optional and not found[f"images.{name}"]]
    if missing:
        return f"no file for images.{missing[0]}, which the card requires; set optional: true to go without", True
    if not any(found[f"images.{name}"] for name, image in card.images.items() if image.role in SUSCEPTIBILITY_ROLES):
        return f"no sequence in which microbleeds are visible ({', '.join(SUSCEPTIBILITY_ROLES)})", True
    if labels and card.label is not None and not card.label.optional and not found[LABEL_NAME]:
        return f"no file for {LABEL_NAME}, which the card requires; set optional: true to use the case unlabelled", True
    return "", False


def _label(card: Card, root: Path, found: Mapping[str, Sequence[FileMatch]]) -> LabelSource | None:
    matches = found.get(LABEL_NAME)
    if card.label is None or not matches:
        return None
    settings = card.label.model_dump(include=set(LabelSource.model_fields) - {"path", "raters", "rows", "grid"})
    if card.label.kind == "mask" and not card.label.values:
        settings["values"] = {"cmb": 1}
    return LabelSource(**settings, path=str(root / matches[0].path))


class _Namer:
    """Names cases and subjects, with pseudonyms where the card asks for them."""

    def __init__(self, opened: OpenCard, template: str, salt: str | None) -> None:
        self.opened = opened
        self.template = template
        self.salt = salt
        self.aliases: dict[str, str] = {}
        self._taken: dict[str, Entities] = {}
        self._groups: dict[str, str] = {}

    def name(self, entities: Entities) -> tuple[str, str, str | None]:
        """Case, subject and session; a session that the path leaves empty is None.

        Raises:
            CardError: two cases get one name, or one person two groups.
        """
        shown = dict(entities)
        if self.salt is not None:
            for entity in {"sub", *self.opened.card.group_by} & set(entities):
                shown[entity] = self._alias(entities[entity])
        name = safe_name("".join(text + shown.get(entity or "", "") for text, entity in pieces(self.template)))
        if not name or name in self._taken:
            other = f", as {dict(self._taken[name])} does" if name else ""
            raise self.opened.error(
                "case", f"{self.template!r} gives {dict(entities)} the name {name!r}{other}; add an entity that differs"
            )
        self._taken[name] = entities
        subject = "_".join(shown[entity] for entity in self.opened.card.group_by)
        person = entities.get("sub")
        if person is not None and self._groups.setdefault(person, subject) != subject:
            raise self.opened.error(
                "group_by",
                f"sub {person} falls into {self._groups[person]} and {subject}, so it could stand on both sides "
                "of a split; group by sub or by something coarser",
            )
        return name, subject, shown.get("ses") or None

    def check_groups(self) -> None:
        """Refuse groups without a name, which would lump strangers together."""
        if "" in self._groups.values():
            raise self.opened.error("group_by", "gives some cases an empty group; use an entity that every path has")

    def _alias(self, identifier: str) -> str:
        digest = hashlib.sha256(f"{self.salt}:{identifier}".encode()).hexdigest()
        return self.aliases.setdefault(identifier, f"anon{digest[:12]}")
