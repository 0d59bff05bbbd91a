"""A trained model whose weights a training begins with, all of them: encoder, decoder and heads."""

from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import file_digest, text_digest
from cmb_autoseg.inference.ensemble import checkpoint_path, load_checkpoint
from cmb_autoseg.inference.loading import family_of
from cmb_autoseg.inference.model_choice import STARTER_MODEL, available_folds, find_model
from cmb_autoseg.inference.model_folder import trained_plan, trained_settings
from cmb_autoseg.records import Encoder, FoldModel, Plan
from cmb_autoseg.trainers.pretrained_encoder import STARTER, PretrainedEncoder
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.workspace import STARTER_DATASET

__all__ = ["find_starting_model", "learned_plan", "read_starting_model"]


def find_starting_model(wanted: str) -> Path:
    """The model folder that `--init` names.

    Args:
        wanted: `starter` or a path.

    Raises:
        InputError: it is no model folder of 3D patches with a finished fold, or the package holds none.
    """
    if wanted == STARTER:
        if not available_folds(STARTER_MODEL):
            raise InputError(f"--init {STARTER}: this installation holds no starter model; name a model folder")
        return STARTER_MODEL
    if not wanted:
        raise InputError(f"--init: found nothing; name a model folder, or say {STARTER}")
    try:
        folder = find_model(Path(wanted), None, None, None, None)
    except InputError as error:
        raise InputError(f"--init{str(error).removeprefix('-m')}, or say {STARTER}") from None
    if not available_folds(folder):
        raise InputError(f"--init {wanted}: none of its folds is trained to the end; name another model")
    family = family_of(folder)
    if family != "patches":
        raise InputError(f"--init {wanted}: a model of {family}, and only one of 3D patches can be begun with")
    return folder


def learned_plan(folder: Path) -> Plan:
    """The plan of a model as its recipe has changed it.

    Raises:
        InputError: its `plans.json` is damaged.
    """
    recipe = Recipe.parse(trained_settings(folder).get("recipe"), f"{folder}/plans.json: cmb_autoseg.recipe")
    return recipe.applied_to(trained_plan(folder))


def read_starting_model(folder: Path, fold: int) -> PretrainedEncoder:
    """The weights that a fold begins with: those of the model's fold of that number, counted round.

    Args:
        folder: of the model, as `find_starting_model` gives it.
        fold: that is to be trained.

    Raises:
        InputError: the model is damaged.
    """
    folds = available_folds(folder)
    digests = {number: file_digest(checkpoint_path(folder, number)) for number in folds}
    chosen = folds[fold % len(folds)]
    weights, plan = load_checkpoint(folder, chosen)["network_weights"], learned_plan(folder)
    settings = trained_settings(folder)
    own = folder / f"fold_{chosen}" / "fold.json"
    if not own.is_file() and plan.dataset != STARTER_DATASET:
        raise InputError(
            f"--init {folder}: fold {chosen} lacks {own.name}, which tells whom it learned from; copy it, too"
        )
    trained = FoldModel.read(own) if own.is_file() else None  # nobody
    record = Encoder(
        name=STARTER if folder == STARTER_MODEL else str(settings["recipe"]["name"]),
        method="segmentation",
        datasets=(plan.dataset,),
        fold=None,
        seed=int(settings["seed"]),
        steps=0 if trained is None else trained.epochs * trained.steps_per_epoch,
        channels=plan.channels,
        topology=plan.topology,
        patch_shape=plan.patch_shape,
        subjects=() if trained is None else trained.training_subjects,
        n_cases=0 if trained is None else len(trained.training_cases),
        weights=digests[chosen],
        parents=(plan.digest,),
        spacing_mm=plan.spacing_mm,
        identity=text_digest(repr(sorted(digests.items()))),
        data="simulated" if plan.dataset == STARTER_DATASET else trained and trained.data,
    )
    encoder, decoder = (
        {name.removeprefix(part): tensor for name, tensor in weights.items() if name.startswith(part)}
        for part in ("encoder.", "decoder.")
    )
    return PretrainedEncoder(folder, encoder, record, decoder)
