"""Which pretrained encoder a fold begins with, and whether it may."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.leakage import held_out_subjects, refuse_leaky_encoder
from cmb_autoseg.raw_dataset import Fold, RawDataset
from cmb_autoseg.trainers.pretrained_encoder import PretrainedEncoder
from cmb_autoseg.trainers.recipe import Recipe, list_recipes
from cmb_autoseg.trainers.starting_model import read_starting_model
from cmb_autoseg.workspace import DatasetFolders, Workspace

__all__ = ["NO_ENCODER", "choose_encoder", "refuse_mixed_encoders"]

NO_ENCODER = "none"
"""How a user says that a fold begins with random weights."""


def refuse_mixed_encoders(encoders: Mapping[int, PretrainedEncoder | None]) -> None:
    """Refuse folds of one model that would begin with encoders of different settings.

    Args:
        encoders: of each fold that is to be trained.

    Raises:
        InputError: names two such folds and their encoders.
    """
    (first, one), *others = encoders.items()
    for fold, other in others:
        if (one and one.identity) == (other and other.identity):
            continue
        paths = [encoder.path if encoder is not None else NO_ENCODER for encoder in (one, other)]
        why = "were made with another plan, seed, recipe or other datasets"
        if one and other and (one.record.fold is None) != (other.record.fold is None):
            why = "have seen training subjects in one fold and unlabelled cases alone in the other"
        raise InputError(
            f"fold {first} would begin with {paths[0]} and fold {fold} with {paths[1]}, which {why}; folds "
            f"of one model must share these: run cmb_pretrain alike with -f {first} {fold}, or name one file for all "
            "folds"
        )


def choose_encoder(
    raw: RawDataset, folds: Sequence[Fold], fold: int, recipe: Recipe, wanted: str | Path | None
) -> PretrainedEncoder | None:
    """The encoder that a fold begins with; None for random weights.

    Args:
        raw: the dataset.
        folds: its folds.
        fold: which of them.
        recipe: its `transfer.encoder` is taken where nothing is `wanted`.
        wanted: a name, a file, the folder of a trained model (as a path), or `none`.

    Raises:
        InputError: there is no such encoder, or it cannot be read.
        LeakageError: it has seen a subject that the fold is judged on.
    """
    chosen = recipe.transfer.encoder if wanted is None else wanted
    if chosen is None or str(chosen) == NO_ENCODER:
        return None
    encoder = _read(raw.folders, fold, recipe, chosen)
    refuse_leaky_encoder(encoder.record, fold, held_out_subjects(raw, folds, fold))
    return encoder


def _read(folders: DatasetFolders, fold: int, recipe: Recipe, chosen: str | Path) -> PretrainedEncoder:
    if isinstance(chosen, Path) and (chosen / "plans.json").is_file():
        return read_starting_model(chosen, fold)
    from cmb_autoseg.pretraining.encoder_file import read_encoder

    path = _encoder_path(folders, str(chosen), fold, recipe)
    ours = Workspace(folders.workspace).encoders
    weights, record = read_encoder(path, made_here=path.resolve().is_relative_to(ours.resolve()))
    return PretrainedEncoder(path, weights, record)


def _encoder_path(folders: DatasetFolders, chosen: str, fold: int, recipe: Recipe) -> Path:
    """A file, else the fold's own encoder of that name, else the one that serves all folds."""
    if not chosen.strip():
        raise InputError("--encoder: found nothing; give the name of a recipe of cmb_pretrain, a file, or none")
    if Path(chosen).is_file():
        return Path(chosen)
    workspace = Workspace(folders.workspace)
    if Path(chosen).name == chosen and not chosen.endswith(".pt"):
        made = next((p for p in (workspace.encoder(chosen, fold), workspace.encoder(chosen)) if p.is_file()), None)
        if made is not None:
            return made
    if Path(chosen).is_dir():
        inside = Path(chosen) / workspace.encoder(chosen).name
        cure = str(inside) if inside.is_file() else "an encoder.pt, as cmb_pretrain makes it"
        raise InputError(f"--encoder {chosen}: a folder; give {cure}")
    others = sorted(path.parent.name for path in workspace.encoder(chosen).parent.glob("fold_*/encoder.pt"))
    there = f" (there: {', '.join(others)})" if others else ""
    own = f" -f {fold}" if others else ""
    typed, name = _recipe_that_makes(chosen, recipe)
    # What is no word was meant as a file, and no encoder of the workspace can be called so.
    called = f" --name {chosen}" if name != chosen and chosen.isidentifier() else ""
    raise InputError(
        f"encoder {chosen}: no such file, and none of that name for fold {fold} in "
        f"{workspace.encoder(chosen).parent}{there}; run cmb_pretrain -d {folders.number} -r "
        f"{typed}{own}{called}, or train with --encoder none for random weights"
    )


def _recipe_that_makes(encoder: str, recipe: Recipe) -> tuple[str, str]:
    """What to type after -r for an encoder of that name, and what it is called without --name."""
    if recipe.pretraining is not None and (encoder == recipe.name or encoder not in list_recipes()):
        return recipe.given or f"YOUR_RECIPE.yaml (whose name is {recipe.name})", recipe.name
    made_by = encoder if encoder in list_recipes() else "ssl_barlow_twins"
    return made_by, made_by
