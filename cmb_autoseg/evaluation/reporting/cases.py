"""Best and worst cases in pictures: slices through missed, false and found lesions, marked each in its own way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.case_score import CaseScore
from cmb_autoseg.evaluation.matching.lesion_set import LesionSet
from cmb_autoseg.evaluation.reporting.backgrounds import SCAN, Background
from cmb_autoseg.evaluation.reporting.case_tables import best_cases, told, worst_cases
from cmb_autoseg.evaluation.reporting.page import CaseView
from cmb_autoseg.geometry import Volume, to_canonical
from cmb_autoseg.reporting.pictures import Picture, as_png, canvas
from cmb_autoseg.reporting.slices import draw_sides, draw_slice, gray_range, stored_slice

__all__ = ["draw_case", "gradcam_picture", "view_cases"]

Kind = Literal["missed", "false", "found"]
KINDS: tuple[Kind, ...] = ("missed", "false", "found")
"""What is shown first where there are more lesions than slices."""
MARKS: Mapping[Kind, tuple[str, str, str]] = {
    "missed": ("s", "#E69F00", "missed (square)"),
    "false": ("D", "#FF8AD8", "false positive (diamond)"),
    "found": ("o", "#56B4E9", "found (circle)"),
}
"""Marker, color and name; shapes differ for those who do not see the colors."""
MOST_SLICES = 8
ENOUGH_ERRORS = 2
"""Slices with errors from which on those with hits alone are not shown."""
SIDE_INCHES = 3.4
LEGEND_INCHES = 0.3
TILE_DPI = 120
LEAST_RADIUS_MM = 3.0
MARGIN_MM = 2.0
NEAR_MM = 2.0
"""A lesion is marked on slices that it reaches into, a point on those this near."""
GRADCAM_WIDTH = 1000
"""Pixels; wider pictures are scaled down."""


@dataclass(frozen=True)
class _Mark:
    kind: Kind
    centre: NDArray[np.float64]
    """(3,), voxel indices of the upright grid."""
    radius_mm: float


def view_cases(
    cases: Sequence[CaseScore],
    protocol: str,
    background: Callable[[str], Background | None],
    gradcam: Callable[[str], Path | None] = lambda _: None,
) -> list[CaseView]:
    """The worst and the best cases, each with its slices and its Grad-CAM picture where there is one.

    Args:
        cases: all that were scored.
        protocol: by which lesions are missed, false or found.
        background: reads what a case is drawn on, by its name; called for one case at a time, and for these alone.
            None where nothing is known but lists of lesions.
        gradcam: the case's picture of `cmb_explain`; None where there is none.
    """
    views = []
    for standing, chosen in (("worst", worst_cases(cases, protocol)), ("best", best_cases(cases, protocol))):
        for case in chosen:
            below, explained = background(case.case), gradcam(case.case)
            pictures = draw_case(case, protocol, below) if below is not None else []
            if explained is not None:
                pictures.append(gradcam_picture(case.case, explained))
            views.append(CaseView(case.case, standing, told(case, protocol), tuple(pictures)))
    return views


def draw_case(case: CaseScore, protocol: str, background: Background) -> list[Picture]:
    """One picture a slice: those with missed lesions or false positives, then, where these are fewer than two, those
    with found lesions alone.

    Args:
        case: its lesions in RAS millimetres.
        protocol: by which they are missed, false or found.
        background: on any grid that holds them; NaN is drawn as 0.
    """
    volume = background.volume
    upright = to_canonical(volume.with_data(np.nan_to_num(volume.data, posinf=0, neginf=0)))
    marks = _marks(case, protocol, upright)
    gray = gray_range(upright.data) if background.what == SCAN else (0.0, max(float(upright.data.max()), 1e-6))
    return [
        _draw_tile(case.case, upright, k, stored_slice(volume, k), marks, gray, background.what)
        for k in _planes(marks, upright)
    ]


def _marks(case: CaseScore, protocol: str, upright: Volume) -> list[_Mark]:
    """Found lesions at the place of the reference; predictions that count neither way are left out."""
    matching = case.matchings[protocol]
    n, n_predicted = len(case.reference), len(case.predicted)
    found = sorted(matching.found)
    missed = [number for number in range(1, n + 1) if number not in matching.found]
    neither = matching.right | set(matching.ignored)
    false = [number for number in range(1, n_predicted + 1) if number not in neither]
    numbers = {"missed": (case.reference, missed), "false": (case.predicted, false), "found": (case.reference, found)}
    return [mark for kind in KINDS for mark in _of_kind(kind, *numbers[kind], upright)]


def _of_kind(kind: Kind, lesions: LesionSet, numbers: Sequence[int], upright: Volume) -> list[_Mark]:
    rows = [number - 1 for number in numbers]
    centres = upright.to_voxels(lesions.centres_mm[rows].reshape(-1, 3))
    radii = np.nan_to_num(lesions.diameters_mm[rows] / 2)
    return [_Mark(kind, centre, float(radius)) for centre, radius in zip(centres, radii, strict=True)]


def _planes(marks: Sequence[_Mark], upright: Volume) -> list[int]:
    """Slices with errors by the order of the marks, from below; then, where these are few, those with hits alone."""
    last = upright.shape[2] - 1
    by_error: dict[bool, dict[int, None]] = {True: {}, False: {}}
    for mark in marks:
        by_error[mark.kind != "found"][int(np.clip(np.rint(mark.centre[2]), 0, last))] = None
    wrong = list(by_error[True])[:MOST_SLICES]
    right = [k for k in by_error[False] if k not in by_error[True]] if len(wrong) < ENOUGH_ERRORS else []
    return [*sorted(wrong), *sorted(right[: MOST_SLICES - len(wrong)])]


def _on_slice(mark: _Mark, k: int, upright: Volume) -> bool:
    slice_mm = upright.spacing_mm[2]
    return bool(abs(mark.centre[2] - k) * slice_mm <= max(mark.radius_mm + slice_mm / 2, NEAR_MM))


def _draw_tile(
    name: str,
    upright: Volume,
    k: int,
    told: tuple[str, int],
    marks: Sequence[_Mark],
    gray: tuple[float, float],
    what: str,
) -> Picture:
    axis, index = told
    width_mm, height_mm = (upright.shape[axis] * upright.spacing_mm[axis] for axis in (0, 1))
    height_inches = SIDE_INCHES * float(np.clip(height_mm / width_mm, 0.5, 1.6))
    figure = canvas(SIDE_INCHES, height_inches + LEGEND_INCHES)
    figure.set_facecolor("black")
    figure.set_layout_engine("none")
    part = height_inches / (height_inches + LEGEND_INCHES)
    axes = figure.add_axes((0, 1 - part, 1, part))
    draw_slice(axes, upright, k, gray)
    draw_sides(axes, 0.04, 9)
    shown = [mark for mark in marks if _on_slice(mark, k, upright)]
    for mark in shown:
        _draw_mark(axes, mark, upright)
    _draw_legend(figure, shown)
    counts = ", ".join(f"{number} {kind}" for kind in KINDS if (number := sum(mark.kind == kind for mark in shown)))
    caption = f"Slice {axis} = {index} ({what}): {counts}."
    alt = f"Axial slice {axis} = {index} of {name} on its {what} with marks: {counts}."
    heading = f"{name}, slice {axis} = {index}"
    return Picture(f"case_{name}_slice_{index:03d}", heading, caption, alt, as_png(figure, TILE_DPI))


def _draw_mark(axes: Any, mark: _Mark, upright: Volume) -> None:
    """An outline around the lesion, with room so that the lesion stays visible."""
    from matplotlib.patheffects import withStroke

    marker, color, _ = MARKS[mark.kind]
    radius_mm = max(LEAST_RADIUS_MM, mark.radius_mm + MARGIN_MM)
    inches_per_mm = SIDE_INCHES / (upright.shape[0] * upright.spacing_mm[0])
    axes.plot(
        mark.centre[0],
        mark.centre[1],
        marker=marker,
        markersize=max(9.0, 2 * radius_mm * inches_per_mm * 72),
        markerfacecolor="none",
        markeredgecolor=color,
        markeredgewidth=1.6,
        linestyle="none",
        path_effects=[withStroke(linewidth=3, foreground="black")],
    )


def _draw_legend(figure: Any, shown: Sequence[_Mark]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker=marker, markerfacecolor="none", markeredgecolor=color, linestyle="none", label=name)
        for kind, (marker, color, name) in MARKS.items()
        if any(mark.kind == kind for mark in shown)
    ]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=3,
        frameon=False,
        fontsize=7,
        labelcolor="white",
        handletextpad=0.2,
        columnspacing=0.8,
        borderaxespad=0.2,
    )


def gradcam_picture(case: str, path: Path) -> Picture:
    """The picture of `cmb_explain`, scaled down for the page.

    Raises:
        InputError: the file is no picture.
    """
    from PIL import Image, UnidentifiedImageError

    content = BytesIO()
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path}: not readable as a picture ({error}); make it anew with cmb_explain") from None
    if picture.width > GRADCAM_WIDTH:
        height = max(1, round(picture.height * GRADCAM_WIDTH / picture.width))
        picture = picture.resize((GRADCAM_WIDTH, height), Image.Resampling.LANCZOS)
    picture.save(content, format="PNG", optimize=True)
    caption = "Grad-CAM: scan, outlines, probability and the map of each finding."
    return Picture(
        f"case_{case}_gradcam", f"{case}, Grad-CAM", caption, f"Grad-CAM maps of {case}.", content.getvalue()
    )
