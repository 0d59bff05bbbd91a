"""One picture per case: a row for each finding, with the scan, its outlines, the probability and the map."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.explanation.places import Explanation
from cmb_autoseg.files import atomic_path
from cmb_autoseg.geometry import Volume, to_canonical
from cmb_autoseg.reporting.slices import NOTE_LINE_INCHES, draw_plane, draw_sides, gray_range, note_lines, outline

__all__ = ["write_picture"]

HALF_WIDTH_MM = 15.0
"""From the finding to the edge of its crop."""
ROW_INCHES = 1.9
TEXT_INCHES = 1.6
HEADING_INCHES = 0.6
FOOTER_INCHES = 0.42
DOTS_PER_INCH = 110
PANELS = ("scan", "outlines", "probability", "map")
PREDICTED_COLOUR, REFERENCE_COLOUR, FINDING_COLOUR = "#ffd400", "#4de04d", "#7fd7ff"
KIND_NAMES = {"fp": "false positive"}
COLOURS = "inferno"
OPACITY = 0.65
LINE_WIDTH = 0.8


def write_picture(
    path: Path,
    scan: Volume,
    probability: Volume,
    predicted: NDArray[np.bool_],
    reference: NDArray[np.bool_] | None,
    explanations: Sequence[Explanation],
    title: str,
    note: str = "",
) -> None:
    """Draw an axial crop through every finding.

    Radiological convention: the person's right is on the left of the picture (marked R and L).

    Args:
        path: of the PNG; same input gives same bytes.
        scan: on its own grid; NaN is drawn as 0.
        probability: on the same grid.
        predicted: (i, j, k), the lesions at the operating point, outlined in yellow.
        reference: (i, j, k), outlined in green; None without one.
        explanations: at least one; the voxels of each finding are outlined in blue under its map.
        title: one line; keep names of persons out of it.
        note: what the model is for, small, at the bottom.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    upright = to_canonical(scan.with_data(np.nan_to_num(scan.data, posinf=0, neginf=0)))
    shown = {"probability": to_canonical(probability).data, "predicted": _turned(scan, predicted)}
    if reference is not None:
        shown["reference"] = _turned(scan, reference)
    rows = len(explanations)
    width = TEXT_INCHES + len(PANELS) * ROW_INCHES
    noted = note_lines(note, width)
    foot = FOOTER_INCHES + NOTE_LINE_INCHES * len(noted)
    height = HEADING_INCHES + rows * ROW_INCHES + foot
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="black")
    FigureCanvasAgg(figure)
    figure.text(
        0.01, 1 - 0.08 / height, title, color="white", fontsize=9, va="top", parse_math=False
    )  # a dollar sign in a file's name begins no formula
    for row, explanation in enumerate(explanations):
        bottom = 1 - (HEADING_INCHES + (row + 1) * ROW_INCHES) / height
        _write_row(figure, explanation, (0.08 / width, bottom + 0.5 * ROW_INCHES / height))
        own = {**shown, "map": _turned(scan, explanation.map), "finding": _turned(scan, _mask(scan, explanation))}
        for column, panel in enumerate(PANELS):
            left = (TEXT_INCHES + column * ROW_INCHES) / width
            margin = 0.03
            axes = figure.add_axes(
                (left, bottom, (ROW_INCHES - margin) / width, (ROW_INCHES - margin) / height), facecolor="black"
            )
            _draw_panel(axes, panel, upright, own, explanation)
            if row == 0:
                axes.set_title(panel, color="white", fontsize=8, pad=3)
    _write_footer(figure, reference is not None, foot - 0.55 * FOOTER_INCHES)
    figure.text(
        0.08 / width, 0.06 / height, "\n".join(noted), color="silver", fontsize=7, va="bottom", parse_math=False
    )
    with atomic_path(path) as temporary:
        # Software would name the matplotlib version, and with it change the bytes.
        figure.savefig(temporary, format="png", facecolor="black", metadata={"Software": None})


def _turned(scan: Volume, values: NDArray[Any]) -> NDArray[Any]:
    return to_canonical(scan.with_data(values)).data


def _mask(scan: Volume, explanation: Explanation) -> NDArray[np.bool_]:
    mask = np.zeros(scan.shape, dtype=bool)
    mask[tuple(explanation.finding.voxels.T)] = True
    return mask


def _write_row(figure: Any, explanation: Explanation, place: tuple[float, float]) -> None:
    finding = explanation.finding
    lines = [
        f"{KIND_NAMES.get(finding.kind, finding.kind)} {finding.lesion.lesion}",
        f"at {finding.lesion.x_mm:.1f}, {finding.lesion.y_mm:.1f}, {finding.lesion.z_mm:.1f} mm",
        f"probability {finding.lesion.prob_max:.2f}",
    ]
    if explanation.score is None:
        lines.append("outside the brain mask:\nnot explained")
    else:
        lines.append(f"logit difference {explanation.score:+.1f}")
        lines += [f"  without {role}: {explanation.score - drop:+.1f}" for role, drop in explanation.drops.items()]
    if explanation.near is not None:
        lines.append(f"map within 5 mm: {explanation.near:.0%}")
    figure.text(*place, "\n".join(lines), color="white", fontsize=7.5, va="center", linespacing=1.5)


def _write_footer(figure: Any, has_reference: bool, above_inches: float) -> None:
    """What the outlines are, and the colours of the two panels that have some, so far above the lower edge."""
    width, height = figure.get_size_inches()
    middle = above_inches / height
    style = {"fontsize": 7, "va": "center"}
    outlines = [("predicted", PREDICTED_COLOUR), ("explained voxels", FINDING_COLOUR)]
    outlines += [("reference (dashed)", REFERENCE_COLOUR)] if has_reference else []
    left = TEXT_INCHES
    for name, colour in outlines:
        figure.text(left / width, middle, name, color=colour, **style)
        left += 0.3 + 0.06 * len(name)
    left = TEXT_INCHES + 2 * ROW_INCHES
    bar = figure.add_axes((left / width, middle - 0.05 / height, ROW_INCHES / width, 0.1 / height))
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=COLOURS, aspect="auto", vmin=0, vmax=1)
    bar.set_axis_off()
    figure.text((left - 0.05) / width, middle, "0", color="white", ha="right", **style)
    meaning = "1   probability, map"
    figure.text((left + ROW_INCHES + 0.05) / width, middle, meaning, color="white", **style)


def _draw_panel(
    axes: Any, panel: str, upright: Volume, shown: Mapping[str, NDArray[Any]], explanation: Explanation
) -> None:
    lesion = explanation.finding.lesion
    centre = upright.to_voxels(np.array([[lesion.x_mm, lesion.y_mm, lesion.z_mm]]))[0]
    k = int(np.clip(np.rint(centre[2]), 0, upright.shape[2] - 1))
    darkest, brightest = gray_range(upright.data)
    draw_plane(axes, upright, upright.data[:, :, k], cmap="gray", vmin=darkest, vmax=brightest)
    if panel == "probability":
        _colour(axes, upright, shown["probability"][:, :, k])
    if panel == "map":
        _colour(axes, upright, shown["map"][:, :, k])
        outline(axes, shown["finding"][:, :, k], FINDING_COLOUR, LINE_WIDTH)
    if panel == "outlines":
        if explanation.finding.kind == "candidate":
            outline(axes, shown["finding"][:, :, k], FINDING_COLOUR, LINE_WIDTH)
        outline(axes, shown["predicted"][:, :, k], PREDICTED_COLOUR, LINE_WIDTH)
        if "reference" in shown:
            outline(axes, shown["reference"][:, :, k], REFERENCE_COLOUR, LINE_WIDTH, dashed=True)
    half = HALF_WIDTH_MM / np.array(upright.spacing_mm)
    # Falling i is towards the right of the picture.
    axes.set_xlim(centre[0] + half[0], centre[0] - half[0])
    axes.set_ylim(centre[1] - half[1], centre[1] + half[1])
    axes.set_xticks([])
    axes.set_yticks([])
    draw_sides(axes, 0.06, 6)


def _colour(axes: Any, upright: Volume, plane: NDArray[Any]) -> None:
    """0..1 as colour over the grey values, the more opaque the higher."""
    opacity = OPACITY * np.clip(plane.T / 0.5, 0, 1)
    draw_plane(axes, upright, plane, cmap=COLOURS, vmin=0, vmax=1, alpha=opacity)
