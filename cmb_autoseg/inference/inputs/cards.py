"""Cases that a card describes."""

from pathlib import Path
from typing import TYPE_CHECKING

from cmb_autoseg.errors import InputError
from cmb_autoseg.inference.inputs.common import InputFailure, InputSettings, echo_of, with_susceptibility
from cmb_autoseg.records import Case, ImageSource

if TYPE_CHECKING:
    from cmb_autoseg.dataset_conversion.card_file import OpenCard

__all__ = ["cases_of_card", "may_be_card"]


def may_be_card(source: Path) -> bool:
    """Whether the text after `-i`, which is no file or folder to read scans from, can mean a card."""
    text = str(source)
    if source.suffix in (".yaml", ".yml") or "=" in text:
        return True
    from cmb_autoseg.dataset_conversion.card_file import shipped_cards

    return text in shipped_cards()


def cases_of_card(argument: str, settings: InputSettings) -> tuple[list[Case], list[InputFailure]]:
    """The card's cases with the sequences that the model knows, and what the card or its files leave out.

    With `privacy.hash_ids` they have the pseudonyms that conversion in the same workspace gives them.

    Args:
        argument: a card's file or the name of a shipped one, perhaps with `=ROOT`.
        settings: an echo that the card itself names goes before the user's.

    Raises:
        CardError: a mistake in the card, or it does not fit the files; pseudonyms without a workspace.
        InputError: the user says what scans are, too, which the card does.
    """
    from cmb_autoseg.dataset_conversion.card_file import parse_card
    from cmb_autoseg.dataset_conversion.sorting.choice import Wanted
    from cmb_autoseg.dataset_conversion.sorting.resolver import find_cases
    from cmb_autoseg.preprocessing.settings import NETWORK_ROLES

    opened = parse_card(argument)
    if settings.role is not None:
        raise InputError(
            f"--role {settings.role}: card {opened.card.name} says what each of its scans is; leave the option out"
        )
    salt = _salt(opened, settings) if opened.card.privacy.hash_ids else None
    shown = NETWORK_ROLES if opened.card.prep.hd_bet is not None else ()
    roles = tuple(dict.fromkeys((*settings.roles, *shown)))
    cohort = find_cases(opened, salt, labels=False, wanted=Wanted(roles, settings.echo, settings.prefer))
    cases: list[Case] = []
    failures = [InputFailure(exclusion.case, exclusion.reason) for exclusion in cohort.exclusions]
    for case in cohort.cases:
        images = {role: _with_echo(image, settings.echo) for role, image in case.images.items()}
        disguise = None if salt is None else cohort.disguise_of(case)
        usable = case.model_copy(update={"images": images, "disguise": disguise})
        try:
            cases.append(with_susceptibility(usable, settings.roles))
        except InputError as error:
            failures.append(InputFailure(case.name, str(error)))
    return cases, failures


def _salt(opened: "OpenCard", settings: InputSettings) -> str:
    from cmb_autoseg.dataset_conversion.conversion import workspace_salt

    if settings.workspace is None:
        raise opened.error("privacy.hash_ids", "pseudonyms are made with the secret of a workspace; name one")
    return workspace_salt(settings.workspace)


def _with_echo(image: ImageSource, echo: int | None) -> ImageSource:
    if echo is None or image.echo is not None:
        return image
    return image.model_copy(update={"echo": echo_of(Path(image.path), echo)})
