"""With what an encoder is made: kept beside it, so that a repeated command knows whether it is the same one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cmb_autoseg.errors import InputError
from cmb_autoseg.raw_dataset import Fold, RawDataset, folds_digest
from cmb_autoseg.records import Plan, Record
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.workspace import LATEST_CHECKPOINT

__all__ = ["EncoderSettings", "encoder_settings", "is_finished", "refuse_other_settings"]

DIFFERENCES = {
    "plan": "another plan",
    "recipe": "another recipe or schedule",
    "seed": "another seed",
    "datasets": "other datasets or cases",
    "folds": "another deal of the cases to folds",
    "weights": "another file of --weights",
}
"""What the encoders of one name must share, by field, and in words."""


class EncoderSettings(Record):
    """What an encoder hangs on; `settings.json` in its folder."""

    name: str
    fold: int | None
    plan: str
    """Digest."""
    recipe: dict[str, Any]
    """Its part that pretraining looks at."""
    seed: int
    datasets: dict[str, str]
    """Digest of each raw dataset."""
    folds: str | None = None
    """Digest; None where one encoder serves all folds."""
    weights: str | None = None
    """SHA-256 of the file that `imagenet` starts from."""

    @property
    def title(self) -> str:
        """What progress and pictures call the encoder."""
        return self.name if self.fold is None else f"{self.name}, fold {self.fold}"

    @property
    def identity(self) -> str:
        """Digest of what the encoders of one model's folds share, under whatever name they were made."""
        return self.model_copy(update={"name": "", "fold": None, "folds": None}).digest

    @classmethod
    def path(cls, folder: Path) -> Path:
        return folder / "settings.json"


def encoder_settings(
    name: str,
    raws: Sequence[RawDataset],
    plan: Plan,
    recipe: Recipe,
    seed: int,
    fold: int | None = None,
    folds: Sequence[Fold] = (),
    weights: str | None = None,
) -> EncoderSettings:
    """The settings of one encoder; `folds` count where `fold` is one of them."""
    assert recipe.pretraining is not None
    looked_at = {
        **recipe.model_dump(mode="json", include={"network", "augmentation", "sequences"}),
        "pretraining": recipe.pretraining.what_decides(),
    }
    return EncoderSettings(
        name=name,
        fold=fold,
        plan=plan.digest,
        recipe=looked_at,
        seed=seed,
        datasets={raw.folders.name: raw.digest for raw in raws},
        folds=None if fold is None else folds_digest(folds),
        weights=weights,
    )


def refuse_other_settings(encoder: Path, wanted: EncoderSettings) -> None:
    """Refuse to make an encoder under a name that has one of other settings, for all folds or for another one.

    Args:
        encoder: the file to be made.
        wanted: its settings.

    Raises:
        InputError: names what differs.
    """
    home = encoder.parent if wanted.fold is None else encoder.parent.parent
    cure = "give the new one a name of its own with --name, or move that folder away"
    if encoder.exists() and not EncoderSettings.path(encoder.parent).is_file():
        raise InputError(f"{encoder}: nothing beside it says with which settings it was made; {cure}")
    for path in sorted((EncoderSettings.path(home), *home.glob("fold_*/settings.json"))):
        made = [path.with_name(name) for name in (encoder.name, LATEST_CHECKPOINT)]
        if not path.is_file() or not any(file.exists() for file in made):
            continue  # Stopped before its first checkpoint, so there is nothing to be mixed up with.
        try:
            known = EncoderSettings.read(path)
        except InputError as error:
            raise InputError(f"{str(error).partition('; ')[0]}; {cure}") from None
        for field, word in DIFFERENCES.items():
            one, other = getattr(known, field), getattr(wanted, field)
            if one != other and not (field == "folds" and None in (one, other)):
                raise InputError(f"{path.parent}: holds an encoder made with {word}{_shown(field, known)}; {cure}")


def _shown(field: str, known: EncoderSettings) -> str:
    if field == "seed":
        return f" ({known.seed})"
    if field == "datasets":
        return f" ({', '.join(known.datasets)})"
    if field == "recipe":
        how = known.recipe["pretraining"]
        return f" ({how['method']}, {how['epochs']} epochs of {how['steps_per_epoch']} steps of {how['batch_size']})"
    return ""


def is_finished(encoder: Path) -> bool:
    """Whether an encoder, whose settings were compared, is there.

    Raises:
        InputError: it is damaged.
    """
    if not encoder.exists():
        return False
    from cmb_autoseg.pretraining.encoder_file import read_encoder

    read_encoder(encoder, made_here=True)
    return True
