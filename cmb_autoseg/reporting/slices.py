"""Axial slices of a scan, and what is drawn on them, in matplotlib axes.

Radiological convention: the person's right is on the left of the picture (marked R and L).
"""

import textwrap
from typing import Any

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.geometry import Volume

__all__ = [
    "NOTE_LINE_INCHES",
    "draw_plane",
    "draw_sides",
    "draw_slice",
    "gray_range",
    "note_lines",
    "outline",
    "stored_slice",
]

NOTE_LETTERS_PER_INCH = 16
NOTE_LINE_INCHES = 0.13


def note_lines(note: str, width_inches: float) -> list[str]:
    """A note in letters of 7 points, in lines that fit a picture of this width."""
    return textwrap.wrap(note, int(NOTE_LETTERS_PER_INCH * width_inches))


def gray_range(data: NDArray[Any]) -> tuple[float, float]:
    """From nothing (or the 1st percentile of signed maps) to the 99.5th percentile of what is not background."""
    values = data[data != 0]
    if values.size == 0:
        return 0.0, 1.0
    lowest, highest = map(float, np.percentile(values, (1, 99.5), overwrite_input=True))
    darkest = lowest if lowest < 0 else 0.0
    return darkest, highest if highest > darkest else darkest + 1.0


def stored_slice(stored: Volume, k: int) -> tuple[str, int]:
    """Where tables look for an axial slice: the name of the stored axis along which it is cut, and the index there.

    Args:
        stored: the volume as its file has it.
        k: index of the slice on canonical axes.
    """
    orientation = io_orientation(stored.affine)
    axis = int(np.flatnonzero(orientation[:, 0] == 2)[0])
    return "ijk"[axis], k if orientation[axis, 1] > 0 else stored.shape[axis] - 1 - k


def draw_plane(axes: Any, upright: Volume, plane: NDArray[Any], **style: Any) -> None:
    """Draw (i, j) values of one slice, pixels at their size."""
    aspect = upright.spacing_mm[1] / upright.spacing_mm[0]
    axes.imshow(plane.T, origin="lower", interpolation="nearest", aspect=aspect, **style)


def draw_slice(axes: Any, upright: Volume, k: int, gray: tuple[float, float]) -> None:
    """Draw slice `k` in gray with the person's right on the left.

    Args:
        axes: of matplotlib.
        upright: on canonical axes.
        k: index of the slice.
        gray: values of black and white.
    """
    width, height, _ = upright.shape
    draw_plane(axes, upright, upright.data[:, :, k], cmap="gray", vmin=gray[0], vmax=gray[1])
    # Falling i is towards the right of the picture.
    axes.set_xlim(width - 0.5, -0.5)
    axes.set_ylim(-0.5, height - 0.5)
    axes.set_axis_off()


def draw_sides(axes: Any, margin: float, fontsize: int) -> None:
    """The letters R and L at the edges, `margin` of the width from them."""
    from matplotlib.patheffects import withStroke

    for x, text in ((margin, "R"), (1 - margin, "L")):
        axes.text(
            x,
            0.5,
            text,
            transform=axes.transAxes,
            color="white",
            fontsize=fontsize,
            ha="center",
            va="center",
            path_effects=[withStroke(linewidth=2, foreground="black")],
        )


def outline(axes: Any, plane: NDArray[Any], color: str, width: float, dashed: bool = False) -> None:
    """A thin line around the voxels of (i, j) that are not 0."""
    if not plane.any():
        return
    # Around the next voxels, so that a lesion of three voxels is not hidden by its own outline.
    around = ndimage.binary_dilation(plane).T.astype(float)
    axes.contour(around, levels=[0.5], colors=color, linewidths=width, linestyles="--" if dashed else "-")
