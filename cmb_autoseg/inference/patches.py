"""A model whose network sees 3D patches.

The folds' logits are averaged, as nnU-Net does; its own sliding window and resampling are used, so
that plain nnU-Net on the same folder and prepared inputs gives the same probabilities.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg._nnunet import CONFIGURATION, nnunet_environment
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.ensemble import Ensemble, Prediction
from cmb_autoseg.records import Role, Triple

if TYPE_CHECKING:
    from torch import nn

    from cmb_autoseg.preprocessing.network_input import NetworkInput

__all__ = ["PatchEnsemble"]

TRUSTED_NETWORKS = ("cmb_autoseg.", "dynamic_network_architectures.")


class PatchEnsemble(Ensemble):
    """The folds of a U-Net that nnU-Net could load as well."""

    def _load(self) -> None:
        self.tile_step = float(self.plans["cmb_autoseg"]["recipe"]["inference"]["tile_step"])
        network_class = self.plans["configurations"][CONFIGURATION]["architecture"]["network_class_name"]
        if not network_class.startswith(TRUSTED_NETWORKS) and not self.trusted:
            raise InputError(
                f"{self.folder}/plans.json: network class {network_class} is foreign code; "
                "give --trust-model if you know where the model comes from"
            )
        with nnunet_environment():
            import torch
            from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
            from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

            from cmb_autoseg.inference.sliding_window import BatchedPredictor

            checkpoints = [self.checkpoint(fold) for fold in self.folds]
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
            if self.device == "cpu":
                network = network.to(memory_format=torch.channels_last_3d)
            for checkpoint in reversed(checkpoints):
                network.load_state_dict(checkpoint["network_weights"])
            mirror = checkpoints[0]["inference_allowed_mirroring_axes"]
            predictor = BatchedPredictor(
                tile_step_size=self.tile_step,
                use_mirroring=mirror is not None,
                device=torch.device(self.device),
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
        self._predictor: Any = predictor

    @property
    def patch_shape(self) -> Triple[int]:
        """Voxels of the network's patch, on the axes of its inputs."""
        first, second, third = self._predictor.configuration_manager.patch_size
        return int(first), int(second), int(third)

    def network_input(self, volumes: Mapping[Role, Volume]) -> "NetworkInput":
        """What the network is given of one prepared case: cropped, z-scored, on the plan's spacing.

        Args:
            volumes: as for `predict`.
        """
        with nnunet_environment():
            from cmb_autoseg.preprocessing.network_input import network_input, stack_channels

            data, spacing = stack_channels(self.known(volumes), self.plan.channels)
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

    def predict(self, volumes: Mapping[Role, Volume]) -> Prediction:
        """See `Ensemble.predict`."""
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
        return Prediction(Volume(np.ascontiguousarray(foreground.transpose(2, 1, 0)), some.affine, None, some.name))

    @property
    def n_parameters(self) -> int:
        return sum(values.numel() for values in self._predictor.list_of_parameters[0].values())
