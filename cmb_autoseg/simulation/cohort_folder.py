"""The folder of a simulated cohort: what tells a finished one, and which folders may be gone on with."""

from pathlib import Path

from cmb_autoseg.errors import InputError, OutputError
from cmb_autoseg.files import read_json
from cmb_autoseg.simulation.layouts.case import Layout

__all__ = ["CARD", "MARKER", "RECORDS", "refuse_foreign", "refuse_other_settings"]

MARKER = "truth/simulation.json"
CARD = "card.yaml"
"""Written last: a folder that has it is a finished cohort."""
RECORDS = "truth/finished"
SHARED_NAMES = (CARD, "participants.tsv", "truth", "logs", "montage")


def refuse_foreign(out: Path, writer: Layout) -> None:
    """Refuse a folder that holds anything but an earlier simulated cohort of the same layout.

    Raises:
        InputError: it holds something else.
        OutputError: it is a file.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"-o {out}: is a file; choose a new or empty folder")
    there = _contents(out)
    foreign = [name for name in there if name not in SHARED_NAMES and not writer.OWN_NAMES.fullmatch(name)]
    if there and (foreign or not (out / MARKER).is_file()):
        name = (foreign or there)[0]
        raise InputError(
            f"-o {out}: holds {name}, which no earlier simulation of this layout wrote; choose a new or empty folder"
        )


def refuse_other_settings(out: Path, settings: str) -> None:
    """Refuse a folder with a simulation that this one would have to take away.

    Args:
        out: the folder.
        settings: digest of this simulation's.

    Raises:
        InputError: it is there, of other settings.
    """
    marker = out / MARKER
    if marker.is_file() and read_json(marker).get("settings") != settings:
        raise InputError(
            f"-o {out}: holds a simulation of other settings or of another version; choose a new folder, or delete it"
        )


def _contents(out: Path) -> list[str]:
    """What is in the folder; of hidden files only the one that a layout writes."""
    if not out.is_dir():
        return []
    return sorted(path.name for path in out.iterdir() if not path.name.startswith(".") or path.name == ".bidsignore")
