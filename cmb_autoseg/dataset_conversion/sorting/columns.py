"""The columns of cases.tsv that a card fills: rules of `meta`, and the participants table."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cmb_autoseg.dataset_conversion.card import CORE_COLUMNS, Card, compiled_regex
from cmb_autoseg.dataset_conversion.card_file import OpenCard
from cmb_autoseg.dataset_conversion.sorting.patience import Patience

__all__ = ["Participants", "fill_columns"]

UNKNOWN = "n/a"


@dataclass(frozen=True)
class Participants:
    """The participants table by subject; empty where the card names none."""

    key: str
    rows: dict[str, dict[str, str]]
    columns: tuple[str, ...]

    @classmethod
    def read(cls, opened: OpenCard, root: Path) -> "Participants":
        table = opened.card.meta.participants
        if table is None:
            return cls("sub", {}, ())
        where = "meta.participants.path"
        path = root / table.path
        text = _read_table(opened, where, path)
        delimiter = "," if path.suffix.lower() == ".csv" else "\t"
        try:
            rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter))
        except csv.Error as error:
            raise opened.error(where, f"{path} is no table ({error}); save it as tab-separated text") from None
        columns = tuple(rows[0]) if rows else ()
        key_column = next((name for name in (table.key, "participant_id") if name in columns), None)
        if rows and key_column is None:
            raise opened.error(
                "meta.participants.key",
                f"{path} has neither a column {table.key} nor participant_id (it has {', '.join(columns)})",
            )
        by_subject: dict[str, dict[str, str]] = {}
        for row in rows:
            subject = _bare(row[key_column or ""] or "", table.key)
            if subject in by_subject:
                raise opened.error("meta.participants", f"{path}: {subject} has two rows; keep one")
            by_subject[subject] = {name: value or UNKNOWN for name, value in row.items() if isinstance(name, str)}
        return cls(table.key, by_subject, tuple(name for name in columns if name and name != key_column))

    def row(self, entities: Mapping[str, str]) -> dict[str, str]:
        row = self.rows.get(_bare(entities.get(self.key, ""), self.key), {})
        return {name: _cell(row.get(name, UNKNOWN)) for name in self.columns}

    def warnings(self, card: Card) -> list[str]:
        if "split" in self.columns and "split" not in card.meta.rules:
            return [
                f"{card.name}: the participants' column split is not used; add meta.split: {{from: split}} to use it"
            ]
        return []


def _read_table(opened: OpenCard, where: str, path: Path) -> str:
    if not path.is_file():
        raise opened.error(where, f"no readable table {path}; correct the path or remove the key")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise opened.error(where, f"{path} is not a UTF-8 text; save it as UTF-8, tab-separated") from None
    except OSError as error:
        raise opened.error(where, f"{path} cannot be read ({error}); correct the path or its permissions") from None


def _bare(value: str, key: str) -> str:
    """An identifier without its BIDS prefix, so that `01` and `sub-01` are one."""
    return value.strip().removeprefix(f"{key}-")


def _cell(text: str) -> str:
    return " ".join(text.split()) or UNKNOWN


def fill_columns(
    opened: OpenCard, case: str, entities: Mapping[str, str], participants: Participants, patience: Patience
) -> dict[str, str]:
    """The columns of one case: those of the participants table, then the rules of `meta` in order.

    With privacy.hash_ids only the columns that a rule asks for are kept.
    """
    card = opened.card
    row = participants.row(entities)
    kept = {} if card.privacy.hash_ids else {name: value for name, value in row.items() if _is_free(name)}
    for column, rule in card.meta.rules.items():
        if rule.value is not None:
            kept[column] = _cell(rule.value)
            continue
        assert rule.source is not None
        value = next(
            (
                known[rule.source]
                for known in (entities, {k: kept[k] for k in card.meta.rules if k in kept}, row)
                if rule.source in known
            ),
            None,
        )
        if value is None:
            there = ", ".join([*entities, *participants.columns])
            raise opened.error(f"meta.{column}.from", f"nothing is called {rule.source} here (there: {there})")
        patience.start(f"meta.{column}.regex: {rule.regex!r} on {value!r}")
        kept[column] = _apply(opened, column, case, _cell(value))
        patience.start("")
    return kept


def _is_free(column: str) -> bool:
    return column not in CORE_COLUMNS and column != "split"


def _apply(opened: OpenCard, column: str, case: str, value: str) -> str:
    rule = opened.card.meta.rules[column]
    if rule.regex is not None and value != UNKNOWN:
        found = compiled_regex(rule.regex).search(value)
        value = UNKNOWN if found is None else _cell((found[1] if found.re.groups else found[0]) or "")
    if rule.map is not None:
        if value in rule.map:
            return _cell(rule.map[value])
        if value != UNKNOWN:
            legal = ", ".join(rule.map)
            raise opened.error(
                f"meta.{column}.map", f"case {case}: has no entry for {value!r} (it has {legal}); add it"
            )
    return value
