"""A trained model folder, loaded once, and the probability map of one prepared case.

The folds' logits are averaged, as nnU-Net does; its own sliding window and resampling are used, so
that plain nnU-Net on the same folder and prepared inputs gives the same probabilities.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg._nnunet import CONFIGURATION, FINAL_CHECKPOINT, nnunet_environment
from cmb_autoseg.errors import CMBError, InputError
from cmb_autoseg.files import file_digest, read_json, text_digest
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.model_folder import available_folds, trained_channels, trained_plan
from cmb_autoseg.interruption import raise_stop_behind
from cmb_autoseg.records import Role, Triple

if TYPE_CHECKING:
    from torch import nn

    from cmb_autoseg.preprocessing.network_input import NetworkInput

__all__ = ["Ensemble"]

TRUSTED_NETWORKS = ("cmb_autoseg.", "dynamic_network_architectures.")


class Ensemble:
    """The folds of one model.

    Args:
        folder: `results/DatasetNNN_NAME/CMBTrainer__<recipe>__3d` or a copy of it.
        folds: which ones; None for all that are finished.
        device: `cuda` or `cpu`.
        trust_model: load pickled objects and foreign network classes as well.

    Raises:
        InputError: no such folder, no finished fold, or one that needs `trust_model`.
    """

    def __init__(self, folder: Path, folds: Sequence[int] | None, device: str, trust_model: bool = False) -> None:
        self.folder = folder
        self.plans, self.dataset_json = _read_folder(folder)
        there = available_folds(folder)
        self.folds = tuple(folds) if folds is not None else there
        absent = sorted(set(self.folds) - set(there))
        if absent or not there:
            raise InputError(
                f"{folder}: found {f'finished folds {list(there)}' if there else 'no checkpoint'}, "
                f"needed {absent or f'fold_0/{FINAL_CHECKPOINT} at least'}; train with cmb_train "
                "or choose others with -f"
            )
        self.plan = trained_plan(folder)
        self._channels = trained_channels(folder)
        self.digests = {fold: file_digest(_checkpoint(folder, fold)) for fold in self.folds}
        self.digest = text_digest(repr(sorted(self.digests.items())) + self.plan.digest)
        try:
            self.tile_step = float(self.plans["cmb_autoseg"]["recipe"]["inference"]["tile_step"])
            self._predictor = self._load(device, trust_model)
        except CMBError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, AssertionError) as error:
            raise_stop_behind(error)
            reason = (str(error).splitlines() or [""])[0]
            raise InputError(
                f"{folder}: its plans.json, dataset.json and checkpoints do not fit together "
                f"({type(error).__name__}: {reason}); copy the model folder again, whole"
            ) from None

    @property
    def channels(self) -> tuple[Role, ...]:
        """Sequences that the model has learned from; the network's other channels stay blank."""
        return self._channels

    def _load(self, device: str, trust_model: bool) -> Any:
        network_class = self.plans["configurations"][CONFIGURATION]["architecture"]["network_class_name"]
        if not network_class.startswith(TRUSTED_NETWORKS) and not trust_model:
            raise InputError(
                f"{self.folder}/plans.json: network class {network_class} is foreign code; "
                "give --trust-model if you know where the model comes from"
            )
        with nnunet_environment():
            import torch
            from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
            from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

            from cmb_autoseg.inference.sliding_window import BatchedPredictor

            checkpoints = [_load_checkpoint(self.folder, fold, trust_model) for fold in self.folds]
            manager = PlansManager(self.plans)
            configuration = manager.get_configuration(CONFIGURATION)
            network = get_network_from_plans(
                configuration.network_arch_class_name,
                configuration.network_arch_init_kwargs,
                configuration.network_arch_init_kwargs_req_import,
                len(self.plan.channels),
                manager.get_label_manager(self.dataset_json).num_segmentation_heads,
                allow_init=False,
                deep_supervision=False,
            )
            if device == "cpu":
                network = network.to(memory_format=torch.channels_last_3d)
            for checkpoint in reversed(checkpoints):
                network.load_state_dict(checkpoint["network_weights"])
            mirror = checkpoints[0]["inference_allowed_mirroring_axes"]
            predictor = BatchedPredictor(
                tile_step_size=self.tile_step,
                use_mirroring=mirror is not None,
                device=torch.device(device),
                allow_tqdm=False,
            )
            predictor.manual_initialization(
                network,
                manager,
                configuration,
                [checkpoint["network_weights"] for checkpoint in checkpoints],
                self.dataset_json,
                "CMBTrainer",
                mirror,
            )
        return predictor

    @property
    def patch_shape(self) -> Triple[int]:
        """Voxels of the network's patch, on the axes of its inputs."""
        first, second, third = self._predictor.configuration_manager.patch_size
        return int(first), int(second), int(third)

    def network_input(self, volumes: Mapping[Role, Volume]) -> "NetworkInput":
        """What the network is given of one prepared case: cropped, z-scored, on the plan's spacing.

        Args:
            volumes: as for `probability`.
        """
        with nnunet_environment():
            from cmb_autoseg.preprocessing.network_input import network_input, stack_channels

            known = {role: volume for role, volume in volumes.items() if role in self.channels}
            if not known:
                raise InputError(
                    f"{next(iter(volumes.values())).name}: has {', '.join(volumes)}, but the model has learned from "
                    f"{', '.join(self.channels)} alone; take a model of all sequences"
                )
            data, spacing = stack_channels(known, self.plan.channels)
            return network_input(data, spacing, self.plans, self.dataset_json)

    def networks(self) -> "Iterator[tuple[int, nn.Module]]":
        """Each fold's network in turn, for evaluation and with gradients; one module, whose weights change."""
        predicting = self._predictor.network
        # A copy, since prediction may have moved the module's weights to a device in inference mode.
        network: nn.Module = copy.deepcopy(getattr(predicting, "_orig_mod", predicting)).to(self._predictor.device)
        network.eval()
        for fold, weights in zip(self.folds, self._predictor.list_of_parameters, strict=True):
            network.load_state_dict(weights)
            yield fold, network

    def onto_scan(self, values: NDArray[np.float32], inputs: "NetworkInput") -> NDArray[np.float32]:
        """Bring a map back to the grid of the prepared volumes, as probabilities are brought.

        Args:
            values: (a, b, c) on the grid of the network's input.
            inputs: that input.

        Returns:
            (i, j, k), interpolated linearly; 0 outside the box that the network was given.
        """
        predictor, properties = self._predictor, inputs.properties
        manager, configuration = predictor.plans_manager, predictor.configuration_manager
        with nnunet_environment():
            resampled = configuration.resampling_fn_probabilities(
                values[None],
                properties["shape_after_cropping_and_before_resampling"],
                configuration.spacing,
                [properties["spacing"][axis] for axis in manager.transpose_forward],
            )
        whole = np.zeros(properties["shape_before_cropping"], dtype=np.float32)
        whole[tuple(slice(*side) for side in properties["bbox_used_for_cropping"])] = np.asarray(resampled)[0]
        return np.ascontiguousarray(whole.transpose(manager.transpose_backward).transpose(2, 1, 0))

    def probability(self, volumes: Mapping[Role, Volume]) -> Volume:
        """Probability of a microbleed at every voxel, on the grid of the prepared volumes.

        Args:
            volumes: canonical, one grid, zero outside the brain; sequences that the model does not
                know are left out, planned ones that are missing are blank channels.
        """
        inputs = self.network_input(volumes)
        with nnunet_environment():
            import torch
            from nnunetv2.inference.export_prediction import (
                convert_predicted_logits_to_segmentation_with_correct_shape,
            )

            logits = self._predictor.predict_logits_from_preprocessed_data(torch.from_numpy(inputs.data)).cpu()
            _, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
                logits,
                self._predictor.plans_manager,
                self._predictor.configuration_manager,
                self._predictor.label_manager,
                inputs.properties,
                return_probabilities=True,
            )
        if not np.isfinite(probabilities[1]).all():
            raise InputError(
                f"{next(iter(volumes.values())).name}: the network gives no finite probability; "
                "look at the scan's grey values and export it again"
            )
        foreground = np.clip(np.asarray(probabilities[1], dtype=np.float32), 0, 1)
        some = next(iter(volumes.values()))
        return Volume(np.ascontiguousarray(foreground.transpose(2, 1, 0)), some.affine, None, some.name)


def _checkpoint(folder: Path, fold: int) -> Path:
    return folder / f"fold_{fold}" / FINAL_CHECKPOINT


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    for name in ("plans.json", "dataset.json"):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: no {name}, so this is no model folder; train with cmb_train or check -m")
    return read_json(folder / "plans.json"), read_json(folder / "dataset.json")


def _load_checkpoint(folder: Path, fold: int, trust_model: bool) -> dict[str, Any]:
    import pickle

    import torch

    path = _checkpoint(folder, fold)
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=not trust_model)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: needs more than plain tensors to load; give --trust-model if you know where it comes from"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise_stop_behind(error)
        raise InputError(
            f"{path}: damaged ({str(error).splitlines()[0]}); copy it again or train the fold anew"
        ) from None
    return content
