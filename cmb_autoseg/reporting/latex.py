"""A table in LaTeX that can be taken into a manuscript as it is."""

import re
from dataclasses import dataclass
from itertools import takewhile

from cmb_autoseg.reporting.tables import Table, is_numeric, shown_rows

__all__ = ["as_latex", "escaped"]

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    **{character: f"\\{character}" for character in "&%$#_"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",
    "]": "{]}",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "±": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "³": r"\textsuperscript{3}",
    "²": r"\textsuperscript{2}",
    "µ": r"$\mu$",
    "κ": r"$\kappa$",
}
"""Brackets, because one after a line's end would be taken for its option."""
SPECIAL_CHARACTER = re.compile("|".join(map(re.escape, SPECIAL)))
PROSE_CHARACTERS = 32
"""A column with longer cells is set in lines of a fixed width."""
LEAST_PROSE = 24
"""Characters of such lines, at least."""
LINE_CHARACTERS = 86
"""That fit the width of a page in footnotesize; a little more is scaled down."""
MOST_SCALED = 1.3
"""Times the width of a page; wider tables are split into panels that repeat the columns on the left."""
PAGE_ROWS = 35
"""More rows are set over several pages."""
PANEL_LINES = 50
"""Of all panels and notes of a float; panels beyond are left to the other files."""


def escaped(text: str) -> str:
    """Plain text for LaTeX; line breaks become blanks."""
    return SPECIAL_CHARACTER.sub(lambda found: SPECIAL[found[0]], " ".join(text.splitlines()))


def as_latex(table: Table, data: str = "") -> str:
    """A floating table with caption and notes, or one over several pages where it is long.

    One that is too wide to be read is split into panels below one another, of which those beyond a page are left out,
    as a note then says. The first line names the packages that the document needs: booktabs and array, with graphicx
    or longtable.

    Args:
        table: its title becomes the caption, its name the label.
        data: the kind of data, such as `simulated`, named in the caption.
    """
    rows = shown_rows(table)
    is_long = len(rows) > PAGE_ROWS
    panels, left_out = _panels(table, rows, None if is_long else PANEL_LINES - _lines(table.notes))
    caption = f"{table.title} ({data} data)" if data else table.title
    title = rf"\caption{{{escaped(caption)}}}\label{{tab:{table.name.replace('_', '-')}}}"
    notes = [*table.notes, *([_left_out(table, left_out)] if left_out else [])]
    lines = _long(panels, title, notes) if is_long else _floating(panels, title, notes)
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Panel:
    """Some columns of a table."""

    headings: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]

    @property
    def lengths(self) -> list[int]:
        """Of the longest cell in each column."""
        return [max(map(len, column)) for column in zip(self.headings, *self.cells, strict=True)]

    @property
    def prose(self) -> int:
        """Characters of a line of each column of prose: what the others leave."""
        lengths = self.lengths
        n_prose = sum(length > PROSE_CHARACTERS for length in lengths)
        others = sum(length + 2 for length in lengths if length <= PROSE_CHARACTERS)
        return max(LEAST_PROSE, (LINE_CHARACTERS - others) // n_prose - 2) if n_prose else 0

    @property
    def width(self) -> int:
        """In characters, with the gaps."""
        return sum((self.prose if length > PROSE_CHARACTERS else length) + 2 for length in self.lengths)

    @property
    def alignment(self) -> str:
        prose = rf">{{\raggedright\arraybackslash}}p{{{self.prose / LINE_CHARACTERS:.2f}\linewidth}}"
        columns = "".join(
            prose if length > PROSE_CHARACTERS else "r" if numeric else "l"
            for numeric, length in zip(self.numeric, self.lengths, strict=True)
        )
        return f"@{{}}{columns}@{{}}"

    @property
    def head(self) -> str:
        return " & ".join(map(escaped, self.headings)) + r" \\"

    @property
    def body(self) -> list[str]:
        return [" & ".join(map(_breakable, cells)) + r" \\" for cells in self.cells]


def _breakable(text: str) -> str:
    """Keys such as `lesion.fp_per_scan` may go over two lines."""
    return escaped(text).replace(r"\_", r"\_\allowbreak{}")


def _panels(table: Table, rows: list[list[str]], most_lines: int | None) -> tuple[list[_Panel], list[str]]:
    """The table in parts that fit the width of a page, and headings of the columns that no part has."""
    keys = list(table.columns)
    whole = _panel(table, rows, keys)
    label = list(takewhile(lambda key: not is_numeric(table, key), keys))
    if whole.width <= MOST_SCALED * LINE_CHARACTERS or not 0 < len(label) < len(keys):
        return [whole], []
    chunks: list[list[str]] = [[]]
    for key in keys[len(label) :]:
        if chunks[-1] and _panel(table, rows, [*label, *chunks[-1], key]).width > LINE_CHARACTERS:
            chunks.append([])
        chunks[-1].append(key)
    n = len(chunks) if most_lines is None else max(1, most_lines // (len(rows) + 2))
    left_out = [table.columns[key] for chunk in chunks[n:] for key in chunk]
    return [_panel(table, rows, [*label, *chunk]) for chunk in chunks[:n]], left_out


def _panel(table: Table, rows: list[list[str]], keys: list[str]) -> _Panel:
    places = [list(table.columns).index(key) for key in keys]
    return _Panel(
        tuple(table.columns[key] for key in keys),
        tuple(tuple(cells[place] for place in places) for cells in rows),
        tuple(is_numeric(table, key) for key in keys),
    )


def _lines(notes: tuple[str, ...]) -> int:
    return sum(1 + len(note) // LINE_CHARACTERS for note in notes)


def _left_out(table: Table, headings: list[str]) -> str:
    return f"Left out for want of room, but in {table.name}.tsv: {', '.join(headings)}."


def _floating(panels: list[_Panel], title: str, notes: list[str]) -> list[str]:
    lines = [
        r"% needs \usepackage{booktabs,array,graphicx}",
        r"\begin{table}[htbp]",
        r"\centering\footnotesize",
        title,
    ]
    for panel in panels:
        scaled = panel.width > LINE_CHARACTERS
        lines += [
            r"\resizebox{\linewidth}{!}{%" if scaled else "{%",
            rf"\begin{{tabular}}{{{panel.alignment}}}",
            r"\toprule",
            panel.head,
            r"\midrule",
            *panel.body,
            r"\bottomrule",
            r"\end{tabular}",
            "}" if panel is panels[-1] else r"}\par\medskip",
        ]
    return [*lines, *_notes(notes), r"\end{table}"]


def _long(panels: list[_Panel], title: str, notes: list[str]) -> list[str]:
    lines = [r"% needs \usepackage{booktabs,array,longtable}", r"\begingroup\scriptsize\setlength{\tabcolsep}{3pt}"]
    for panel in panels:
        lines += [
            rf"\begin{{longtable}}{{{panel.alignment}}}",
            *([rf"{title}\\"] if panel is panels[0] else []),
            r"\toprule",
            panel.head,
            r"\midrule\endhead",
            *panel.body,
            r"\bottomrule",
            r"\end{longtable}",
        ]
    return [*lines, *_notes(notes), r"\endgroup"]


def _notes(notes: list[str]) -> list[str]:
    begin, end = r"\par\smallskip\noindent\begin{minipage}{\linewidth}\raggedright ", r"\end{minipage}"
    return [f"{begin}{escaped(note)}{end}" for note in notes]
