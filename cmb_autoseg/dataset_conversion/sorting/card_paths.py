"""The patterns of a card: which fields hold some, whether they fit its keys, and what names a case."""

import re
from collections.abc import Mapping, Sequence

from cmb_autoseg.dataset_conversion.card import BRAIN_MASK, LABEL_NAME, REVIEWED_NAME, Card
from cmb_autoseg.dataset_conversion.card_file import OpenCard
from cmb_autoseg.dataset_conversion.sorting.patterns import Pattern, compile_pattern, pieces
from cmb_autoseg.readers import IMAGE_SUFFIXES, MATLAB_SUFFIX, PICTURE_SUFFIXES
from cmb_autoseg.readers.archive import ARCHIVE_SUFFIXES

__all__ = ["card_patterns", "case_template", "slices_field", "suffix_of"]


def card_patterns(opened: OpenCard, labels: bool) -> dict[str, Pattern]:
    """Compiled patterns by the field that holds them: `images.NAME`, `labels.cmb`, `brain_mask` and so on.

    Raises:
        CardError: a pattern is none, or its suffix is that of files that are not read, or not so.
    """
    card = opened.card
    texts = {f"images.{name}": image.path for name, image in card.images.items() if image.path is not None}
    texts |= {slices_field(name): image.slices.path for name, image in card.images.items() if image.slices is not None}
    if labels and card.label is not None:
        texts[LABEL_NAME] = card.label.path
    if labels and card.labels.no_cmb is not None and card.labels.no_cmb.path is not None:
        texts[REVIEWED_NAME] = card.labels.no_cmb.path
    if card.brain_mask is not None:
        texts[BRAIN_MASK] = card.brain_mask.path
    patterns = {name: _compiled(opened, name, text) for name, text in texts.items()}
    for name, image in card.images.items():
        if image.path is not None:
            _check_image(opened, name, patterns[f"images.{name}"])
    volumes = [BRAIN_MASK, *([LABEL_NAME] if card.label is not None and card.label.kind == "mask" else [])]
    for field_name in set(volumes) & set(patterns):
        suffix = suffix_of(patterns[field_name])
        if suffix and not suffix.endswith(IMAGE_SUFFIXES):
            raise opened.error(f"{field_name}.path", f"ends in {suffix}; {_read_are(IMAGE_SUFFIXES)}")
    return patterns


def slices_field(name: str) -> str:
    """The field with the tables of a sequence's slices."""
    return f"images.{name}.slices"


def _compiled(opened: OpenCard, name: str, text: str) -> Pattern:
    try:
        pattern = compile_pattern(text)
    except ValueError as error:
        raise opened.error(f"{name}.path", str(error)) from None
    if pattern.archive is not None:
        suffix = suffix_of(pattern.archive)
        if suffix and not suffix.endswith(ARCHIVE_SUFFIXES):
            raise opened.error(f"{name}.path", f"looks into {suffix} before !/; {_read_are(ARCHIVE_SUFFIXES)}")
    return pattern


def suffix_of(pattern: Pattern) -> str:
    """What the pattern's files end in, in small letters; '' where it leaves that open."""
    found = re.search(r"\.[A-Za-z0-9.]+$", pattern.text)
    return found[0].lower() if found else ""


def _read_are(suffixes: Sequence[str]) -> str:
    return f"read are {', '.join(suffixes)}"


def _check_image(opened: OpenCard, name: str, pattern: Pattern) -> None:
    """Refuse suffixes that are not read, and keys that say nothing of such files."""
    image, suffix, where = opened.card.images[name], suffix_of(pattern), f"images.{name}"
    if image.stack is not None and image.stack not in pattern.entities:
        listed = ", ".join(f"{{{entity}}}" for entity in pattern.entities) or "none"
        raise opened.error(
            f"{where}.stack", f"{{{image.stack}}} is not in its path (there: {listed}); name one of these"
        )
    if not suffix:
        return
    if not suffix.endswith(IMAGE_SUFFIXES):
        raise opened.error(f"{where}.path", f"ends in {suffix}; {_read_are(IMAGE_SUFFIXES)}: convert the files")
    is_picture, is_matlab = suffix.endswith(PICTURE_SUFFIXES), suffix.endswith(MATLAB_SUFFIX)
    if is_picture != (opened.card.dim == 2):
        cure = "set dim: 2" if is_picture else f"with dim: 2 images are pictures ({', '.join(PICTURE_SUFFIXES)})"
        raise opened.error(f"{where}.path", f"ends in {suffix}; {cure}")
    if image.variable is not None and not is_matlab:
        raise opened.error(f"{where}.variable", f"is of .mat files, these end in {suffix}; remove it")
    has_geometry = not is_picture and not is_matlab
    if has_geometry and (image.spacing_mm is not None or image.axes is not None):
        key = "spacing_mm" if image.spacing_mm is not None else "axes"
        raise opened.error(
            f"{where}.{key}", f"is of .mat files and pictures; files in {suffix} say it themselves: remove it"
        )


def case_template(opened: OpenCard, patterns: Mapping[str, Pattern]) -> tuple[str, tuple[str, ...]]:
    """The template of case names and the entities in it.

    Raises:
        CardError: it, `group_by` or the participants table's key names an entity that no image has.
    """
    card = opened.card
    images = [f"images.{name}" for name in card.images]
    there = {entity for name in images if name in patterns for entity in patterns[name].entities}
    there |= set(card.entities)
    template = card.case
    if template is None:
        if "sub" not in there:
            raise opened.error("images", "no path has {sub}; call the part that names the subject {sub}, or set case")
        template = "{sub}_{ses}" if "ses" in there else "{sub}"
    try:
        entities = tuple(dict.fromkeys(entity for _, entity in pieces(template) if entity is not None))
    except ValueError as error:
        raise opened.error("case", str(error)) from None
    listed = ", ".join(f"{{{entity}}}" for entity in sorted(there)) or "none"
    if not entities:
        raise opened.error("case", f"{template!r} names no entity; use those of the paths ({listed})")
    table = card.meta.participants
    keys = (table.key,) if table else ()
    for owner, names in (("case", entities), ("group_by", card.group_by), ("meta.participants.key", keys)):
        for entity in names:
            if entity not in there:
                raise opened.error(owner, f"{{{entity}}} is in no image path (there: {listed}); name one of these")
    if LABEL_NAME in patterns:
        _check_label_entities(opened, patterns[LABEL_NAME], entities)
    complete = card.source == "dicom" or any(set(entities) <= set(patterns[name].entities) for name in images)
    if not complete:
        raise opened.error("case", f"no image path holds all of {template!r}; add the missing entity to one")
    stacked = next((name for name, image in card.images.items() if image.stack in entities), None)
    if stacked is not None:
        stack = card.images[stacked].stack
        raise opened.error(
            "case",
            f"{template!r} makes each {{{stack}}} a case, but images.{stacked}.stack makes them one; drop either",
        )
    return template, entities


def _one_file_for_many(card: Card) -> bool:
    """Whether one file of labels may hold several cases."""
    return card.label is not None and (card.label.rows is not None or card.label.format == "coco")


def _check_label_entities(opened: OpenCard, pattern: Pattern, entities: Sequence[str]) -> None:
    raters = opened.card.label.raters if opened.card.label is not None else None
    if raters is not None and raters.entity not in pattern.entities:
        raise opened.error(
            f"{LABEL_NAME}.raters.entity",
            f"{{{raters.entity}}} is not in {LABEL_NAME}.path; write it where the path names the reader",
        )
    lacking = [entity for entity in entities if entity not in pattern.entities]
    if not lacking or _one_file_for_many(opened.card):
        return
    coarser = "_".join(f"{{{entity}}}" for entity in entities if entity not in lacking)
    what = " and ".join("session" if entity == "ses" else entity for entity in lacking)
    instead = f', or set case: "{coarser}" where everybody has one {what}' if coarser else ""
    label = opened.card.label
    if label is not None and label.kind != "mask":
        instead += ", or say with labels.cmb.rows which rows of one table are whose"
    raise opened.error(
        f"{LABEL_NAME}.path",
        f"lacks {{{lacking[0]}}}, so one label would serve several cases; add {{{lacking[0]}}}{instead}",
    )
