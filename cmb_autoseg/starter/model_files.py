"""The starter model as an ordinary model folder: each seed is a fold, plans and card say what was simulated."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cmb_autoseg._nnunet import dataset_json, nnunet_plans
from cmb_autoseg.files import file_digest, text_digest, write_json
from cmb_autoseg.records import Model, Plan, Reason, Role, Topology, TrainingRange
from cmb_autoseg.starter.learning import LearningSettings, read_settings
from cmb_autoseg.starter.protocols import ProtocolRanges
from cmb_autoseg.tensor_file import write_tensors
from cmb_autoseg.trainers.recipe import read_recipe
from cmb_autoseg.workspace import FINAL_CHECKPOINT

__all__ = ["CHANNELS", "write_model"]

CHANNELS = (Role.SWI, Role.GRE_MAG, Role.QSM, Role.LOCAL_PHASE)
"""In the order of `blocks.SEQUENCES`."""
NAME = "starter"
DATASET = "Dataset000_SIMULATED"
BRAIN_ML = (800.0, 1700.0)
MEDIAN_SHAPE_MM = (130.0, 165.0, 135.0)
RULE = "chosen on simulated people (benchmarks/starter/)"


def write_model(folder: Path, checkpoints: Sequence[Path], n_people: int) -> Path:
    """Write a model folder of trained checkpoints, one fold each.

    Args:
        folder: to write.
        checkpoints: of `learn`, of the same settings but for the seed.
        n_people: simulated people that they have learned from.

    Raises:
        ValueError: checkpoints of other settings, or unfinished ones.
    """
    contents = [torch.load(path, weights_only=True, map_location="cpu") for path in checkpoints]
    trained = [read_settings(content["settings"]) for content in contents]
    if len({replace(settings, seed=0) for settings in trained}) != 1:
        raise ValueError("the checkpoints were trained with different settings; train them alike")
    plan = _plan(trained[0], n_people)
    recipe = read_recipe("supervised").model_copy(update={"name": NAME, "description": "the starter model"})
    settings = {"recipe": recipe.model_dump(mode="json"), "seed": trained[0].seed, "plan": plan.model_dump(mode="json")}
    settings["starter"] = [json.loads(content["settings"]) for content in contents]
    write_json(folder / "plans.json", nnunet_plans(plan, NAME, settings))
    write_json(folder / "dataset.json", dataset_json(CHANNELS, n_people, DATASET))
    digests = {}
    for fold, content in enumerate(contents):
        path = folder / f"fold_{fold}" / FINAL_CHECKPOINT
        path.parent.mkdir(parents=True, exist_ok=True)
        weights = {name: values.detach().cpu().clone() for name, values in content["average"].items()}
        write_tensors(path, {"network_weights": weights, "fold": fold, "steps": content["step"]})
        digests[fold] = file_digest(path)
    _card(plan, digests, n_people).write(folder / "model.json")
    return folder


def _plan(settings: LearningSettings, n_people: int) -> Plan:
    views, (in_plane, slices) = settings.views, ProtocolRanges().spacing_range_mm()
    z, y, x = (round(size / step) for size, step in zip(MEDIAN_SHAPE_MM, views.spacing_mm, strict=True))
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
        lesions_before=0,
        lesions_after=0,
        device="cpu",
        memory_target_gb=2.0,
        memory_gb=0.2,
        reasons=(Reason(topic="grid", text=f"{n_people} simulated people of any protocol", rule=RULE),),
        training_range=TrainingRange(
            sequences=CHANNELS,
            spacing_mm_min=(slices[0], in_plane[0], in_plane[0]),
            spacing_mm_max=(slices[1], in_plane[1], in_plane[1]),
            brain_volume_ml=BRAIN_ML,
            field_strength_t=tuple(field for field, _ in ProtocolRanges().field_shares),
        ),
    )


def _card(plan: Plan, digests: dict[int, str], n_people: int) -> Model:
    return Model(
        dataset=plan.dataset,
        recipe=NAME,
        channels=plan.channels,
        folds=digests,
        seed=0,
        n_cases=n_people,
        n_subjects=n_people,
        n_lesions=0,
        training_range=plan.training_range,
        intended_use="Trained on simulated data alone. Research use. Not a medical device; not for diagnosis or "
        "treatment decisions.",
        parents=(text_digest(plan.model_dump_json()),),
    )
