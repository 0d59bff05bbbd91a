"""The report as one HTML file that loads nothing from elsewhere."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cmb_autoseg.evaluation.metrics.figure import Figure
from cmb_autoseg.evaluation.reporting.checklist import Checklist
from cmb_autoseg.evaluation.reporting.flow import FlowStep, flow_svg, flow_text
from cmb_autoseg.evaluation.reporting.sections import SECTIONS, Section
from cmb_autoseg.reporting.pictures import Picture
from cmb_autoseg.reporting.tables import Table, is_numeric, shown, shown_rows, undefined_cells

__all__ = ["CaseView", "PageContent", "render"]

DEFINITIONS = "definitions"
"""The table that stands among the definitions."""
SHORT, PROSE = 28, 40
"""Characters of a cell that is not broken into lines, at most, and of one that needs room for several, at least."""


@dataclass(frozen=True)
class CaseView:
    """One case in pictures."""

    case: str
    standing: str
    """`best` or `worst`."""
    told: str
    """Its counts in a sentence."""
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class PageContent:
    """All that the page shows; whatever is empty is left out."""

    title: str
    protocol: str
    """Name of the rule that the figures are worked out under; empty where there is none."""
    definition: str
    """That rule in words."""
    data: str = ""
    """Kind of data where it is not of patients, such as `simulated`."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What was evaluated: name and value."""
    flow: Sequence[FlowStep] = ()
    headline: Mapping[str, Figure] = field(default_factory=dict)
    """The few figures to be seen first."""
    tables: Sequence[Table] = ()
    """Those whose names no section knows come under `Further tables`."""
    pictures: Sequence[Picture] = ()
    cases: Sequence[CaseView] = ()
    failures: Sequence[tuple[str, str]] = ()
    """Case and reason."""
    warnings: Sequence[str] = ()
    definitions: Mapping[str, str] = field(default_factory=dict)
    """Term and meaning."""
    undefined: Mapping[str, str] = field(default_factory=dict)
    """Figures without value, and why; those of the tables are added where the row's name is not among them."""
    statistics: Sequence[str] = ()
    """How intervals and tests were made, in sentences."""
    checklists: Sequence[Checklist] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def render(page: PageContent) -> str:
    """The page; the same content gives the same text."""
    environment = Environment(
        loader=PackageLoader("cmb_autoseg.evaluation.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    tables = {table.name: table for table in page.tables}
    pictures = {picture.name: picture for picture in page.pictures}
    sections = [*SECTIONS, _further(tables, pictures)]
    text: str = environment.get_template("report.html.j2").render(
        page=page,
        sections=[section for section in sections if _has_content(section, page, tables, pictures)],
        tables={name: _for_template(table) for name, table in tables.items()},
        pictures=pictures,
        as_uri=_as_uri,
        flow=flow_svg(page.flow) if page.flow else None,
        flow_text=flow_text(page.flow),
        undefined=_undefined(page),
    )
    return text


def _further(tables: Mapping[str, Table], pictures: Mapping[str, Picture]) -> Section:
    """Of what no section knows."""
    known = {DEFINITIONS, *(name for section in SECTIONS for name in (*section.tables, *section.folded))}
    drawn = {name for section in SECTIONS for name in section.pictures}
    rest = tuple(name for name in tables if name not in known)
    return Section("further", "Further tables", "", rest, tuple(name for name in pictures if name not in drawn))


def _has_content(
    section: Section, page: PageContent, tables: Mapping[str, Table], pictures: Mapping[str, Picture]
) -> bool:
    if section.key == "cases" and page.cases:
        return True
    return any(name in tables for name in (*section.tables, *section.folded)) or any(
        name in pictures for name in section.pictures
    )


def _for_template(table: Table) -> dict[str, Any]:
    numeric = [is_numeric(table, key) for key in table.columns]
    return {
        "name": table.name,
        "title": table.title,
        "columns": list(zip(table.columns.values(), numeric, strict=True)),
        "rows": [
            [(text, _kind(text, number)) for text, number in zip(cells, numeric, strict=True)]
            for cells in shown_rows(table)
        ],
        "notes": table.notes,
        "undefined": undefined_cells(table),
    }


def _kind(text: str, numeric: bool) -> str:
    """How a cell is set: numbers and short words in one line."""
    if numeric:
        return "number"
    return "prose" if len(text) > PROSE else "short" if len(text) <= SHORT else ""


def _undefined(page: PageContent) -> dict[str, str]:
    """Of the whole page: figure, and why it has no value."""
    found = dict(page.undefined)
    for table in page.tables:
        first = next(iter(table.columns))
        for row in table.rows:
            name = shown(row.get(first))
            for key, heading in table.columns.items():
                value = row.get(key)
                if isinstance(value, Figure) and value.value is None and name not in page.undefined:
                    found.setdefault(f"{table.title}: {name}, {heading}", value.why or "undefined")
    return found


def _as_uri(picture: Picture) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.png).decode("ascii")
