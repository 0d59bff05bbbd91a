"""nnU-Net's sliding window with tiles and mirrored passes in batches.

Import it inside `nnunet_environment`.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from torch import Tensor

__all__ = ["BatchedPredictor"]

CPU_BATCH = 4
"""Patches in one call of the network on a CPU.

PyTorch 2.15's CPU convolutions take a path about four times slower for a batch of one
(benchmarks/batch_of_one.py). On CUDA tiles go one by one, as nnU-Net's memory budget assumes.
"""


class BatchedPredictor(nnUNetPredictor):  # type: ignore[misc]
    """Gives nnU-Net's logits with fewer and larger calls of the network."""

    @torch.inference_mode()
    def _internal_predict_sliding_window_return_logits(
        self, data: Tensor, slicers: Sequence[tuple[slice, ...]], do_on_device: bool = True
    ) -> Tensor:
        """Logits (class, z, y, x) of a volume (channel, z, y, x), tiles weighted by nnU-Net's Gaussian.

        Half precision and the order of sums are nnU-Net's, so that both round alike.
        """
        home = self.device if do_on_device else torch.device("cpu")
        data = data.to(home)
        heads = self.label_manager.num_segmentation_heads
        logits = torch.zeros((heads, *data.shape[1:]), dtype=torch.half, device=home)
        weights = torch.zeros(data.shape[1:], dtype=torch.half, device=home)
        patch_shape = tuple(self.configuration_manager.patch_size)
        gaussian = compute_gaussian(patch_shape, sigma_scale=1 / 8, value_scaling_factor=10, device=home)
        tiles = CPU_BATCH if self.device.type == "cpu" else 1
        for first in range(0, len(slicers), tiles):
            places = slicers[first : first + tiles]
            patches = torch.stack([data[place] for place in places]).to(self.device)
            for place, prediction in zip(places, self._mirrored_mean(patches).to(home), strict=True):
                logits[place] += prediction * gaussian
                weights[place[1:]] += gaussian
        return logits.div_(weights)

    def _mirrored_mean(self, patches: Tensor) -> Tensor:
        """Mean logits of patches (batch, channel, z, y, x) over all combinations of mirrored axes."""
        axes = [axis + 2 for axis in self.allowed_mirroring_axes or ()] if self.use_mirroring else []
        mirrored = [subset for size in range(len(axes) + 1) for subset in combinations(axes, size)]
        total = self._logits(patches)
        for subset in mirrored[1:]:
            total += torch.flip(self._logits(torch.flip(patches, subset)), subset)
        return total / len(mirrored)

    def _logits(self, patches: Tensor) -> Tensor:
        """The network's output; a single patch goes through a CPU as two."""
        alone = self.device.type == "cpu" and len(patches) == 1
        logits: Tensor = self.network(patches.expand(2, -1, -1, -1, -1) if alone else patches)
        return logits[:1] if alone else logits
