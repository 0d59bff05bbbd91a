"""A table in LaTeX that can be taken into a manuscript as it is."""

import re

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
PROSE_CHARACTERS = 40
"""A column with longer cells is set in lines of a fixed width."""
PROSE_WIDTH_CM = 7.0
LINE_CHARACTERS = 92
"""That fit the width of a page in footnotesize; wider tables are scaled down."""
PAGE_ROWS = 35
"""More rows are set over several pages."""


def escaped(text: str) -> str:
    """Plain text for LaTeX; line breaks become blanks."""
    return SPECIAL_CHARACTER.sub(lambda found: SPECIAL[found[0]], " ".join(text.splitlines()))


def as_latex(table: Table, data: str = "") -> str:
    """A floating table with caption and notes, or one over several pages where it is long.

    The first line names the packages that the document needs: booktabs, with graphicx or longtable.

    Args:
        table: its title becomes the caption, its name the label.
        data: the kind of data, such as `simulated`, named in the caption.
    """
    rows = shown_rows(table)
    caption = f"{table.title} ({data} data)" if data else table.title
    title = rf"\caption{{{escaped(caption)}}}\label{{tab:{table.name.replace('_', '-')}}}"
    head = " & ".join(map(escaped, table.columns.values())) + r" \\"
    body = [" & ".join(map(escaped, cells)) + r" \\" for cells in rows]
    if len(rows) > PAGE_ROWS:
        return _long(table, title, head, body)
    begin, end = (r"\resizebox{\linewidth}{!}{%", "}") if _width(table, rows) > LINE_CHARACTERS else ("{%", "}")
    lines = [
        r"% needs \usepackage{booktabs,graphicx}",
        r"\begin{table}[htbp]",
        r"\centering\footnotesize",
        title,
        begin,
        rf"\begin{{tabular}}{{{_alignment(table, rows)}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        end,
        *_notes(table),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _long(table: Table, title: str, head: str, body: list[str]) -> str:
    lines = [
        r"% needs \usepackage{booktabs,longtable}",
        r"\begingroup\scriptsize",
        rf"\begin{{longtable}}{{{_alignment(table, shown_rows(table))}}}",
        rf"{title}\\",
        r"\toprule",
        head,
        r"\midrule\endhead",
        *body,
        r"\bottomrule",
        r"\end{longtable}",
        *_notes(table),
        r"\endgroup",
    ]
    return "\n".join(lines) + "\n"


def _notes(table: Table) -> list[str]:
    begin, end = r"\par\smallskip\begin{minipage}{\linewidth}\raggedright ", r"\end{minipage}"
    return [f"{begin}{escaped(note)}{end}" for note in table.notes]


def _lengths(table: Table, rows: list[list[str]]) -> list[int]:
    """Of the longest cell in each column."""
    return [max(map(len, column)) for column in zip(tuple(table.columns.values()), *rows, strict=True)]


def _alignment(table: Table, rows: list[list[str]]) -> str:
    prose = rf"p{{{PROSE_WIDTH_CM:g}cm}}"
    return "".join(
        prose if length > PROSE_CHARACTERS else "r" if is_numeric(table, key) else "l"
        for key, length in zip(table.columns, _lengths(table, rows), strict=True)
    )


def _width(table: Table, rows: list[list[str]]) -> int:
    return sum(min(length, PROSE_CHARACTERS) + 2 for length in _lengths(table, rows))
