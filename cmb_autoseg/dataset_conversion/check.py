"""A dry run of cards: what they match and what would go wrong, from headers alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cmb_autoseg.dataset_conversion.case_conversion import read_case_label
from cmb_autoseg.dataset_conversion.conversion import merge_cases
from cmb_autoseg.dataset_conversion.labels import no_lesion_warning
from cmb_autoseg.dataset_conversion.sorting.duplicates import shared_scans
from cmb_autoseg.dataset_conversion.sorting.resolver import Cohort
from cmb_autoseg.errors import CMBError, GeometryError
from cmb_autoseg.geometry import Grid, Volume, check_same_grid, same_grid
from cmb_autoseg.preprocessing.brain_search import read_given_mask
from cmb_autoseg.progress import track
from cmb_autoseg.readers import MATLAB_SUFFIX, read_grid
from cmb_autoseg.records import BrainMaskSource, Case, ImageSource, LabelSource, Role

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
    moved: dict[str, int] = field(default_factory=dict)
    """Case to number of sequences that are on another grid than its reference."""

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
            *self._lines_of_moved(),
            # Where nothing is left, the card does not fit the files: no rule that anybody wanted.
            f"  left out{' by rule' if usable else ''}: {len(by_rule)}",
            *(f"    {exclusion.case}: {exclusion.reason}" for exclusion in by_rule),
            f"  ambiguous: {len(faulty)}",
            *(f"    {exclusion.case}: {exclusion.reason}" for exclusion in faulty),
            f"  unusable: {len(self.problems)}",
            *(f"    {case}: {problem}" for case, problem in self.problems.items()),
            *self._lines_of_notes(),
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

    def _lines_of_notes(self) -> list[str]:
        """What was assumed or chosen, of the first cases."""
        notes = [f"{case.name}: {'; '.join(case.notes.values())}" for case in self.usable_cases if case.notes]
        if not notes:
            return []
        more = len(notes) - FILES_LISTED
        return [
            f"  with something assumed or chosen: {len(notes)}",
            *(f"    {note}" for note in notes[:FILES_LISTED]),
            *([f"    ... and {more} more"] if more > 0 else []),
        ]

    def _lines_of_moved(self) -> list[str]:
        if not self.moved:
            return []
        how = self.cohort.prep.coregister
        done = "resampled by their headers" if how == "header" else f"co-registered ({how})"
        return [f"  sequences on another grid, to be {done}: {sum(self.moved.values())} in {len(self.moved)} cases"]


def check_cohorts(cohorts: Sequence[Cohort], count_lesions: bool = False) -> list[CohortCheck]:
    """Check cohorts that are to become one dataset.

    Args:
        cohorts: from `read_card`.
        count_lesions: read the labels and brain masks too, which takes longer.

    Raises:
        CardError, LeakageError: the cohorts cannot be merged.
    """
    shared = shared_scans(merge_cases(cohorts))
    return [_check(cohort, shared, count_lesions) for cohort in cohorts]


def _check(cohort: Cohort, shared: Mapping[ImageSource, str], count_lesions: bool) -> CohortCheck:
    problems: dict[str, str] = {}
    lesions: dict[str, int] = {}
    moved: dict[str, int] = {}
    for case in track(cohort.cases, f"Checking {cohort.name}"):
        try:
            elsewhere = _on_other_grids(case)
            mask = _given_mask(case)
            if count_lesions and mask is not None:
                read_given_mask(case.name, mask)
            if count_lesions and case.label is not None:
                lesions[case.name] = read_case_label(case).n_lesions
            if elsewhere:
                moved[case.name] = len(elsewhere)
        except CMBError as error:
            problems[case.name] = " ".join(str(error).split())
        doubled = next((shared[source] for source in case.images.values() if source in shared), None)
        if doubled is not None:
            problems.setdefault(case.name, doubled)
    labelled = [case.label for case in cohort.cases if case.label is not None and case.name in lesions]
    warnings = (no_lesion_warning(cohort.name, labelled),) if lesions and not any(lesions.values()) else ()
    return CohortCheck(cohort, problems, lesions if count_lesions else None, warnings, moved)


def _on_other_grids(case: Case) -> list[Role]:
    """The sequences that `prepare_case` will bring to the reference's grid; everything is known from headers.

    Raises:
        InputError: a header is unusable.
        GeometryError: a sequence or the label cannot be brought there by the card's settings.
    """
    grids = {role: read_grid(source) for role, source in case.images.items()}
    placed = {role: _placed(case, role, grids) for role in grids}
    reference = placed[case.reference_role]
    elsewhere = [role for role, grid in placed.items() if not same_grid(grid, reference)]
    if elsewhere and case.prep.coregister == "refuse":
        role = elsewhere[0]
        raise GeometryError(
            f"{case.images[role].path}: on another grid than {case.images[case.reference_role].path}; "
            "register them first, or set prep.coregister: affine"
        )
    mask = _given_mask(case)
    under_mask = (mask.grid if mask is not None else None) or case.reference_role
    if mask is not None and not same_grid(read_grid(mask.source), placed[under_mask]):
        raise GeometryError(
            f"{mask.source.path}: on another grid than {case.images[under_mask].path}; name its sequence in "
            "brain_mask.grid, or leave the mask out"
        )
    if case.label is not None and case.label.kind == "mask" and case.label.resample == "refuse":
        marked = placed.get(case.label.grid or case.reference_role, reference)
        name = case.images[case.label.grid or case.reference_role].path
        for grid, path in _mask_grids(case.label, marked):
            if not same_grid(grid, marked):
                cure = "set labels.cmb.resample: nearest to allow another grid"
                check_same_grid(_empty(grid, path), _empty(marked, name), cure)
    return elsewhere


def _given_mask(case: Case) -> BrainMaskSource | None:
    """The mask that came with a case, where preparation will use it."""
    return case.brain_mask if case.prep.brain in ("auto", "given") else None


def _mask_grids(label: LabelSource, marked: Grid) -> Iterator[tuple[Grid, str]]:
    """Grids of a mask, or of each reader's, that know their place."""
    if label.files:
        return
    for path in label.raters.values() or (label.path,):
        if not path.lower().endswith(MATLAB_SUFFIX):
            yield read_grid(ImageSource(path=path)), path
            continue
        shape, _ = read_grid(ImageSource(path=path, variable=label.variable))
        yield (shape, marked[1]), path


def _empty(grid: Grid, name: str) -> Volume:
    """A volume whose zeros take no memory."""
    shape, affine = grid
    return Volume(np.broadcast_to(np.uint8(0), shape), affine, None, name)


def _placed(case: Case, role: Role, grids: Mapping[Role, Grid]) -> Grid:
    giver = case.images[role].copy_geometry_from
    if giver is None:
        return grids[role]
    (shape, _), (given_shape, affine) = grids[role], grids[giver]
    if shape != given_shape:
        raise GeometryError(
            f"{case.images[role].path}: shape {shape} differs from {case.images[giver].path} {given_shape}, "
            "so its geometry cannot be copied; remove copy_geometry_from"
        )
    return shape, affine
