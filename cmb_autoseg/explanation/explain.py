"""From findings on a scan's grid to their maps on the same grid: patches of the network's input between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.errors import InputError
from cmb_autoseg.explanation.findings import Finding
from cmb_autoseg.explanation.grad_cam import Method, grad_cam, level_modules, scores
from cmb_autoseg.geometry import from_canonical, to_canonical
from cmb_autoseg.inference.ensemble import Ensemble
from cmb_autoseg.lesions import resample_lesions
from cmb_autoseg.preprocessing import PreparedCase
from cmb_autoseg.preprocessing.network_input import NetworkInput
from cmb_autoseg.records import Role

__all__ = ["NEAR_MM", "Explainer", "Explanation"]

NEAR_MM = 5.0
"""As far as a prediction may lie from the lesion that it hits."""
DEFAULT_LEVEL = 1
"""The encoder's second finest: see docs/decisions/0018-where-a-network-looked.md."""
BATCH = 4
"""Patches that go through a network at once; their gradients need several times the memory of a prediction."""


@dataclass(frozen=True)
class Explanation:
    """What the networks say of one finding, averaged over the folds, each of whose maps has the same mass."""

    finding: Finding
    map: NDArray[np.float32]
    """(i, j, k) on the scan's own grid, 0..1; all 0 where nothing speaks for a microbleed."""
    score: float | None
    """Mean logit difference over the finding's voxels; None where these lie outside of what the network is given."""
    drops: dict[Role, float]
    """What the score loses when a sequence is blanked, of those that the case has."""
    near: float | None
    """Share of the map's mass within 5 mm of the finding; None for an empty map."""
    near_by_chance: float | None
    """The same of a map that is even over the patch."""


@dataclass(frozen=True)
class _Place:
    """A finding on the grid of the network's (padded) input."""

    start: tuple[int, ...]
    region: NDArray[np.bool_]
    """Of the patch's shape: the finding's voxels."""

    def box(self) -> tuple[slice, ...]:
        return tuple(slice(s, s + n) for s, n in zip(self.start, self.region.shape, strict=True))


class Explainer:
    """Grad-CAM by the folds of one model.

    Args:
        ensemble: the model.
        level: as `level_modules` counts; None for `DEFAULT_LEVEL`.
        method: see `grad_cam`.

    Raises:
        InputError: the network has no such level.
    """

    def __init__(self, ensemble: Ensemble, level: int | None = None, method: Method = "hirescam") -> None:
        self.ensemble, self.method = ensemble, method
        _, network = next(ensemble.networks())
        try:
            names = [name for name, _ in level_modules(network)]
        except ValueError as error:
            raise InputError(f"{ensemble.folder}: {error}; Grad-CAM needs a U-Net of this tool or of nnU-Net") from None
        self.level = DEFAULT_LEVEL if level is None else level
        if not 0 <= self.level < len(names):
            listed = ", ".join(f"{number} {name}" for number, name in enumerate(names))
            raise InputError(f"--level {level}: this network has the levels {listed}; choose one of them")
        self.level_name = names[self.level]

    def explain(self, findings: Sequence[Finding], prepared: PreparedCase) -> list[Explanation]:
        """Explain findings of one case.

        Args:
            findings: on the scan's own grid.
            prepared: the case.
        """
        if not findings:
            return []
        inputs = self.ensemble.network_input(prepared.volumes)
        padded, below = _padded(inputs.data, self.ensemble.patch_shape)
        places = [self._place(finding, prepared, inputs, padded.shape[1:], below) for finding in findings]
        inside = [index for index, place in enumerate(places) if place is not None]
        known = [place for place in places if place is not None]
        # The network has a channel for each sequence of the plan, and may have learned from fewer.
        channels = self.ensemble.plan.channels
        usable = set(prepared.volumes) & set(self.ensemble.channels)
        present = [index for index, role in enumerate(channels) if role in usable and padded[index].any()]
        maps, values = self._run(padded, known, present)
        explained = dict(zip(inside, range(len(known)), strict=True))
        results = []
        for index, finding in enumerate(findings):
            if index not in explained:
                empty = np.zeros(prepared.original.shape, dtype=np.float32)
                results.append(Explanation(finding, empty, None, {}, None, None))
                continue
            n = explained[index]
            drops = {
                channels[channel]: float(values[0, n] - values[1 + order, n]) for order, channel in enumerate(present)
            }
            near, by_chance = _near(maps[n], known[n].region, self.ensemble.plan.spacing_mm)
            whole = self._on_scan(maps[n], known[n], padded.shape[1:], below, inputs, prepared)
            results.append(Explanation(finding, whole, float(values[0, n]), drops, near, by_chance))
        return results

    def _place(
        self,
        finding: Finding,
        prepared: PreparedCase,
        inputs: NetworkInput,
        padded_shape: tuple[int, ...],
        below: NDArray[np.int64],
    ) -> _Place | None:
        """Where a finding lies in the network's input; None where it lies outside."""
        own = np.zeros(prepared.original.shape, dtype=np.uint8)
        own[tuple(finding.voxels.T)] = 1
        canonical = to_canonical(prepared.original.with_data(own)).data.transpose(2, 1, 0)
        box = tuple(slice(*side) for side in inputs.properties["bbox_used_for_cropping"])
        turned = canonical.transpose(self.ensemble.plan.transpose_forward)[box]
        region = np.zeros(padded_shape, dtype=bool)
        shape = inputs.data.shape[1:]
        inner = tuple(slice(b, b + n) for b, n in zip(below, shape, strict=True))
        region[inner] = resample_lesions(turned, 1, shape, preserve=True).mask > 0
        if not region.any():
            return None
        voxels = np.argwhere(region)
        # The centre of a bent or hollow one may lie outside it, and far from it if it is large.
        centre = voxels[((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()]
        patch = np.array(self.ensemble.patch_shape)
        start = np.clip(centre - patch // 2, 0, np.array(padded_shape) - patch)
        return _Place(tuple(start.tolist()), region[tuple(map(slice, start, start + patch))])

    def _run(
        self, padded: NDArray[np.float32], places: Sequence[_Place], present: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Maps (place, z, y, x), and scores (1 + sequence, place): as it is, then without each sequence."""
        patch_shape = self.ensemble.patch_shape
        maps = np.zeros((len(places), *patch_shape), dtype=np.float32)
        values = np.zeros((1 + len(present), len(places)))
        if not places:
            return maps, values
        n_folds = 0
        for _, network in self.ensemble.networks():
            n_folds += 1
            device = next(network.parameters()).device
            layer = level_modules(network)[self.level][1]
            for first in range(0, len(places), BATCH):
                some = places[first : first + BATCH]
                chosen = slice(first, first + len(some))
                patches = torch.from_numpy(np.stack([padded[(slice(None), *place.box())] for place in some])).to(device)
                regions = torch.from_numpy(np.stack([place.region for place in some])).to(device, torch.float32)
                found = grad_cam(network, layer, patches, regions, self.method).cpu().numpy()
                # Each network has its own unit of features: unscaled, the largest would speak for all.
                maps[chosen] += _scaled(found, found.sum(axis=(1, 2, 3)))
                values[0, chosen] += scores(network, patches, regions).cpu().numpy()
                for order, channel in enumerate(present):
                    blanked = patches.clone()
                    blanked[:, channel] = 0
                    values[1 + order, chosen] += scores(network, blanked, regions).cpu().numpy()
        return _scaled(maps, maps.max(axis=(1, 2, 3))), values / n_folds

    def _on_scan(
        self,
        patch: NDArray[np.float32],
        place: _Place,
        padded_shape: tuple[int, ...],
        below: NDArray[np.int64],
        inputs: NetworkInput,
        prepared: PreparedCase,
    ) -> NDArray[np.float32]:
        whole = np.zeros(padded_shape, dtype=np.float32)
        whole[place.box()] = patch
        inner = tuple(slice(b, b + n) for b, n in zip(below, inputs.data.shape[1:], strict=True))
        own: NDArray[np.float32] = from_canonical(self.ensemble.onto_scan(whole[inner], inputs), prepared.original)
        return np.clip(own, 0, 1, out=own)


def _padded(data: NDArray[np.float32], patch_shape: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The input with zeros around it where it is smaller than a patch, as nnU-Net pads; and how many lie before it."""
    missing = np.maximum(np.array(patch_shape) - data.shape[1:], 0)
    below = missing // 2
    widths = [(0, 0), *zip(below.tolist(), (missing - below).tolist(), strict=True)]
    return np.pad(data, widths), below


def _scaled(maps: NDArray[np.float32], by: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps (place, z, y, x), each divided by its own figure (place,); an empty map stays empty."""
    divisors = np.broadcast_to(by[:, None, None, None], maps.shape)
    return np.divide(maps, divisors, out=np.zeros_like(maps), where=divisors > 0)


def _near(
    values: NDArray[np.float32], region: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> tuple[float | None, float]:
    """Share of a map's mass within 5 mm of a region, and of an even map's; all have the patch's shape."""
    near = ndimage.distance_transform_edt(~region, sampling=spacing_mm) <= NEAR_MM
    total = float(values.sum())
    return (float(values[near].sum()) / total if total > 0 else None), float(near.mean())
