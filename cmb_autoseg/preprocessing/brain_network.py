"""HD-BET 2's network for brain masks, from a weights folder that the user names.

HD-BET (Isensee et al., Human Brain Mapping 40, 2019; version 2 is an nnU-Net) is trained on T1, T1
with contrast, T2 and FLAIR. Its weights folder is an nnU-Net model folder, so nnunetv2 runs it: in
this process, without HD-BET's package, and without writing into the folder. Nothing is fetched
unless `download_brain_network` is called.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg._nnunet import nnunet_environment
from cmb_autoseg.errors import CMBError, InputError
from cmb_autoseg.files import file_digest, read_json, text_digest
from cmb_autoseg.geometry import Volume, from_canonical, to_canonical
from cmb_autoseg.preprocessing.brain_download import CHECKPOINT, HD_BET_URL, WEIGHT_FILES, download_brain_network

__all__ = [
    "HD_BET_URL",
    "WEIGHT_FILES",
    "BrainNetwork",
    "download_brain_network",
    "load_brain_network",
    "weights_digest",
]

BoolArray = NDArray[np.bool_]

TRUSTED_NETWORKS = "dynamic_network_architectures.architectures."
TRUSTED_PARTS = "torch.nn."
TILE_STEP = 0.5
"""Of a patch, from one tile to the next; as HD-BET has it."""


@dataclass(frozen=True)
class BrainNetwork:
    """A network that tells brain from everything else, loaded once for many scans."""

    folder: Path
    checkpoint_digest: str
    """`sha256:<hex>` of the weights file: what a card or an option may ask for."""
    digest: str
    """Of weights, plans and labels together; part of what a prepared case depends on."""
    predictor: Any
    """nnU-Net's predictor."""

    def mask(self, volume: Volume) -> BoolArray:
        """Brain voxels of one head, on the volume's own grid.

        nnU-Net's steps: crop to what is not zero, z-score, resampling to the network's spacing,
        sliding window, class of the largest logit, and all the way back.

        Args:
            volume: T1, T2 or FLAIR with the skull on, finite. Turned to canonical axes and back,
                since the network knows heads only upright.

        Raises:
            InputError: the network gives no finite number.
        """
        upright = to_canonical(volume)
        with nnunet_environment():
            import torch
            from nnunetv2.inference.export_prediction import (
                convert_predicted_logits_to_segmentation_with_correct_shape,
            )

            predictor = self.predictor
            configuration = predictor.configuration_manager
            data, _, properties = configuration.preprocessor_class(verbose=False).run_case_npy(
                np.asarray(upright.data, dtype=np.float32).transpose(2, 1, 0)[None],
                None,
                {"spacing": list(upright.spacing_mm[::-1])},
                predictor.plans_manager,
                configuration,
                predictor.dataset_json,
            )
            logits = predictor.predict_logits_from_preprocessed_data(torch.as_tensor(data)).cpu()
            if not bool(torch.isfinite(logits).all()):
                raise InputError(
                    f"{volume.name}: the brain network in {self.folder} gives no finite number; look at the scan's "
                    "grey values, or use prep.brain: classical"
                )
            classes = convert_predicted_logits_to_segmentation_with_correct_shape(
                logits,
                predictor.plans_manager,
                configuration,
                predictor.label_manager,
                properties,
                num_threads_torch=torch.get_num_threads(),
            )
        found = np.asarray(classes) > 0
        mask: BoolArray = from_canonical(np.ascontiguousarray(found.transpose(2, 1, 0)), volume)
        return mask


def load_brain_network(
    folder: Path, sha256: str | None = None, device: str = "cpu", mirror: bool = False
) -> BrainNetwork:
    """Load HD-BET's weights folder, or that of another nnU-Net with one input channel.

    Only tensors, plain values and the numpy numbers that nnU-Net writes into its logs are unpickled,
    and the network is one of `dynamic_network_architectures` built from parts of `torch.nn`, so that
    a folder from anywhere runs no foreign code.

    Args:
        folder: holds `dataset.json`, `plans.json` and `fold_all/checkpoint_final.pth`.
        sha256: of the checkpoint, 64 hexadecimal digits; None takes the weights unchecked.
        device: `cpu` or `cuda`.
        mirror: average over mirrored passes, where the checkpoint allows it; eight times slower.

    Raises:
        InputError: no such folder, a file is missing, the digest is another one, or the files are
            no such network.
    """
    _check_files(folder)
    digests = {name: file_digest(folder / name) for name in WEIGHT_FILES}
    _check_digest(folder / CHECKPOINT, digests[CHECKPOINT], sha256)
    try:
        predictor = _predictor(folder, device, mirror)
    except CMBError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, ImportError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise InputError(
            f"{folder}: its plans.json, dataset.json and checkpoint do not fit together "
            f"({type(error).__name__}: {reason}); copy the weights folder again, whole"
        ) from None
    return BrainNetwork(folder, digests[CHECKPOINT], text_digest(repr(sorted(digests.items()))), predictor)


def weights_digest(folder: Path, sha256: str | None = None) -> str:
    """SHA-256 of the weights in a folder, as `sha256:<hex>`, without loading them.

    Raises:
        InputError: a file is missing, or the digest is not the expected one.
    """
    _check_files(folder)
    digest = file_digest(folder / CHECKPOINT)
    _check_digest(folder / CHECKPOINT, digest, sha256)
    plans = read_json(folder / "plans.json")
    if not isinstance(plans, dict) or "configurations" not in plans or not zipfile.is_zipfile(folder / CHECKPOINT):
        raise InputError(
            f"{folder}: holds no weights of HD-BET 2 (plans.json without configurations, or a checkpoint that is not "
            f"PyTorch's); name the unpacked folder of {HD_BET_URL}"
        )
    return digest


def _check_files(folder: Path) -> None:
    missing = [name for name in WEIGHT_FILES if not (folder / name).is_file()]
    if missing:
        found = f"lacks {', '.join(missing)}" if folder.is_dir() else "no such folder"
        raise InputError(
            f"{folder}: {found}; the folder of HD-BET's weights must hold {', '.join(WEIGHT_FILES)} "
            f"({HD_BET_URL}, unpacked)"
        )


def _check_digest(path: Path, found: str, expected: str | None) -> None:
    if expected is None:
        return
    wanted = "sha256:" + expected.strip().lower().removeprefix("sha256:")
    if found != wanted:
        raise InputError(
            f"{path}: SHA-256 is {found.removeprefix('sha256:')}, expected {wanted.removeprefix('sha256:')}; "
            "get the weights again, or correct the digest in prep.hd_bet.sha256"
        )


def _predictor(folder: Path, device: str, mirror: bool) -> Any:
    plans, labels = read_json(folder / "plans.json"), read_json(folder / "dataset.json")
    channels = labels.get("channel_names", labels.get("modality", {}))
    if len(channels) != 1:
        raise InputError(
            f"{folder}/dataset.json: {len(channels)} input channels, a brain network has 1; name HD-BET's folder"
        )
    with nnunet_environment():
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        checkpoint = _load_checkpoint(folder / CHECKPOINT)
        manager = PlansManager(plans)
        configuration = manager.get_configuration(checkpoint["init_args"]["configuration"])
        _refuse_foreign_code(folder, configuration)
        network = get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            1,
            manager.get_label_manager(labels).num_segmentation_heads,
            allow_init=False,
            deep_supervision=False,
        )
        weights = checkpoint["network_weights"]
        network.load_state_dict(weights)
        axes = checkpoint.get("inference_allowed_mirroring_axes") if mirror else None
        predictor = nnUNetPredictor(
            tile_step_size=TILE_STEP, use_mirroring=axes is not None, device=torch.device(device), allow_tqdm=False
        )
        predictor.manual_initialization(
            network, manager, configuration, [weights], labels, checkpoint.get("trainer_name", "nnUNetTrainer"), axes
        )
    return predictor


def _refuse_foreign_code(folder: Path, configuration: Any) -> None:
    arguments = configuration.network_arch_init_kwargs
    parts = [arguments[name] for name in configuration.network_arch_init_kwargs_req_import]
    foreign = [
        name
        for name, trusted in [
            (configuration.network_arch_class_name, TRUSTED_NETWORKS),
            *((part, TRUSTED_PARTS) for part in parts if part is not None),
        ]
        if not str(name).startswith(trusted)
    ]
    if foreign:
        raise InputError(
            f"{folder}/plans.json: {', '.join(map(str, foreign))} is foreign code; a brain network must be one of "
            f"{TRUSTED_NETWORKS}*, as HD-BET's is"
        )


def _load_checkpoint(path: Path) -> dict[str, Any]:
    import pickle

    import torch

    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: needs more than tensors and numbers to load, which could run foreign code; get HD-BET's "
            f"weights from {HD_BET_URL}"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({(str(error).splitlines() or [''])[0]}); copy it again") from None
    return content


def _numpy_numbers() -> list[Any]:
    """What nnU-Net's training log holds besides plain values: numpy scalars of numbers, under old and new names."""
    scalar = np.float64(0).__reduce__()[0]  # the module that it lies in has changed its name with numpy 2
    numbers = ("?", "i4", "i8", "f2", "f4", "f8")
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(code)) for code in numbers),
    ]
