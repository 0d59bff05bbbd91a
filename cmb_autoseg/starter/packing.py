"""The starter model as an ordinary model folder: each seed is a fold, plan and card say what was simulated."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cmb_autoseg._nnunet import dataset_json, nnunet_plans
from cmb_autoseg.errors import InputError
from cmb_autoseg.files import file_digest, write_json
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.operating_points import Sweep, points_of
from cmb_autoseg.lesions import find_components
from cmb_autoseg.quality_control.sequence_measures import signal_to_noise
from cmb_autoseg.records import Model, Plan, PrepSettings, Reason, Role, Topology, TrainingRange, intended_use_after
from cmb_autoseg.starter.blocks import MAGNITUDES, SEQUENCES, Block, block_files, read_blocks
from cmb_autoseg.starter.calibration import Calibration, calibrate
from cmb_autoseg.starter.learning import LOG
from cmb_autoseg.starter.settings import LearningSettings, read_settings
from cmb_autoseg.tensor_file import read_tensors, write_tensors
from cmb_autoseg.trainers.recipe import InferenceSettings, read_recipe
from cmb_autoseg.workspace import FINAL_CHECKPOINT, STARTER_DATASET

__all__ = [
    "CHANNELS",
    "Learned",
    "learned_from",
    "write_model",
    "write_points",
]

ROLE_OF = {"swi": Role.SWI, "mag": Role.GRE_MAG, "qsm": Role.QSM, "phase": Role.LOCAL_PHASE}
CHANNELS = tuple(ROLE_OF[name] for name in SEQUENCES)
NAME = "starter"
MEDIAN_BRAIN_MM = (130.0, 165.0, 135.0)
"""(z, y, x); only tells readers of the plan how large a brain is."""
CALIBRATION = "calibration.json"
"""In a model's folder: what its logits were scaled and shifted by."""
LICENCE = "Apache-2.0"
SNR_PERCENTILES = (1, 99)
HEAD_TO_BRAIN = 1.9
"""Volume of what preparation takes for the brain where the skull is not stripped, as a multiple of the brain's: 1.5 to
2.1 in four simulated people."""
INFERENCE = InferenceSettings(mirror=("sagittal", "coronal"), fewer_sequences=True)
"""Where the folds are unsure they look again, mirrored and with fewer sequences, as they have learned."""


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
    """Measure the blocks in a folder.

    Raises:
        InputError: it holds none.
    """
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


def write_model(
    folder: Path,
    checkpoints: Sequence[Path],
    learned: Learned,
    calibration: Calibration | None = None,
) -> Path:
    """Write a model folder of trained checkpoints, one fold each; without operating points.

    Args:
        folder: to write.
        checkpoints: of `learn`, of the same settings but for the seed.
        learned: what they have learned from.
        calibration: of their logits; None to leave them as they are.

    Raises:
        InputError: checkpoints of other settings, of equal seeds, damaged or unfinished ones.
    """
    contents = [read_tensors(path, "train it anew") for path in checkpoints]
    trained = [read_settings(content["settings"]) for content in contents]
    if len({replace(settings, seed=0) for settings in trained}) != 1:
        raise InputError("--trained: the folders' settings differ in more than the seed; train them alike")
    if len({settings.seed for settings in trained}) < len(trained):
        raise InputError("--trained: two of the folders are of one seed; name one of each seed")
    for path, content, settings in zip(checkpoints, contents, trained, strict=True):
        if content["step"] < settings.steps:
            raise InputError(f"{path}: has {content['step']} of {settings.steps} steps; train it to the end")
    plan = _plan(trained[0], learned)
    recipe = read_recipe("supervised").model_copy(
        update={"name": NAME, "description": "simulated blocks of heads", "inference": INFERENCE}
    )
    made_by = {"recipe": recipe.model_dump(mode="json"), "seed": trained[0].seed, "plan": plan.model_dump(mode="json")}
    write_json(folder / "plans.json", nnunet_plans(plan, NAME, made_by))
    write_json(folder / "dataset.json", dataset_json(CHANNELS, learned.n_people, STARTER_DATASET))
    digests = {}
    for fold, (path, content) in enumerate(zip(checkpoints, contents, strict=True)):
        target = folder / f"fold_{fold}" / FINAL_CHECKPOINT
        target.parent.mkdir(parents=True, exist_ok=True)
        own = {name: values.detach().cpu().clone() for name, values in content["average"].items()}
        if calibration is not None:
            calibrate(own, calibration)
        write_tensors(target, {"network_weights": own})
        digests[fold] = file_digest(target)
        log = (path.parent / LOG).read_text(encoding="utf-8")
        (target.parent / LOG).write_text(log, encoding="utf-8")
        write_json(target.parent / "settings.json", json.loads(content["settings"]))
    _card(plan, digests, learned, trained[0].seed).write(folder / "model.json")
    write_json(folder / CALIBRATION, None if calibration is None else vars(calibration))
    return folder


def write_points(folder: Path, sweep: Sweep) -> None:
    """Choose the operating points of a model folder by people that it has not learned from."""
    points = points_of(sweep, "simulated scans by which calibration and threshold were chosen, not the held-out ones,")
    write_json(folder / "operating_points.json", [point.model_dump(mode="json") for point in points])


def _plan(settings: LearningSettings, learned: Learned) -> Plan:
    views = settings.views
    sets = tuple(tuple(ROLE_OF[name] for name in names) for names, share in views.sequence_shares if share > 0)
    z, y, x = (round(size / step) for size, step in zip(MEDIAN_BRAIN_MM, views.spacing_mm, strict=True))
    what = f"{learned.n_blocks} blocks of {learned.n_people} simulated people, scanned by protocols of any kind"
    return Plan(
        dataset=STARTER_DATASET,
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
        prep=PrepSettings(skull="on"),
        device="cpu",
        memory_target_gb=2.0,
        memory_gb=2.0,
        reasons=(Reason(topic="grid", text=what, rule="the settings of its training"),),
        training_range=learned.training_range.model_copy(update={"sequences": CHANNELS, "sequence_sets": sets}),
    )


def _card(plan: Plan, digests: dict[int, str], learned: Learned, seed: int) -> Model:
    return Model(
        dataset=plan.dataset,
        recipe=NAME,
        channels=plan.channels,
        folds=digests,
        seed=seed,
        n_cases=learned.n_blocks,
        n_subjects=learned.n_people,
        n_lesions=learned.n_lesions,
        training_range=plan.training_range,
        intended_use=intended_use_after("simulated"),
        licence=LICENCE,
        parents=(plan.digest,),
    )
