"""The starter model as an ordinary model folder: two stages, of which each seed is a fold; its card says of what."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from cmb_autoseg._nnunet import dataset_json, nnunet_plans
from cmb_autoseg.files import file_digest, text_digest, write_json
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.operating_points import Sweep, points_of
from cmb_autoseg.lesions import find_components
from cmb_autoseg.quality_control.sequence_measures import signal_to_noise
from cmb_autoseg.records import Model, Plan, Reason, Role, Topology, TrainingRange
from cmb_autoseg.starter.blocks import MAGNITUDES, SEQUENCES, Block, block_files, read_blocks
from cmb_autoseg.starter.learning.first_stage import FirstStageSettings
from cmb_autoseg.starter.learning.loop import CHECKPOINT, LOG
from cmb_autoseg.starter.learning.second_stage import NEAR_MM, SecondStageSettings
from cmb_autoseg.starter.learning.settings import LoopSettings, changed_settings
from cmb_autoseg.tensor_file import write_tensors
from cmb_autoseg.trainers.candidates.fusion import Fusion
from cmb_autoseg.trainers.recipe import Recipe, TwoStageSettings, read_recipe
from cmb_autoseg.workspace import FINAL_CHECKPOINT, FIRST_STAGE

__all__ = ["CHANNELS", "Learned", "learned_from", "write_first_stage", "write_model", "write_points"]

ROLE_OF = {"swi": Role.SWI, "mag": Role.GRE_MAG, "qsm": Role.QSM, "phase": Role.LOCAL_PHASE}
CHANNELS = tuple(ROLE_OF[name] for name in SEQUENCES)
NAME, FIRST_NAME = "starter", "starter_first_stage"
"""Of recipes."""
DATASET = "Dataset000_SIMULATED"
MEDIAN_BRAIN_MM = (130.0, 165.0, 135.0)
"""(z, y, x); only tells readers of the plan how large a brain is."""
LICENCE = "Apache-2.0"
SNR_PERCENTILES = (1, 99)
CANDIDATES_ABOVE = 0.05
"""Probability from which the first stage proposes."""
MOST_CANDIDATES = 60
FUSION: Fusion = "geometric_mean"
HEAD_TO_BRAIN = 1.9
"""Volume of what preparation takes for the brain where the skull is not stripped, as a multiple of the brain's: 1.5 to
2.1 in four simulated people."""
USE = (
    "Trained on simulated data alone, never on a patient's scan. Research use. Not a medical device; not for diagnosis "
    "or treatment decisions."
)

Settings = TypeVar("Settings", bound=LoopSettings)


@dataclass(frozen=True)
class Learned:
    """What blocks hold, measured."""

    n_people: int
    n_blocks: int
    n_lesions: int
    """Microbleeds in blocks; one that lies in several counts several times."""
    training_range: TrainingRange
    """Without the sequences."""


def learned_from(pool: Path) -> Learned:
    """Measure the blocks in a folder."""
    spacing, snr, volumes, fields = [], [], [], Counter[float]()
    n_people = n_lesions = 0
    for path in block_files(pool):
        n_people += 1
        for block in read_blocks(path):
            spacing.append(block.spacing_mm[::-1])
            volumes.append(block.facts["brain_ml"])
            fields[block.facts["field_strength_t"]] += 1
            n_lesions += len(find_components(block.mask.numpy() > 0))
            snr += _signal_to_noise(block)
    finest, coarsest = np.min(spacing, axis=0), np.max(spacing, axis=0)
    low, high = np.percentile(snr, SNR_PERCENTILES)
    seen = TrainingRange(
        sequences=(),
        spacing_mm_min=_triple(finest),
        spacing_mm_max=_triple(coarsest),
        brain_volume_ml=(round(min(volumes)), round(max(volumes) * HEAD_TO_BRAIN)),
        field_strength_t=tuple(sorted(fields)),
        snr=(round(float(low), 2), round(float(high), 2)),
    )
    return Learned(n_people, len(spacing), n_lesions, seen)


def _signal_to_noise(block: Block) -> list[float]:
    """Of the block's magnitudes, where there is enough brain."""
    brain = block.brain.numpy()
    if brain.mean() < 0.2:
        return []
    affine = np.diag([*block.spacing_mm, 1.0])
    images = (block.images[SEQUENCES.index(name)].float().numpy() for name in MAGNITUDES)
    return [signal_to_noise(Volume(image, affine), brain) for image in images]


def _triple(values: Any) -> tuple[float, float, float]:
    z, y, x = (round(float(value), 3) for value in values)
    return z, y, x


def write_model(folder: Path, first: Sequence[Path], second: Sequence[Path], learned: Learned) -> Path:
    """Write a model folder of trained stages, without operating points.

    Args:
        folder: to write.
        first: trainings of the first stage, of the same settings but for the seed; folders of checkpoint and log.
        second: of the second stage, likewise, as many.
        learned: what they have learned from.

    Raises:
        ValueError: trainings of other settings, unfinished ones, or more of one stage than of the other.
    """
    if len(first) != len(second):
        raise ValueError(f"found {len(first)} trainings of the first stage and {len(second)} of the second; train both")
    write_first_stage(folder / FIRST_STAGE, first, learned)
    trained, settings = _read(second, SecondStageSettings())
    plan = _plan(_read(first, FirstStageSettings())[1], learned)
    what = "simulated blocks of heads, and a second look at what is found in them"
    recipe = _recipe(NAME, description=what, two_stage=_two_stage(settings))
    folds = []
    for fold, (training, content) in enumerate(zip(second, trained, strict=True)):
        made_with = {FIRST_NAME: file_digest(_checkpoint(folder / FIRST_STAGE, fold))}
        folds.append(_Fold(training, content, {"network_weights": content["average"], "checkpoints": made_with}))
    _write(folder, recipe, settings.seed, plan, folds, learned)
    return folder


def write_first_stage(folder: Path, trainings: Sequence[Path], learned: Learned, weights: str = "average") -> Path:
    """Write a model folder of the first stage alone, one fold a training.

    Args:
        folder: to write.
        trainings: of the same settings but for the seed; folders of checkpoint and log.
        learned: what they have learned from.
        weights: `average` or `network`, that were the last ones.

    Raises:
        ValueError: trainings of other settings, or unfinished ones.
    """
    trained, settings = _read(trainings, FirstStageSettings())
    recipe = _recipe(FIRST_NAME, description="simulated blocks of heads")
    folds = [
        _Fold(training, content, {"network_weights": content[weights]})
        for training, content in zip(trainings, trained, strict=True)
    ]
    _write(folder, recipe, settings.seed, _plan(settings, learned), folds, learned)
    return folder


@dataclass(frozen=True)
class _Fold:
    """A training and what its fold's checkpoint is to hold."""

    training: Path
    content: dict[str, Any]
    checkpoint: dict[str, Any]


def _read(trainings: Sequence[Path], base: Settings) -> tuple[list[dict[str, Any]], Settings]:
    """What finished trainings have kept, and the settings of the first one."""
    paths = [training / CHECKPOINT for training in trainings]
    contents = [torch.load(path, weights_only=True, map_location="cpu") for path in paths]
    settings = [changed_settings(base, json.loads(content["settings"])) for content in contents]
    if len({replace(one, seed=0) for one in settings}) != 1:
        raise ValueError("the checkpoints were trained with different settings; train them alike")
    for path, content, one in zip(paths, contents, settings, strict=True):
        if content["step"] < one.steps:
            raise ValueError(f"{path}: has {content['step']} of {one.steps} steps; train it to the end")
    return contents, settings[0]


def _recipe(name: str, **update: Any) -> Recipe:
    return read_recipe("supervised").model_copy(update={"name": name, **update})


def _two_stage(settings: SecondStageSettings) -> TwoStageSettings:
    side, mm = settings.views.patch_shape[0], settings.views.spacing_mm[0]
    return TwoStageSettings(
        first=FIRST_NAME,
        second="classifier3d",
        window_mm=side * mm,
        window_pixels=2 * side,
        features=settings.features,
        sees_middle=settings.sees_middle,
        near_mm=NEAR_MM,
        positive_share=settings.right_share,
        threshold=CANDIDATES_ABOVE,
        candidates_per_case=MOST_CANDIDATES,
        fusion=FUSION,
    )


def _write(folder: Path, recipe: Recipe, seed: int, plan: Plan, folds: Sequence[_Fold], learned: Learned) -> None:
    """Plan, card and folds."""
    made_by = {"recipe": recipe.model_dump(mode="json"), "seed": seed, "plan": plan.model_dump(mode="json")}
    write_json(folder / "plans.json", nnunet_plans(plan, recipe.name, made_by))
    write_json(folder / "dataset.json", dataset_json(CHANNELS, learned.n_people, DATASET))
    digests = {}
    for number, fold in enumerate(folds):
        target = _checkpoint(folder, number)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(target, _alone(fold.checkpoint))
        digests[number] = file_digest(target)
        (target.parent / LOG).write_bytes((fold.training / LOG).read_bytes())
        write_json(target.parent / "settings.json", json.loads(fold.content["settings"]))
    _card(recipe.name, plan, digests, learned).write(folder / "model.json")


def _alone(content: Any) -> Any:
    """The same with tensors that share no memory with others, which would be written as well."""
    if isinstance(content, dict):
        return {name: _alone(value) for name, value in content.items()}
    return content.detach().cpu().clone() if isinstance(content, torch.Tensor) else content


def _checkpoint(folder: Path, fold: int) -> Path:
    return folder / f"fold_{fold}" / FINAL_CHECKPOINT


def write_points(folder: Path, sweep: Sweep) -> None:
    """Choose the operating points of a model folder by people that it has not learned from."""
    points = points_of(sweep, "simulated scans, none learned from,")
    write_json(folder / "operating_points.json", [point.model_dump(mode="json") for point in points])


def _plan(settings: FirstStageSettings, learned: Learned) -> Plan:
    views = settings.views
    sets = tuple(tuple(ROLE_OF[name] for name in names) for names, share in views.sequence_shares if share > 0)
    z, y, x = (round(size / step) for size, step in zip(MEDIAN_BRAIN_MM, views.spacing_mm, strict=True))
    what = f"{learned.n_blocks} blocks of {learned.n_people} simulated people, scanned by protocols of any kind"
    return Plan(
        dataset=DATASET,
        preset="adaptive",
        channels=CHANNELS,
        transpose_forward=(0, 1, 2),
        spacing_mm=views.spacing_mm,
        median_shape=(z, y, x),
        patch_shape=views.patch_shape,
        batch_size=settings.batch_size,
        topology=Topology(
            features_per_stage=settings.features,
            kernel_sizes=settings.kernel_sizes,
            strides=settings.strides,
            n_blocks_per_stage=(settings.blocks_per_stage,) * len(settings.features),
        ),
        preserve_lesions=True,
        lesions_before=learned.n_lesions,
        lesions_after=learned.n_lesions,
        device="cpu",
        memory_target_gb=2.0,
        memory_gb=2.0,
        reasons=(Reason(topic="grid", text=what, rule="the settings of its training"),),
        training_range=learned.training_range.model_copy(update={"sequences": CHANNELS, "sequence_sets": sets}),
    )


def _card(recipe: str, plan: Plan, digests: dict[int, str], learned: Learned) -> Model:
    return Model(
        dataset=plan.dataset,
        recipe=recipe,
        channels=plan.channels,
        folds=digests,
        seed=0,
        n_cases=learned.n_blocks,
        n_subjects=learned.n_people,
        n_lesions=learned.n_lesions,
        training_range=plan.training_range,
        intended_use=USE,
        licence=LICENCE,
        parents=(text_digest(plan.model_dump_json()),),
    )
