"""From a card to cases: the files of each person, sorted, with everything the card says of them.

One walk of the cohort's folder; no image is opened.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import Field

from cmb_autoseg.dataset_conversion.card import BRAIN_MASK, LABEL_NAME, REVIEWED_NAME, Card
from cmb_autoseg.dataset_conversion.card_file import OpenCard, parse_card
from cmb_autoseg.dataset_conversion.labels.unclaimed import Unclaimed
from cmb_autoseg.dataset_conversion.sorting.card_paths import card_patterns, case_template, slices_field
from cmb_autoseg.dataset_conversion.sorting.choice import NO_WISH, Wanted, check_preferred, choose_images
from cmb_autoseg.dataset_conversion.sorting.columns import Participants, fill_columns
from cmb_autoseg.dataset_conversion.sorting.disguise import Disguise
from cmb_autoseg.dataset_conversion.sorting.empty_patterns import check_matches
from cmb_autoseg.dataset_conversion.sorting.given_masks import brain_mask, with_mask_role
from cmb_autoseg.dataset_conversion.sorting.label_sources import claim_left_out, label_source
from cmb_autoseg.dataset_conversion.sorting.matching import (
    FileMatch,
    MatchedFiles,
    SeriesFound,
    assign_files,
)
from cmb_autoseg.dataset_conversion.sorting.naming import Name, Namer
from cmb_autoseg.dataset_conversion.sorting.patience import Patience
from cmb_autoseg.dataset_conversion.sorting.volumes import volumes_of
from cmb_autoseg.dataset_conversion.sorting.walk import list_files
from cmb_autoseg.errors import CardError, InputError
from cmb_autoseg.files import as_text
from cmb_autoseg.preprocessing.settings import Preparation
from cmb_autoseg.quality_control.settings import QualitySettings
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Case, PrepSettings, Record

__all__ = ["Cohort", "Exclusion", "find_cases", "read_card"]

Entities = Mapping[str, str]
Found = Mapping[str, Sequence[FileMatch]]
"""The files of one case by the card's field."""


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
    qc: QualitySettings = QualitySettings()
    aliases: dict[str, str] = Field(default_factory=dict)
    """With privacy.hash_ids: identifier to pseudonym. Never written."""
    identifiers: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """With privacy.hash_ids: those of each subject, by the subject's pseudonym. Never written."""
    card_digest: str
    simulated: bool = False
    """No person was scanned for it."""

    def disguise(self, text: str) -> str:
        """Replace identifiers by their pseudonyms, where the card asks for it, and leave the cohort's folder out."""
        return self._disguise(text)

    def disguise_of(self, case: Case) -> Disguise:
        """What replaces the identifiers of one case's subject."""
        known = self.identifiers.get(case.subject, ())
        return Disguise({identifier: self.aliases[identifier] for identifier in known}, (self.root,))

    @cached_property
    def _disguise(self) -> Disguise:
        # Not glued: with thousands of identifiers some digits of any longer number are one.
        return Disguise(self.aliases, (self.root,), glued=False)

    def prepared_by(self, preparation: Preparation) -> "Cohort":
        """The cohort with options over the card's `prep`.

        Raises:
            InputError: a network is asked for whose weights are not there.
        """
        prep = preparation.settle(self.prep)
        cases = tuple(case.model_copy(update={"prep": prep}) for case in self.cases)
        return self.model_copy(update={"prep": prep, "cases": cases})


def read_card(argument: str, salt: str | None = None, labels: bool = True, wanted: Wanted = NO_WISH) -> Cohort:
    """Read a card given as `CARD` or `CARD=ROOT` and find its cases.

    Args:
        argument: path of a card or name of a shipped one, perhaps with `=ROOT`.
        salt: of the pseudonyms that replace identifiers where the card says `privacy.hash_ids`;
            None leaves them as they are (a dry run).
        labels: False where labels are of no use (prediction): none is needed, none is looked for.
        wanted: which of several files is taken, where the card leaves a choice.

    Raises:
        CardError: a mistake in the card, or it does not fit the files.
    """
    return find_cases(parse_card(argument), salt, labels, wanted)


def find_cases(opened: OpenCard, salt: str | None = None, labels: bool = True, wanted: Wanted = NO_WISH) -> Cohort:
    """Match the files under the card's root; see `read_card`."""

    def complain(what: str) -> CardError:
        where, _, matched = what.partition(": ")
        return opened.error(where, f"{matched} takes too long to match; write a simpler regex, without nested repeats")

    with Patience(complain) as patience:
        return _find_cases(opened, salt, labels, wanted, patience)


class _LeftOutError(InputError):
    """A case that cannot be used, or that the card leaves out."""

    def __init__(self, reason: str, by_rule: bool) -> None:
        super().__init__(reason)
        self.by_rule = by_rule


@dataclass(frozen=True)
class _Sorter:
    """What is the same for all cases of a cohort."""

    opened: OpenCard
    root: Path
    labels: bool
    wanted: Wanted
    participants: Participants
    patience: Patience
    unclaimed: Unclaimed

    def case(self, name: Name, entities: Entities, found: Found) -> Case:
        """One case of its files.

        Raises:
            InputError: it cannot be used.
            CardError: a rule of `meta` does not fit.
        """
        card = self.opened.card
        self._check_complete(name, entities, found)
        wanted = with_mask_role(card, self.wanted, found)
        chosen = choose_images(card, self.root, self._volumes(found), wanted)
        meta = fill_columns(self.opened, name.case, entities, self.participants, self.patience)
        split = meta.pop("split", "train")
        if split not in ("train", "test"):
            raise self.opened.error("meta.split", f"case {name.case}: found {split!r}, legal are train and test")
        columns = {**self.participants.row(entities), **meta}
        label = None
        if self.labels:
            reviewed = _is_reviewed(self.opened, entities, columns, found)
            matches = found.get(LABEL_NAME, ())
            _check_faults(matches)
            label = label_source(card, self.root, matches, entities, chosen.images, columns, reviewed, self.unclaimed)
        mask, notes = brain_mask(card, self.root, chosen, found)
        return Case(
            name=name.case,
            cohort=card.name,
            subject=name.subject,
            session=name.session,
            images=chosen.images,
            label=label,
            brain_mask=mask,
            split="test" if split == "test" else "train",
            prep=card.prep,
            meta=meta,
            notes=notes,
        )

    def claim_left_out(self, name: Name, entities: Entities, found: Found) -> None:
        """What files of all cases say of one that is left out is said of somebody."""
        if self.labels:
            known = {**self.participants.row(entities), **entities}
            with suppress(CardError):  # a rule of `meta` need not fit a case that is not used
                known = {**self._columns(name, entities), **entities}
            claim_left_out(self.opened.card, self.root, found, known, self.unclaimed)

    def _columns(self, name: Name, entities: Entities) -> dict[str, str]:
        """What the participants table and the rules of `meta` say of a case."""
        meta = fill_columns(self.opened, name.case, entities, self.participants, self.patience)
        return {**self.participants.row(entities), **meta}

    def _volumes(self, found: Found) -> dict[str, Sequence[FileMatch]]:
        """The volumes that the files of each sequence make, by the sequence's name."""
        return {
            name: volumes_of(name, image, self.root, found[f"images.{name}"], found.get(slices_field(name), ()))
            for name, image in self.opened.card.images.items()
        }

    def _check_complete(self, name: Name, entities: Entities, found: Found) -> None:
        card = self.opened.card
        excluded = card.exclude.get(name.plain, card.exclude.get(name.case))
        if excluded is not None:
            raise _LeftOutError(f"the card excludes it: {excluded}", by_rule=True)
        odd = next(
            (match.path for files in found.values() for match in files if as_text(match.path) != match.path), None
        )
        if odd is not None:
            raise InputError(f"{as_text(odd)}: its name holds bytes that are no UTF-8 text; rename it")
        missing = [key for key, image in card.images.items() if not image.optional and not found[f"images.{key}"]]
        if missing:
            raise _LeftOutError(
                f"no file for images.{missing[0]}, which the card requires; set optional: true to go without", True
            )
        if not any(found[f"images.{key}"] for key, image in card.images.items() if image.role in SUSCEPTIBILITY_ROLES):
            raise _LeftOutError(
                f"no sequence in which microbleeds are visible ({', '.join(SUSCEPTIBILITY_ROLES)})", by_rule=True
            )
        needed = self.labels and card.label is not None and not card.label.optional and not found[LABEL_NAME]
        if needed and not _is_reviewed(self.opened, entities, self._columns(name, entities), found):
            raise _LeftOutError(
                f"no file for {LABEL_NAME}, which the card requires; set optional: true to use the case unlabelled",
                True,
            )


def _find_cases(opened: OpenCard, salt: str | None, labels: bool, wanted: Wanted, patience: Patience) -> Cohort:
    card = opened.card
    root = opened.root
    patterns = card_patterns(opened, labels)
    template, case_entities = case_template(opened, patterns)
    paths = list_files(root)
    series = _series(opened, root, patience)
    matched = {name: MatchedFiles(name, None, case_entities) for name in series.matches}
    for sequence, matches in series.matches.items():
        for match in matches:
            matched[sequence].add(match)
    matched |= {
        name: MatchedFiles(name, pattern, tuple(entity for entity in case_entities if entity in pattern.entities))
        for name, pattern in patterns.items()
    }
    disguised = card.privacy.hash_ids and salt is not None
    left = assign_files(opened, root, paths, matched, patience, name_files=not disguised)
    unmatched = [*series.unmatched, *left.scans]
    warnings = [
        *opened.warnings(),
        *series.warnings,
        *check_matches(opened, paths, matched, [*unmatched, *left.archives], name_files=not disguised),
    ]
    check_preferred(wanted.prefer, (match.series for name in card.images for match in matched[f"images.{name}"]))
    participants = Participants.read(opened, root)
    warnings += participants.warnings(card)
    visits = (
        (match.entities.get("sub", ""), match.entities["ses"])
        for sequence in series.matches
        for match in matched[sequence]
        if match.entities.get("ses")
    )
    namer = Namer(opened, template, salt if disguised else None, visits)
    unclaimed = Unclaimed()
    sorter = _Sorter(opened, root, labels, wanted, participants, patience, unclaimed)

    cases: list[Case] = []
    exclusions = [_lost_archive(card, path, reason, disguised) for path, reason in left.unreadable]
    identifiers: dict[str, tuple[str, ...]] = {}
    for key in _case_keys(matched.values(), case_entities):
        found = {name: files.of(key) for name, files in matched.items()}
        entities = _all_entities(key, found.values())
        name = namer.name(entities)
        disguise = Disguise(name.aliases, (str(root),))
        identifiers[name.subject] = tuple(dict.fromkeys((*identifiers.get(name.subject, ()), *name.aliases)))
        try:
            case = sorter.case(name, entities, found)
        except CardError as error:
            raise CardError(Disguise(name.aliases)(str(error))) from None
        except InputError as error:
            sorter.claim_left_out(name, entities, found)
            by_rule = isinstance(error, _LeftOutError) and error.by_rule
            exclusions.append(
                Exclusion(
                    case=name.case,
                    cohort=card.name,
                    subject=as_text(name.subject),
                    reason=disguise(str(error)),
                    by_rule=by_rule,
                )
            )
            continue
        notes = {role: disguise(note) for role, note in case.notes.items()}
        meta = {**case.meta, **_replaced_columns(card, name)}
        cases.append(case.model_copy(update={"notes": notes, "meta": meta}))
    namer.check_groups()
    warnings += [f"{card.name}: {text}" for text in unclaimed.warnings(str(root), not card.privacy.hash_ids)]
    unknown = [name for name in card.exclude if name not in namer.known]
    if unknown:
        what = f"holds {len(unknown)} names that are" if disguised else f"names {', '.join(unknown)}, which is"
        warnings.append(f"{card.name}: exclude {what} no case here; check the names")
    return Cohort(
        name=card.name,
        card=str(opened.path),
        root=str(root),
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        exclusions=tuple(sorted(exclusions, key=lambda exclusion: exclusion.case)),
        file_counts={name: sum(map(len, files.files.values())) for name, files in matched.items()},
        unmatched=tuple(unmatched),
        warnings=tuple(map(Disguise(namer.aliases), warnings)),
        prep=card.prep,
        qc=card.qc,
        aliases=namer.aliases,
        identifiers=identifiers if disguised else {},
        card_digest=opened.digest,
        simulated=opened.is_simulated,
    )


def _replaced_columns(card: Card, name: Name) -> dict[str, str]:
    """Columns that would repeat an identifier as it is; parts of one, by regex or map, are what the card asks for."""
    return {
        column: name.replaced[source]
        for column, rule in card.meta.rules.items()
        if (source := rule.source or "") in name.replaced
        and rule.regex is None
        and rule.map is None
        and column != "split"
    }


def _series(opened: OpenCard, root: Path, patience: Patience) -> SeriesFound:
    """What the sequences of a cohort of DICOM files are; nothing for any other cohort."""
    if opened.card.source != "dicom":
        return SeriesFound({})
    from cmb_autoseg.dataset_conversion.sorting.dicom_cohort import find_series

    return find_series(opened, root, patience)


def _case_keys(matched: Iterable[MatchedFiles], case_entities: tuple[str, ...]) -> list[dict[str, str]]:
    """The distinct values of the case's entities, sorted, from the images that have all of them."""
    keys = {
        key
        for files in matched
        if files.key_entities == case_entities and files.name not in (REVIEWED_NAME, BRAIN_MASK)
        for key in files.files
    }
    return [dict(zip(case_entities, key, strict=True)) for key in sorted(keys)]


def _all_entities(entities: Entities, found: Iterable[Sequence[FileMatch]]) -> dict[str, str]:
    """The case entities and what else the paths of the case say; the first sequence wins."""
    known: dict[str, str] = {}
    for matches in found:
        for match in matches[:1]:
            known = {**match.entities, **known}
    return {**known, **entities}


def _is_reviewed(opened: OpenCard, entities: Entities, columns: Mapping[str, str], found: Found) -> bool:
    """Whether somebody read the case and found no microbleed, as the card tells that."""
    rule = opened.card.labels.no_cmb
    if rule is None:
        return False
    if rule.source is None:
        return bool(found.get(REVIEWED_NAME))
    known = {**columns, **entities}
    if rule.source not in known:
        listed = ", ".join(known)
        raise opened.error(
            f"{REVIEWED_NAME}.from", f"nothing is called {rule.source} here (there: {listed}); name one of these"
        )
    return known[rule.source] in rule.values


def _lost_archive(card: Card, path: str, reason: str, disguised: bool) -> Exclusion:
    """An archive that cannot be read stands for its cases, whoever they are."""
    name = "an archive" if disguised else path
    why = "none of its cases are known: it cannot be listed; cmb_cohort check names it" if disguised else reason
    return Exclusion(case=name, cohort=card.name, subject="n/a", reason=why)


def _check_faults(matches: Sequence[FileMatch]) -> None:
    faulty = next((match for match in matches if match.fault), None)
    if faulty is not None:
        raise InputError(faulty.told_fault)
