"""The pictures of one fold's cases."""

from cmb_autoseg.errors import InputError
from cmb_autoseg.trainers.fold_cases import trained_sequences
from cmb_autoseg.trainers.fold_run import FoldRun
from cmb_autoseg.trainers.recipe import BoxPictureSettings, PictureSettings
from cmb_autoseg.trainers.slices.store import SliceCase, SliceStore

__all__ = ["open_fold"]


def open_fold(
    run: FoldRun,
    pictures: PictureSettings | BoxPictureSettings,
    size: tuple[int, int],
    diameter_mm: tuple[float, float] | None = None,
) -> tuple[list[SliceCase], list[SliceCase]]:
    """Cases that batches are made of, and those of the curves; channels that the recipe does not train stay 0.

    Args:
        run: the fold.
        pictures: settings of the recipe.
        size: rows and columns.
        diameter_mm: microbleeds smaller or larger are no targets; None: all are.

    Raises:
        InputError: a scan is damaged, or no case that batches are made of has a microbleed that is a target.
        OutputError: the pictures cannot be written (a full disk).
    """
    seen = trained_sequences(run.plan, run.recipe)
    blank = tuple(role for role in run.plan.channels if role not in seen)
    store = SliceStore(run.raw, run.plan.channels, blank, pictures, size, diameter_mm)
    drawn_from, watched = run.cases.drawn_from, run.cases.watched
    opened = store.open((*drawn_from, *watched))
    training, validation = opened[: len(drawn_from)], opened[len(drawn_from) :]
    if not any(case.positive.size for case in training):
        wanted, cure = "", "add labelled cases with lesions"
        if diameter_mm is not None:
            low, high = diameter_mm
            wanted = f" of {low:g}-{high:g} mm"
            cure = f"widen slices.lesion_diameter_mm ({low:g}, {high:g}) of {run.recipe.name}, or {cure}"
        raise InputError(f"fold {run.fold}: no lesion{wanted} in its {len(training)} training cases; {cure}")
    return training, validation
