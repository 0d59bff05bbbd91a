"""The prediction stage: cases in, probability maps, masks, lesion tables and pictures out."""

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from cmb_autoseg import __version__
from cmb_autoseg.errors import CASE_FAULTS, CMBError, InputError, OutputError, fault_reason
from cmb_autoseg.files import file_digest
from cmb_autoseg.geometry import Volume, from_canonical
from cmb_autoseg.inference.ensemble import Ensemble
from cmb_autoseg.inference.inputs import InputFailure
from cmb_autoseg.inference.layouts import OUTDATED, CaseResult, Layout, Outcome
from cmb_autoseg.inference.training_range import BRAIN_TOLERANCE, brain_ml, range_warnings
from cmb_autoseg.lesions import describe, lesion_components
from cmb_autoseg.machine import available_bytes, described_machine
from cmb_autoseg.parallel import one_ahead
from cmb_autoseg.preprocessing import PreparedCase, prepare_case
from cmb_autoseg.preprocessing.checks import orientation_warnings
from cmb_autoseg.preprocessing.settings import as_trained
from cmb_autoseg.progress import log
from cmb_autoseg.readers import source_files
from cmb_autoseg.readers.source_digest import source_digest
from cmb_autoseg.records import (
    SUSCEPTIBILITY_ROLES,
    Case,
    ImageSource,
    LesionTable,
    OperatingPoint,
)
from cmb_autoseg.run_log import open_log, record, versions
from cmb_autoseg.timing import StepTimes

__all__ = [
    "CaseResult",
    "fixed_part",
    "on_own_grid",
    "predict_cases",
    "prepare_for",
    "size_warnings",
]

EMPTY_BRAIN_ML = 0.5
"""A brain mask that is smaller holds no brain, unless the model learned from such pieces."""
LARGEST_AHEAD = 2**26
"""Voxels of a scan beside which another one is prepared."""
BYTES_AHEAD = 32
"""Memory that preparing takes, about, a voxel of each sequence."""
LARGEST_LESION_MM3 = 2000.0
"""Four times the ball of 10 mm, above which a bleed is no longer called a microbleed (Greenberg et al. 2009)."""


def predict_cases(
    cases: Sequence[Case],
    failures: Sequence[InputFailure],
    ensemble: Ensemble,
    point: OperatingPoint,
    layout: Layout,
    on_case: Callable[[Iterable[Case]], Iterable[Case]] = lambda cases: cases,
    refuse: bool = False,
    finish: Callable[[Sequence[CaseResult], Sequence[InputFailure], Mapping[str, Any]], object] | None = None,
) -> tuple[list[CaseResult], list[InputFailure]]:
    """Predict every case; one that fails is noted and the others go on.

    Files that an earlier run wrote of a case that fails now are moved away, see `Layout.set_aside`.

    Args:
        cases: what to predict.
        failures: inputs that were no case at all; they are listed with those that fail here.
        ensemble: the model.
        point: where the probability map is cut.
        layout: where and how results are written.
        on_case: wraps the cases that are gone through, to show progress.
        refuse: raise what keeps a case from being predicted instead, before anything is written.
        finish: given results, failures and what the run says of itself in the end; None writes the layout's tables.
    """
    layout.begin(cases, failures)
    failed, results = list(failures), []
    told: set[tuple[str, ...]] = set()
    begun = one_ahead(lambda case: _begin(case, ensemble, point, layout, told), cases, _may_begin_beside)
    for case, beginning in zip(on_case(cases), begun, strict=True):
        try:
            results.append(_finish(beginning(), ensemble, point, layout))
            open_log(layout.out)
        except OutputError:  # such as a full disk: no case would fare better
            raise
        except CASE_FAULTS as error:
            reason = case.shown(fault_reason(error))
            if refuse:
                _set_aside(case.name, layout)
                raise error if isinstance(error, CMBError) else InputError(f"{case.name}: {reason}") from error
            if not isinstance(error, CMBError):
                record(f"{case.name}: {reason}", event="failure", traceback=case.shown(traceback.format_exc()))
            failed.append(InputFailure(case.name, reason))
    for name in {failure.case for failure in failed} - {result.table.case for result in results}:
        _set_aside(name, layout)
    open_log(layout.out)
    (finish or layout.write_run)(results, failed, _run_record(results, ensemble, point))
    return results, failed


def _set_aside(case: str, layout: Layout) -> None:
    moved = layout.set_aside(case)
    if moved:
        log(f"{case}: {len(moved)} files of an earlier run moved to {layout.out / OUTDATED}, since it failed now")


@dataclass(frozen=True)
class _Ready:
    """A case that waits for the network."""

    case: Case
    fixed: dict[str, Any]
    prepared: PreparedCase
    times: StepTimes


def _may_begin_beside(begun: _Ready | CaseResult, following: Case) -> bool:
    """Whether another case may be prepared while this one is predicted: in memory, and not by a network."""
    if isinstance(begun, CaseResult):
        return following.prep.hd_bet is None
    n_voxels = begun.prepared.original.data.size  # the next one is taken to be as large
    fits = n_voxels <= LARGEST_AHEAD and BYTES_AHEAD * n_voxels * len(following.images) <= available_bytes()
    return fits and following.prep.hd_bet is None


def _begin(
    case: Case, ensemble: Ensemble, point: OperatingPoint, layout: Layout, told: set[tuple[str, ...]]
) -> _Ready | CaseResult:
    """Read and prepare a case; one that is finished with these very inputs is only read.

    Args:
        case: as it was found.
        ensemble: the model.
        point: where the probability map is cut.
        layout: of the results.
        told: for what reasons finished cases are predicted anew, as far as the user knows; more are added.

    Raises:
        InputError: the case lacks every susceptibility sequence of the model, or a file is unusable.
        GeometryError: its sequences do not share one grid.
    """
    case = as_trained(case, ensemble.plan.prep, ensemble.channels)
    fixed = fixed_part(case, ensemble, point)
    finished = layout.finished(case.name, fixed)
    if finished is not None:
        return finished
    differing = layout.differing(case.name, fixed)
    if differing and differing not in told:
        told.add(differing)
        log(f"{case.name}: finished by another {', '.join(differing)}; it and others alike are predicted anew")
    times = StepTimes()
    with times.step("prepare"):
        prepared = prepare_for(case, ensemble)
    return _Ready(case, fixed, prepared, times)


def _finish(ready: _Ready | CaseResult, ensemble: Ensemble, point: OperatingPoint, layout: Layout) -> CaseResult:
    """Predict a case that is prepared and write its files; of one that is finished there is nothing to do."""
    if isinstance(ready, CaseResult):
        return ready
    case, fixed, prepared, times = ready.case, ready.fixed, ready.prepared, ready.times
    usable = [role for role in ensemble.channels if role in prepared.volumes]
    missing = [role for role in ensemble.channels if role not in usable]
    with times.step("network"):
        said = ensemble.predict(prepared.volumes)
    with times.step("lesions"):
        probability = on_own_grid(said.probability.data, prepared)
        components = lesion_components(probability, point)
        table = describe(case.name, components, probability)
    outside = range_warnings(prepared, ensemble.plan.training_range, ensemble.channels)
    warnings = (*fixed["notes"], *map(case.shown, prepared.warnings), *outside, *size_warnings(table, point))
    record = {
        **fixed,
        "sequences_used": usable,
        "sequences_missing": missing,
        "preparation": [
            {**step.model_dump(mode="json"), "decision": case.shown(step.decision)} for step in prepared.steps
        ],
        "n_lesions": len(table.lesions),
        "lesions": [lesion.model_dump(mode="json") for lesion in table.lesions],
        **({} if said.boxes is None else {"n_boxes": len(said.boxes)}),
        "warnings": list(warnings),
    }
    doubts = (*map(case.shown, orientation_warnings(case.reference_role, prepared.original)), *outside)
    outcome = Outcome(prepared.original, probability, components.labels, table, record, said.boxes, doubts)
    with times.step("write"):
        layout.write(case.name, outcome)
    seconds = {f"prepare: {step}": took for step, took in prepared.seconds.items()}
    seconds |= {step: round(took, 3) for step, took in times.seconds.items()}
    return CaseResult(table, warnings, tuple(usable), tuple(missing), seconds)


def prepare_for(case: Case, ensemble: Ensemble) -> PreparedCase:
    """The case as the model wants it; its settings must be those of training already.

    Raises:
        InputError: it lacks every susceptibility sequence of the model, a file is unusable, or no brain is in it.
        GeometryError: its sequences do not share one grid.
    """
    if not set(case.images) & set(ensemble.channels) & set(SUSCEPTIBILITY_ROLES):
        raise InputError(
            f"{case.name}: has {', '.join(case.images) or 'no sequence'}, but the model needs at least one of "
            f"{', '.join(role for role in ensemble.channels if role in SUSCEPTIBILITY_ROLES)}"
        )
    prepared = prepare_case(case, keep=ensemble.channels)
    found_ml, (least_ml, _) = brain_ml(prepared), ensemble.plan.training_range.brain_volume_ml
    if found_ml < min(EMPTY_BRAIN_ML, least_ml / BRAIN_TOLERANCE):
        raise InputError(
            f"{case.name}: {case.reference_role}: {case.images[case.reference_role].path}: found {found_ml:.2g} ml of "
            f"brain, expected a head (trained on {least_ml:.0f} ml and more); if this is a mask or a part of a scan, "
            "take it out of the folder, else correct its brain mask or its voxel size"
        )
    return prepared


def on_own_grid(canonical: NDArray[Any], prepared: PreparedCase) -> Volume:
    """A map (i, j, k) in canonical axes on the grid of the scan as it came."""
    original = prepared.original
    return Volume(from_canonical(canonical, original), original.affine, original.header, prepared.case.name)


def fixed_part(case: Case, ensemble: Ensemble, point: OperatingPoint) -> dict[str, Any]:
    """What decides the result; a finished case whose record says the same is not predicted again."""
    inputs = [
        {
            "role": role.value,
            "file": case.shown_file(role),
            "digest": _digest(source),
            **_files_counted(source),
            **source.model_dump(mode="json", exclude={"path", "files"}),
        }
        for role, source in case.images.items()
    ]
    mask = case.brain_mask
    return {
        "case": case.name,
        "inputs": inputs,
        "brain_mask": None if mask is None else {"digest": _digest(mask.source), "on": mask.grid},
        "notes": [note for role, note in case.notes.items() if role in ensemble.channels or role in case.images],
        "prep": case.prep.model_dump(mode="json", exclude={"hd_bet": {"folder", "device"}}),
        "model": {"dataset": ensemble.plan.dataset, "folds": list(ensemble.folds), "digest": ensemble.digest}
        | ({"fast": True} if ensemble.is_fast else {}),
        "operating_point": point.model_dump(mode="json"),
        "software": f"cmb_autoseg {__version__}",
        "intended_use": ensemble.intended_use,
    }


def _digest(source: ImageSource) -> str:
    return source_digest(source, _file_digest)


def _files_counted(source: ImageSource) -> dict[str, int]:
    """By what digests of sources of many files are told from those of one; nothing of one."""
    n_files = len(source_files(source))
    return {"n_files": n_files} if n_files > 1 else {}


def _file_digest(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return file_digest(path)


def size_warnings(table: LesionTable, point: OperatingPoint) -> tuple[str, ...]:
    """Say which lesions are far too large for microbleeds, as a threshold near 0 makes them."""
    large = [lesion for lesion in table.lesions if lesion.volume_mm3 > LARGEST_LESION_MM3]
    if not large:
        return ()
    return (
        f"lesion {large[0].lesion} has {large[0].volume_mm3:.0f} mm3, more than a microbleed can have (10 mm across: "
        f"524 mm3); look at the picture, and try a threshold above {point.threshold:g}",
    )


def _run_record(results: Sequence[CaseResult], ensemble: Ensemble, point: OperatingPoint) -> dict[str, Any]:
    """What a run says of itself; the only record that may differ between two equal runs."""
    return {
        "versions": versions(),
        "machine": described_machine(),
        "model": {
            "folder": str(ensemble.folder),
            "folds": list(ensemble.folds),
            "digest": ensemble.digest,
            "fast": ensemble.is_fast,
            "engine": ensemble.engine_name,
            "intended_use": ensemble.intended_use,
        },
        "operating_point": point.model_dump(mode="json"),
        "seconds": {result.table.case: result.seconds for result in results if result.seconds},
        "skipped_as_finished": [result.table.case for result in results if not result.seconds],
        "warnings": {result.table.case: list(result.warnings) for result in results if result.warnings},
    }
