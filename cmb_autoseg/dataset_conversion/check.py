"""A dry run of cards: what they match and what would go wrong, from headers alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmb_autoseg.dataset_conversion.case_conversion import reference_grid
from cmb_autoseg.dataset_conversion.conversion import merge_cases
from cmb_autoseg.dataset_conversion.duplicates import shared_scans
from cmb_autoseg.dataset_conversion.labels import no_lesion_warning, read_label
from cmb_autoseg.dataset_conversion.resolver import Cohort
from cmb_autoseg.errors import CMBError, GeometryError, InputError
from cmb_autoseg.geometry import Volume, check_same_grid, read_grid, to_canonical
from cmb_autoseg.progress import track
from cmb_autoseg.records import Case, ImageSource, Role

__all__ = ["CohortCheck", "check_cohorts"]

FILES_LISTED = 10


@dataclass(frozen=True)
class CohortCheck:
    """What a cohort would give, and what is wrong with it."""

    cohort: Cohort
    problems: dict[str, str]
    """Case to what would keep it from being converted."""
    lesions: dict[str, int] | None
    """Case to number of lesions, for labelled cases that can be used; None where not counted."""

    warnings: tuple[str, ...] = ()
    """What may be a mistake of the card although every file can be used."""

    @property
    def usable_cases(self) -> list[Case]:
        return [case for case in self.cohort.cases if case.name not in self.problems]

    @property
    def is_usable(self) -> bool:
        """There are cases, and every one is usable or left out by a rule of the card."""
        faultless = not self.problems and all(exclusion.by_rule for exclusion in self.cohort.exclusions)
        return faultless and bool(self.usable_cases)

    def table(self) -> str:
        """Lines for the terminal."""
        cohort = self.cohort
        usable = self.usable_cases
        by_rule = [exclusion for exclusion in cohort.exclusions if exclusion.by_rule]
        faulty = [exclusion for exclusion in cohort.exclusions if not exclusion.by_rule]
        lines = [
            f"{cohort.name} ({cohort.card}) in {cohort.root}",
            *(f"  {name}: {count} files" for name, count in cohort.file_counts.items()),
            f"  usable cases: {len(usable)}, from {len({case.subject for case in usable})} subjects",
            f"    labelled for training: {sum(case.label is not None and case.split == 'train' for case in usable)}",
            f"    unlabelled: {sum(case.label is None and case.split == 'train' for case in usable)} (in no fold)",
            f"    test: {sum(case.split == 'test' for case in usable)}",
            # Where nothing is left, the card does not fit the files: no rule that anybody wanted.
            f"  left out{' by rule' if usable else ''}: {len(by_rule)}",
            *(f"    {exclusion.case}: {exclusion.reason}" for exclusion in by_rule),
            f"  ambiguous: {len(faulty)}",
            *(f"    {exclusion.case}: {exclusion.reason}" for exclusion in faulty),
            f"  unusable: {len(self.problems)}",
            *(f"    {case}: {problem}" for case, problem in self.problems.items()),
            f"  files that no pattern matches: {len(cohort.unmatched)}",
            *(f"    {path}" for path in cohort.unmatched[:FILES_LISTED]),
        ]
        if len(cohort.unmatched) > FILES_LISTED:
            lines.append(f"    ... and {len(cohort.unmatched) - FILES_LISTED} more (key ignore: [...] silences some)")
        if self.lesions is not None:
            lines += [
                f"  lesions: {sum(self.lesions.values())} in {len(self.lesions)} labelled cases",
                *(f"    {case}: {count}" for case, count in self.lesions.items()),
            ]
        return "\n".join(lines)


def check_cohorts(cohorts: Sequence[Cohort], count_lesions: bool = False) -> list[CohortCheck]:
    """Check cohorts that are to become one dataset.

    Args:
        cohorts: from `read_card`.
        count_lesions: read the labels too, which takes longer.

    Raises:
        CardError, LeakageError: the cohorts cannot be merged.
    """
    shared = shared_scans(merge_cases(cohorts))
    return [_check(cohort, shared, count_lesions) for cohort in cohorts]


def _check(cohort: Cohort, shared: Mapping[str, str], count_lesions: bool) -> CohortCheck:
    problems: dict[str, str] = {}
    lesions: dict[str, int] = {}
    for case in track(cohort.cases, f"Checking {cohort.name}"):
        try:
            _check_grids(case)
            if count_lesions and case.label is not None:
                lesions[case.name] = read_label(case.label, reference_grid(case)).n_lesions
        except CMBError as error:
            problems[case.name] = " ".join(str(error).split())
        doubled = next((shared[source.path] for source in case.images.values() if source.path in shared), None)
        if doubled is not None:
            problems.setdefault(case.name, doubled)
    labelled = [case.label for case in cohort.cases if case.label is not None and case.name in lesions]
    warnings = (no_lesion_warning(cohort.name, labelled),) if lesions and not any(lesions.values()) else ()
    return CohortCheck(cohort, problems, lesions if count_lesions else None, warnings)


def _check_grids(case: Case) -> None:
    """Compare the headers of a case's files as `prepare_case` will compare the volumes."""
    grids = {role: _grid(source) for role, source in case.images.items()}
    placed = {role: _placed(case, role, grids) for role in grids}
    reference = placed[case.reference_role]
    for role, volume in placed.items():
        if role is not case.reference_role:
            cure = "register them first (co-registration is not built in yet)"
            check_same_grid(to_canonical(volume), to_canonical(reference), cure)
    if case.label is not None and case.label.kind == "mask" and case.label.resample == "refuse":
        mask = _grid(ImageSource(path=case.label.path))
        check_same_grid(mask, reference, "set labels.cmb.resample: nearest to allow another grid")


def _grid(source: ImageSource) -> Volume:
    """The grid of a file as a volume whose zeros take no memory."""
    shape, affine = read_grid(Path(source.path))
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    echoes = shape[3] if len(shape) == 4 else 1
    if len(shape) not in (3, 4) or not 1 <= (source.echo or 1) <= echoes:
        raise InputError(f"{source.path}: shape {shape} has no 3D volume {source.echo or 1}; correct the file or echo")
    if echoes > 1 and source.echo is None:
        raise InputError(f"{source.path}: a 4D file with {echoes} volumes; choose one with images.<name>.echo")
    return Volume(np.broadcast_to(np.uint8(0), shape[:3]), affine, None, source.path)


def _placed(case: Case, role: Role, grids: dict[Role, Volume]) -> Volume:
    giver = case.images[role].copy_geometry_from
    if giver is None:
        return grids[role]
    if grids[giver].shape != grids[role].shape:
        raise GeometryError(
            f"{grids[role].name}: shape {grids[role].shape} differs from {grids[giver].name} {grids[giver].shape}, "
            "so its geometry cannot be copied; remove copy_geometry_from"
        )
    return Volume(grids[role].data, grids[giver].affine, None, grids[role].name)
