"""Grad-CAM of the lesions and candidates of scans: prepared and predicted as always, then explained."""

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import CASE_FAULTS, CMBError, InputError, OutputError, fault_reason
from cmb_autoseg.evaluation.matching.match import match_components
from cmb_autoseg.evaluation.matching.protocols import PROTOCOLS
from cmb_autoseg.explanation import ExplainedCase, ExplanationFiles, find_findings
from cmb_autoseg.explanation.files import OUTDATED, SCHEMA
from cmb_autoseg.explanation.findings import CANDIDATE_SHARE
from cmb_autoseg.explanation.grad_cam import Method
from cmb_autoseg.explanation.pictures import write_picture
from cmb_autoseg.files import file_digest, write_json, write_tsv
from cmb_autoseg.geometry import Volume, check_same_grid, from_canonical, read_volume, to_canonical
from cmb_autoseg.inference.inputs import InputFailure
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.inference.overlay import write_overlay
from cmb_autoseg.inference.patches import PatchEnsemble
from cmb_autoseg.inference.predict import fixed_part, on_own_grid, prepare_for
from cmb_autoseg.inference.run import ModelChoice, tell_intended_use
from cmb_autoseg.inference.training_range import picture_note, range_warnings
from cmb_autoseg.lesions import Components, lesion_mask
from cmb_autoseg.locking import own_folder
from cmb_autoseg.machine import described_machine
from cmb_autoseg.pipeline.explainer import Explainer
from cmb_autoseg.preprocessing.checks import orientation_warnings
from cmb_autoseg.preprocessing.settings import as_trained
from cmb_autoseg.progress import log, telling, track
from cmb_autoseg.records import Case, LesionTable, OperatingPoint
from cmb_autoseg.run_log import open_log, record, versions

__all__ = ["ExplainSettings", "explain_case", "explain_scans", "valdo_hits"]

WHOLE_WITHIN = 1e-3


@dataclass(frozen=True)
class ExplainSettings:
    """What the user chose to have explained, and how."""

    level: int | None = None
    """Of the network, as `explanation.level_modules` counts; None for the default."""
    method: Method = "hirescam"
    most: int = 6
    """Findings of each kind."""
    references: Mapping[str, Path] | None = None
    """Masks by case; None where nothing is known to be true."""


def explain_scans(
    cases: Sequence[Case],
    failures: Sequence[InputFailure],
    model: ModelChoice,
    device: str,
    out: Path,
    settings: ExplainSettings,
    refuse: bool = False,
) -> tuple[list[ExplainedCase], list[InputFailure]]:
    """Explain all cases into a folder that this process owns meanwhile; finished ones are only read.

    Args:
        cases: what to explain.
        failures: inputs that were no case at all; they are listed with those that fail here.
        model: loaded once.
        device: `cuda` or `cpu`.
        out: folder for the results.
        settings: what is explained, and how.
        refuse: raise what keeps a case from being explained.

    Raises:
        InputError: no such level of the network, or no such fold of the model.
        OutputError: another process owns the output, or it cannot be written.
    """
    with own_folder(out, "cmb_explain"):
        with telling("loading the model ..."):
            ensemble = load_ensemble(model.folder, model.folds, device, model.trust)
        if not isinstance(ensemble, PatchEnsemble):
            raise InputError(
                f"{model.folder}: is no model of 3D patches, and Grad-CAM explains these alone; name one with -r or -m"
            )
        tell_intended_use(model, ensemble.intended_use)
        explainer = Explainer(ensemble, settings.level, settings.method)
        failed, results = list(failures), []
        for case in track(cases, "Explaining", slow=True):
            try:
                results.append(explain_case(case, explainer, model.point, out, settings))
                open_log(out)
            except OutputError:  # such as a full disk: no case would fare better
                raise
            except CASE_FAULTS as error:
                reason = case.shown(fault_reason(error))
                _set_aside(case.name, out)
                if refuse:
                    raise error if isinstance(error, CMBError) else InputError(f"{case.name}: {reason}") from error
                if not isinstance(error, CMBError):
                    record(f"{case.name}: {reason}", event="failure", traceback=case.shown(traceback.format_exc()))
                failed.append(InputFailure(case.name, reason))
        open_log(out)
        write_tsv(out / "failures.tsv", ("case", "reason"), [vars(failure) for failure in failed])
        write_json(out / "run.json", _run_record(results, explainer, model.point))
        return results, failed


def explain_case(
    case: Case, explainer: Explainer, point: OperatingPoint, out: Path, settings: ExplainSettings
) -> ExplainedCase:
    """Explain one case and write its files; a case that is finished with these very inputs is only read.

    Raises:
        InputError: the case lacks every susceptibility sequence of the model, a file is unusable, or the reference
            is no mask.
        GeometryError: its sequences, or the reference mask and the scan, do not share one grid.
    """
    ensemble, files = explainer.ensemble, ExplanationFiles(out, case.name)
    case = as_trained(case, ensemble.plan.prep, ensemble.channels)
    mask = None if settings.references is None else settings.references.get(case.name)
    fixed = {
        "schema": SCHEMA,
        **fixed_part(case, ensemble, point),
        "reference": None if mask is None else file_digest(mask),
        "level": f"{explainer.level} ({explainer.level_name})",
        "method": explainer.method,
        "max_lesions": settings.most,
        "candidate_threshold": CANDIDATE_SHARE * point.threshold,
    }
    done = files.finished(fixed)
    if done is not None:
        return done
    seconds, begun = dict[str, float](), time.monotonic()
    prepared = prepare_for(case, ensemble)
    reference = None if mask is None else _reference(mask, prepared.original)
    seconds["prepare"], begun = time.monotonic() - begun, time.monotonic()
    probability = on_own_grid(ensemble.probability(prepared.volumes).data, prepared)
    seconds["network"], begun = time.monotonic() - begun, time.monotonic()
    findings, left_out = find_findings(case.name, probability, point, reference, settings.most, valdo_hits)
    explanations = explainer.explain(findings, prepared)
    seconds["explain"], begun = time.monotonic() - begun, time.monotonic()
    outside = range_warnings(prepared, ensemble.plan.training_range, ensemble.channels)
    unexplained = [f"{e.finding.kind} {e.finding.lesion.lesion}" for e in explanations if e.score is None]
    warnings = [
        *fixed["notes"],
        *map(case.shown, prepared.warnings),
        *outside,
        *([f"{left_out} further findings are left out by --max-lesions"] if left_out else []),
        *([f"{', '.join(unexplained)}: outside the brain mask, so not explained"] if unexplained else []),
        *(["no lesion and no candidate: the map is empty"] if not findings else []),
        *([f"no reference mask of {case.name}"] if settings.references is not None and mask is None else []),
    ]
    kinds: list[str] = [explanation.finding.kind for explanation in explanations]
    # The record of an earlier run must not vouch for files that are about to be replaced.
    files.record.unlink(missing_ok=True)
    files.write_map(probability, explanations)
    files.write_table(ensemble.channels, explanations)
    folds = f"fold{'s' if len(ensemble.folds) > 1 else ''} {', '.join(map(str, ensemble.folds))}"
    lying = map(case.shown, orientation_warnings(case.reference_role, prepared.original))
    note = picture_note(ensemble.intended_use, (*lying, *outside))
    title = f"{case.name}: {explainer.method} of {explainer.level_name}, {folds}"
    if explanations:
        marked = None if reference is None else reference.data > 0
        predicted = lesion_mask(probability, point) > 0
        write_picture(files.picture, prepared.original, probability, predicted, marked, explanations, title, note)
    else:
        write_overlay(files.picture, prepared.original, None, LesionTable(case=case.name), case.name, note)
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    files.write_record({**fixed, "kinds": counts, "warnings": warnings})
    seconds["write"] = time.monotonic() - begun
    rounded = {step: round(value, 3) for step, value in seconds.items()}
    return ExplainedCase(case.name, counts, tuple(warnings), rounded)


def valdo_hits(found: Components, marked: Components, grid: Volume) -> dict[int, int]:
    """Which predicted component hits which marked one, as `cmb_evaluate --protocol valdo` decides."""
    return {pair.predicted: pair.reference for pair in match_components(found, marked, grid, PROTOCOLS["valdo"]).pairs}


def _reference(path: Path, scan: Volume) -> Volume:
    """A reference mask on the scan's own grid, whichever way either is stored.

    Raises:
        InputError: its values are not those of a mask.
        GeometryError: it lies on another grid.
    """
    mask = to_canonical(read_volume(path))
    # The scale factors of a file may leave 0.9999 of a 1.
    whole = np.abs(mask.data - np.rint(mask.data)) <= WHOLE_WITHIN
    if not np.all(whole & (mask.data > -WHOLE_WITHIN)):  # of NaN, neither is true
        raise InputError(
            f"{path}: {_odd_values(mask.data[~whole | (mask.data <= -WHOLE_WITHIN)])}; a mask has 0 and 1, or whole "
            "numbers of which each above 0 is a lesion; give the mask itself, not a probability map"
        )
    check_same_grid(mask, to_canonical(scan), "give the mask that was marked on this scan, or resample it to its grid")
    return scan.with_data(np.asarray(from_canonical(mask.data, scan) > 0.5, dtype=np.uint8))


def _odd_values(odd: NDArray[Any]) -> str:
    n_nan = int(np.isnan(odd).sum())
    if n_nan:
        return f"found {n_nan} voxels that are not a number"
    return f"found {len(odd)} voxels with values such as {odd[0]:.4g}"


def _set_aside(case: str, out: Path) -> None:
    moved = ExplanationFiles(out, case).set_aside()
    if moved:
        log(f"{case}: {len(moved)} files of an earlier run moved to {out / OUTDATED}, since it failed now")


def _run_record(results: Sequence[ExplainedCase], explainer: Explainer, point: OperatingPoint) -> dict[str, Any]:
    """What a run says of itself; the only record that may differ between two equal runs."""
    ensemble = explainer.ensemble
    return {
        "versions": versions(),
        "machine": described_machine(),
        "model": {
            "folder": str(ensemble.folder),
            "folds": list(ensemble.folds),
            "digest": ensemble.digest,
            "intended_use": ensemble.intended_use,
        },
        "operating_point": point.model_dump(mode="json"),
        "level": explainer.level_name,
        "method": explainer.method,
        "seconds": {result.case: result.seconds for result in results if result.seconds},
        "skipped_as_finished": [result.case for result in results if not result.seconds],
        "warnings": {result.case: list(result.warnings) for result in results if result.warnings},
    }
