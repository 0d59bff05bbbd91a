"""What a finished model says of the cases that its folds have not seen."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cmb_autoseg.errors import InputError, LeakageError
from cmb_autoseg.files import write_json
from cmb_autoseg.geometry import write_volume
from cmb_autoseg.inference.ensemble import Ensemble
from cmb_autoseg.inference.loading import load_ensemble
from cmb_autoseg.inference.model_folder import trained_settings
from cmb_autoseg.pipeline.stored import images_of, made_by
from cmb_autoseg.progress import Meter
from cmb_autoseg.raw_dataset import RawDataset, folds_digest, folds_file, parse_folds
from cmb_autoseg.records import Encoder, FoldModel, Plan
from cmb_autoseg.trainers.pretrained_encoder import encoder_identity
from cmb_autoseg.trainers.recipe import list_recipes
from cmb_autoseg.workspace import DatasetFolders

__all__ = ["fold_records", "map_path", "out_of_fold_maps"]


def fold_records(
    folders: DatasetFolders, model: Path, plan: Plan, given: str | None = None, built: str | None = None
) -> list[FoldModel]:
    """What each fold of a model says of itself, in order; all must be trained.

    Args:
        folders: of the dataset.
        model: its folder.
        plan: that it was trained by.
        given: what to type for its recipe; None where that is not known but for its name.
        built: name of the recipe that is built on this model; None where the model is wanted for itself.

    Raises:
        InputError: a fold is not trained, or they are not of one model or of another deal of the cases.
        LeakageError: a fold has learned from somebody whom it would be judged on.
    """
    dealt = parse_folds(folders)
    absent = [fold for fold in range(len(dealt)) if not (model / f"fold_{fold}" / "fold.json").is_file()]
    name = model.name.split("__")[1].removesuffix(f"_{plan.preset}")
    recipe = given or name
    of_file = "" if given or name in list_recipes() else f", with the file of {name} for -r"
    command = f"cmb_train -d {folders.number} -r {recipe} -p {plan.preset} -f"
    if absent:
        listed = [str(fold) for fold in absent]
        whose = f"{model}:" if built is None else f"recipe {built}: is built on {name}, of which"
        folds = f"folds {', '.join(listed)} are" if listed[1:] else f"fold {listed[0]} is"
        raise InputError(f"{whose} {folds} not trained; run {command} {' '.join(listed)}{of_file}")
    try:
        records = [FoldModel.read(model / f"fold_{fold}" / "fold.json") for fold in range(len(dealt))]
    except InputError as error:
        problem = str(error).partition("; ")[0]
        raise InputError(f"{problem}; delete it and run {command} all") from None
    if trained_settings(model).get("folds") != folds_digest(dealt):
        raise InputError(
            f"{model}: trained on another deal of the cases than {folds_file(folders)} has now; move that folder away "
            f"and run {command} all"
        )
    for record in records:
        leaked = sorted({*record.training_subjects} & {*record.validation_subjects})
        if leaked:
            raise LeakageError(
                f"{model / f'fold_{record.fold}'}: has learned from {', '.join(leaked)}, on whom it would be judged; "
                f"move that folder away and run {command} {record.fold}"
            )
    _refuse_mixed_encoders(records, model, command)
    return records


def _refuse_mixed_encoders(records: Sequence[FoldModel], model: Path, command: str) -> None:
    """Refuse folds that cmb_train would not have let into one model, such as copied ones."""
    first, *others = (record.encoder and encoder_identity(record.encoder) for record in records)
    for fold, other in enumerate(others, start=1):
        if other != first:
            odd = fold if first == trained_settings(model).get("encoder") else 0
            raise InputError(
                f"{model}: fold 0 began with {_in_words(records[0].encoder)} and fold {fold} with "
                f"{_in_words(records[fold].encoder)}, which no one model does; move {model / f'fold_{odd}'} away and "
                f"run {command} {odd} with the encoder of the other folds"
            )


def _in_words(encoder: Encoder | None) -> str:
    if encoder is None:
        return "random weights"
    made_for = "all folds" if encoder.fold is None else f"fold {encoder.fold}"
    return f"encoder {encoder.name} of {encoder.method}, made for {made_for} ({encoder.weights[:15]})"


def map_path(model: Path, case: str) -> Path:
    """Where the out-of-fold probability of a case is kept, on its prepared grid."""
    return model / "crossvalidation" / f"{case}_prob.nii.gz"


def out_of_fold_maps(
    raw: RawDataset,
    records: Sequence[FoldModel],
    model: Path,
    device: str,
    doing: str = "Out-of-fold prediction",
) -> Iterator[tuple[str, Path]]:
    """Every labelled training case with the file of its probability by the fold that has not seen it.

    Maps are kept in `crossvalidation/` and predicted again only when the fold was trained anew.
    """
    cases = {case.name: case for case in raw.cases}
    total = sum(len(record.validation_cases) for record in records)
    made_by_path = model / "crossvalidation" / "made_by.json"
    known = made_by(made_by_path)
    with Meter(doing, total) as meter:
        for record in records:
            ensemble: Ensemble | None = None
            for name in record.validation_cases:
                path = map_path(model, name)
                if known.get(name) != record.checkpoint or not path.is_file():
                    ensemble = ensemble or load_ensemble(model, (record.fold,), device)
                    write_volume(path, ensemble.probability(images_of(cases[name], raw, ensemble.channels)), "float32")
                    known[name] = record.checkpoint
                    write_json(made_by_path, known)
                yield name, path
                meter.advance()
