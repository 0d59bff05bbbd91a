"""Encoders that learn from scans without labels, one for all folds or one a fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cmb_autoseg._nnunet import nnunet_environment
from cmb_autoseg.errors import InputError
from cmb_autoseg.interruption import hold_back_stops
from cmb_autoseg.locking import own_folder
from cmb_autoseg.pipeline.encoder_settings import EncoderSettings, encoder_settings, is_finished, refuse_other_settings
from cmb_autoseg.pipeline.inflating import inflate, refuse_for_imagenet
from cmb_autoseg.pipeline.pretraining_cases import PretrainingCases, choose_cases, open_cases, write_inputs
from cmb_autoseg.pipeline.stored import read_plan, refuse_stale_plan
from cmb_autoseg.preprocessing.network_grid import mirror_axes
from cmb_autoseg.pretraining.launched import is_first_process, n_processes, own_faults, process_rank
from cmb_autoseg.progress import Meter, log
from cmb_autoseg.raw_dataset import RawDataset, check_folds, kind_of_data, parse_folds, read_raw_dataset
from cmb_autoseg.records import Encoder, Plan
from cmb_autoseg.run_log import open_log
from cmb_autoseg.trainers.fold_cases import trained_sequences
from cmb_autoseg.trainers.patches.run import refuse_missing_inputs
from cmb_autoseg.trainers.recipe import PretrainingSettings, Recipe, list_recipes, read_recipe
from cmb_autoseg.workspace import DatasetFolders, Workspace

if TYPE_CHECKING:
    from cmb_autoseg.pretraining.setup import PretrainingSetup

__all__ = ["PretrainSettings", "pretrain"]


@dataclass(frozen=True)
class PretrainSettings:
    """What the user chose for pretraining."""

    device: str
    seed: int = 0
    preset: str | None = None
    name: str | None = None
    """Of the encoder; None for the recipe's."""
    weights: Path | None = None
    """Of a 2D ResNet-18, for the method `imagenet`."""
    checkpoint_steps: int | None = None
    """None: what the loop thinks right."""


@dataclass(frozen=True)
class _Task:
    """One encoder to be made."""

    path: Path
    made_with: EncoderSettings
    cases: PretrainingCases


def pretrain(
    datasets: Sequence[DatasetFolders], recipe: Recipe, folds: Sequence[int], settings: PretrainSettings
) -> list[Path]:
    """Make the recipe's encoder, for all folds or for each of some; finished ones are left as they are.

    Under `torchrun` every process calls this alike; the first one talks and writes.

    Args:
        datasets: the first one's plan gives channels, grid, patch and network.
        recipe: with `pretraining`.
        folds: of the first dataset; none for one encoder that serves all of them.
        settings: of the run.

    Returns:
        The encoders' files, in the order of the folds.

    Raises:
        InputError: the recipe makes no encoder, no case is left to learn from, the dataset is not planned or
            preprocessed, the encoder that is there was made with other settings, the environment says half of what
            `torchrun` does, or the processes cannot meet where it says.
        OutputError: another process makes this encoder.
        OwnFaultError: in a further process of `torchrun`, what it met after the start.
        Stopped: the process was asked to end, and the checkpoint is written.
    """
    how = _method_of(recipe)
    _refuse_repeated(datasets)
    if how.method == "imagenet":
        refuse_for_imagenet(recipe, folds, datasets, settings.weights)
    elif settings.weights is not None:
        raise InputError(
            f"--weights {settings.weights}: recipe {recipe.name} learns by {how.method} from random weights; leave it "
            "out, or use -r imagenet_transfer"
        )
    raws = [read_raw_dataset(folders) for folders in datasets]
    plan = read_plan(datasets[0], settings.preset)
    refuse_stale_plan(raws[0], plan)
    name = settings.name or recipe.name
    if how.method == "imagenet":
        assert settings.weights is not None
        return [inflate(raws[0], plan, recipe, name, settings.weights, settings.seed)]
    tasks = [_task(raws, plan, recipe, name, fold, settings.seed) for fold in folds or (None,)]
    return _learn(tasks, raws, plan, recipe, how, settings)


def _method_of(recipe: Recipe) -> PretrainingSettings:
    if recipe.pretraining is None:
        makers = [name for name in list_recipes() if read_recipe(name).pretraining is not None]
        raise InputError(
            f"-r {recipe.name}: makes no encoder, since it has no key pretraining; choose {', '.join(makers)}, or add "
            "the key to a recipe of yours"
        )
    return recipe.pretraining


def _refuse_repeated(datasets: Sequence[DatasetFolders]) -> None:
    names = [folders.name for folders in datasets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"-d: {twice} is named twice; name each dataset once")


def _task(raws: Sequence[RawDataset], plan: Plan, recipe: Recipe, name: str, fold: int | None, seed: int) -> _Task:
    folds = parse_folds(raws[0].folders)
    check_folds(raws[0], folds)
    path = Workspace(raws[0].folders.workspace).encoder(name, fold)
    made_with = encoder_settings(name, raws, plan, recipe, seed, fold, folds)
    refuse_other_settings(path, made_with)
    cases = choose_cases(raws, folds, fold, trained_sequences(plan, recipe))
    if not cases.count:
        left_out = cases.left_out()
        raise InputError(
            f"-d {' '.join(str(raw.folders.number) for raw in raws)}: no unlabelled case to learn from"
            f"{f' (left out: {left_out})' if left_out else ''}; learn from each fold's training subjects with -f all, "
            "or add a cohort without labels: to this dataset with cmb_convert, or as another one after -d"
        )
    return _Task(path, made_with, cases)


def _learn(
    tasks: Sequence[_Task],
    raws: Sequence[RawDataset],
    plan: Plan,
    recipe: Recipe,
    how: PretrainingSettings,
    settings: PretrainSettings,
) -> list[Path]:
    first = is_first_process()
    todo = [task for task in tasks if not is_finished(task.path)]
    if todo:
        refuse_missing_inputs(raws[0], plan)
        _refuse_misfits(plan, recipe, how, settings.seed)
    if first:
        for task in tasks:
            finished = f"{task.path}: finished already with the same settings, left as it is"
            log(f"{task.made_with.title}: {how.method} {task.cases.in_words()}" if task in todo else finished)
    if todo:
        write_inputs([task.cases for task in todo], plan, writes=first)
    for task in todo:
        with own_folder(task.path.parent, "cmb_pretrain", nested=False) if first else own_faults():
            if not _made_meanwhile(task, settings.device, first):
                _learn_one(task, plan, recipe, how, settings, first)
    return [task.path for task in tasks]


def _refuse_misfits(plan: Plan, recipe: Recipe, how: PretrainingSettings, seed: int) -> None:
    """Refuse settings that do not fit the network, the patch or the number of processes."""
    from cmb_autoseg.pretraining.distributed import World
    from cmb_autoseg.pretraining.setup import build_objective

    World(process_rank(), n_processes()).share(how.batch_size)
    build_objective(_setup(plan, recipe, how), seed)


def _setup(plan: Plan, recipe: Recipe, how: PretrainingSettings) -> "PretrainingSetup":
    from cmb_autoseg.pretraining.setup import PretrainingSetup

    fitted = recipe.applied_to(plan)
    return PretrainingSetup(
        settings=how,
        augmentation=recipe.augmentation,
        channels=fitted.channels,
        patch_shape=fitted.patch_shape,
        spacing_mm=fitted.spacing_mm,
        flip_axes=mirror_axes(recipe.augmentation.flip, fitted.transpose_forward),
        topology=fitted.topology,
    )


def _made_meanwhile(task: _Task, device: str, first: bool) -> bool:
    """Whether another run has made the encoder since it was looked for; all processes get the first one's answer."""
    from cmb_autoseg.pretraining.distributed import device_of_process, join_world

    made = False
    if first:
        refuse_other_settings(task.path, task.made_with)
        made = is_finished(task.path)
        if made:
            log(f"{task.path}: finished meanwhile by another run, left as it is")
    return join_world(device).any(made, device_of_process(device))


def _learn_one(
    task: _Task, plan: Plan, recipe: Recipe, how: PretrainingSettings, settings: PretrainSettings, first: bool
) -> None:
    """Learn one encoder in its own folder; the encoder's file comes last and says that all is there."""
    from cmb_autoseg.pipeline.pretraining_pictures import draw_pictures
    from cmb_autoseg.pretraining.encoder_file import write_encoder
    from cmb_autoseg.pretraining.loop import CHECKPOINT, pretrain, steps_done
    from cmb_autoseg.pretraining.setup import build_encoder

    folder, made_with = task.path.parent, task.made_with
    raws = [raw for raw, _ in task.cases.chosen]
    fitted = recipe.applied_to(plan)
    setup = _setup(plan, recipe, how)
    with nnunet_environment():
        cases = open_cases(task.cases, plan, trained_sequences(plan, recipe))
    if first:
        open_log(raws[0].folders.workspace)
        made_with.write(EncoderSettings.path(folder))
    encoder = build_encoder(len(fitted.channels), fitted.topology, settings.seed)
    learn = partial(pretrain, encoder, cases, setup, folder, settings.device, settings.seed, settings.checkpoint_steps)
    steps = how.epochs * how.steps_per_epoch
    with hold_back_stops() as stop:
        if not first:
            learn(stop)
            return
        with Meter(f"Pretraining {made_with.title}", steps, steps_done(folder), slow=True) as meter:
            rows = learn(stop, meter.advance)
    data = kind_of_data((raw, case) for raw, chosen in task.cases.chosen for case in chosen)
    draw_pictures(encoder, cases, setup, fitted, rows, folder, made_with.title, settings.seed, data)
    record = Encoder(
        name=made_with.name,
        method=how.method,
        datasets=tuple(raw.folders.name for raw in raws),
        fold=made_with.fold,
        seed=settings.seed,
        steps=steps,
        channels=fitted.channels,
        topology=fitted.topology,
        patch_shape=fitted.patch_shape,
        subjects=task.cases.subjects,
        n_cases=task.cases.count,
        weights="",
        parents=(plan.digest, recipe.digest),
        spacing_mm=fitted.spacing_mm,
        identity=made_with.identity,
        recipe=made_with.recipe,
        data=data,
    )
    write_encoder(task.path, encoder.state_dict(), record)
    (folder / CHECKPOINT).unlink(missing_ok=True)
