"""Cohorts of DICOM files: one walk over all headers, and which series is which sequence of whom.

Folders and file names mean nothing here; the tags that the card names do. No other tag that tells who was
scanned is read, and none is ever shown but the entities that the card asks for.
"""

import fnmatch
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from cmb_autoseg.dataset_conversion.card import ImageCard
from cmb_autoseg.dataset_conversion.card_file import OpenCard
from cmb_autoseg.dataset_conversion.sorting.matching import FileMatch, SeriesFound
from cmb_autoseg.dataset_conversion.sorting.patience import Patience
from cmb_autoseg.dataset_conversion.sorting.patterns import pieces
from cmb_autoseg.dataset_conversion.sorting.tag_rules import CardTags, entity_of, holds
from cmb_autoseg.dataset_conversion.sorting.walk import list_files
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import as_text
from cmb_autoseg.parallel import choose_workers, run_jobs
from cmb_autoseg.progress import Meter
from cmb_autoseg.readers.dicom import source_of
from cmb_autoseg.readers.dicom_frames import Frame, read_frames
from cmb_autoseg.readers.dicom_kinds import oddity_of
from cmb_autoseg.readers.dicom_stacks import Stack, find_stacks
from cmb_autoseg.records import Role

__all__ = ["find_series"]

FILES_SEARCHED = 50
"""So many headers are read whole to find the keyword that a mistyped one may mean."""
NO_DICOM = (".nii", ".nii.gz", ".tsv", ".csv", ".json", ".txt", ".xlsx", ".zip", ".gz", ".tar", ".yaml")
"""Endings of files that are not opened to see whether they are DICOM."""
FILES_A_BATCH = 200
SHARED_FIELDS = (
    *("sop_class", "study_uid", "series_uid", "modality", "description", "protocol", "image_type", "orientation"),
    *("spacing_mm", "acquisition", "scanning_sequence", "acquired", "part", "echo_time_ms", "order"),
)
"""What many frames have alike, of one series or of several."""
FILES_A_WORKER = 4000
"""Fewer headers for a process do not repay its start."""
BYTES_A_WORKER = 300 << 20
WORDS = ("AS", "CS", "DA", "LO", "PN", "SH")
BURNED_IN = "its pictures may hold burned-in text (the header says so, or they are captures of a screen); look at them"


@dataclass(frozen=True)
class _Candidate:
    """A stack that some sequence of the card asks for."""

    stack: Stack
    entities: Mapping[str, str]
    path: str
    shared_by: Sequence[str] = ()
    """Tags that have several values in its series, and by which it was told from other people's or visits' files."""


def find_series(opened: OpenCard, root: Path, patience: Patience) -> SeriesFound:
    """Find the series of each sequence by the tags in their headers.

    Args:
        opened: a card with `source: dicom`.
        root: the cohort's folder.
        patience: limits the card's regular expressions.

    Raises:
        CardError: a tag that DICOM does not know, or that no file has.
    """
    tags = CardTags.of(opened)
    frames, warnings = _read(opened, root, tuple(sorted(set(tags.numbers.values()))))
    finder = _Finder(opened, root, tags, patience)
    tags.check_present(opened, finder.naming, {tag for frame in frames for tag in frame.tags}, _keywords(frames))
    stacks = find_stacks(frames, tuple(finder.apart.values()))
    shared = _shared_series(stacks, finder.apart)
    candidates: dict[str, list[_Candidate]] = {name: [] for name in opened.card.images}
    unmatched: list[Stack] = []
    nameless: Counter[str] = Counter()
    for stack in stacks:
        wanted = [name for name in opened.card.images if finder.asks(name, stack)]
        if not wanted:
            unmatched.append(stack)
            continue
        entities = finder.entities(stack)
        lacking = [entity for entity in finder.naming if not entities.get(entity)]
        if lacking:
            nameless[lacking[0]] += 1
            continue
        for name in wanted:
            candidates[name].append(
                _Candidate(stack, entities, finder.path(stack), shared.get(stack.first.series_uid, ()))
            )
    warnings += [
        f"{opened.card.name}: {count} series left out: entities.{entity} finds nothing in their "
        f"{opened.card.entities[entity].tag}"
        for entity, count in sorted(nameless.items())
    ]
    return SeriesFound(
        matches={
            f"images.{name}": [match for case in _by_case(candidates[name]) for match in _matches(image, root, case)]
            for name, image in opened.card.images.items()
        },
        unmatched=tuple(_listed(finder, unmatched, opened.card.ignore)),
        warnings=tuple(warnings),
    )


def _read(opened: OpenCard, root: Path, wanted: tuple[int, ...]) -> tuple[list[Frame], list[str]]:
    """The frames of all DICOM files, and what is to be said of files that cannot be read."""
    files = [root / name for name in list_files(root) if not name.lower().endswith(NO_DICOM)]
    batches = [_Batch(tuple(files[n : n + FILES_A_BATCH]), wanted) for n in range(0, len(files), FILES_A_BATCH)]
    workers = choose_workers(len(files), BYTES_A_WORKER, FILES_A_WORKER)
    frames: list[Frame] = []
    damaged: list[str] = []
    known: dict[object, object] = {}
    with Meter("Reading DICOM headers", len(files)) as meter:
        for batch, (found, faults) in zip(batches, run_jobs(_frames, batches, workers, _lost), strict=True):
            frames += [_slim(frame, known) for frame in found]
            damaged += faults
            for _ in batch.files:
                meter.advance()
    if not frames and not damaged:
        raise opened.error("root", f"{opened.root} holds no DICOM files; say where they are with CARD=ROOT")
    where = f" (first {damaged[0]})" if damaged and not opened.card.privacy.hash_ids else ""
    return frames, [
        f"{opened.card.name}: {len(damaged)} DICOM files that cannot be read left out{where}"
    ] if damaged else []


@dataclass(frozen=True)
class _Batch:
    """Files whose headers one process reads at a time, and the tags that are asked for."""

    files: tuple[Path, ...]
    wanted: tuple[int, ...]


def _frames(batch: _Batch) -> tuple[list[Frame], list[str]]:
    frames: list[Frame] = []
    damaged: list[str] = []
    for path in batch.files:
        try:
            found = read_frames(path, batch.wanted)
            if found and as_text(str(path)) != str(path):
                raise InputError(f"{as_text(str(path))}: its name holds bytes that are no UTF-8 text; rename it")
            frames += found
        except InputError as error:
            damaged.append(str(error))
    return frames, damaged


def _slim(frame: Frame, known: dict[object, object]) -> Frame:
    """The frame with every value that an earlier one had, too, kept in memory once."""
    for name in SHARED_FIELDS:
        value = getattr(frame, name)
        setattr(frame, name, known.setdefault(value, value))
    tags = tuple(frame.tags.items())
    frame.tags = cast("Mapping[int, str]", known.setdefault((Frame, tags), frame.tags))
    return frame


def _lost(batch: _Batch) -> tuple[list[Frame], list[str]]:
    return [], [f"{path}: the process that read it was killed" for path in batch.files]


def _keywords(frames: Sequence[Frame]) -> Iterator[str]:
    """Keywords of all tags of a few files, one of each series."""
    from pydicom import dcmread

    files = {frame.series_uid: frame.file for frame in frames}
    for file in list(files.values())[:FILES_SEARCHED]:
        header = dcmread(file, stop_before_pixels=True)
        yield from (element.keyword for element in header.iterall() if element.keyword and not element.is_empty)


@dataclass(frozen=True)
class _Finder:
    """What is the same for all stacks of a cohort."""

    opened: OpenCard
    root: Path
    tags: CardTags
    patience: Patience

    @property
    def naming(self) -> tuple[str, ...]:
        """Entities without which a case has no name."""
        card = self.opened.card
        template = card.case or ("{sub}_{ses}" if "ses" in card.entities else "{sub}")
        of_template = (entity.partition(":")[0] for _, entity in pieces(template) if entity is not None)
        return tuple(name for name in dict.fromkeys((*of_template, *card.group_by)) if name in card.entities)

    @cached_property
    def apart(self) -> Mapping[str, int]:
        """Tags that say whose a file is and of which visit, with their numbers.

        Times and numbers may differ from slice to slice of one scan, so that they count only where they name a case.
        """
        numbers = self.tags.numbers
        return {
            rule.tag: numbers[rule.tag]
            for name, rule in self.opened.card.entities.items()
            if name in (*self.naming, "sub", "ses") or _is_word(numbers[rule.tag])
        }

    def asks(self, name: str, stack: Stack) -> bool:
        """Whether a sequence of the card asks for this stack."""
        image = self.opened.card.images[name]
        return (
            self._all_hold(name, image, stack)
            and not any(
                holds(rule, self._text(stack, tag), self.patience, f"images.{name}.exclude.{tag}")
                for tag, rule in image.exclude.items()
            )
            and _part_fits(image.role, stack.first.part)
            and self._accepts_oddity(image, stack)
        )

    def _all_hold(self, name: str, image: ImageCard, stack: Stack) -> bool:
        return all(
            holds(rule, self._text(stack, tag), self.patience, f"images.{name}.dicom.{tag}")
            for tag, rule in image.dicom.items()
        )

    def _text(self, stack: Stack, tag: str) -> str:
        return stack.first.tags.get(self.tags.numbers[tag], "")

    def _accepts_oddity(self, image: ImageCard, stack: Stack) -> bool:
        """Localizers, projections and pictures of screens are taken where a rule holds just for what makes them so."""
        odd = oddity_of(stack.first)
        if odd is None:
            return True
        for tag, rule in image.dicom.items():
            if tag not in odd.tags:
                continue
            text = self._text(stack, tag)
            if odd.words is None:
                return True
            without = odd.words.sub("", text)
            if without != text and not holds(rule, without, self.patience, f"images.{tag}"):
                return True
        return False

    def entities(self, stack: Stack) -> dict[str, str]:
        return {
            name: entity_of(rule, self._text(stack, rule.tag), self.patience, f"entities.{name}")
            for name, rule in self.opened.card.entities.items()
        }

    def path(self, stack: Stack) -> str:
        """What messages and tables call a stack; no folder where people have pseudonyms, for folders name them."""
        if self.opened.card.privacy.hash_ids:
            return stack.title
        folder = os.path.relpath(os.path.commonpath({str(Path(file).parent) for file in stack.files}), self.root)
        return stack.title if folder == "." else f"{Path(folder).as_posix()}/{stack.title}"


def _is_word(number: int) -> bool:
    """Whether a tag holds a name, a code or a date."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    return dictionary_has_tag(number) and dictionary_VR(number) in WORDS


def _shared_series(stacks: Sequence[Stack], apart: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Series identifiers that are given to several people or visits: which of the tags differ."""
    values: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for stack in stacks:
        for tag, number in apart.items():
            values[stack.first.series_uid, tag].add(stack.first.tags.get(number, ""))
    shared: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
    for (series, tag), found in values.items():
        if series and len(found) > 1:
            shared[series] += (tag,)
    return dict(shared)


def _part_fits(role: Role, part: str | None) -> bool:
    """Whether a stack's part may serve in a role, as far as its header says it."""
    if role is Role.QSM or part is None:
        return True
    return part == ("phase" if role is Role.GRE_PHASE else "magnitude")


def _by_case(candidates: Sequence[_Candidate]) -> list[list[_Candidate]]:
    cases: defaultdict[tuple[tuple[str, str], ...], list[_Candidate]] = defaultdict(list)
    for candidate in candidates:
        cases[tuple(sorted(candidate.entities.items()))].append(candidate)
    return list(cases.values())


def _matches(image: ImageCard, root: Path, candidates: Sequence[_Candidate]) -> Iterator[FileMatch]:
    """The stacks that one sequence has in one case."""
    echoes = _echo_numbers([candidate.stack for candidate in candidates])
    has_echoes = len(set(echoes)) > 1 or image.echo is not None
    begun = _begun([candidate.stack for candidate in candidates])
    for candidate, echo in zip(candidates, echoes, strict=True):
        stack = candidate.stack
        notes = [BURNED_IN] if stack.first.may_show_text else []
        notes += [f"{stack.n_doubled} files were there twice; each was taken once"] if stack.n_doubled else []
        notes += [_told_apart(candidate.shared_by)] if candidate.shared_by else []
        yield FileMatch(
            path=candidate.path,
            entities={**candidate.entities, **({"echo": f"echo {echo}"} if has_echoes else {})},
            image=source_of(stack, str(root / candidate.path)),
            fault=stack.fault,
            note="; ".join(notes),
            echo_time_ms=stack.first.echo_time_ms,
            acquired=f"{begun[stack.first.series_uid]} {stack.first.series_number:06d}",
        )


def _told_apart(tags: Sequence[str]) -> str:
    return (
        f"its SeriesInstanceUID is also that of files with another {' and another '.join(tags)}, "
        "which were kept apart; see why anonymization gave them one"
    )


def _begun(stacks: Sequence[Stack]) -> dict[str, str]:
    """When each series was begun: the same for all its echoes, which many scanners stamp one by one."""
    begun: dict[str, str] = {}
    for stack in stacks:
        for frame in stack.frames:
            begun[frame.series_uid] = min(frame.acquired, begun.get(frame.series_uid, frame.acquired))
    return begun


def _echo_numbers(stacks: Sequence[Stack]) -> list[int]:
    """Number of each stack's echo: the header's where it tells echo times apart, else by rising echo time."""
    if len({stack.first.echo_time_ms for stack in stacks}) == 1:
        return [stack.echo if stack.n_echoes > 1 else stack.first.echo_number or 1 for stack in stacks]
    times = [stack.first.echo_time_ms or 0.0 for stack in stacks]
    numbers = [stack.first.echo_number for stack in stacks]
    pairs = set(zip(times, numbers, strict=True))
    if None not in numbers and len(pairs) == len(set(times)) == len(set(numbers)):
        return [number or 1 for number in numbers]
    rising = sorted(set(times))
    return [rising.index(time) + 1 for time in times]


def _listed(finder: _Finder, stacks: Sequence[Stack], ignore: Sequence[str]) -> Iterator[str]:
    """Series that no sequence asks for, those of one description together."""
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for stack in stacks:
        path = finder.path(stack)
        description = stack.first.description or "without description"
        if any(fnmatch.fnmatchcase(f"{path} ({description})", glob) for glob in ignore):
            continue
        odd = oddity_of(stack.first)
        part = f", {stack.first.part}" if stack.first.part else ""
        alike[f"{description}{part}{f', {odd.kind}' if odd else ''}"].append(path)
    for what in sorted(alike):
        yield f"{what}: {len(alike[what])} series, first {alike[what][0]}"
