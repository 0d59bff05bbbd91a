"""One picture per case: where the tool sees microbleeds, with the scan still visible under the marks."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.files import atomic_path
from cmb_autoseg.geometry import Volume, check_same_grid, to_canonical
from cmb_autoseg.records import Lesion, LesionTable
from cmb_autoseg.reporting.slices import (
    NOTE_LINE_INCHES,
    draw_sides,
    draw_slice,
    gray_range,
    note_lines,
    outline,
    stored_slice,
)

__all__ = ["write_overlay"]

MAX_SLICES = 8
SLICES_PER_ROW = 4
TILE_INCHES = 3.0
DOTS_PER_INCH = 100
HEADING_INCHES = 0.35
MIN_WIDTH_INCHES = 5.0
MIN_CIRCLE_MM = 3.0
"""Radius of the smallest circle, so that a lesion lies inside it and not under it."""
CIRCLE_MARGIN_MM = 1.5
COLOUR = "#ffd400"
OTHER_COLOUR = "#7fd7ff"


def write_overlay(
    path: Path,
    image: Volume,
    mask: NDArray[Any] | None,
    lesions: LesionTable,
    title: str,
    note: str = "",
) -> None:
    """Draw axial slices through the most probable lesions, each circled with number and probability.

    Radiological convention: the person's right is on the left of the picture (marked R and L).
    Slices are axial in the volume's own grid, from the most probable lesion on; without lesions
    evenly spaced slices are shown. Other lesions within a circle's reach of a slice are circled too.

    Args:
        path: of the PNG; same input gives same bytes.
        image: the scan on its own grid; NaN is drawn as 0.
        mask: lesion voxels on the image's grid, outlined thinly at one voxel's distance; None for no outline.
        lesions: with `x_mm`, `y_mm`, `z_mm` in RAS millimetres.
        title: one line; keep names of persons out of it.
        note: what it is for, small, below the slices.

    Raises:
        GeometryError: the mask's shape is not the image's.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    upright = to_canonical(image.with_data(np.nan_to_num(image.data, posinf=0, neginf=0)))
    marked = None if mask is None else to_canonical(image.with_data(np.asarray(mask) > 0))
    if marked is not None:
        check_same_grid(marked, upright, "give the mask on the image's grid")
    planes = _planes(upright, lesions)
    columns = min(len(planes), SLICES_PER_ROW)
    rows = -(-len(planes) // columns)
    width = max(TILE_INCHES * columns, MIN_WIDTH_INCHES)
    lines = note_lines(note, width)
    foot = NOTE_LINE_INCHES * (len(lines) + 0.5) if lines else 0.0
    height = TILE_INCHES * rows + HEADING_INCHES + foot
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="black")
    FigureCanvasAgg(figure)
    figure.suptitle(
        f"{title}: {_counted(lesions, len(planes))}",
        color="white",
        fontsize=9,
        y=1 - 0.06 / height,
        va="top",
        parse_math=False,  # a dollar sign in a file's name begins no formula
    )
    gray = gray_range(upright.data)
    figure.text(
        0.5, foot / height, "\n".join(lines), color="silver", fontsize=7, ha="center", va="top", parse_math=False
    )
    for position, k in enumerate(planes):
        axes = figure.add_subplot(rows, columns, position + 1)
        _draw_slice(axes, upright, marked, k, gray)
        _draw_index(axes, *stored_slice(image, k))
        for lesion, centre in zip(lesions.lesions, _centres(upright, lesions), strict=True):
            _draw_lesion(axes, upright, lesion, centre, k)
    figure.subplots_adjust(
        left=0.01,
        right=0.99,
        bottom=max(0.01, foot / height),
        top=1 - HEADING_INCHES / height,
        wspace=0.03,
        hspace=0.03,
    )
    with atomic_path(path) as temporary:
        # Software would name the matplotlib version, and with it change the bytes.
        figure.savefig(temporary, format="png", facecolor="black", metadata={"Software": None})


def _counted(lesions: LesionTable, shown: int) -> str:
    count = len(lesions.lesions)
    if count == 0:
        return "no microbleed found"
    found = "1 microbleed" if count == 1 else f"{count} microbleeds"
    return f"{found}, {shown} slices through the most probable" if count > shown else found


def _centres(upright: Volume, lesions: LesionTable) -> NDArray[np.float64]:
    """Voxel positions of the lesions' centres on the upright grid, shape (n, 3)."""
    points = np.array([(lesion.x_mm, lesion.y_mm, lesion.z_mm) for lesion in lesions.lesions], dtype=np.float64)
    return upright.to_voxels(points.reshape(-1, 3))


def _planes(upright: Volume, lesions: LesionTable) -> list[int]:
    """Slices to show: through the most probable lesions, else evenly spaced through the middle."""
    depth = upright.shape[2]
    if not lesions.lesions:
        share = np.linspace(0.25, 0.75, min(SLICES_PER_ROW, depth))
        return sorted({round(float(part) * (depth - 1)) for part in share})
    centres = _centres(upright, lesions)
    order = sorted(
        range(len(centres)), key=lambda index: (-lesions.lesions[index].prob_max, lesions.lesions[index].lesion)
    )
    nearest = [int(np.clip(np.rint(centres[index, 2]), 0, depth - 1)) for index in order]
    return list(dict.fromkeys(nearest))[:MAX_SLICES]


def _draw_slice(axes: Any, upright: Volume, mask: Volume | None, k: int, gray: tuple[float, float]) -> None:
    """One axial slice with its outline."""
    draw_slice(axes, upright, k, gray)
    if mask is not None:
        outline(axes, mask.data[:, :, k], COLOUR, 0.5)
    draw_sides(axes, 0.03, 8)


def _draw_index(axes: Any, axis: str, index: int) -> None:
    from matplotlib.patheffects import withStroke

    shade = [withStroke(linewidth=2, foreground="black")]
    axes.text(0.03, 0.03, f"{axis} = {index}", transform=axes.transAxes, color="white", fontsize=7, path_effects=shade)


def _draw_lesion(axes: Any, upright: Volume, lesion: Lesion, centre: NDArray[np.float64], k: int) -> None:
    """A circle around the lesion, its number and probability beside it; thin if it is centred on another slice."""
    from matplotlib.patches import Ellipse
    from matplotlib.patheffects import withStroke

    width_mm, height_mm, slice_mm = upright.spacing_mm
    own_slice = int(np.rint(centre[2])) == k
    if not own_slice and abs(centre[2] - k) * slice_mm > lesion.diameter_mm / 2:
        return
    radius_mm = max(MIN_CIRCLE_MM, lesion.diameter_mm / 2 + CIRCLE_MARGIN_MM)
    shade = [withStroke(linewidth=2, foreground="black")]
    colour = COLOUR if own_slice else OTHER_COLOUR
    axes.add_patch(
        Ellipse(
            (centre[0], centre[1]),
            2 * radius_mm / width_mm,
            2 * radius_mm / height_mm,
            fill=False,
            edgecolor=colour,
            linewidth=1.2 if own_slice else 0.8,
            linestyle="-" if own_slice else ":",
        )
    )
    # Beside the circle, towards the middle of the picture, where there is room for the text.
    width, height, _ = upright.shape
    to_picture_right = centre[0] > width / 2
    axes.annotate(
        f"{lesion.lesion}: {lesion.prob_max:.2f}",
        (
            centre[0] + (-radius_mm if to_picture_right else radius_mm) / width_mm,
            np.clip(centre[1], 0.05 * height, 0.95 * height),
        ),
        xytext=(3 if to_picture_right else -3, 0),
        textcoords="offset points",
        color=colour,
        fontsize=8,
        ha="left" if to_picture_right else "right",
        va="center",
        path_effects=shade,
        annotation_clip=False,
    )
