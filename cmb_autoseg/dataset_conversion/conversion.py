"""Conversion: the cases of one or more cohorts, prepared, in nnU-Net's raw layout.

A case is written when it is wholly known to be good; `dataset.json` comes last, so that a folder
without one is an unfinished conversion. Finished cases whose sources and settings have not changed
are left as they are.
"""

import os
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cmb_autoseg.dataset_conversion.case_conversion import (
    CaseJob,
    CaseRecord,
    ConvertedCase,
    attempt,
    bring_back,
    died,
    remove_files,
    set_aside,
)
from cmb_autoseg.dataset_conversion.dataset_tables import ConversionRecord, case_rows, write_seconds, write_tables
from cmb_autoseg.dataset_conversion.effort import estimate_effort
from cmb_autoseg.dataset_conversion.labels import no_lesion_warning
from cmb_autoseg.dataset_conversion.quality import (
    excluded_by_quality,
    judge_cases,
    tell_verdicts,
    write_flow,
    write_quality,
)
from cmb_autoseg.dataset_conversion.sorting.disguise import Disguise
from cmb_autoseg.dataset_conversion.sorting.duplicates import shared_scans
from cmb_autoseg.dataset_conversion.sorting.resolver import Cohort, Exclusion
from cmb_autoseg.errors import CardError, InputError, LeakageError
from cmb_autoseg.files import atomic_path, read_tsv
from cmb_autoseg.locking import own_folder
from cmb_autoseg.parallel import choose_workers, run_jobs
from cmb_autoseg.preprocessing.channels import derivable
from cmb_autoseg.preprocessing.settings import differing
from cmb_autoseg.progress import log, track
from cmb_autoseg.raw_dataset import RawDataset, read_raw_dataset
from cmb_autoseg.records import DERIVED_ROLES, SUSCEPTIBILITY_ROLES, Case, Role
from cmb_autoseg.run_log import open_log
from cmb_autoseg.workspace import DatasetFolders, Workspace

__all__ = ["Conversion", "convert", "merge_cases", "workspace_salt"]

CHANNEL_ORDER = (*SUSCEPTIBILITY_ROLES, Role.T1, Role.T2, Role.FLAIR, *DERIVED_ROLES)
"""Order of the channels; gre_phase serves preparation and is none."""
SALT_CHARACTERS = 16
"""A shorter secret could be found by trying."""


@dataclass(frozen=True)
class Conversion:
    """A finished conversion."""

    dataset: RawDataset
    exclusions: tuple[Exclusion, ...]
    n_unchanged: int
    """Cases that an earlier run had finished."""

    @property
    def failures(self) -> tuple[Exclusion, ...]:
        """Cases left out for a fault of their files, not by a rule of the card."""
        return tuple(exclusion for exclusion in self.exclusions if not exclusion.by_rule)


def convert(cohorts: Sequence[Cohort], folders: DatasetFolders, jobs: int | None = None) -> Conversion:
    """Prepare and write all cases of the cohorts as one raw dataset.

    Args:
        cohorts: from `read_card`; their order does not matter.
        folders: where to; cases of an earlier conversion that are no longer there are removed.
        jobs: cases prepared at a time, each in a process of its own; None for as many as processors, memory and
            the number of cases allow.

    Raises:
        InputError: no case is usable (nothing is written then), or the dataset belongs to others.
        LeakageError: a subject has test and training cases.
        CardError: two cards of one cohort name the same case.
        OutputError: another process works on this dataset.
    """
    of_name = {cohort.name: cohort for cohort in cohorts}
    _refuse_half_simulated(cohorts)
    cases, shared = _without_shared_scans(merge_cases(cohorts), of_name)
    exclusions = [*(exclusion for cohort in cohorts for exclusion in cohort.exclusions), *shared]
    _check_ownership(folders, of_name)
    if not cases:
        raise InputError(_no_case_left(cohorts, exclusions))
    _warn_of_differing_values(cohorts)
    with own_folder(folders.raw, "cmb_convert"):
        return _convert(cases, exclusions, folders, of_name, jobs)


def _refuse_half_simulated(cohorts: Sequence[Cohort]) -> None:
    first: dict[str, Cohort] = {}
    for cohort in cohorts:
        other = first.setdefault(cohort.name, cohort)
        if other.simulated != cohort.simulated:
            made_up, real = (other, cohort) if other.simulated else (cohort, other)
            raise CardError(
                f"{made_up.card}: cohort {cohort.name} is simulated here and not in {real.card}; give the cards "
                "different names"
            )


def _without_shared_scans(cases: Sequence[Case], cohorts: Mapping[str, Cohort]) -> tuple[list[Case], list[Exclusion]]:
    """The cases whose scans are theirs alone, and those that share one with another subject."""
    shared = shared_scans(cases)
    # A reason names scans of two cohorts.
    aliases = {known: alias for cohort in cohorts.values() for known, alias in cohort.aliases.items()}
    disguise = Disguise(aliases, tuple(cohort.root for cohort in cohorts.values()))
    kept: list[Case] = []
    exclusions: list[Exclusion] = []
    for case in cases:
        reason = next((shared[source] for source in case.images.values() if source in shared), None)
        if reason is None:
            kept.append(case)
            continue
        text = disguise(reason)
        exclusions.append(Exclusion(case=case.name, cohort=case.cohort, subject=case.subject, reason=text))
    return kept, exclusions


def _convert(
    cases: Sequence[Case],
    excluded: Sequence[Exclusion],
    folders: DatasetFolders,
    of_name: Mapping[str, Cohort],
    jobs: int | None,
) -> Conversion:
    bring_back(folders.raw)
    roles = _roles((*case.images, *derivable(case.prep.derived, case.images)) for case in cases)
    done, failed = _convert_cases(cases, folders, roles, jobs, of_name)
    needed = _roles(case.record.sequences for case in done.values())
    while done and needed != roles:
        # Every case with some sequence failed: that channel goes, and the others are numbered anew.
        roles = needed
        done, failed = _convert_cases(
            [case for case in cases if case.name in done], folders, roles, jobs, of_name, failed
        )
        needed = _roles(case.record.sequences for case in done.values())
    records = {name: case.record for name, case in done.items()}
    prepared = [case for case in cases if case.name in records]
    verdicts = judge_cases(prepared, records, of_name)
    poor = excluded_by_quality(verdicts, of_name)
    exclusions = [*excluded, *_failures(cases, failed, of_name), *poor]
    left_out = {exclusion.case for exclusion in poor}
    kept = [case for case in prepared if case.name not in left_out]
    if not kept:
        raise InputError(_no_case_left(list(of_name.values()), exclusions))
    write_quality(folders, prepared, records, verdicts, left_out, of_name)
    _remove_departed(folders, records)
    for name in left_out:
        set_aside(folders.raw, records[name], len(roles))
    records = {case.name: records[case.name] for case in kept}
    _drop_stale_folds(folders, kept, records)
    write_flow(folders, case_rows(kept, records, of_name), exclusions)
    write_tables(folders, kept, records, of_name, exclusions, roles)
    _warn_of_no_lesions(kept, records)
    _warn_of_boxes(kept)
    tell_verdicts(verdicts, of_name, folders)
    write_seconds(folders, {name: case.seconds for name, case in done.items()})
    unchanged = sum(case.unchanged for case in done.values())
    return Conversion(read_raw_dataset(folders), tuple(exclusions), unchanged)


def _failures(cases: Sequence[Case], failed: Mapping[str, str], of_name: Mapping[str, Cohort]) -> list[Exclusion]:
    return [
        Exclusion(
            case=case.name,
            cohort=case.cohort,
            subject=case.subject,
            reason=of_name[case.cohort].disguise(failed[case.name]),
        )
        for case in cases
        if case.name in failed
    ]


def merge_cases(cohorts: Sequence[Cohort]) -> list[Case]:
    """All cases under names that are unique, sorted; a name that two cohorts use gets the cohort's in front.

    Cohorts of different names are taken to hold different people; cards on the same people must
    have the same name.

    Raises:
        CardError: two cards with one cohort name have a case of the same name.
        LeakageError: a subject has test and training cases.
    """
    cards = [cohort.card for cohort in cohorts]
    cards_of: dict[tuple[str, str], str] = {}
    for cohort in cohorts:
        for case in cohort.cases:
            first = cards_of.setdefault((case.cohort, case.name), cohort.card)
            if first != cohort.card or cards.count(cohort.card) > 1:
                raise CardError(
                    f"{cohort.card}: case {case.name} of cohort {case.cohort} is also in {first}; "
                    "give the cards different names, or take the case out of one"
                )
    uses = Counter(name for _, name in cards_of)
    cases = [
        case if uses[case.name] == 1 else case.model_copy(update={"name": f"{case.cohort}-{case.name}"})
        for cohort in cohorts
        for case in cohort.cases
    ]
    twice = [name for name, count in Counter(case.name for case in cases).items() if count > 1]
    if twice:
        raise CardError(f"case {twice[0]} exists in more than one cohort even with the cohort's name; rename a cohort")
    _refuse_leaks(cases)
    return sorted(cases, key=lambda case: case.name)


def workspace_salt(workspace: Workspace) -> str:
    """The secret that pseudonyms of this workspace are made with; made at first use.

    Raises:
        InputError: it is too short to be one.
    """
    path = workspace.root / "salt"
    if not path.is_file():
        with atomic_path(path) as temporary:
            # Nobody else may read it at any time, not even while it is written.
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(secrets.token_hex(16) + "\n")
    salt = path.read_text(encoding="utf-8").strip()
    if len(salt) < SALT_CHARACTERS:
        raise InputError(
            f"{path}: holds {len(salt)} characters, {SALT_CHARACTERS} or more are needed, or pseudonyms could be "
            "guessed; delete it, and convert anew what has pseudonyms"
        )
    return salt


def _refuse_leaks(cases: Sequence[Case]) -> None:
    splits: dict[tuple[str, str], Case] = {}
    for case in cases:
        first = splits.setdefault((case.cohort, case.subject), case)
        if first.split != case.split:
            raise LeakageError(
                f"subject {case.subject} of {case.cohort} is in {first.split} with {first.name} and in {case.split} "
                f"with {case.name}; put all cases of a subject on one side with meta.split"
            )


def _roles(present: Iterable[Iterable[Role]]) -> tuple[Role, ...]:
    there = {role for roles in present for role in roles}
    return tuple(role for role in CHANNEL_ORDER if role in there)


def _check_ownership(folders: DatasetFolders, cohorts: Mapping[str, Cohort]) -> None:
    """Refuse to write over a dataset that other tools or entirely other cohorts made."""
    if not (folders.raw / "dataset.json").is_file():
        return
    record_file = folders.raw / "dataset_record.json"
    if not record_file.is_file():
        raise InputError(f"{folders.raw}: not made by cmb_convert; choose another number with -d")
    earlier = ConversionRecord.read(record_file).prep
    if not set(earlier) & set(cohorts):
        raise InputError(
            f"{folders.raw}: holds {', '.join(earlier)}, none of which is given now; "
            "choose another number with -d, or delete the folder"
        )
    for gone in sorted(set(earlier) - set(cohorts)):
        log(f"warning: {gone}, which is in {folders.name}, is not among the cards now: its cases are taken out")


def _no_case_left(cohorts: Sequence[Cohort], exclusions: Sequence[Exclusion]) -> str:
    names = ", ".join(cohort.card for cohort in cohorts)
    if not exclusions:
        return f"{names}: no case found; try cmb_cohort check"
    first = exclusions[0]
    others = f" (and {len(exclusions) - 1} more)" if len(exclusions) > 1 else ""
    return f"{names}: no usable case; {first.case}: {first.reason}{others}; try cmb_cohort check"


Done = dict[str, ConvertedCase]


def _convert_cases(
    cases: Sequence[Case],
    folders: DatasetFolders,
    roles: tuple[Role, ...],
    jobs: int | None,
    of_name: Mapping[str, Cohort],
    failed: Mapping[str, str] | None = None,
) -> tuple[Done, dict[str, str]]:
    """Convert each case; returns what came of it and reasons of failure."""
    done: Done = {}
    reasons = dict(failed or {})
    work = [CaseJob(case, folders.raw, roles, of_name[case.cohort].disguise_of(case)) for case in cases]
    if jobs is None:
        effort = estimate_effort(cases)
        jobs = choose_workers(len(work), effort.bytes_each, effort.jobs_each)
    results = run_jobs(attempt, work, jobs, died)
    for job, result in zip(work, track(results, "Converting", len(work)), strict=True):
        if isinstance(result, str):
            reasons[job.case.name] = result
        else:
            done[job.case.name] = result
            open_log(folders.workspace)
    return done, reasons


def _warn_of_differing_values(cohorts: Sequence[Cohort]) -> None:
    """A network that sees grey values made in two ways may learn the way rather than the lesions."""
    for cohort in cohorts[1:]:
        names = differing(cohorts[0].prep, cohort.prep)
        if names:
            log(
                f"warning: {cohorts[0].name} and {cohort.name} differ in prep.{names[0]}, so their grey values do; "
                "set it alike in both cards, or for both by the command's option"
            )


def _remove_departed(folders: DatasetFolders, records: Mapping[str, CaseRecord]) -> None:
    """Remove cases of an earlier conversion that are no longer usable."""
    departed = sorted(path for path in (folders.raw / "records").glob("*.json") if path.stem not in records)
    for path in departed:
        (folders.raw / "dataset.json").unlink(missing_ok=True)
        remove_files(folders.raw, path.stem)
        path.unlink()
    if departed:
        log(f"{folders.name}: removed {len(departed)} cases that are gone or renamed ({departed[0].stem}, ...)")


def _drop_stale_folds(folders: DatasetFolders, cases: Sequence[Case], records: Mapping[str, CaseRecord]) -> None:
    """Remove the folds where they were made for other cases; the planner makes them anew."""
    folds = folders.raw / "splits_final.json"
    table = folders.raw / "cases.tsv"
    if not folds.is_file():
        return
    columns = ("case", "cohort", "subject", "split", "labelled")
    before = {tuple(row.get(column) for column in columns) for row in read_tsv(table)} if table.is_file() else set()
    now = {(case.name, case.cohort, case.subject, case.split, str(int(records[case.name].labelled))) for case in cases}
    if before != now:
        folds.unlink()
        log(f"{folds}: removed, because the cases changed; plan anew, and train all folds anew")


def _warn_of_boxes(cases: Sequence[Case]) -> None:
    """A box is no mask: who trains or judges masks on it must know what they are."""
    for cohort in sorted({case.cohort for case in cases if case.label is not None and case.label.kind == "boxes"}):
        log(
            f"warning: {cohort}: its labels are boxes, and its masks the ellipses that fit into them; recipes of masks "
            "learn these ellipses, detectors (cmb_train -r ssd512) boxes; voxel figures such as Dice are of ellipses"
        )


def _warn_of_no_lesions(cases: Sequence[Case], records: Mapping[str, CaseRecord]) -> None:
    """A cohort without any lesion may be one of controls, or one whose card names the wrong value."""
    for cohort in sorted({case.cohort for case in cases}):
        sources = {case.name: case.label for case in cases if case.cohort == cohort and case.label is not None}
        if sources and not any(records[name].n_lesions for name in sources):
            log(f"warning: {no_lesion_warning(cohort, list(sources.values()))}")
