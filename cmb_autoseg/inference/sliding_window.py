"""nnU-Net's sliding window with its mirrored passes in one batch.

Import it inside `nnunet_environment`.
"""

from itertools import combinations

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor

__all__ = ["BatchedPredictor"]


class BatchedPredictor(nnUNetPredictor):  # type: ignore[misc]
    """Gives nnU-Net's logits, with fewer and larger calls of the network.

    PyTorch 2.15's CPU convolutions take a path about four times slower for a batch of one, so that
    even a single pass is cheaper as a batch of two (benchmarks/batch_of_one.py).
    """

    @torch.inference_mode()
    def _internal_maybe_mirror_and_predict(self, x: Tensor) -> Tensor:
        """Mean logits of a patch (1, channel, z, y, x) over all combinations of mirrored axes."""
        axes = [axis + 2 for axis in self.allowed_mirroring_axes or ()] if self.use_mirroring else []
        mirrored = [subset for size in range(len(axes) + 1) for subset in combinations(axes, size)]
        batch = torch.cat([torch.flip(x, subset) for subset in mirrored])
        if self.device.type == "cpu" and len(batch) == 1:
            doubled: Tensor = self.network(batch.expand(2, -1, -1, -1, -1))
            return doubled[:1]
        logits = self.network(batch)
        upright = [torch.flip(one, [axis - 1 for axis in axes]) for one, axes in zip(logits, mirrored, strict=True)]
        return torch.stack(upright).mean(dim=0, keepdim=True)
