"""One look at a simulated block: another grid, brightness, noise and set of sequences each time.

What a scanner does to a head is simulated; what happens on the way to the network is drawn here: resampling, blur,
uneven brightness, brain masks that are too tight, too wide or of the whole head, sequences that are not there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cmb_autoseg.simulation.grids import smooth_field
from cmb_autoseg.starter.blocks import MAGNITUDES, SEQUENCES, Block

__all__ = ["View", "ViewDraw", "ViewSettings", "draw_view", "make_view"]

THICK_SLICES = 3.0
"""From this ratio of the coarsest to the finest voxel side on, slices are not interpolated between (`NetworkGrid`)."""
BIAS_KNOTS = (4, 4, 4)
"""In what a patch shows."""
VOXELS_FOR_SCORES = 50_000
"""Of a block, about so many tell mean and deviation."""
CUT_MARGIN = 6.0
"""Voxels around a patch, so that interpolation sees what lies beside it."""
MARKED = 0.4
"""Of a voxel, the share inside a microbleed from which on it belongs to it; half would lose the smallest."""
HEAD_SPREAD = (1.4, 3.6)
"""Standard deviation of a magnitude in the whole head, as a multiple of the one in the brain; `HEAD_*` hold a little
more than what was measured in four simulated people of 1.5, 3 and 7 T."""
HEAD_MEAN = (0.4, 0.75)
"""By which the head's mean is darker than the brain's, in the head's standard deviations."""
HEAD_SPREAD_OF_MAPS = (0.65, 1.0)
"""Of QSM and phase, whose mean stays where it is."""
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class ViewSettings:
    """How blocks are looked at. `width` scales all that is random about brightness, blur, noise and masks."""

    spacing_mm: Triple = (1.5, 0.75, 0.75)
    """(z, y, x) of the network's grid."""
    patch_shape: tuple[int, int, int] = (16, 64, 64)
    width: float = 1.0
    lesion_share: float = 0.6
    """Of the patches of blocks with microbleeds, those about one."""
    scaling: float = 0.12
    """Sides grow or shrink by at most this share."""
    resampled_share: float = 0.25
    """Of the blocks, those that have been interpolated once before."""
    bias_sd: float = 0.2
    gamma: float = 0.35
    """Largest change of the exponent of a magnitude's grey values."""
    blur_voxels: float = 0.8
    noise_sd: float = 0.15
    """Largest, in standard deviations of the brain's values."""
    shift: float = 0.15
    head_share: float = 0.6
    """Of the views, those in which the skull is not stripped: values are scaled by, and seen in, the whole head."""
    sequence_shares: tuple[tuple[tuple[str, ...], float], ...] = (
        (("swi",), 0.22),
        (("mag",), 0.26),
        (("qsm",), 0.06),
        (("swi", "mag"), 0.12),
        (("swi", "phase"), 0.05),
        (("mag", "phase"), 0.06),
        (("swi", "mag", "phase"), 0.05),
        (("swi", "mag", "qsm"), 0.08),
        (("swi", "qsm"), 0.04),
        (("mag", "qsm"), 0.06),
    )
    """How often each set of sequences is there; the other channels are 0."""


@dataclass(frozen=True)
class ViewDraw:
    """The draws of one view."""

    centre: NDArray[np.float64]
    """Of the patch, (i, j, k) voxels of the block."""
    scale: NDArray[np.float64]
    """Of the sides (z, y, x)."""
    present: tuple[bool, ...]
    earlier: NDArray[np.float64] | None
    """Sides of the voxels (i, j, k) to which the block was interpolated before, as multiples of its own."""
    bias: NDArray[np.float64] | None
    """Logarithm of a magnitude's gain at `BIAS_KNOTS`."""
    exponents: NDArray[np.float64]
    """One a channel."""
    blur: float
    noise: float
    affine: NDArray[np.float64]
    """Factor and offset a channel, shape (channel, 2)."""
    whole_head: bool
    """The skull is not stripped."""
    grown: int
    """Voxels by which the mask is too wide (above 0) or too tight."""
    flips: tuple[int, ...]
    """Axes (z, y, x) that are turned round."""
    seed: int


@dataclass(frozen=True)
class View:
    """What the network sees and should say, on its grid."""

    image: Tensor
    """Shape (channel, z, y, x), float32: z-scored in the mask, 0 outside and where a sequence is missing."""
    target: Tensor
    """Shape (1, z, y, x), float32, 0 or 1."""


def draw_view(
    rng: np.random.Generator, block: Block, settings: ViewSettings, about: NDArray[np.float64] | None = None
) -> ViewDraw:
    """Draw a view of a block.

    Args:
        rng: source of every draw.
        block: to be looked at.
        settings: how.
        about: a place (i, j, k) that is to be seen; None to draw one.
    """
    width, n = settings.width, len(SEQUENCES)
    sets, shares = zip(*settings.sequence_shares, strict=True)
    there = sets[int(rng.choice(len(sets), p=np.array(shares) / sum(shares)))]
    whole_head = _chance(rng, settings.head_share)
    return ViewDraw(
        centre=_draw_centre(rng, block, settings, whole_head, about),
        scale=1 + settings.scaling * rng.uniform(-1, 1, 3),
        present=tuple(name in there for name in SEQUENCES),
        earlier=rng.uniform(0.7, 1.7, 3) if _chance(rng, settings.resampled_share * min(width, 1)) else None,
        bias=settings.bias_sd * width * rng.normal(size=BIAS_KNOTS) if _chance(rng, 0.5) else None,
        exponents=np.exp(settings.gamma * width * rng.uniform(-1, 1, n)) if _chance(rng, 0.4) else np.ones(n),
        blur=settings.blur_voxels * width * rng.random() if _chance(rng, 0.25) else 0.0,
        noise=settings.noise_sd * width * rng.random() if _chance(rng, 0.3) else 0.0,
        affine=_draw_affine(rng, settings.shift * width, whole_head),
        whole_head=whole_head,
        grown=int(rng.choice((-1, 0, 1, 2), p=(0.12, 0.6, 0.18, 0.1))) if width > 0 else 0,
        flips=tuple(axis for axis in (1, 2) if _chance(rng, 0.5)),
        seed=int(rng.integers(2**31)),
    )


def _chance(rng: np.random.Generator, share: float) -> bool:
    return bool(rng.random() < share)


def _draw_affine(rng: np.random.Generator, shift: float, whole_head: bool) -> NDArray[np.float64]:
    """Factors and offsets, shape (channel, 2), of values that are scaled by the brain."""
    factor, offset = np.exp(shift * rng.normal(size=len(SEQUENCES))), shift * rng.normal(size=len(SEQUENCES))
    if whole_head:
        spread = float(np.exp(rng.uniform(*np.log(HEAD_SPREAD))))
        mean, of_maps = rng.uniform(*HEAD_MEAN), rng.uniform(*HEAD_SPREAD_OF_MAPS)
        bright = np.array([name in MAGNITUDES for name in SEQUENCES])
        factor = factor / np.where(bright, spread, of_maps)
        offset = offset + np.where(bright, mean, 0.0)
    return np.stack([factor, offset], axis=1)


def _draw_centre(
    rng: np.random.Generator,
    block: Block,
    settings: ViewSettings,
    whole_head: bool,
    about: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """The middle of the patch: a microbleed, the brain or the head lies somewhere in its inner three quarters."""
    shape = np.array(block.mask.shape)
    anchor = _draw_anchor(rng, block, settings, whole_head) if about is None else about
    size = np.array(settings.patch_shape)[::-1] * np.array(settings.spacing_mm)[::-1] / block.spacing_mm
    centre = anchor + size * rng.uniform(-0.375, 0.375, 3)
    low, high = size / 2, shape - size / 2
    return np.where(low < high, np.clip(centre, low, np.maximum(low, high)), shape / 2)


def _draw_anchor(
    rng: np.random.Generator, block: Block, settings: ViewSettings, whole_head: bool
) -> NDArray[np.float64]:
    wanted = torch.nonzero(block.mask) if _chance(rng, settings.lesion_share) else block.mask.new_empty((0, 3))
    voxels = wanted if len(wanted) else torch.nonzero(block.head if whole_head else block.brain)
    if not len(voxels):
        return np.array(block.mask.shape) / 2
    return voxels[int(rng.integers(len(voxels)))].numpy().astype(np.float64)


def make_view(block: Block, draw: ViewDraw, settings: ViewSettings) -> View:
    """The view that was drawn."""
    spacing = np.array(block.spacing_mm)
    scores = _scores(block, draw)
    block, draw = _cut(block, draw, settings)
    images = _brightened(block, draw, scores)
    image_centre, image_spacing = draw.centre, spacing
    if draw.earlier is not None:
        before = images.shape[1:]
        shape = [max(4, round(n / times)) for n, times in zip(before, draw.earlier, strict=True)]
        images = functional.interpolate(images[None], size=shape, mode="trilinear", align_corners=False)[0]
        factor = np.array(shape) / before
        image_centre, image_spacing = (draw.centre + 0.5) * factor - 0.5, spacing / factor
    thick = _thick_axis(image_spacing)
    image = _on_grid(images, image_centre, image_spacing, thick, draw, settings)
    truth = torch.stack([block.mask.float(), (block.head if draw.whole_head else block.brain).float()])
    label, inside = _on_grid(truth, draw.centre, spacing, thick, draw, settings)
    mask = _grown(inside > 0.5, draw.grown)
    seen = torch.zeros((len(SEQUENCES), *mask.shape))
    seen[torch.tensor(draw.present)] = _disturbed(image, draw) * mask
    turned = [axis + 1 for axis in draw.flips]
    return View(seen.flip(turned), (label >= MARKED).float()[None].flip(turned))


def _scores(block: Block, draw: ViewDraw) -> list[tuple[float, float]]:
    """Mean and standard deviation in the block's brain of each sequence that is there, its grey values bent."""
    every = max(1, round((block.brain.numel() / VOXELS_FOR_SCORES) ** (1 / 3)))
    thin = (slice(None, None, every),) * 3
    inside = block.brain[thin]
    scores = []
    for channel in np.flatnonzero(draw.present).tolist():
        image = block.images[channel][thin].float()
        values = _bent(image[inside] if inside.any() else image, channel, draw)
        scores.append((float(values.mean()), max(float(values.std()), 1e-6)))
    return scores


def _bent(values: Tensor, channel: int, draw: ViewDraw) -> Tensor:
    """Grey values of a magnitude to the power of the channel's exponent."""
    exponent = float(draw.exponents[channel])
    return values.clamp(min=0) ** exponent if SEQUENCES[channel] in MAGNITUDES else values


def _cut(block: Block, draw: ViewDraw, settings: ViewSettings) -> tuple[Block, ViewDraw]:
    """What of a block the patch shows, with a margin; the centre moves along."""
    size_mm = np.array(settings.patch_shape)[::-1] * np.array(settings.spacing_mm)[::-1] / draw.scale[::-1]
    half = size_mm / np.array(block.spacing_mm) / 2 + CUT_MARGIN
    low = np.maximum(0, np.floor(draw.centre - half)).astype(int)
    high = np.minimum(block.mask.shape, np.ceil(draw.centre + half).astype(int) + 1)
    box = tuple(slice(start, end) for start, end in zip(low, high, strict=True))
    cut = replace(
        block, images=block.images[:, *box], mask=block.mask[box], brain=block.brain[box], head=block.head[box]
    )
    return cut, replace(draw, centre=draw.centre - low)


def _brightened(block: Block, draw: ViewDraw, scores: Sequence[tuple[float, float]]) -> Tensor:
    """Those of the sequences that are there, with uneven gain and bent grey values, scaled by mean and deviation."""
    present = np.flatnonzero(draw.present).tolist()
    images = block.images[present].float()
    for row, (channel, (mean, deviation)) in enumerate(zip(present, scores, strict=True)):
        image = images[row]
        if SEQUENCES[channel] in MAGNITUDES and draw.bias is not None:
            image = image * smooth_field(torch.from_numpy(draw.bias).float(), _shape(image)).exp()
        images[row] = (_bent(image, channel, draw) - mean) / deviation
    return images


def _shape(volume: Tensor) -> tuple[int, int, int]:
    i, j, k = volume.shape
    return i, j, k


def _thick_axis(spacing_mm: NDArray[np.float64]) -> int | None:
    """Between whose slices nothing is interpolated."""
    return int(spacing_mm.argmax()) if spacing_mm.max() > THICK_SLICES * spacing_mm.min() else None


def _on_grid(
    volumes: Tensor,
    centre: NDArray[np.float64],
    spacing_mm: NDArray[np.float64],
    thick: int | None,
    draw: ViewDraw,
    settings: ViewSettings,
) -> Tensor:
    """Volumes (channel, i, j, k) interpolated to the patch (channel, z, y, x) about a centre, as `NetworkGrid` does."""
    for axis in range(3):
        turned = 2 - axis
        step = settings.spacing_mm[turned] / draw.scale[turned] / spacing_mm[axis]
        n = settings.patch_shape[turned]
        at = centre[axis] + (np.arange(n) - (n - 1) / 2) * step
        volumes = _along(volumes, 1 + axis, at, nearest=axis == thick)
    return volumes.permute(0, 3, 2, 1)


def _along(volumes: Tensor, axis: int, at: NDArray[np.float64], nearest: bool) -> Tensor:
    """Values at these places along one axis; 0 beyond its ends."""
    n = volumes.shape[axis]
    if nearest:
        at = np.rint(at)
    below = np.clip(np.floor(at), 0, n - 1).astype(np.int64)
    above = np.minimum(below + 1, n - 1)
    sides = [-1 if d == axis else 1 for d in range(volumes.ndim)]
    weight = torch.from_numpy(np.clip(at - below, 0, 1)).float().reshape(sides)
    seen = torch.from_numpy((at > -0.5) & (at < n - 0.5)).float().reshape(sides)
    low = volumes.index_select(axis, torch.from_numpy(below))
    high = volumes.index_select(axis, torch.from_numpy(above))
    return torch.lerp(low, high, weight) * seen


def _disturbed(image: Tensor, draw: ViewDraw) -> Tensor:
    """Blur, noise, and another factor and offset a channel."""
    if draw.blur > 0.2:
        image = _blurred(image, draw.blur)
    if draw.noise > 0:
        noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(draw.seed))
        image = image + draw.noise * noise
    affine = torch.from_numpy(draw.affine[np.array(draw.present)]).float()[..., None, None, None]
    return image * affine[:, 0] + affine[:, 1]


def _blurred(image: Tensor, sd_voxels: float) -> Tensor:
    """Gaussian blur in the plane."""
    offsets = torch.arange(-2, 3, dtype=torch.float32)
    kernel = torch.exp(-(offsets**2) / (2 * sd_voxels**2))
    kernel = kernel / kernel.sum()
    channels = image.shape[0]
    for sides in ((1, 1, 5, 1), (1, 1, 1, 5)):
        weight = kernel.reshape(sides)[None].expand(channels, -1, -1, -1, -1)
        padding = [side // 2 for side in sides[1:]]
        image = functional.conv3d(image[None], weight, padding=padding, groups=channels)[0]
    return image


def _grown(brain: Tensor, voxels: int) -> Tensor:
    """The mask so many voxels wider, or tighter where negative, in the plane."""
    if voxels == 0:
        return brain
    side = 2 * abs(voxels) + 1
    mask = brain[None, None].float() if voxels > 0 else 1 - brain[None, None].float()
    mask = functional.max_pool3d(mask, (1, side, side), 1, (0, side // 2, side // 2))[0, 0] > 0.5
    return mask if voxels > 0 else ~mask
