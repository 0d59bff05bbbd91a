"""Does the encoder know a place again in another sequence? Nearest neighbours across sequences, as a picture.

A patch of one sequence is looked for among patches of another one by the cosine of their features. The true
partner is the patch of the same place in the same scan.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor, nn

from cmb_autoseg.files import atomic_path
from cmb_autoseg.pretraining.patches import PretrainingCase
from cmb_autoseg.records import Role, Triple
from cmb_autoseg.trainers.patches.loader import crop

__all__ = [
    "Neighbors",
    "PatchPairs",
    "draw_neighbors",
    "draw_pairs",
    "find_neighbors",
    "mean_features",
    "middle_features",
]

N_PLACES = 64
DARK_CANDIDATES = 200
SHOWN_QUERIES, SHOWN_NEIGHBORS = 6, 5
PATCHES_AT_A_TIME = 8
TRIES = 4
"""Draws for each place that is wanted."""
NEAR = 6
"""Places within this part of a patch's size count as one."""
GAP = 6
"""Pixels between patches."""
WINDOW = (-3.0, 3.0)
"""Grey values from black to white, in standard deviations of the brain."""

Embed = Callable[[Tensor], Tensor]
"""(patch, channel, z, y, x) to (patch, feature)."""


@dataclass(frozen=True)
class PatchPairs:
    """The same places in two sequences; each patch shows one sequence, all other channels are blank."""

    roles: tuple[Role, Role]
    first: Tensor
    second: Tensor
    """(patch, channel, z, y, x), float32."""
    channels: tuple[int, int]


@dataclass(frozen=True)
class Neighbors:
    """For each patch of the first sequence, all patches of the second by falling similarity."""

    order: NDArray[np.int64]
    """(query, rank): numbers of patches of the second sequence."""
    cosine: NDArray[np.float64]
    """(query, rank)."""
    partner_rank: NDArray[np.int64]
    """Of the true partner of each query, from 0."""


def draw_pairs(
    cases: Sequence[PretrainingCase],
    channels: Sequence[Role],
    present: Callable[[str], NDArray[np.bool_]],
    patch_shape: Triple[int],
    rng: np.random.Generator,
    n_places: int = N_PLACES,
) -> PatchPairs | None:
    """Places in the brain, half of them dark as a microbleed is, half anywhere in it, and none too near another.

    Args:
        cases: of which those are taken that have both sequences.
        channels: of the images.
        present: which channels a case has, by its name.
        patch_shape: (z, y, x).
        rng: source of the draws.
        n_places: how many at most; a few small scans have no room for so many.

    Returns:
        None where no case has two sequences.
    """
    chosen = _commonest_pair([present(case.name) for case in cases])
    if chosen is None:
        return None
    one, other = chosen
    having = [case for case in cases if present(case.name)[[one, other]].all() and len(case.brain)]
    if not having:
        return None
    places: list[tuple[PretrainingCase, NDArray[np.int64]]] = []
    greys: dict[str, NDArray[Any]] = {}
    for number in range(n_places * TRIES):
        case = having[rng.integers(len(having))]
        anchors = case.brain[rng.integers(len(case.brain), size=DARK_CANDIDATES if number % 2 == 0 else 1)]
        if case.name not in greys:
            greys[case.name] = np.asarray(case.image[(slice(one, one + 1), *[slice(None)] * 3)])[0]
        place = anchors[int(np.argmin(greys[case.name][tuple(anchors.T)]))].astype(np.int64)
        if not any(case is there and _near(place, taken, patch_shape) for there, taken in places):
            places.append((case, place))
        if len(places) == n_places:
            break
    size = np.array(patch_shape)
    patches = [torch.from_numpy(crop(case.image, place - size // 2, size)) for case, place in places]
    firsts, seconds = ([_only(patch, channel) for patch in patches] for channel in (one, other))
    return PatchPairs((channels[one], channels[other]), torch.stack(firsts), torch.stack(seconds), (one, other))


def _near(place: NDArray[np.int64], other: NDArray[np.int64], patch_shape: Triple[int]) -> bool:
    """Whether two patches share most of what they show."""
    return bool(np.all(np.abs(place - other) < np.array(patch_shape) / NEAR))


def _commonest_pair(presences: Sequence[NDArray[np.bool_]]) -> tuple[int, int] | None:
    """The two channels that most cases have both; of several pairs the first."""
    have = np.stack(presences).astype(np.int64)
    both = np.triu(have.T @ have, 1)
    one, other = np.unravel_index(int(both.argmax()), both.shape)
    return (int(one), int(other)) if both[one, other] else None


def _only(patch: Tensor, channel: int) -> Tensor:
    result = torch.zeros_like(patch)
    result[channel] = patch[channel]
    return result


def mean_features(encoder: nn.Module) -> Embed:
    """The mean of the deepest level over a patch."""
    device = next(encoder.parameters()).device
    return lambda patches: torch.as_tensor(encoder(patches.to(device))[-1].mean(dim=(2, 3, 4)))


def middle_features(encoder: nn.Module, level: int) -> Embed:
    """Those of one level, 0 for the finest, in the middle of a patch."""
    device = next(encoder.parameters()).device

    def embed(patches: Tensor) -> Tensor:
        features: Tensor = encoder(patches.to(device))[level]
        z, y, x = (size // 2 for size in features.shape[2:])
        return features[:, :, z, y, x]

    return embed


@torch.no_grad()
def find_neighbors(pairs: PatchPairs, embed: Embed) -> Neighbors:
    """Rank the second sequence's patches for each patch of the first by the cosine of their features.

    Features are centred on their own sequence's mean, as Barlow Twins does it, so that what tells the sequences
    apart plays no part.
    """
    first, second = (_directions(patches, embed) for patches in (pairs.first, pairs.second))
    cosine = first @ second.T
    order = np.argsort(-cosine, axis=1, kind="stable")
    partner_rank = np.argmax(order == np.arange(len(order))[:, None], axis=1)
    return Neighbors(order, np.take_along_axis(cosine, order, axis=1), partner_rank)


def _directions(patches: Tensor, embed: Embed) -> NDArray[np.float64]:
    features = torch.cat([embed(part).cpu().double() for part in torch.split(patches, PATCHES_AT_A_TIME)]).numpy()
    centred = features - features.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(lengths, 1e-12))


def draw_neighbors(
    pairs: PatchPairs,
    neighbors: Neighbors,
    before: Neighbors,
    path: Path,
    to_canonical: Sequence[int],
    spacing_mm: Triple[float],
) -> None:
    """A row a query: the patch, its true partner, and its nearest neighbours, the partner in a green frame.

    Shown is the axial slice through the middle, the person's right on the left; nobody is named.

    Args:
        pairs: what was compared.
        neighbors: of it.
        before: by the encoder's random first weights; the outline of the brain alone tells many places apart.
        path: of the PNG; same input gives same bytes.
        to_canonical: axes of the patches that are z, y and x of the canonical grid.
        spacing_mm: of the patches, along their own axes.
    """
    n, rank = len(neighbors.order), neighbors.partner_rank
    rows = range(min(SHOWN_QUERIES, n))
    columns = 2 + min(SHOWN_NEIGHBORS, n)
    first, second = (
        [_axial(patch[channel], to_canonical) for patch in patches]
        for patches, channel in zip((pairs.first, pairs.second), pairs.channels, strict=True)
    )
    height, width = (size + GAP for size in first[0].shape)
    # One picture of all patches, since as many axes take seconds to draw.
    mosaic = np.full((len(rows) * height, columns * width), np.nan)
    figure = Figure(figsize=(1.5 * columns, 1.5 * len(rows) + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for row in rows:
        found = neighbors.order[row, : columns - 2]
        labels = ["", f"rank {rank[row] + 1}", *(f"{value:.2f}" for value in neighbors.cosine[row])]
        for column, tile in enumerate((first[row], second[row], *(second[number] for number in found))):
            top, left = row * height, column * width
            mosaic[top : top + height - GAP, left : left + width - GAP] = tile
            panel.text(left + width / 2, top + height - GAP / 2, labels[column], ha="center", va="center", fontsize=7)
            if column > 1 and found[column - 2] == row:
                frame = Rectangle((left - 0.5, top - 0.5), width - GAP, height - GAP, fill=False, lw=3, ec="limegreen")
                panel.add_patch(frame)
    headings = (f"{pairs.roles[0]}", f"same place,\n{pairs.roles[1]}", *(f"nearest {i}" for i in range(1, columns - 1)))
    for column, heading in enumerate(headings):
        panel.text((column + 0.5) * width, -GAP / 2, heading, ha="center", va="bottom", fontsize=9)
    canonical_mm = [spacing_mm[axis] for axis in to_canonical]
    colours = colormaps["gray"].with_extremes(bad="white")
    panel.imshow(mosaic, colours, vmin=WINDOW[0], vmax=WINDOW[1], aspect=canonical_mm[1] / canonical_mm[2])
    panel.set_axis_off()
    figure.suptitle(
        f"{pairs.roles[0]} patches looked for in {pairs.roles[1]}: true partner nearest for {np.mean(rank == 0):.0%} "
        f"(before pretraining {np.mean(before.partner_rank == 0):.0%}, by chance {1 / n:.0%}),\n"
        f"median rank {np.median(rank) + 1:.0f} of {n} (before {np.median(before.partner_rank) + 1:.0f}); "
        "numbers are cosines",
        fontsize=10,
    )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", metadata={"Software": None})


def _axial(patch: Tensor, to_canonical: Sequence[int]) -> NDArray[Any]:
    """The middle axial slice: canonical axes grow to the person's right and front, pictures the other way."""
    turned: NDArray[Any] = patch.numpy().transpose(to_canonical)
    return turned[turned.shape[0] // 2, ::-1, ::-1]
