"""Which predicted and reference files belong to one case, by their names."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.folders import LEGAL_NAMES, Side, listed, read_side
from cmb_autoseg.evaluation.inputs.naming import MASK_PATTERNS, find_masks
from cmb_autoseg.evaluation.inputs.sides import CaseFiles
from cmb_autoseg.evaluation.matching.lesion_set import Kind

__all__ = ["FoundCases", "find_cases"]


@dataclass(frozen=True)
class FoundCases:
    """What is to be scored, and what stands in the way of it."""

    cases: tuple[CaseFiles, ...]
    """By name."""
    failures: Mapping[str, str]
    """Reason by case: references without prediction."""
    warnings: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all cases that have a reference, the failed ones included."""
        return tuple(sorted((*(case.name for case in self.cases), *self.failures)))


def find_cases(
    predicted: Path,
    reference: Path,
    predicted_kind: Kind | None = None,
    reference_kind: Kind | None = None,
    regions: Path | None = None,
) -> FoundCases:
    """Pair predictions and references by the names of their cases; no scan is read.

    Args:
        predicted: folder of any tool (see `MASK_PATTERNS`, `LIST_PATTERNS`; probabilities as `<case>_prob.nii.gz`,
            `<case>_label-CMB_probseg.nii.gz` or, beside a mask, nnU-Net's `<case>.npz`), or a file: a mask, the list
            of one case, or one of all cases with a column `case`.
        reference: likewise, without probabilities.
        predicted_kind: score these where a case has several; None for masks before boxes before points.
        reference_kind: likewise; told at all, references that look like predictions are taken.
        regions: folder with a map of brain regions a case, named as masks.

    Raises:
        InputError: nothing legible on a side, the same on both, sides that look swapped, no case in both, or two
            files of one case.
    """
    if predicted.resolve() == reference.resolve():
        raise InputError(f"-p and --reference: both are {predicted}; give the predictions and the references apart")
    marked = read_side(reference, "--reference", reference_kind, {})
    found = read_side(predicted, "-p", predicted_kind, {} if marked.lists is None else marked.lists.picture_names)
    if reference_kind is None:
        _refuse_swapped(found, marked)
    for side, kind in ((found, predicted_kind), (marked, reference_kind)):
        _refuse_empty(side, kind)
    if found.alone and marked.alone:
        found = _named_like(found, next(iter(marked.files)))
    if not found.files.keys() & marked.files.keys() and (found.files or found.lists is None):
        where = "folders" if predicted.is_dir() and reference.is_dir() else "sides"
        raise InputError(
            f"no case is in both {where}: {predicted} has {listed(found.files)}, {reference} has "
            f"{listed(marked.files)}; name them alike, as {LEGAL_NAMES}, or in the column case of a list of all cases"
        )
    return _paired(found, marked, regions)


def _refuse_swapped(found: Side, marked: Side) -> None:
    if marked.signs_of_prediction and found.files and not found.signs_of_prediction:
        only_masks = all(side.kind == "mask" for side in found.files.values())
        if only_masks:
            signs = list(marked.signs_of_prediction)
            raise InputError(
                f"-p and --reference look swapped: {marked.place} holds what predictions have ({listed(signs)}), "
                f"{found.place} plain masks; exchange them, or give --reference-kind mask if they are right"
            )


def _refuse_empty(side: Side, kind: Kind | None) -> None:
    if side.files or side.lists is not None:
        return
    if kind is not None:
        raise InputError(f"{side.kind_flag} {kind}: {side.place} holds none{side.there}; expected {LEGAL_NAMES}")
    raise InputError(
        f"{side.place}: found no mask{side.there}; expected files named {', '.join(MASK_PATTERNS)}, or lists of lesions"
    )


def _named_like(found: Side, name: str) -> Side:
    """Two files that were given for one another are of one case, however they are called."""
    rename = dict.fromkeys(found.files, name)
    return replace(
        found,
        files={rename[old]: side for old, side in found.files.items()},
        probabilities={rename[old]: side for old, side in found.probabilities.items()},
    )


def _paired(found: Side, marked: Side, regions: Path | None) -> FoundCases:
    maps = {} if regions is None else find_masks(regions)
    cases: list[CaseFiles] = []
    failures: dict[str, str] = {}
    unlisted: list[str] = []
    for name in sorted(marked.files):
        prediction = found.files.get(name)
        if prediction is None and found.lists is not None:
            unlisted.append(name)
            prediction = found.lists.side(name)
        if prediction is None:
            failures[name] = f"{name}: no prediction in {found.place}; predict this case; leaving it out flatters"
            continue
        cases.append(CaseFiles(name, prediction, marked.files[name], found.probabilities.get(name), maps.get(name)))
    warnings = []
    if unmarked := sorted(found.files.keys() - marked.files.keys()):
        warnings.append(f"{listed(unmarked)}: predicted, but without reference in {marked.place}; not scored")
    if unlisted:
        warnings.append(
            f"{found.place}: no row for {listed(unlisted)}; since it is the list of all cases, this is taken for no "
            "predicted lesion"
        )
    without_regions = [case.name for case in cases if case.regions is None]
    if regions is not None and without_regions:
        warnings.append(f"{regions}: no map for {listed(without_regions)}; the regions of their lesions are unknown")
    warnings += [
        f"{path}: taken for an image by its name, not scored; if it is a mask, name it as one of "
        f"{', '.join(MASK_PATTERNS)}"
        for path in (*found.images, *marked.images)
    ]
    return FoundCases(tuple(cases), failures, (*warnings, *found.notes, *marked.notes))
