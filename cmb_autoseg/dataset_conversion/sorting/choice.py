"""Which of a case's files are taken, where several could serve as one sequence.

Names are compared by their tags, the parts between underscores: `acq-hires`, `run-2`. A card asks for
a choice with `pick: first`, or `latest`. The rule: preferred tags, then fewest tags, then the name with its numbers
in order; of separate echoes the combined file, then the echo time nearest to 20 ms, then the last echo. With
`pick: latest` the scan that was acquired last goes before, of files without a date the last by name.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.dataset_conversion.card import Card, ImageCard
from cmb_autoseg.dataset_conversion.sorting.matching import FileMatch, name_tags, plain_tag
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import same_grid
from cmb_autoseg.readers import count_volumes, read_grid
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, ImageSource, Role

__all__ = [
    "NO_WISH",
    "AmbiguousError",
    "Chosen",
    "Wanted",
    "check_preferred",
    "choose_images",
    "unused_echo",
]

TYPICAL_ECHO_TIME_S = 0.02
"""Of separate echoes the one nearest to this is taken: 3 T protocols for microbleeds use 16 to 25 ms."""

LATEST_RULE = "the latest"
NAME_RULE = "fewest tags first, then by name; --prefer or a narrower pattern takes another"
ECHO_RULE = "of separate echoes the one nearest to an echo time of 20 ms, else the last; --echo takes another"


class AmbiguousError(InputError):
    """Several files for one sequence, and no rule to choose."""


@dataclass(frozen=True)
class Wanted:
    """What the user asks of the files, beyond the card."""

    roles: tuple[Role, ...] | None = None
    """Only these, and what lends them its geometry; None for all."""
    echo: int | None = None
    """Of several echoes this one, from 1."""
    prefer: tuple[str, ...] = ()
    """Tags that go before the rule, as in `acq-hires` or `run-2`."""


NO_WISH = Wanted()


@dataclass(frozen=True)
class Chosen:
    """The files of one case by role, and by role what the user should know of the choice."""

    images: dict[Role, ImageSource]
    notes: dict[Role, str]


def check_preferred(prefer: Sequence[str], names: Iterable[str]) -> None:
    """Make sure that preferred tags are in some of the names, lest a mistyped one go unnoticed.

    Raises:
        InputError: one is in none; lists those there are, but for subjects and sessions.
    """
    if not prefer:
        return
    there = frozenset[str]().union(*map(name_tags, names))
    absent = [tag for tag in prefer if plain_tag(tag) not in there]
    if absent:
        listed = ", ".join(sorted(tag for tag in there if not tag.startswith(("sub-", "ses-")))) or "none"
        raise InputError(f"--prefer {' '.join(absent)}: in no scan's file name; tags there are: {listed}")


def unused_echo(echo: int, reasons: Iterable[str]) -> str:
    """What the user is told of an echo that fits no scan of a case."""
    return f"--echo {echo} not used: {'; '.join(reasons)}"


@dataclass(frozen=True)
class _Candidate:
    image: ImageCard
    match: FileMatch


def choose_images(card: Card, root: Path, found: Mapping[str, Sequence[FileMatch]], wanted: Wanted) -> Chosen:
    """Take one file per role: of several sequences of a role the first in the card, of several files by the rule.

    The reference sequence is chosen first; of the others the files that share most tags with it go before.
    Of a sequence with `other_grid: leave_out` the first file on the reference's grid is taken; one that is
    nowhere on it is left out.

    Args:
        card: whose `images` are chosen from.
        root: the cohort's folder.
        found: the files by name of the sequence.
        wanted: roles, echo and tags that the user asks for.

    Raises:
        AmbiguousError: several files for a sequence whose card does not say `pick: first` or `latest`.
        InputError: there are several echoes, but not the wanted one; or a file that is taken cannot be used.
    """
    candidates: dict[Role, list[_Candidate]] = {}
    for name in _wanted_names(card, wanted):
        ranked = _ranked(name, card.images[name], root, found.get(name, ()), wanted)
        candidates.setdefault(card.images[name].role, []).extend(_Candidate(card.images[name], file) for file in ranked)
    there = {role: files for role, files in candidates.items() if files}
    if not there:
        return Chosen({}, {})
    preferred = (*([card.prep.reference] if card.prep.reference else []), *SUSCEPTIBILITY_ROLES)
    reference = next((role for role in preferred if role in there), next(iter(there)))
    first = there[reference][0].match
    taken: dict[Role, _Candidate] = {}
    notes: dict[Role, str] = {}
    for role, files in there.items():
        alike = files if role is reference else sorted(files, key=lambda file: -len(file.match.tags & first.tags))
        fitting = next((file for file in alike if role is reference or _fits(file, root, there[reference][0])), None)
        if fitting is not None:
            taken[role] = fitting
            told = (_note_of_choice(role, fitting, files), fitting.match.note and f"{role}: {fitting.match.note}")
            notes[role] = "; ".join(filter(None, told))
        else:
            notes[role] = (
                f"{role} left out: {alike[0].match.path} is on another grid than {first.path}; "
                "register it first to use it"
            )
    notes[reference] = "; ".join(filter(None, (notes[reference], _note_of_echo(list(taken.values()), root, wanted))))
    for role, faults in _faults(card, found, wanted).items():
        notes[role] = "; ".join(filter(None, (notes.get(role, ""), faults)))
    return Chosen(
        {role: _source(card, root, candidate, taken) for role, candidate in taken.items()},
        {role: note for role, note in notes.items() if note},
    )


def _faults(card: Card, found: Mapping[str, Sequence[FileMatch]], wanted: Wanted) -> dict[Role, str]:
    """What was left out for a fault of its own, by role."""
    faults: dict[Role, list[str]] = {}
    for name in _wanted_names(card, wanted):
        left_out = [f"left out: {match.told_fault}" for match in found.get(name, ()) if match.fault]
        faults.setdefault(card.images[name].role, []).extend(left_out)
    return {role: f"{role}: {'; '.join(texts)}" for role, texts in faults.items() if texts}


def _wanted_names(card: Card, wanted: Wanted) -> list[str]:
    """Sequences of the wanted roles and those that lend them their geometry, in the card's order."""
    names = {name for name, image in card.images.items() if wanted.roles is None or image.role in wanted.roles}
    names |= {giver for name in names if (giver := card.images[name].copy_geometry_from) is not None}
    return [name for name in card.images if name in names]


def _ranked(
    name: str, image: ImageCard, root: Path, matches: Sequence[FileMatch], wanted: Wanted
) -> Sequence[FileMatch]:
    """The files that could be taken for one sequence of the card, best first."""
    echo = wanted.echo if image.echo is None else image.echo
    numbers = sorted({match.echo for match in matches if match.echo is not None})
    if echo is not None and numbers:
        matches = [match for match in matches if match.echo == echo]
        if not matches:
            listed = ", ".join(map(str, numbers))
            raise InputError(f"images.{name}: no echo {echo} (there: {listed}); choose one of them with --echo")
    matches = _without_faults(name, image, matches)
    if len(matches) > 1 and image.pick == "error":
        listed = " and ".join(match.path for match in matches)
        raise AmbiguousError(
            f"{len(matches)} files for images.{name}: {listed}; make the pattern match one of them, or set pick: first "
            "or latest"
        )
    ranked = sorted(matches, key=lambda match: _rank(match, root, wanted)) if len(matches) > 1 else matches
    return sorted(ranked, key=_age, reverse=True) if image.pick == "latest" else ranked


def _age(match: FileMatch) -> tuple[object, ...]:
    """Sorts scans by the time of their acquisition; of files without one by name, the echoes of a scan together."""
    return match.acquired, () if match.acquired else (match.path.rpartition("/")[0], _natural(match.series))


def _natural(name: str) -> tuple[object, ...]:
    """Sorts names with the numbers in them in order."""
    return tuple(int(part) if index % 2 else part for index, part in enumerate(re.split(r"(\d+)", name)))


def _without_faults(name: str, image: ImageCard, matches: Sequence[FileMatch]) -> Sequence[FileMatch]:
    """The files that can be used; none where a sequence that may be absent has only such as cannot.

    Raises:
        InputError: a required sequence has only such as cannot be used.
    """
    whole = [match for match in matches if not match.fault]
    if matches and not whole and not image.optional:
        raise InputError(f"images.{name}: {matches[0].told_fault}")
    return whole


def _rank(match: FileMatch, root: Path, wanted: Wanted) -> tuple[object, ...]:
    """Sorts files of one sequence: the rule at the top of this module."""
    preferred = frozenset(map(plain_tag, wanted.prefer))
    return -len(match.tags & preferred), len(match.tags), _natural(match.series), _echo_rank(match, root), match.path


def _echo_rank(match: FileMatch, root: Path) -> tuple[int, float]:
    if match.echo is None:
        return 0, 0.0
    if match.echo_time_ms is not None:
        return 1, abs(match.echo_time_ms / 1000 - TYPICAL_ECHO_TIME_S)
    sidecar = root / re.sub(r"\.nii(\.gz)?$", ".json", match.path)
    try:
        return 1, abs(float(json.loads(sidecar.read_text())["EchoTime"]) - TYPICAL_ECHO_TIME_S)
    except (OSError, ValueError, KeyError, TypeError):
        return 2, -float(match.echo)


def _fits(candidate: _Candidate, root: Path, reference: _Candidate) -> bool:
    """Whether a sequence can be used beside the reference, as far as its card wants that looked at."""
    if candidate.image.other_grid == "register" or candidate.image.copy_geometry_from is not None:
        return True
    try:
        return same_grid(*(read_grid(_stored(one, root, first_echo=True)) for one in (candidate, reference)))
    except InputError:
        return True  # Reading the volume will say what is wrong with the file.


def _stored(candidate: _Candidate, root: Path, first_echo: bool = False) -> ImageSource:
    """How a file is read, whatever else the case has."""
    image, match = candidate.image, candidate.match
    if match.image is not None:
        return match.image
    echo = image.echo if match.echo is None else None
    return ImageSource(path=str(root / match.path), echo=1 if first_echo else echo)


def _note_of_choice(role: Role, taken: _Candidate, files: Sequence[_Candidate]) -> str:
    """What was not taken, and by which rule; '' where there was no choice."""
    others = [file.match for file in files if file is not taken]
    if not others:
        return ""
    rules = [ECHO_RULE] if any(match.series == taken.match.series for match in others) else []
    if any(match.series != taken.match.series for match in others):
        rules.append(LATEST_RULE if taken.image.pick == "latest" else NAME_RULE)
    return f"{role}: took {taken.match.name}, not {', '.join(match.name for match in others)} ({'; '.join(rules)})"


def _note_of_echo(taken: Sequence[_Candidate], root: Path, wanted: Wanted) -> str:
    """Why the wanted echo is of none of the files; '' where it is of one, or none is wanted."""
    if wanted.echo is None:
        return ""
    reasons = [_lacks_echo(candidate, root, wanted.echo) for candidate in taken]
    return unused_echo(wanted.echo, reasons) if all(reasons) else ""


def _lacks_echo(candidate: _Candidate, root: Path, echo: int) -> str:
    """Why a file does not give an echo; '' where it does, or where reading it will say that it does not."""
    image, match = candidate.image, candidate.match
    if echo in (image.echo, match.echo):
        return ""
    if image.echo is not None:
        return f"of {match.name} the card takes echo {image.echo}"
    try:
        return "" if echo == 1 or count_volumes(_stored(candidate, root)) > 1 else f"{match.name} has one echo"
    except InputError:
        return ""


def _source(card: Card, root: Path, candidate: _Candidate, taken: Mapping[Role, object]) -> ImageSource:
    image, giver = candidate.image, None
    if image.copy_geometry_from is not None:
        role = card.images[image.copy_geometry_from].role
        giver = role if role in taken and role is not image.role else None
    return _stored(candidate, root).model_copy(update={"copy_geometry_from": giver})
