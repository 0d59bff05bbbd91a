"""Which files say where the microbleeds of one case are."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cmb_autoseg.dataset_conversion.card import Card
from cmb_autoseg.dataset_conversion.matching import FileMatch
from cmb_autoseg.records import ImageSource, LabelSource, Role

__all__ = ["label_source"]


def label_source(
    card: Card,
    root: Path,
    found: Sequence[FileMatch],
    entities: Mapping[str, str],  # noqa: ARG001
    images: Mapping[Role, ImageSource],  # noqa: ARG001
    columns: Mapping[str, str],  # noqa: ARG001
    reviewed: bool,
) -> LabelSource | None:
    """What marks the microbleeds of one case; None for an unlabelled one.

    Args:
        card: whose `labels` are asked.
        root: the cohort's folder.
        found: files that `labels.cmb.path` matches for this case, with their entities.
        entities: of the case.
        images: the case's sequences.
        columns: what `meta` and the participants table say of the case.
        reviewed: `labels.no_cmb` says that somebody read it and found none.

    Raises:
        InputError: the files cannot be this case's label; the case is left out.
    """
    if card.label is None or not found:
        return LabelSource(kind="reviewed", path="") if reviewed else None
    settings = card.label.model_dump(include=set(LabelSource.model_fields) - {"path", "raters", "rows", "grid"})
    if card.label.kind == "mask" and not card.label.values:
        settings["values"] = {"cmb": 1}
    return LabelSource(**settings, path=str(root / found[0].path))
