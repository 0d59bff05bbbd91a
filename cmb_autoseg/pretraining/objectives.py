"""What is learned without labels: one interface for Barlow Twins and masked autoencoding.

An objective makes samples on the CPU, and gives encoder and head the gradient of a whole batch, however few patches
go through the encoder at a time and however many processes share them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from cmb_autoseg.networks.residual_unet import ResidualEncoder
from cmb_autoseg.pretraining.barlow_twins import Projector, barlow_twins_loss
from cmb_autoseg.pretraining.distributed import World
from cmb_autoseg.pretraining.masked_autoencoding import BlockMask, squared_error
from cmb_autoseg.pretraining.patches import CasePatches
from cmb_autoseg.pretraining.views import PairMaker, SequenceSplit, ViewMaker, draw_places

__all__ = [
    "PATCH",
    "BarlowTwins",
    "Execution",
    "MaskedAutoencoding",
    "MaskedSampler",
    "Objective",
    "PairSampler",
    "Sampler",
]

Sample = dict[str, Tensor]
PATCH = -1
"""Instead of a level whose places are compared: the mean of the deepest one."""


def _unscaled(loss: Tensor) -> Tensor:
    return loss


@dataclass(frozen=True)
class Execution:
    """How a batch is computed; none of it changes the result but by rounding."""

    device: torch.device
    world: World = field(default_factory=World)
    micro_batch_size: int | None = None
    """Patches or pairs that go through the encoder at a time; None for all."""
    autocast: torch.dtype | None = None
    """Precision of the encoder; None for that of its weights."""
    scale: Callable[[Tensor], Tensor] = field(default=_unscaled)
    """What a loss is multiplied by before its gradient is taken."""

    def parts(self, n: int) -> list[slice]:
        """Micro-batches of `n` patches."""
        size = self.micro_batch_size or n
        return [slice(start, min(start + size, n)) for start in range(0, n, size)]

    def encode(self, encoder: nn.Module, images: Tensor) -> list[Tensor]:
        """Feature maps of all levels, finest first."""
        layout = torch.channels_last_3d if self.device.type == "cpu" else torch.preserve_format
        moved = images.to(self.device, non_blocking=True, memory_format=layout)
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            levels: list[Tensor] = encoder(moved)
        return levels


class Sampler(Protocol):
    """Makes one sample; plain data that background processes can be given."""

    def __call__(self, rng: np.random.Generator, patches: CasePatches) -> Sample: ...


class Objective(Protocol):
    """A way to learn an encoder."""

    sampler: Sampler
    head: nn.Module
    """What is learned with the encoder and thrown away."""

    def accumulate(self, encoder: ResidualEncoder, batch: Sample, execution: Execution) -> dict[str, float]:
        """Add this batch's gradient to that of the encoder's and the head's weights.

        Args:
            encoder: on the execution's device, as the head.
            batch: stacked samples of this process.
            execution: micro-batches, precision, processes.

        Returns:
            `loss` and further figures of the whole batch, over all processes.
        """
        ...

    def embed(self, encoder: ResidualEncoder, images: Tensor, execution: Execution) -> Tensor:
        """The features before the head of (patch, channel, z, y, x), as (sample, feature)."""
        ...


def _full_precision(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))


@dataclass(frozen=True)
class PairSampler:
    """A pair of views, for Barlow Twins."""

    pairs: PairMaker

    def __call__(self, rng: np.random.Generator, patches: CasePatches) -> Sample:
        first, second, places = self.pairs(rng, patches, patches.draw(rng))
        return {"first": first, "second": second, "places": torch.from_numpy(places)}


class BarlowTwins:
    """Barlow Twins on patches, on places in them, or on both.

    The loss hangs on all samples of a batch at once, so plain gradient accumulation over micro-batches would give
    another loss. The gradient is taken in two steps instead (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch
    Size under Memory Limited Setup"): the features of all micro-batches are computed without keeping the encoder's
    graph, projector and loss on the whole batch give the gradient with respect to the features, and each micro-batch
    then passes through the encoder once more and takes its part back. As the encoder normalizes each patch by itself,
    this is exact.

    Args:
        sampler: of pairs.
        projectors: on the loop's device.
        redundancy_weight: of the off-diagonal part.
        levels: what is compared, each by the projector of the same number: the places of one of the encoder's levels,
            or `PATCH`, the mean of the deepest level over the patch.
    """

    def __init__(
        self, sampler: PairSampler, projectors: Sequence[Projector], redundancy_weight: float, levels: Sequence[int]
    ) -> None:
        self.sampler: Sampler = sampler
        self.pairs = sampler.pairs
        self.head: nn.Module = nn.ModuleList(projectors)
        self.projectors = list(projectors)
        self.redundancy_weight, self.levels = redundancy_weight, tuple(levels)

    def accumulate(self, encoder: ResidualEncoder, batch: Sample, execution: Execution) -> dict[str, float]:
        parts = execution.parts(len(batch["first"]))
        if len(parts) == 1:
            own = self._features(encoder, batch, parts[0], execution)
        else:
            with torch.no_grad():
                pairs = [self._features(encoder, batch, part, execution) for part in parts]
            own = tuple(torch.cat(views) for views in zip(*pairs, strict=True))
        whole = [execution.world.gather(view.detach()).requires_grad_() for view in own]
        terms = [
            barlow_twins_loss(projector(first), projector(second), self.redundancy_weight)
            for projector, first, second in zip(self.projectors, whole[::2], whole[1::2], strict=True)
        ]
        loss = torch.stack([each.loss for each in terms]).sum()
        execution.scale(loss).backward()  # type: ignore[no-untyped-call]
        gradients = [_rows_of(view, execution.world) for view in whole]
        if len(parts) == 1:
            torch.autograd.backward(own, gradients)
        else:
            for part in parts:
                views = self._features(encoder, batch, part, execution)
                torch.autograd.backward(views, [_part_of(gradient, part, batch) for gradient in gradients])
        execution.world.sum_gradients(encoder.parameters())
        return {
            "loss": float(loss.detach()),
            "on_diagonal": float(np.mean([float(each.on_diagonal) for each in terms])),
            "off_diagonal": float(np.mean([float(each.off_diagonal) for each in terms])),
        }

    def _features(
        self, encoder: ResidualEncoder, batch: Sample, part: slice, execution: Execution
    ) -> tuple[Tensor, ...]:
        """Of the first and the second view, (sample, feature) each, of what is compared first, then of the next."""
        images = torch.cat((batch["first"][part], batch["second"][part]))
        places = torch.cat((batch["places"][part],) * 2)
        maps = execution.encode(encoder, images)
        return tuple(view for level in self.levels for view in _samples(maps, level, places).chunk(2))

    def embed(self, encoder: ResidualEncoder, images: Tensor, execution: Execution) -> Tensor:
        rng = np.random.default_rng(0)
        brains = (images != 0).any(dim=1).numpy()
        drawn = [draw_places(rng, brain, self.pairs.place_stride, self.pairs.n_places) for brain in brains]
        return _samples(execution.encode(encoder, images), self.levels[-1], torch.from_numpy(np.stack(drawn)))


def _samples(maps: Sequence[Tensor], level: int, places: Tensor) -> Tensor:
    """Features (sample, feature) of the patches' places in a level, or of the patches."""
    if level == PATCH:
        return _pooled(maps)
    z, y, x = places.to(maps[level].device).unbind(-1)
    patch = torch.arange(len(places), device=z.device)[:, None]
    return _full_precision(maps[level][patch, :, z, y, x].flatten(0, 1))


def _pooled(levels: Sequence[Tensor]) -> Tensor:
    """Mean of the deepest level over the patch."""
    return _full_precision(levels[-1]).mean(dim=(2, 3, 4))


def _part_of(rows: Tensor, part: slice, batch: Sample) -> Tensor:
    """Rows of a micro-batch, where every patch of the batch has the same number of them."""
    each = len(rows) // len(batch["first"])
    return rows[part.start * each : part.stop * each]


def _rows_of(whole: Tensor, world: World) -> Tensor:
    assert whole.grad is not None
    rows = world.share(len(whole))
    return whole.grad[rows.start : rows.stop]


@dataclass(frozen=True)
class MaskedSampler:
    """One view with blanked blocks, for masked autoencoding."""

    views: ViewMaker
    split: SequenceSplit
    mask: BlockMask

    def __call__(self, rng: np.random.Generator, patches: CasePatches) -> Sample:
        draw = patches.draw(rng)
        view = self.views.draw(rng, self.split.drop(rng, patches.present(draw.case)))
        source = patches.crop(draw, self.views.margin(view))
        image = self.views.intensities(self.views.geometry(source, view), view)
        visible, asked = self.mask.apply(image, self.mask.draw(rng, len(image), image.shape[1:]))
        return {"image": image, "visible": visible, "asked": asked}


class MaskedAutoencoding:
    """Fill in blanked blocks; the loss is the mean over all voxels that the batch asks for.

    That mean is a sum over voxels, so that micro-batches and processes add up exactly.

    Args:
        sampler: of blanked patches.
        decoder: on the loop's device.
    """

    def __init__(self, sampler: MaskedSampler, decoder: nn.Module) -> None:
        self.sampler: Sampler = sampler
        self.head = decoder

    def accumulate(self, encoder: ResidualEncoder, batch: Sample, execution: Execution) -> dict[str, float]:
        n_asked = execution.world.sum(batch["asked"].sum().to(execution.device)).clamp_min(1)
        loss = torch.zeros((), device=execution.device)
        for part in execution.parts(len(batch["image"])):
            image, asked = (batch[key][part].to(execution.device) for key in ("image", "asked"))
            levels = execution.encode(encoder, batch["visible"][part])
            with torch.autocast(execution.device.type, execution.autocast, enabled=execution.autocast is not None):
                prediction = self.head(levels)
            error = squared_error(_full_precision(prediction), image, asked) / n_asked
            execution.scale(error).backward()  # type: ignore[no-untyped-call]
            loss = loss + error.detach()
        execution.world.sum_gradients((*encoder.parameters(), *self.head.parameters()))
        return {"loss": float(execution.world.sum(loss))}

    def embed(self, encoder: ResidualEncoder, images: Tensor, execution: Execution) -> Tensor:
        return _pooled(execution.encode(encoder, images))
