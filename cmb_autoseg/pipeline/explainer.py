"""From findings on a scan's grid to their maps on the same grid: patches of the network's input between them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.explanation import Explanation, Finding, level_modules
from cmb_autoseg.explanation.grad_cam import Method
from cmb_autoseg.explanation.places import Place, explain_places, share_near
from cmb_autoseg.geometry import from_canonical, to_canonical
from cmb_autoseg.inference.patches import PatchEnsemble
from cmb_autoseg.inference.tiles import pad_to
from cmb_autoseg.lesions import resample_lesions
from cmb_autoseg.preprocessing import PreparedCase
from cmb_autoseg.preprocessing.network_input import NetworkInput

__all__ = ["Explainer"]

DEFAULT_LEVEL = 1
"""The encoder's second finest: see docs/decisions/0018-where-a-network-looked.md."""


class Explainer:
    """Grad-CAM by the folds of one model.

    Args:
        ensemble: the model.
        level: as `level_modules` counts; None for `DEFAULT_LEVEL`.
        method: see `grad_cam`.

    Raises:
        InputError: the network has no such level.
    """

    def __init__(self, ensemble: PatchEnsemble, level: int | None = None, method: Method = "hirescam") -> None:
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
        padded, inner = pad_to(inputs.data, self.ensemble.patch_shape)
        places = [self._place(finding, prepared, inputs, padded.shape[1:], inner) for finding in findings]
        inside = [index for index, place in enumerate(places) if place is not None]
        known = [place for place in places if place is not None]
        # The network has a channel for each sequence of the plan, and may have learned from fewer.
        channels = self.ensemble.plan.channels
        usable = set(prepared.volumes) & set(self.ensemble.channels)
        present = [index for index, role in enumerate(channels) if role in usable and padded[index].any()]
        networks = (network for _, network in self.ensemble.networks())
        maps, values = explain_places(networks, self.level, self.method, padded, known, present)
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
            near, by_chance = share_near(maps[n], known[n].region, self.ensemble.plan.spacing_mm)
            whole = self._on_scan(maps[n], known[n], padded.shape[1:], inner, inputs, prepared)
            results.append(Explanation(finding, whole, float(values[0, n]), drops, near, by_chance))
        return results

    def _place(
        self,
        finding: Finding,
        prepared: PreparedCase,
        inputs: NetworkInput,
        padded_shape: tuple[int, ...],
        inner: tuple[slice, slice, slice],
    ) -> Place | None:
        """Where a finding lies in the network's input; None where it lies outside."""
        own = np.zeros(prepared.original.shape, dtype=np.uint8)
        own[tuple(finding.voxels.T)] = 1
        canonical = to_canonical(prepared.original.with_data(own)).data.transpose(2, 1, 0)
        turned = inputs.grid.crop(canonical)
        region = np.zeros(padded_shape, dtype=bool)
        region[inner] = resample_lesions(turned, 1, inputs.grid.shape, preserve=True).mask > 0
        if not region.any():
            return None
        voxels = np.argwhere(region)
        # The centre of a bent or hollow one may lie outside it, and far from it if it is large.
        centre = voxels[((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()]
        patch = np.array(self.ensemble.patch_shape)
        start = np.clip(centre - patch // 2, 0, np.array(padded_shape) - patch)
        return Place(tuple(start.tolist()), region[tuple(map(slice, start, start + patch))])

    def _on_scan(
        self,
        patch: NDArray[np.float32],
        place: Place,
        padded_shape: tuple[int, ...],
        inner: tuple[slice, slice, slice],
        inputs: NetworkInput,
        prepared: PreparedCase,
    ) -> NDArray[np.float32]:
        whole = np.zeros(padded_shape, dtype=np.float32)
        whole[place.box()] = patch
        on_scan = inputs.grid.in_scan(inputs.grid.back(whole[inner][None])[0])
        own: NDArray[np.float32] = from_canonical(on_scan, prepared.original)
        return np.clip(own, 0, 1, out=own)
