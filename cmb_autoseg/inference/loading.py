"""Load a model folder by the kind of system that its recipe is."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmb_autoseg.errors import InputError
from cmb_autoseg.inference.model_folder import trained_settings
from cmb_autoseg.trainers.recipe import Recipe

if TYPE_CHECKING:
    from cmb_autoseg.inference.ensemble import Ensemble

__all__ = ["family_of", "load_ensemble", "load_inner"]


def load_ensemble(folder: Path, folds: Sequence[int] | None, device: str, trust_model: bool = False) -> "Ensemble":
    """The folds of a model, ready to predict; arguments and errors as of `Ensemble`."""
    return _ensemble_class(family_of(folder))(folder, folds, device, trust_model)


def load_inner(outer: "Ensemble", folder: Path) -> "Ensemble":
    """The same folds of a model that lies inside another model's folder.

    Raises:
        InputError: it is not there, or damaged; the cure is to copy the outer model again.
    """
    try:
        return load_ensemble(folder, outer.folds, outer.device, outer.trusted)
    except InputError as error:
        if "--trust-model" in str(error):  # is the cure of a whole model as well
            raise
        problem = str(error).rpartition("; ")[0] or str(error)
        raise InputError(f"{problem}; it is a part of {outer.folder}: copy that model folder again, whole") from None


def _ensemble_class(family: str) -> "type[Ensemble]":
    """Imported when it is needed, since each kind needs libraries of its own."""
    if family == "slices":
        from cmb_autoseg.inference.slices import SliceEnsemble

        return SliceEnsemble
    if family == "boxes":
        from cmb_autoseg.inference.boxes import BoxEnsemble

        return BoxEnsemble
    if family == "two_stage":
        from cmb_autoseg.inference.two_stage import TwoStageEnsemble

        return TwoStageEnsemble
    if family == "mixture":
        from cmb_autoseg.inference.mixture import MixtureEnsemble

        return MixtureEnsemble
    from cmb_autoseg.inference.patches import PatchEnsemble

    return PatchEnsemble


def family_of(folder: Path) -> str:
    """The kind of system that a model is.

    Models of earlier versions are of patches, and so is whatever holds no legible recipe: that is told later.
    """
    if not (folder / "plans.json").is_file():
        return "patches"
    recipe: Any = trained_settings(folder).get("recipe")
    own = Recipe.family_of(recipe) if isinstance(recipe, dict) else "patches"
    return own
