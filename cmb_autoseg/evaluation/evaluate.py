"""Score a folder of predictions, or cases in memory, against their references."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from cmb_autoseg.errors import CMBError, InputError
from cmb_autoseg.evaluation.protocols import Protocol
from cmb_autoseg.evaluation.report import EvaluationReport, Failure
from cmb_autoseg.evaluation.scores import CaseScore, score_case
from cmb_autoseg.geometry import Volume, is_nifti, nifti_stem, read_volume, to_canonical

__all__ = ["MASK_PATTERNS", "evaluate_cases", "evaluate_folder", "find_masks", "pair_masks"]

MASK_PATTERNS = ("<case>.nii.gz", "<case>_mask.nii.gz", "<case>_dseg.nii.gz")
MASK_ENDINGS = ("_mask", "_dseg")
PROBABILITY_ENDINGS = ("_prob", "_label-CMB_probseg")
CHANNEL = re.compile(r".*_0\d{3}")
NO_MASK = re.compile(r".*(_prob|_probseg|_desc-lesions_dseg|_0\d{3})")
"""Probability maps, numbered lesions, and images in nnU-Net's naming, that lie beside masks; `_2019` ends a name."""


def evaluate_cases(cases: Iterable[tuple[str, Volume, Volume]], protocol: Protocol) -> EvaluationReport:
    """Score cases in memory, one at a time.

    Args:
        cases: name, prediction (mask or probability map) and reference mask of each case; a case
            that cannot be scored becomes a failure of the report, the others go on.
        protocol: one of `PROTOCOLS`.
    """
    return _collect(
        ((name, partial(score_case, name, predicted, reference, protocol)) for name, predicted, reference in cases),
        protocol,
    )


def evaluate_folder(
    predicted: Path,
    reference: Path,
    protocol: Protocol,
    on_cases: Callable[[list[str]], Iterable[str]] = iter,
) -> EvaluationReport:
    """Score every reference mask of one folder that has, or should have, a prediction in the other.

    Args:
        predicted: folder with masks in any of `MASK_PATTERNS`; `<case>_prob.nii.gz` beside a mask
            gives its lesions their probabilities.
        reference: folder with masks in any of `MASK_PATTERNS`.
        protocol: one of `PROTOCOLS`.
        on_cases: passes on the names of the cases and may show progress while doing so.

    Returns:
        The report; a reference without prediction and a case that cannot be scored are its failures.

    Raises:
        InputError: a folder holds no mask, no case is in both, or a case has two masks in one folder.
    """
    predictions, references = pair_masks(predicted, reference)

    def score(name: str) -> CaseScore:
        if name not in predictions:
            raise InputError(f"{name}: no prediction in {predicted}; predict this case or remove its reference")
        # Both are turned to canonical axes, which is lossless, so that a stored flip is no mismatch.
        found, marked = (to_canonical(read_volume(masks[name])) for masks in (predictions, references))
        return score_case(name, found, marked, protocol, _read_probability(predictions[name].parent, name))

    names = on_cases(sorted(references))
    report = _collect(((name, partial(score, name)) for name in names), protocol)
    alone = sorted(predictions.keys() - references.keys())
    warnings = (
        *(f"{name}: predicted, but without reference in {reference}; not scored" for name in alone),
        *(
            f"{path}: taken for an image by its name, not scored; if it is a mask, name it as one of "
            f"{', '.join(MASK_PATTERNS)}"
            for folder in (predicted, reference)
            for path in sorted(folder.iterdir())
            if is_nifti(path) and CHANNEL.fullmatch(nifti_stem(path))
        ),
    )
    return report.model_copy(update={"warnings": warnings})


def pair_masks(predicted: Path, reference: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The masks of both folders by case name; reads no scan.

    Raises:
        InputError: as `evaluate_folder`.
    """
    predictions, references = find_masks(predicted), find_masks(reference)
    if not predictions.keys() & references.keys():
        raise InputError(
            f"no case is in both folders: {predicted} has {_listed(predictions)}, {reference} has "
            f"{_listed(references)}; name the masks alike, as one of {', '.join(MASK_PATTERNS)}"
        )
    return predictions, references


def find_masks(folder: Path) -> dict[str, Path]:
    """The masks of a folder by case name, sorted; see `MASK_PATTERNS`.

    In BIDS derivatives they are looked for below `sub-*/`; lesions with numbers of their own are no mask.

    Raises:
        InputError: there is none, or two of one case.
    """
    masks: dict[str, Path] = {}
    others: list[str] = []
    for path in (*sorted(folder.iterdir()), *sorted(folder.glob("sub-*/**/*_dseg.nii.gz"))):
        stem = nifti_stem(path)
        if not is_nifti(path) or path.name.startswith(".") or NO_MASK.fullmatch(stem):
            others.append(path.name)
            continue
        case = _case_of(stem)
        if case in masks:
            raise InputError(f"{folder}: {masks[case].name} and {path.name} are both masks of {case}; keep one")
        masks[case] = path
    if not masks:
        found = f" (there: {', '.join(others[:3])}{', ...' if len(others) > 3 else ''})" if others else ""
        raise InputError(f"{folder}: found no mask{found}; expected files named {', '.join(MASK_PATTERNS)}")
    return dict(sorted(masks.items()))


def _case_of(stem: str) -> str:
    for ending in MASK_ENDINGS:
        if stem.endswith(ending):
            return stem.removesuffix(ending)
    return stem


def _read_probability(folder: Path, case: str) -> Volume | None:
    paths = (folder / f"{case}{ending}.nii.gz" for ending in PROBABILITY_ENDINGS)
    there = next((path for path in paths if path.is_file()), None)
    return None if there is None else to_canonical(read_volume(there))


def _listed(masks: dict[str, Path]) -> str:
    names = list(masks)
    return ", ".join(names[:3]) + (f", ... ({len(names)} in all)" if len(names) > 3 else "")


def _collect(cases: Iterable[tuple[str, Callable[[], CaseScore]]], protocol: Protocol) -> EvaluationReport:
    scores: list[CaseScore] = []
    failures: list[Failure] = []
    for name, score in cases:
        try:
            scores.append(score())
        except CMBError as error:
            failures.append(Failure(case=name, reason=" ".join(str(error).split())))
    return EvaluationReport(protocol=protocol.name, cases=tuple(scores), failures=tuple(failures))
