"""How scans are prepared: what a card says, what options change, and what a trained model fixes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cmb_autoseg.errors import InputError
from cmb_autoseg.preprocessing.distortion import load_hook
from cmb_autoseg.records import DERIVED_ROLES, BrainNetworkSettings, Case, PrepSettings, Role

__all__ = [
    "GREY_VALUE_SETTINGS",
    "Preparation",
    "as_trained",
    "differing",
    "needed_roles",
    "prepared_by",
]

GREY_VALUE_SETTINGS = ("bias", "normalize", "frst_radii_mm", "reference")
"""What decides how bright a prepared voxel is: a scan to be predicted is treated as those that were learnt from."""
NETWORK_ROLES = (Role.T1, Role.FLAIR)
"""Sequences that show HD-BET the brain, channels or not."""


@dataclass(frozen=True)
class Preparation:
    """What options change of a card's `prep`."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    """Folder with HD-BET's weights, over the card's."""
    store: Path | None = None
    """Where weights are fetched to if no folder is named; None forbids it."""
    device: Literal["cuda", "cpu"] | None = None
    """Where the network runs; None for cuda where there is one."""

    def settle(self, prep: PrepSettings) -> PrepSettings:
        """The settings with the changes, and with the digest of the weights where a network may be used.

        Raises:
            InputError: a network is asked for without weights, they are not the expected ones, or there is no such
                correction of distortion.
        """
        settled = PrepSettings.model_validate({**prep.model_dump(), **self.changes})
        if settled.distortion is not None:
            load_hook(settled.distortion)
        if settled.brain not in ("auto", "hd_bet"):
            return settled.model_copy(update={"hd_bet": None})
        network = self._network(settled)
        if network is None and settled.brain == "hd_bet":
            raise InputError(
                "prep.brain: hd_bet needs the network's weights; name their folder with --brain-weights DIR or "
                "prep.hd_bet.folder, or let them be fetched with --allow-download"
            )
        return settled.model_copy(update={"hd_bet": network})

    def _network(self, prep: PrepSettings) -> BrainNetworkSettings | None:
        from cmb_autoseg.preprocessing.brain_network import download_brain_network, weights_digest

        named = self.weights or (Path(prep.hd_bet.folder).expanduser() if prep.hd_bet else None)
        expected = prep.hd_bet.sha256 if prep.hd_bet else None
        folder = named or self.store
        if folder is None:
            return None
        if named is None and not (folder / "plans.json").is_file():
            download_brain_network(folder)
        device = self.device or (prep.hd_bet.device if prep.hd_bet else None) or _best_device()
        digest = weights_digest(folder, expected)
        return BrainNetworkSettings(folder=str(folder.absolute()), sha256=digest, device=device)


def _best_device() -> Literal["cuda", "cpu"]:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def prepared_by(preparation: Preparation, cases: Sequence[Case]) -> list[Case]:
    """Cases with options over the settings of each.

    Raises:
        InputError: a network is asked for whose weights are not there.
    """
    settled = {case.prep.digest: case.prep for case in cases}
    settled = {digest: preparation.settle(prep) for digest, prep in settled.items()}
    return [case.model_copy(update={"prep": settled[case.prep.digest]}) for case in cases]


def needed_roles(channels: Sequence[Role], preparation: Preparation) -> tuple[Role, ...]:
    """A model's channels, the sequences that some of them are made of, and those that show HD-BET the brain."""
    sources = [Role.GRE_PHASE] if Role.LOCAL_PHASE in channels else []
    sources += [Role.QSM] if Role.QSM_SIGN in channels else []
    if preparation.weights is not None or preparation.store is not None:
        sources += NETWORK_ROLES
    return tuple(dict.fromkeys([*channels, *sources]))


def as_trained(case: Case, trained: PrepSettings, channels: Sequence[Role]) -> Case:
    """A case with what changes grey values and channels, and what is expected of the skull, as it was in training."""
    fixed = {name: getattr(trained, name) for name in (*GREY_VALUE_SETTINGS, "skull")}
    derived = tuple(role for role in channels if role in DERIVED_ROLES)
    return case.model_copy(update={"prep": case.prep.model_copy(update={**fixed, "derived": derived})})


def differing(one: PrepSettings, other: PrepSettings) -> tuple[str, ...]:
    """Names of the settings by which two preparations give other grey values."""
    return tuple(name for name in GREY_VALUE_SETTINGS if getattr(one, name) != getattr(other, name))
