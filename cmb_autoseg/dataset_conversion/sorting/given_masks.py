"""Brain masks that come with a cohort: of which sequence each is, and whether that sequence is there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cmb_autoseg.dataset_conversion.card import BRAIN_MASK, Card
from cmb_autoseg.dataset_conversion.sorting.choice import Chosen, Wanted
from cmb_autoseg.dataset_conversion.sorting.matching import FileMatch
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import same_grid
from cmb_autoseg.readers import read_grid
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, BrainMaskSource, ImageSource, Role

__all__ = ["brain_mask", "with_mask_role"]

Found = Mapping[str, Sequence[FileMatch]]


def with_mask_role(card: Card, wanted: Wanted, found: Found) -> Wanted:
    """The wish, and the sequence on whose grid the case's brain mask is.

    One in which microbleeds are visible is not added to a wish: it could take the place of the reference.
    """
    role = _mask_role(card, found)
    if wanted.roles is None or role is None or role in (*wanted.roles, *SUSCEPTIBILITY_ROLES, card.prep.reference):
        return wanted
    return replace(wanted, roles=(*wanted.roles, role))


def brain_mask(
    card: Card, root: Path, chosen: Chosen, found: Found
) -> tuple[BrainMaskSource | None, Mapping[Role, str]]:
    """The brain mask of one case, and the notes of its sequences with what the user should know of the mask.

    A mask whose sequence the case lacks is used where its header says that it is on the reference's grid, else left
    out with a note.

    Args:
        card: whose `brain_mask` is asked.
        root: the cohort's folder.
        chosen: the case's sequences.
        found: files of the case by the card's field.

    Raises:
        InputError: several files, or one in an archive that cannot be read.
    """
    role = _mask_role(card, found)
    if role is None or not chosen.images:
        return None, chosen.notes
    matches = found[BRAIN_MASK]
    if len(matches) > 1:
        listed = " and ".join(match.path for match in matches)
        raise InputError(f"{len(matches)} files for {BRAIN_MASK}: {listed}; make the pattern match one of them")
    if matches[0].fault:
        raise InputError(matches[0].told_fault)
    source = ImageSource(path=str(root / matches[0].path))
    if role in chosen.images:
        return BrainMaskSource(source=source, grid=role), chosen.notes
    reference = next(known for known in (*_reference_roles(card), *chosen.images) if known in chosen.images)
    if same_grid(read_grid(source), read_grid(chosen.images[reference])):
        return BrainMaskSource(source=source, grid=reference), chosen.notes
    note = f"brain mask {matches[0].name} not used: it is on the grid of {role}, which is not there"
    told = "; ".join(filter(None, (chosen.notes.get(reference, ""), note)))
    return None, {**chosen.notes, reference: told}


def _mask_role(card: Card, found: Found) -> Role | None:
    """The sequence of the case's mask: the card's, else its reference; None where the case has no mask."""
    if card.brain_mask is None or not found.get(BRAIN_MASK):
        return None
    if card.brain_mask.grid is not None:
        return card.images[card.brain_mask.grid].role
    there = {image.role for name, image in card.images.items() if found.get(f"images.{name}")}
    return next((role for role in _reference_roles(card) if role in there), None)


def _reference_roles(card: Card) -> tuple[Role, ...]:
    """In the order in which one becomes the reference."""
    return (*([card.prep.reference] if card.prep.reference is not None else []), *SUSCEPTIBILITY_ROLES)
