"""Encoders that begin with the weights of a 2D network from a file; nothing is learned and nothing downloaded."""

from collections.abc import Sequence
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import file_digest
from cmb_autoseg.locking import own_folder
from cmb_autoseg.pipeline.encoder_settings import EncoderSettings, encoder_settings, is_finished, refuse_other_settings
from cmb_autoseg.pretraining.launched import is_first_process
from cmb_autoseg.progress import log
from cmb_autoseg.raw_dataset import RawDataset
from cmb_autoseg.records import Encoder, Plan
from cmb_autoseg.run_log import open_log
from cmb_autoseg.trainers.recipe import Recipe
from cmb_autoseg.workspace import DatasetFolders, Workspace

__all__ = ["inflate", "refuse_for_imagenet"]


def refuse_for_imagenet(
    recipe: Recipe, folds: Sequence[int], datasets: Sequence[DatasetFolders], weights: Path | None
) -> None:
    """Refuse what has no meaning where nobody's scans are learned from.

    Raises:
        InputError: no file of weights, folds, or several datasets.
    """
    if weights is None:
        raise InputError(
            f"--weights is missing: recipe {recipe.name} needs the file of torchvision's ResNet-18 (weights "
            "IMAGENET1K_V1); for example --weights resnet18-f37072fd.pth"
        )
    if folds:
        raise InputError(
            f"-f {folds[0]}: recipe {recipe.name} learns from nobody's scans, so one encoder serves all folds; leave "
            "-f out"
        )
    if len(datasets) > 1:
        raise InputError(
            f"-d {datasets[1].number}: recipe {recipe.name} learns from no scan; name only the dataset whose plan the "
            "encoder is to fit"
        )


def inflate(raw: RawDataset, plan: Plan, recipe: Recipe, name: str, weights: Path, seed: int) -> Path:
    """An encoder with the weights of torchvision's ResNet-18.

    Under `torchrun` the first process writes it; the others refuse what it refuses, and do not wait for it.

    Args:
        raw: the dataset.
        plan: its plan, which gives channels and kernels.
        recipe: gives the features.
        name: of the encoder.
        weights: the file.
        seed: of what the file does not have.

    Returns:
        The encoder's file.

    Raises:
        InputError: the file or the network is no ResNet-18's, or the encoder there was made with other settings.
    """
    from cmb_autoseg.pretraining.encoder_file import write_encoder
    from cmb_autoseg.pretraining.imagenet import inflate_resnet18, read_resnet18
    from cmb_autoseg.pretraining.setup import build_encoder

    flat = read_resnet18(weights)
    digest = file_digest(weights)
    path = Workspace(raw.folders.workspace).encoder(name)
    made_with = encoder_settings(name, (raw,), plan, recipe, seed, weights=digest)
    refuse_other_settings(path, made_with)
    if is_finished(path):
        if is_first_process():
            log(f"{path}: finished already with the same settings, left as it is")
        return path
    fitted = recipe.applied_to(plan)
    encoder = build_encoder(len(fitted.channels), fitted.topology, seed)
    inflated = inflate_resnet18(encoder, flat)
    if not is_first_process():
        return path
    with own_folder(path.parent, "cmb_pretrain", nested=False):
        refuse_other_settings(path, made_with)
        if is_finished(path):
            log(f"{path}: finished meanwhile by another run, left as it is")
            return path
        open_log(raw.folders.workspace)
        total = len(inflated.from_file) + len(inflated.random)
        others = f"; random are {', '.join(inflated.random)}" if inflated.random else ""
        log(f"{name}: {len(inflated.from_file)} of the encoder's {total} tensors come from {weights}{others}")
        made_with.write(EncoderSettings.path(path.parent))
        record = Encoder(
            name=name,
            method="imagenet",
            datasets=(raw.folders.name,),
            fold=None,
            seed=seed,
            steps=0,
            channels=fitted.channels,
            topology=fitted.topology,
            patch_shape=fitted.patch_shape,
            subjects=(),
            n_cases=0,
            weights="",
            parents=(plan.digest, recipe.digest, digest),
            spacing_mm=fitted.spacing_mm,
            identity=made_with.identity,
            recipe=made_with.recipe,
            data="",  # photographs
        )
        write_encoder(path, encoder.state_dict(), record)
    return path
