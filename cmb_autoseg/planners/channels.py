"""Which sequences the network gets, from how many cases have them."""

from collections.abc import Sequence

import numpy as np

from cmb_autoseg.errors import InputError
from cmb_autoseg.records import SUSCEPTIBILITY_ROLES, CaseFingerprint, Fingerprint, Reason, Role

__all__ = ["MIN_AVAILABILITY", "choose_channels", "planning_cases"]

MIN_AVAILABILITY = 0.1
"""A sequence that fewer cases have is no channel, unless one of them has no other in which microbleeds show."""

RULE = (
    f"a channel is what at least {MIN_AVAILABILITY:.0%} of the labelled cases have, or the only susceptibility "
    "sequence of some case; a missing sequence is a channel of zeros, and channel dropout trains for it"
)


def planning_cases(measured: Fingerprint) -> tuple[CaseFingerprint, ...]:
    """The cases that channels and grid are planned from: the labelled ones, where there are any.

    Unlabelled cases follow: they serve pretraining alone, and a large cohort of them must not
    decide on which grid microbleeds are learnt.
    """
    return tuple(case for case in measured.cases if case.labelled) or measured.cases


def choose_channels(measured: Fingerprint) -> tuple[tuple[Role, ...], list[Reason]]:
    """The channel set, in the raw dataset's order, with its reasons.

    Raises:
        InputError: no susceptibility sequence at all, or a case without any.
    """
    cases = planning_cases(measured)
    share = {role: float(np.mean([role in case.sequences for case in cases])) for role in measured.roles}
    common = {role for role in measured.roles if share[role] >= MIN_AVAILABILITY}
    if not set(measured.roles) & set(SUSCEPTIBILITY_ROLES):
        raise InputError(
            f"{measured.dataset}: no susceptibility sequence in its cases; "
            f"add {', '.join(SUSCEPTIBILITY_ROLES)} to the card"
        )
    rescued = _only_susceptibility_sequences(measured, common)
    channels = tuple(role for role in measured.roles if role in common | rescued)
    text = f"channels {', '.join(f'{role} ({_percent(share[role])} of the labelled cases)' for role in channels)}"
    reasons = [Reason(topic="channels", text=text, rule=RULE)]
    reasons += [
        Reason(
            topic="channels", text=f"{role} stays although rare: some cases show microbleeds nowhere else", rule=RULE
        )
        for role in channels
        if role not in common
    ]
    reasons += [
        Reason(
            topic="channels", text=f"{role} is no channel: only {_percent(share[role])} of the cases have it", rule=RULE
        )
        for role in measured.roles
        if role not in channels
    ]
    return channels, reasons


def _only_susceptibility_sequences(measured: Fingerprint, common: set[Role]) -> set[Role]:
    """Rare roles without which some case, labelled or not, would have nothing to learn from."""
    rescued: set[Role] = set()
    for case in measured.cases:
        visible = _susceptibility(case.sequences)
        if not visible:
            raise InputError(
                f"{case.case}: has {', '.join(case.sequences) or 'no sequence'}, but microbleeds show in "
                f"{', '.join(SUSCEPTIBILITY_ROLES)} only; leave the case out of the card or add such a sequence"
            )
        if not common & set(visible):
            rescued |= set(visible)
    return rescued


def _susceptibility(sequences: Sequence[Role]) -> tuple[Role, ...]:
    return tuple(role for role in sequences if role in SUSCEPTIBILITY_ROLES)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 or share == 0 else f"{share:.1%}"
