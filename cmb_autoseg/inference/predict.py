"""The prediction stage: cases in, probability maps, masks, lesion tables and pictures out."""

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cmb_autoseg import __version__
from cmb_autoseg.errors import CMBError, InputError, OutputError
from cmb_autoseg.files import file_digest, read_json, write_json, write_tsv
from cmb_autoseg.geometry import Volume, from_canonical, write_volume
from cmb_autoseg.inference.ensemble import Ensemble
from cmb_autoseg.inference.inputs import INPUT_NOTE, InputFailure
from cmb_autoseg.inference.overlay import write_overlay
from cmb_autoseg.lesions import LESION_COLUMNS, lesion_mask, tabulate
from cmb_autoseg.preprocessing import PreparedCase, prepare_case
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, Case, LesionTable, OperatingPoint, Role, TrainingRange
from cmb_autoseg.run_log import open_log, versions

__all__ = ["CaseResult", "predict_case", "predict_cases", "range_warnings"]

COUNT_COLUMNS = ("case", "status", "n_lesions", "total_volume_mm3", "warnings")
SPACING_TOLERANCE = 1.2
BRAIN_TOLERANCE = 1.5
"""A scan is outside the training range when its spacing or brain volume leaves it by more than this factor."""


@dataclass(frozen=True)
class CaseResult:
    """One predicted case."""

    table: LesionTable
    warnings: tuple[str, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    """By step; empty for a case that an earlier run had finished."""


def predict_cases(
    cases: Sequence[Case],
    failures: Sequence[InputFailure],
    ensemble: Ensemble,
    point: OperatingPoint,
    out: Path,
    on_case: Callable[[Iterable[Case]], Iterable[Case]] = lambda cases: cases,
    refuse: bool = False,
) -> tuple[list[CaseResult], list[InputFailure]]:
    """Predict every case; one that fails is noted and the others go on.

    Writes for each case `<case>_prob.nii.gz`, `_mask.nii.gz`, `_lesions.tsv`, `_overlay.png` and, last,
    `<case>.json`; then `lesions.tsv`, `counts.tsv`, `failures.tsv` and `run.json` for the run.

    Args:
        cases: what to predict.
        failures: inputs that were no case at all; they are listed with those that fail here.
        ensemble: the model.
        point: where the probability map is cut.
        out: the output folder.
        on_case: wraps the cases that are gone through, to show progress.
        refuse: raise what keeps a case from being predicted instead, before anything is written.
    """
    failed, results = list(failures), []
    for case in on_case(cases):
        try:
            results.append(predict_case(case, ensemble, point, out))
            open_log(out)
        except OutputError:  # such as a full disk: no case would fare better
            raise
        except (CMBError, OSError, RuntimeError, MemoryError) as error:
            if refuse:
                raise
            failed.append(InputFailure(case.name, " ".join((str(error) or type(error).__name__).split())))
    open_log(out)
    _write_run(results, failed, ensemble, point, out)
    return results, failed


def predict_case(case: Case, ensemble: Ensemble, point: OperatingPoint, out: Path) -> CaseResult:
    """Predict one case and write its files; a case that is finished with these very inputs is only read.

    Raises:
        InputError: the case lacks every susceptibility sequence of the model, or a file is unusable.
        GeometryError: its sequences do not share one grid.
    """
    fixed = _fixed_part(case, ensemble, point)
    finished = _finished(case.name, fixed, out)
    if finished is not None:
        return finished
    clock = _Clock()
    usable = [role for role in case.images if role in ensemble.channels]
    if not set(usable) & set(SUSCEPTIBILITY_ROLES):
        raise InputError(
            f"{case.name}: has {', '.join(case.images) or 'no sequence'}, but the model needs at least one of "
            f"{', '.join(role for role in ensemble.channels if role in SUSCEPTIBILITY_ROLES)}"
        )
    prepared = prepare_case(case)
    clock.stop("prepare")
    canonical = ensemble.probability(prepared.volumes)
    clock.stop("network")
    probability = Volume(
        from_canonical(canonical.data, prepared.original), prepared.original.affine, prepared.original.header, case.name
    )
    mask = lesion_mask(probability, point)
    table = tabulate(case.name, probability, point)
    notes = (case.meta[INPUT_NOTE],) if INPUT_NOTE in case.meta else ()
    outside = range_warnings(prepared, ensemble.plan.training_range, ensemble.channels)
    warnings = (*notes, *prepared.warnings, *outside)
    clock.stop("lesions")
    # The record of an earlier run must not vouch for files that are about to be replaced.
    (out / f"{case.name}.json").unlink(missing_ok=True)
    write_volume(out / f"{case.name}_prob.nii.gz", probability, np.float32)
    write_volume(out / f"{case.name}_mask.nii.gz", probability.with_data(mask), np.uint8)
    write_tsv(out / f"{case.name}_lesions.tsv", LESION_COLUMNS, [lesion.model_dump() for lesion in table.lesions])
    write_overlay(out / f"{case.name}_overlay.png", prepared.original, mask, table, case.name)
    write_json(
        out / f"{case.name}.json",
        {
            **fixed,
            "sequences_missing": [role for role in ensemble.channels if role not in usable],
            "n_lesions": len(table.lesions),
            "lesions": [lesion.model_dump(mode="json") for lesion in table.lesions],
            "warnings": list(warnings),
        },
    )
    clock.stop("write")
    return CaseResult(table, warnings, clock.seconds)


def _fixed_part(case: Case, ensemble: Ensemble, point: OperatingPoint) -> dict[str, Any]:
    """What decides the result; a finished case whose record says the same is not predicted again."""
    inputs = [
        {
            "role": role.value,
            "file": Path(source.path).name,
            "digest": _digest(source.path),
            **source.model_dump(mode="json", exclude={"path"}),
        }
        for role, source in case.images.items()
    ]
    return {
        "case": case.name,
        "inputs": inputs,
        "sequences_used": [role.value for role in case.images if role in ensemble.channels],
        "prep": case.prep.model_dump(mode="json"),
        "model": {"dataset": ensemble.plan.dataset, "folds": list(ensemble.folds), "digest": ensemble.digest},
        "operating_point": point.model_dump(mode="json"),
        "software": f"cmb_autoseg {__version__}",
        "intended_use": "Research use. Not a medical device.",
    }


def _digest(path: str) -> str:
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    return file_digest(Path(path))


def _finished(name: str, fixed: dict[str, Any], out: Path) -> CaseResult | None:
    record = out / f"{name}.json"
    parts = ("_prob.nii.gz", "_mask.nii.gz", "_lesions.tsv", "_overlay.png")
    if not record.is_file() or not all((out / f"{name}{part}").is_file() for part in parts):
        return None
    try:
        content = read_json(record)
        if any(content.get(key) != value for key, value in fixed.items()):
            return None
        return CaseResult(LesionTable(case=name, lesions=content["lesions"]), tuple(content["warnings"]))
    except (InputError, KeyError, ValueError, AttributeError):
        return None


class _Clock:
    """Seconds between stops, by step."""

    def __init__(self) -> None:
        self.last, self.seconds = time.monotonic(), dict[str, float]()

    def stop(self, step: str) -> None:
        now = time.monotonic()
        self.seconds[step] = round(now - self.last, 3)
        self.last = now


def range_warnings(prepared: PreparedCase, seen: TrainingRange, channels: tuple[Role, ...]) -> tuple[str, ...]:
    """Say where a scan lies outside what the model has seen."""
    warnings = []
    spacing = prepared.brain.spacing_mm[::-1]
    for axis, size, low, high in zip("zyx", spacing, seen.spacing_mm_min, seen.spacing_mm_max, strict=True):
        if not low / SPACING_TOLERANCE <= size <= high * SPACING_TOLERANCE:
            known = f"{low:.2f}" if high - low < 0.005 else f"{low:.2f}-{high:.2f}"
            warnings.append(
                f"outside the model's training range: voxel size along {axis} is {size:.2f} mm, trained on {known} mm"
            )
    volume_ml = float(np.count_nonzero(prepared.brain.data)) * prepared.brain.voxel_volume_mm3 / 1000
    low, high = seen.brain_volume_ml
    if not low / BRAIN_TOLERANCE <= volume_ml <= high * BRAIN_TOLERANCE:
        warnings.append(
            f"outside the model's training range: {volume_ml:.0f} ml of brain, trained on {low:.0f}-{high:.0f} ml"
        )
    missing = [role for role in channels if role not in prepared.volumes]
    if missing:
        warnings.append(f"missing sequences: {', '.join(missing)}; the model was trained with {', '.join(channels)}")
    return tuple(warnings)


def _write_run(
    results: Sequence[CaseResult], failed: Sequence[InputFailure], ensemble: Ensemble, point: OperatingPoint, out: Path
) -> None:
    counts = [
        {
            "case": result.table.case,
            "status": "done",
            "n_lesions": len(result.table.lesions),
            "total_volume_mm3": sum(lesion.volume_mm3 for lesion in result.table.lesions),
            "warnings": len(result.warnings),
        }
        for result in results
    ]
    counts += [{"case": failure.case, "status": "failed"} for failure in failed]
    write_tsv(out / "counts.tsv", COUNT_COLUMNS, counts)
    write_tsv(
        out / "lesions.tsv", ("case", *LESION_COLUMNS), [row for result in results for row in result.table.rows()]
    )
    write_tsv(out / "failures.tsv", ("case", "reason"), [vars(failure) for failure in failed])
    write_json(
        out / "run.json",
        {
            "versions": versions(),
            "machine": {"system": platform.platform(), "processor": platform.processor() or platform.machine()},
            "model": {"folder": str(ensemble.folder), "folds": list(ensemble.folds), "digest": ensemble.digest},
            "operating_point": point.model_dump(mode="json"),
            "seconds": {result.table.case: result.seconds for result in results if result.seconds},
            "skipped_as_finished": [result.table.case for result in results if not result.seconds],
            "warnings": {result.table.case: list(result.warnings) for result in results if result.warnings},
        },
    )
