"""A whole prediction run: who owns the output, the model loaded once, all cases."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmb_autoseg.inference.inputs import InputFailure
from cmb_autoseg.inference.layouts import CaseResult, Layout
from cmb_autoseg.inference.model_choice import STARTER_MODEL, absent_folds, available_folds
from cmb_autoseg.inference.parts import Part, finish_part, refuse_parts_at_work, scans_digest
from cmb_autoseg.locking import own_folder
from cmb_autoseg.progress import log, telling, track
from cmb_autoseg.records import INTENDED_USE, Case, OperatingPoint

__all__ = ["ModelChoice", "predict_scans"]


@dataclass(frozen=True)
class ModelChoice:
    """Which model predicts, and how its maps are cut."""

    folder: Path
    folds: tuple[int, ...] | None
    """None for all that are trained."""
    point: OperatingPoint
    trust: bool = False
    fast: bool = False
    """See `Ensemble.hasten`."""


def predict_scans(
    cases: Sequence[Case],
    failures: Sequence[InputFailure],
    model: ModelChoice,
    device: str,
    layout: Layout,
    doing: str,
    refuse: bool = False,
    part: Part | None = None,
) -> tuple[list[CaseResult], list[InputFailure]]:
    """Predict all cases into a layout that this process owns meanwhile.

    Args:
        cases: what to predict.
        failures: inputs that were no case at all; they are listed with those that fail here.
        model: loaded once.
        device: `cuda` or `cpu`.
        layout: where and how results are written.
        doing: the command, for those who find the folder in use.
        refuse: raise what keeps a case from being predicted.
        part: predict these alone of the cases, while others predict the rest; None for all.

    Returns:
        Results and failures, of the part alone if there is one.

    Raises:
        OutputError: another process owns the output.
    """
    finish = None
    with ExitStack() as owned:
        if part is None:
            territory = layout.territory(cases, failures)
            whole = layout.out in (folder for folder, _ in territory)
            if whole:
                refuse_parts_at_work(layout.out)
            for folder, nested in territory:
                owned.enter_context(own_folder(folder, doing, nested=nested))
            if whole:
                refuse_parts_at_work(layout.out)  # which came at the same moment
        else:
            layout.begin(cases, failures)  # so that it knows the names of all
            failures = part.failures(failures, cases)
            finish = _finishing(layout, part, cases, failures)
            cases = part.takes(cases)
            owned.enter_context(part.own(layout, cases, failures, f"{doing}, {part}"))
        with telling("loading PyTorch ..."):
            from cmb_autoseg.inference.loading import load_ensemble
            from cmb_autoseg.inference.operating_points import weakness
            from cmb_autoseg.inference.predict import predict_cases

            ensemble = load_ensemble(model.folder, model.folds, device, model.trust)
            if model.fast:
                ensemble.hasten()
        tell_intended_use(model, ensemble.intended_use)
        if (warning := _incomplete(model)) is not None:
            log(f"warning: {_called(model)}: {warning}")
        if part is not None:
            part.begin(layout.out)
        outcome = predict_cases(
            cases, failures, ensemble, model.point, layout, lambda todo: track(todo, "Predicting"), refuse, finish
        )
        warning = weakness(model.point)
        if warning is not None:
            log(f"warning: {_called(model)}: {warning}")
        return outcome


def tell_intended_use(model: ModelChoice, words: str) -> None:
    """Log what a model is for where it says more than all of them do."""
    if words != INTENDED_USE:
        log(f"{_called(model)}: {words}")


def _called(model: ModelChoice) -> str:
    """What messages call a model."""
    return "starter model" if model.folder == STARTER_MODEL else model.folder.name


def _incomplete(model: ModelChoice) -> str | None:
    """A warning where all folds were asked for, and some that the folder speaks of are not there."""
    absent = absent_folds(model.folder) if model.folds is None else ()
    if not absent:
        return None
    there, missing = (", ".join(map(str, folds)) for folds in (available_folds(model.folder), absent))
    return (
        f"no weights of fold {missing}; predicting with fold {there} alone: copy the model folder again, whole, or "
        f"finish the training, or name them by -f {there.replace(',', '')}"
    )


def _finishing(
    layout: Layout, part: Part, cases: Sequence[Case], no_cases: Sequence[InputFailure]
) -> Callable[[Sequence[CaseResult], Sequence[InputFailure], Mapping[str, Any]], None]:
    """What ends a part: its note, and the tables of the whole if it is the last one.

    Args:
        layout: of the results.
        part: that is predicted.
        cases: of all parts.
        no_cases: inputs of this part that were no case at all.
    """
    order, scans = [case.name for case in cases], scans_digest(cases)

    def finish(results: Sequence[CaseResult], failed: Sequence[InputFailure], run: Mapping[str, Any]) -> None:
        log(finish_part(layout, part, order, scans, no_cases, results, failed, run))

    return finish
