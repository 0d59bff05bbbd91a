"""Text that an export has burned into a picture: it may name the patient, and no header says so."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["TextBox", "burned_in_text"]

BRIGHT = 0.55
"""Of the brightest value: text is written in white or nearly so."""
LEAST_BRIGHT = 110
GLYPH_HEIGHT = (5, 64)
"""Pixels."""
LARGEST_SHARE = 0.15
"""Of the picture's height and width: larger bright things are anatomy."""
THICKEST_STROKE = 0.3
"""Half the width of a stroke, of the glyph's height."""
DARK_AROUND = 0.45
"""Surroundings of a glyph, of its own brightness."""
FEWEST_GLYPHS = 3
FARTHEST_GAP = 1.6
"""Between glyphs of one line, in heights."""
UNEVEN = 0.16
"""Glyphs of a line stand on one base line or hang from one top line, to this share of their height."""
WIDEST_RUN = 12.0
"""Width over height of characters that touch."""
ON_BASE_LINE = 0.55
"""Share of the columns of touching characters that reach down to their line; layers of scalp are curved."""
ON_TOP_LINE = 0.4
"""The same for the upper line, which small letters do not reach."""
EVEN = 0.4
"""Share of a glyph's pixels that are nearly as bright as its brightest; anatomy fades, small characters do a little."""


@dataclass(frozen=True)
class TextBox:
    """Where a line of text is: pixel rows and columns, the end excluded."""

    top: int
    left: int
    bottom: int
    right: int


def burned_in_text(picture: NDArray[np.uint8]) -> list[TextBox]:
    """Lines of bright text on dark ground in a grey picture of shape (rows, columns).

    A line is three or more thin, evenly bright, like-sized shapes beside each other that stand on one line.
    Text in front of bright tissue and single characters are not found.
    """
    values = np.asarray(picture)
    if values.ndim != 2 or not values.size:
        return []
    glyphs = _glyphs(values)
    lines = [
        [glyph.box for glyph in line]
        for line in _lines(glyphs)
        if sum(glyph.characters for glyph in line) >= FEWEST_GLYPHS and _on_one_line([glyph.box for glyph in line])
    ]
    return [
        TextBox(
            min(g.top for g in line), min(g.left for g in line), max(g.bottom for g in line), max(g.right for g in line)
        )
        for line in lines
    ]


@dataclass(frozen=True)
class Glyph:
    """A connected shape: a character, or several that touch."""

    box: TextBox
    characters: int


def _characters(shape: NDArray[np.bool_], height: int, width: int) -> int:
    """How many characters a shape may be: those that touch have two strokes each along some row."""
    if width <= 1.3 * height:
        return 1
    columns = shape[:, shape.any(axis=0)]
    rows = np.flatnonzero(columns.any(axis=1))
    below = rows[-1] - (len(columns) - 1 - columns[::-1].argmax(axis=0))
    above = columns.argmax(axis=0) - rows[0]
    allowed = max(1.0, UNEVEN * height)
    if (below <= allowed).mean() < ON_BASE_LINE or (above <= allowed).mean() < ON_TOP_LINE:
        return 0
    strokes = int(np.count_nonzero(np.diff(shape.astype(np.int8), axis=1, prepend=0) == 1, axis=1).max())
    return max(1, strokes // 2)


def _glyphs(values: NDArray[np.uint8]) -> list[Glyph]:
    bright = values >= max(LEAST_BRIGHT, BRIGHT * float(values.max()))
    numbered, _ = ndimage.label(bright, np.ones((3, 3)))
    found: list[Glyph] = []
    for number, box in enumerate(ndimage.find_objects(numbered), start=1):
        rows, columns = box
        glyph = TextBox(rows.start, columns.start, rows.stop, columns.stop)
        height, width = glyph.bottom - glyph.top, glyph.right - glyph.left
        largest = LARGEST_SHARE * min(values.shape)
        if not GLYPH_HEIGHT[0] <= height <= min(GLYPH_HEIGHT[1], max(largest, 12)) or width > WIDEST_RUN * height:
            continue
        wide = tuple(slice(max(s.start - 3, 0), s.stop + 3) for s in box)
        shape = numbered[wide] == number
        if _is_glyph(values[wide], shape, bright[wide], height):
            found.append(Glyph(glyph, _characters(shape, height, width)))
    return found


def _is_glyph(values: NDArray[np.uint8], shape: NDArray[np.bool_], bright: NDArray[np.bool_], height: int) -> bool:
    """Thin strokes, evenly bright, on dark ground."""
    ink = values[shape].astype(np.float64)
    around = ndimage.binary_dilation(shape, iterations=3) & ~ndimage.binary_dilation(shape) & ~bright
    if not around.any():
        return False
    thickest = float(ndimage.distance_transform_edt(np.pad(shape, 1)).max())
    even = float((ink >= 0.75 * ink.max()).mean()) >= EVEN
    return bool(
        thickest <= max(1.5, THICKEST_STROKE * height)
        and even
        and np.median(values[around]) <= DARK_AROUND * ink.mean()
    )


def _lines(glyphs: list[Glyph]) -> list[list[Glyph]]:
    """Glyphs side by side, from the left."""
    lines: list[list[Glyph]] = []
    for glyph in sorted(glyphs, key=lambda g: (g.box.left, g.box.top)):
        fitting = [line for line in lines if _beside(line[-1].box, glyph.box)]
        if fitting:
            min(fitting, key=lambda line: glyph.box.left - line[-1].box.right).append(glyph)
        else:
            lines.append([glyph])
    return lines


def _beside(one: TextBox, other: TextBox) -> bool:
    heights = (one.bottom - one.top, other.bottom - other.top)
    shared = min(one.bottom, other.bottom) - max(one.top, other.top)
    gap = other.left - one.right
    return (
        shared >= 0.6 * min(heights) and max(heights) <= 2 * min(heights) and -2 <= gap <= FARTHEST_GAP * max(heights)
    )


def _on_one_line(line: list[TextBox]) -> bool:
    tallest = float(np.median([glyph.bottom - glyph.top for glyph in line]))
    allowed = max(1.0, UNEVEN * tallest)
    for ends in ([glyph.bottom for glyph in line], [glyph.top for glyph in line]):
        off = np.abs(np.array(ends) - np.median(ends))
        if (off <= allowed).mean() >= 0.7:
            return True
    return False
