"""The reference pages say what the code does."""

import re

from cmb_autoseg import errors
from cmb_autoseg.errors import CMBError
from cmb_autoseg.simulation.truth import LESION_COLUMNS

from .blocks import DOCS, reference_generator


def test_reference_is_what_the_code_says():
    for name, page in reference_generator().PAGES.items():
        assert (DOCS / "reference" / name).read_text() == page(), f"{name}: run python docs/generate_reference.py"


def test_every_column_of_the_lesions_is_explained_in_order():
    page = (DOCS / "reference" / "simulated-cohorts.md").read_text(encoding="utf-8")
    table = page.split("| column of `lesions.tsv`")[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]

    assert re.findall(r"`(\w+)`", " ".join(cells)) == LESION_COLUMNS


def test_every_class_of_errors_is_explained():
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    classes = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]
    assert sorted(re.findall(r"^\| `(\w+Error)` \|", page, re.M)) == sorted({*classes} - {"CMBError"})
    assert all(issubclass(getattr(errors, name), CMBError) for name in classes)
