"""Which cases went in and which came out, as a drawing that is part of the page."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["FlowStep", "flow_svg", "flow_text"]

WIDTH = 420
MAIN_WIDTH, SIDE_WIDTH = 200, 180
LINE_HEIGHT = 16
PADDING = 10
GAP = 26
LINE_CHARACTERS = {MAIN_WIDTH: 28, SIDE_WIDTH: 25}


@dataclass(frozen=True)
class FlowStep:
    """Cases at one point of the way, and those that leave after it."""

    label: str
    n: int
    left_out: tuple[tuple[str, int], ...] = ()
    """Reason and number, of cases that go no further."""


def flow_text(steps: Sequence[FlowStep]) -> str:
    """The drawing in a sentence."""
    parts = [
        f"{step.label}: {step.n}" + "".join(f" (left out: {n} {reason})" for reason, n in step.left_out if n)
        for step in steps
    ]
    return "; ".join(parts) + "."


def flow_svg(steps: Sequence[FlowStep]) -> Markup:
    """An upright chain of boxes with those that leave to the right; scales to the width it is given."""
    parts: list[Markup] = []
    y = 1
    for index, step in enumerate(steps):
        lines = [*_wrapped(step.label, MAIN_WIDTH), f"n = {step.n}"]
        side = [line for reason, n in step.left_out if n for line in _wrapped(f"{reason}: {n}", SIDE_WIDTH)]
        height = _height(lines)
        parts.append(_box(1, y, MAIN_WIDTH, height, lines))
        bottom = y + height
        last = index == len(steps) - 1
        if side:
            top = bottom + GAP // 2
            parts.append(_box(WIDTH - SIDE_WIDTH - 1, top, SIDE_WIDTH, _height(side), side, "side"))
            middle = top + _height(side) // 2
            parts.append(_arrow(MAIN_WIDTH // 2, middle, WIDTH - SIDE_WIDTH - 3, middle))
            end = top + _height(side) + GAP // 2
        else:
            end = bottom + GAP
        if not last:
            parts.append(_arrow(MAIN_WIDTH // 2, bottom, MAIN_WIDTH // 2, end - 2))
        elif side:
            parts.append(_line(MAIN_WIDTH // 2, bottom, MAIN_WIDTH // 2, middle))
        y = end if not last or side else bottom
    head = Markup(
        '<svg class="flow" viewBox="0 0 {width} {height}" role="img" aria-labelledby="flow-title flow-desc">'
        '<title id="flow-title">Flow of cases</title><desc id="flow-desc">{text}</desc>'
        '<defs><marker id="flow-head" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">'
        '<path d="M0,0 L6,3 L0,6 Z" fill="currentColor"></path></marker></defs>'
    ).format(width=WIDTH, height=y + 2, text=flow_text(steps))
    return head + Markup("").join(parts) + Markup("</svg>")


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, LINE_CHARACTERS[width]) or [""]


def _height(lines: Sequence[str]) -> int:
    return LINE_HEIGHT * len(lines) + 2 * PADDING


def _box(x: int, y: int, width: int, height: int, lines: Sequence[str], kind: str = "main") -> Markup:
    rows = Markup("").join(
        Markup('<text x="{x}" y="{y}">{line}</text>').format(
            x=x + PADDING, y=y + PADDING + LINE_HEIGHT * index + 12, line=escape(line)
        )
        for index, line in enumerate(lines)
    )
    box = Markup('<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="4"></rect>')
    return box.format(kind=kind, x=x, y=y, width=width, height=height) + rows


def _line(x1: int, y1: int, x2: int, y2: int) -> Markup:
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}"></line>').format(x1, y1, x2, y2)


def _arrow(x1: int, y1: int, x2: int, y2: int) -> Markup:
    line = Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" marker-end="url(#flow-head)"></line>')
    return line.format(x1, y1, x2, y2)
