"""A model whose network sees 3D patches.

The folds' logits are averaged, as nnU-Net does. Where a recipe lays windows as nnU-Net does (`inference.tile_step`),
plain nnU-Net on the same folder and prepared inputs gives the same probabilities.
"""

import copy
import pydoc
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.inference.ensemble import Ensemble, Prediction
from cmb_autoseg.preprocessing.network_grid import mirror_axes
from cmb_autoseg.records import SUSCEPTIBILITY_MAGNITUDES, Role, Triple, pooled_patch
from cmb_autoseg.trainers.recipe import InferenceSettings
from cmb_autoseg.workspace import CONFIGURATION

if TYPE_CHECKING:
    from torch import nn

    from cmb_autoseg.preprocessing.network_input import NetworkInput

__all__ = ["PatchEnsemble"]

TRUSTED_NETWORKS = ("cmb_autoseg.", "dynamic_network_architectures.")


class PatchEnsemble(Ensemble):
    """The folds of a U-Net that nnU-Net could load as well."""

    def _load(self) -> None:
        from cmb_autoseg.inference.engines import make_engine
        from cmb_autoseg.inference.sliding_window import Windowing

        configuration = self.plans["configurations"][CONFIGURATION]
        first, second, third = configuration["patch_size"]
        self.patch_shape: Triple[int] = (int(first), int(second), int(third))
        """Voxels of the network's patch, on the axes of its inputs."""
        where = f"{self.folder}/plans.json: cmb_autoseg.recipe.inference"
        settings = InferenceSettings.parse(self.plans["cmb_autoseg"]["recipe"]["inference"], where)
        strides = np.array(configuration["architecture"]["arch_kwargs"]["strides"])
        depth, height, width = (int(product) for product in strides.prod(axis=0))
        self.windowing = Windowing(
            self.patch_shape,
            (depth, height, width),
            settings.tile_step,
            mirror_axes(settings.mirror, self.plans["transpose_forward"]),
        )
        self._fewer_sequences = settings.fewer_sequences
        self._check_grid()
        self._networks = [self._network(configuration["architecture"], fold) for fold in self.folds]
        self.engine = make_engine(self._networks, len(self.plan.channels), self.device)

    def _check_grid(self) -> None:
        """Raise ValueError where patch, spacing or order of axes are not those that the network has learned with."""
        sides, units = self.windowing.patch, self.windowing.divisors
        if any(side < 1 or side % unit for side, unit in zip(sides, units, strict=True)):
            raise ValueError(f"patch_size: found {sides}, expected multiples of {units}")
        spacing = self.plans["configurations"][CONFIGURATION]["spacing"]
        if len(spacing) != 3 or not all(0 < float(size) < float("inf") for size in spacing):
            raise ValueError(f"spacing: found {spacing}, expected three sizes in mm")
        for key, found, learned in (
            ("patch_size", sides, pooled_patch(self.plan.patch_shape, units)),
            ("spacing", spacing, self.plan.spacing_mm),
        ):
            if list(found) != list(learned):
                raise ValueError(f"{key}: found {list(found)}, but it has learned with {list(learned)}")
        if sorted(self.plans["transpose_forward"]) != [0, 1, 2]:
            raise ValueError(f"transpose_forward: found {self.plans['transpose_forward']}, expected an order of axes")

    def _network(self, architecture: Mapping[str, Any], fold: int) -> "nn.Module":
        name = architecture["network_class_name"]
        if not name.startswith(TRUSTED_NETWORKS) and not self.trusted:
            raise InputError(
                f"{self.folder}/plans.json: network class {name} is foreign code; "
                "give --trust-model if you know where the model comes from"
            )
        arguments = dict(architecture["arch_kwargs"])
        for key in architecture["_kw_requires_import"]:
            arguments[key] = None if arguments[key] is None else pydoc.locate(arguments[key])
        network_class: Any = pydoc.locate(name)
        network: nn.Module = network_class(
            input_channels=len(self.plan.channels), num_classes=2, deep_supervision=False, **arguments
        )
        network.load_state_dict(self.checkpoint(fold)["network_weights"])
        return network.eval()

    def network_input(self, volumes: Mapping[Role, Volume]) -> "NetworkInput":
        """What the network is given of one prepared case: cropped, z-scored, on the plan's spacing.

        Args:
            volumes: as for `predict`.
        """
        from cmb_autoseg.preprocessing.network_input import network_input, stack_channels

        data, spacing = stack_channels(self.known(volumes), self.plan.channels)
        return network_input(data, spacing, self.plans)

    def networks(self) -> "Iterator[tuple[int, nn.Module]]":
        """Each fold's network in turn, a copy for evaluation with gradients."""
        for fold, network in zip(self.folds, self._networks, strict=True):
            yield fold, copy.deepcopy(network)

    def predict(self, volumes: Mapping[Role, Volume]) -> Prediction:
        """See `Ensemble.predict`."""
        from cmb_autoseg.inference.sliding_window import foreground_logits

        inputs = self.network_input(volumes)
        fewer = self._fewer_channels(self.known(volumes)) if self._fewer_sequences else ()
        how = replace(self.windowing, fewer=fewer)
        logits = foreground_logits(inputs.data, inputs.brain, self.engine, len(self.folds), how)
        grid, some = inputs.grid, next(iter(volumes.values()))
        in_brain = grid.back(logits[None])[0][grid.brain]
        if not np.isfinite(in_brain).all():
            raise InputError(
                f"{some.name}: the network gives no finite probability; look at the scan's grey values and export it "
                "again"
            )
        probability = np.zeros(grid.box_shape, dtype=np.float32)
        probability[grid.brain] = expit(in_brain)
        return Prediction(Volume(grid.in_scan(probability), some.affine, None, some.name))

    def _fewer_channels(self, there: Collection[Role]) -> tuple[tuple[int, ...], ...]:
        """Channels of each set of magnitudes, smaller than what is there, that it has learned to predict from."""
        counted_in = {*SUSCEPTIBILITY_MAGNITUDES} & {*there}
        magnitudes = [channel for channel, role in enumerate(self.plan.channels) if role in counted_in]
        sets = (some for n in range(1, len(there)) for some in combinations(magnitudes, n))
        learned = [set(roles) for roles in self.plan.training_range.sequence_sets]
        if not learned and self.plans["cmb_autoseg"]["recipe"]["augmentation"]["channel_dropout"]:
            return tuple(sets)
        return tuple(some for some in sets if {self.plan.channels[channel] for channel in some} in learned)

    @property
    def is_fast(self) -> bool:
        return self.windowing.fast

    @property
    def engine_name(self) -> str:
        return self.engine.name

    def hasten(self) -> None:
        """See `Ensemble.hasten`.

        Raises:
            InputError: its recipe lays windows as nnU-Net does, all of which all folds see.
        """
        if self.windowing.step is not None:
            raise InputError(
                f"--fast: the recipe of {self.folder.name} sets inference.tile_step {self.windowing.step:g}, by "
                "which all folds see all windows; leave the option out"
            )
        self.windowing = replace(self.windowing, fast=True)

    @property
    def n_parameters(self) -> int:
        return sum(values.numel() for values in self._networks[0].state_dict().values())
