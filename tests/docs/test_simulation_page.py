"""The page on the simulation says what the code does: its protocols, columns and layouts."""

import re

from cmb_autoseg.simulation.layouts import LAYOUTS, NOT_CONVERTED
from cmb_autoseg.simulation.protocols import PROTOCOLS
from cmb_autoseg.simulation.truth import LESION_COLUMNS

from .blocks import DOCS

PAGE = (DOCS / "concepts" / "simulation.md").read_text(encoding="utf-8")


def protocol_row(protocol):
    echoes = " / ".join(f"{time:g}" for time in protocol.echo_times_ms)
    voxel = " x ".join(f"{step:g}" for step in protocol.spacing_mm)
    matrix = " x ".join(map(str, protocol.matrix))
    cells = (
        f"`{protocol.name}`",
        f"{protocol.field_strength_t:g}",
        echoes,
        f"{protocol.repetition_time_ms:g}",
        f"{protocol.flip_angle_deg:g}",
        voxel,
        matrix,
        f"{protocol.snr:g}",
    )
    return f"| {' | '.join(cells)} |"


def test_the_protocols_are_those_of_the_code():
    table = PAGE.split("<!-- protocols:")[1]
    rows = [line for line in table.splitlines() if line.startswith("| `")]

    assert rows == [protocol_row(protocol) for protocol in PROTOCOLS.values()]


def test_every_column_of_the_lesions_is_explained_in_order():
    table = PAGE.split("| column of `truth/lesions.tsv`")[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]

    assert re.findall(r"`(\w+)`", " ".join(cells)) == LESION_COLUMNS


def test_every_layout_is_listed_with_whether_it_converts():
    table = PAGE.split("| layout | files")[1].split("\n\n")[0]
    rows = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}

    assert set(rows) == set(LAYOUTS)
    assert {name for name, row in rows.items() if row.endswith("| not yet |")} == set(NOT_CONVERTED)
