"""Parts of one prediction, by several processes or machines into one folder, and their tables joined by the last.

Each part takes its share of the subjects, writes the files of their cases and a note. Whoever finds the notes of all
parts there writes the tables of the whole, the same bytes that one run would have written.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmb_autoseg.errors import InputError, InUseError
from cmb_autoseg.files import file_digest, leftovers, read_json, text_digest, write_json
from cmb_autoseg.locking import LONGEST_WAIT_S, is_owned, own_folder

if TYPE_CHECKING:
    from cmb_autoseg.inference.inputs import InputFailure
    from cmb_autoseg.inference.layouts import CaseResult, Layout
    from cmb_autoseg.records import Case

__all__ = ["Part", "finish_part", "refuse_parts_at_work", "scans_digest", "slurm_part"]

NOTE = "part.json"
JOINING = "joining the tables"
MOST_NUMBERS = 10
"""Of parts that a message lists."""


@dataclass(frozen=True)
class Part:
    """One of several equal shares of a cohort."""

    number: int
    """From 0."""
    count: int

    def __str__(self) -> str:
        return f"part {self.number} of {self.count}"

    def takes(self, cases: "Sequence[Case]") -> "list[Case]":
        """The cases of every `count`th subject, in the order in which subjects come; all cases of a subject."""
        subjects = list(dict.fromkeys(case.subject for case in cases))
        own = set(subjects[self.number :: self.count])
        return [case for case in cases if case.subject in own]

    def failures(self, failures: "Sequence[InputFailure]", cases: "Sequence[Case]") -> "list[InputFailure]":
        """Inputs that were no case at all: those of a subject go with its cases, others are the first part's.

        Args:
            failures: of all parts.
            cases: of all parts.
        """
        owner = {subject: n % self.count for n, subject in enumerate(dict.fromkeys(case.subject for case in cases))}
        owner |= {case.name: owner[case.subject] for case in cases}

        def part_of(name: str) -> int:
            while name and name not in owner:
                name = name.rpartition("_")[0]  # such as the session after the subject
            return owner.get(name, 0)

        return [failure for failure in failures if part_of(failure.case) == self.number]

    def folder(self, out: Path) -> Path:
        """Where the part keeps its note and its lock."""
        return _folder(out, self.number, self.count)

    @contextmanager
    def own(
        self, layout: "Layout", cases: "Sequence[Case]", failures: "Sequence[InputFailure]", doing: str
    ) -> Iterator[None]:
        """Make this part's work in a folder of results this process's own, for a block.

        Args:
            layout: of the results.
            cases: of this part.
            failures: of this part.
            doing: what others are told.

        Raises:
            InUseError: another process does this part, or all, or a part of another number of parts.
        """
        out = layout.out
        self._refuse_others(out)
        with ExitStack() as owned:
            owned.enter_context(own_folder(self.folder(out), doing))
            for folder, nested in layout.territory(cases, failures):
                if folder != out:  # which all parts share
                    owned.enter_context(own_folder(folder, doing, nested=nested))
            self._refuse_others(out)  # which came at the same moment
            yield

    def begin(self, out: Path) -> None:
        """Take back what an earlier run noted, so that nobody joins tables of files that are being replaced."""
        with self.joining(out):
            (self.folder(out) / NOTE).unlink(missing_ok=True)

    def joining(self, out: Path) -> AbstractContextManager[None]:
        """For a block, no other part reads or takes back notes."""
        return own_folder(out / "logs" / "joining", f"{self}, {JOINING}", wait_s=LONGEST_WAIT_S)

    def _refuse_others(self, out: Path) -> None:
        whole = is_owned(out)
        _refuse(out, None if whole is not None and JOINING in whole else whole)
        for folder in _part_folders(out):
            if not folder.name.endswith(f"_of_{self.count}"):
                _refuse(out, is_owned(folder))


def slurm_part(environment: Mapping[str, str] = os.environ) -> Part:
    """The part that SLURM's array variables name.

    Raises:
        InputError: they are not set, or the array is no plain range such as 0-9 or 0-18:2.
    """
    names = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_COUNT")
    try:
        given = {name: environment[name] for name in names}
    except KeyError as error:
        raise InputError(
            f"--slurm-array: {error.args[0]} is not set; submit with sbatch --array=0-9, or give "
            "-num_parts and -part_id"
        ) from None
    given["SLURM_ARRAY_TASK_STEP"] = environment.get("SLURM_ARRAY_TASK_STEP") or "1"
    for name, text in given.items():
        if not text.isdecimal():
            raise InputError(
                f"--slurm-array: {name} is {text!r}, expected a whole number; submit with sbatch --array=0-9, or give "
                "-num_parts and -part_id"
            )
    task, first, last, count, step = map(int, given.values())
    if step < 1 or count < 1 or len(whole := range(first, last + 1, step)) != count:
        raise InputError(
            f"--slurm-array: found tasks {first} to {last} in steps of {step}, {count} in all, expected a plain range; "
            "submit with sbatch --array=0-9"
        )
    if task not in whole:
        raise InputError(
            f"--slurm-array: SLURM_ARRAY_TASK_ID is {task}, expected one of tasks {first} to {last} in steps of "
            f"{step}, as the other variables say; leave all of them as SLURM sets them"
        )
    if count == 1:
        raise InputError(
            f"--slurm-array: found task {task} alone; to repeat a part of an array give its -num_parts and -part_id"
        )
    return Part((task - first) // step, count)


def refuse_parts_at_work(out: Path) -> None:
    """Refuse to predict all cases while another process predicts a part of them.

    Raises:
        InUseError: names it.
    """
    for folder in _part_folders(out):
        _refuse(out, is_owned(folder))


def _refuse(out: Path, doing: str | None) -> None:
    if doing is not None:
        raise InUseError(f"{out}: in use by {doing}; wait until that ends, stop it, or choose another folder")


def finish_part(
    layout: "Layout",
    part: Part,
    order: Sequence[str],
    scans: str,
    no_cases: "Sequence[InputFailure]",
    results: "Sequence[CaseResult]",
    failed: "Sequence[InputFailure]",
    run: Mapping[str, Any],
) -> str:
    """Note what came of a part; write the tables of the whole where all parts are done with the same settings.

    Args:
        layout: of the results.
        part: that is done.
        order: the cases of all parts, as one run would go through them.
        scans: digest of what is predicted and how it is prepared, as `scans_digest` gives it.
        no_cases: inputs of this part that were no case at all.
        results: of this part.
        failed: of this part, and those.
        run: what it says of itself.

    Returns:
        What came of the tables, for the user.
    """
    note = {
        "order": list(order),
        "scans": scans,
        "done": {name: file_digest(layout.files(name).record) for name in (result.table.case for result in results)},
        "failed": [vars(failure) for failure in failed if failure not in no_cases],
        "no_cases": [vars(failure) for failure in no_cases],
        "run": dict(run),
    }
    done = f"{part} done" if results or failed else f"{part}: no scan falls to it, since there are fewer subjects"
    with part.joining(layout.out):
        write_json(part.folder(layout.out) / NOTE, note)
        notes = {number: _note(layout, number, part.count) for number in range(part.count)}
        known = {number: other for number, other in notes.items() if other is not None}
        alike = {number: other for number, other in known.items() if not _differing(other, note)}
        if len(alike) == part.count:
            with layout.own_root(f"{part}, {JOINING}"):
                _join(layout, order, list(alike.values()))
            _clear(layout.out, part)
            n_failed = sum(len(other[key]) for other in alike.values() for key in ("failed", "no_cases"))
            some = f"; of all scans {n_failed} failed: failures.tsv" if n_failed else ""
            return f"{done}, and all others are; their tables are joined{some}"
    earlier = ", until then those of an earlier run stay" if (layout.out / "counts.tsv").is_file() else ""
    told = f"{done}; the tables come with the last part{earlier}"
    if missing := notes.keys() - known.keys():
        told += f", still to be done: {_numbers(missing)}"
    if unlike := known.keys() - alike:
        reasons = sorted({reason for number in unlike for reason in _differing(known[number], note)})
        told += f"; done with another {', '.join(reasons)}, so to be predicted again: {_numbers(unlike)}"
    return told


def _numbers(parts: Iterable[int]) -> str:
    listed = sorted(parts)
    more = f" and {len(listed) - MOST_NUMBERS} more" if len(listed) > MOST_NUMBERS else ""
    return f"-part_id {', '.join(map(str, listed[:MOST_NUMBERS]))}{more}"


def _clear(out: Path, part: Part) -> None:
    """Remove what parts that were killed left half-written, unless another one is at work."""
    others = (folder for folder in _part_folders(out) if folder != part.folder(out))
    if not any(map(is_owned, others)):
        for half_written in leftovers(out, nested=False):
            half_written.unlink(missing_ok=True)


def _settings(note: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be the same in all parts, by name."""
    run = note.get("run", {})
    model = run.get("model", {})
    return {
        "list of scans": note.get("order"),
        "preparation or content of scans": note.get("scans"),
        "version of the tool": run.get("versions", {}).get("cmb_autoseg"),
        "operating point": run.get("operating_point"),
        "model or folds": [model.get(key) for key in ("digest", "folds")],
        "choice of --fast": model.get("fast"),
    }


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    ours, theirs = _settings(one), _settings(other)
    return [name for name in ours if ours[name] != theirs[name]]


def _join(layout: "Layout", order: Sequence[str], notes: Sequence[Mapping[str, Any]]) -> None:
    from cmb_autoseg.inference.inputs import InputFailure
    from cmb_autoseg.inference.layouts import stored_result

    done = {name for note in notes for name in note["done"]}
    no_cases, failed = (
        [InputFailure(**failure) for note in notes for failure in note[key]] for key in ("no_cases", "failed")
    )
    no_cases.sort(key=lambda failure: failure.case)
    places = {name: place for place, name in enumerate(order)}
    failed.sort(key=lambda failure: places[failure.case])
    results = [stored_result(read_json(layout.files(name).record)) for name in order if name in done]
    layout.write_run(results, [*no_cases, *failed], {"parts": [note["run"] for note in notes]})


def _folder(out: Path, number: int, count: int) -> Path:
    return out / "logs" / f"part_{number}_of_{count}"


def _part_folders(out: Path) -> list[Path]:
    return sorted((out / "logs").glob("part_*_of_*"))


def _note(layout: "Layout", number: int, count: int) -> dict[str, Any] | None:
    """What a part left; None as long as it is not done, or where files of its cases are gone or others by now."""
    path = _folder(layout.out, number, count) / NOTE
    try:
        content = read_json(path) if path.is_file() else None
    except InputError:  # such as one that was cut off; the part is done anew
        return None
    kinds = {"order": list, "done": dict, "failed": list, "no_cases": list, "run": dict}
    if not isinstance(content, dict) or any(not isinstance(content.get(key), kind) for key, kind in kinds.items()):
        return None
    records = ((layout.files(name).record, digest) for name, digest in content["done"].items())
    same = all(record.is_file() and file_digest(record) == digest for record, digest in records)
    return content if same else None


def scans_digest(cases: "Sequence[Case]") -> str:
    """Of the cases' files, by name and size, and of how they are prepared.

    Their content is not read, which would take as long as predicting, and folders may be mounted elsewhere.
    """
    from cmb_autoseg.readers import source_files

    told = []
    for case in cases:
        mask = [] if case.brain_mask is None else [("brain mask", case.brain_mask.source)]
        sources = [*((role.value, source) for role, source in case.images.items()), *mask]
        files = [(role, path.name, _bytes(path)) for role, source in sources for path in source_files(source)]
        prep = case.prep.model_dump(mode="json", exclude={"hd_bet": {"folder", "device"}})
        told.append((case.name, files, prep))
    return text_digest(repr(told))


def _bytes(path: Path) -> int | None:
    """None for a file that is gone by now, which predicting its case will say."""
    try:
        return path.stat().st_size
    except OSError:
        return None
