"""A whole prediction run: who owns the output, the model loaded once, all cases."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.inference.inputs import InputFailure
from cmb_autoseg.inference.layouts import CaseResult, Layout
from cmb_autoseg.locking import own_folder
from cmb_autoseg.progress import log, telling, track
from cmb_autoseg.records import Case, OperatingPoint

__all__ = ["ModelChoice", "predict_scans"]


@dataclass(frozen=True)
class ModelChoice:
    """Which model predicts, and how its maps are cut."""

    folder: Path
    folds: tuple[int, ...] | None
    """None for all that are trained."""
    point: OperatingPoint
    trust: bool = False


def predict_scans(
    cases: Sequence[Case],
    failures: Sequence[InputFailure],
    model: ModelChoice,
    device: str,
    layout: Layout,
    doing: str,
    refuse: bool = False,
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

    Raises:
        OutputError: another process owns the output.
    """
    with ExitStack() as owned:
        for folder, nested in layout.territory(cases, failures):
            owned.enter_context(own_folder(folder, doing, nested=nested))
        with telling("loading PyTorch ..."):
            from cmb_autoseg.inference.loading import load_ensemble
            from cmb_autoseg.inference.operating_points import weakness
            from cmb_autoseg.inference.predict import predict_cases

            ensemble = load_ensemble(model.folder, model.folds, device, model.trust)
        outcome = predict_cases(
            cases, failures, ensemble, model.point, layout, lambda todo: track(todo, "Predicting"), refuse
        )
        warning = weakness(model.point)
        if warning is not None:
            log(f"warning: {model.folder.name}: {warning}")
        return outcome
