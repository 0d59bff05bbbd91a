"""Options that say how scans are prepared, for every command that prepares some."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmb_autoseg.cli._command import add_option

if TYPE_CHECKING:
    from cmb_autoseg.preprocessing.settings import Preparation
    from cmb_autoseg.workspace import Workspace

__all__ = ["add_preparation", "preparation"]

BRAIN = ("auto", "given", "already_masked", "hd_bet", "classical", "none")
COREGISTER = ("affine", "rigid", "header", "refuse")
REFERENCES = ("swi", "gre_mag", "qsm", "t1", "t2", "flair")
DERIVED = ("frst", "local_phase", "qsm_sign")
CARD = "default: as the card says"


def add_preparation(parser: argparse.ArgumentParser, trained: bool = False) -> None:
    """Options over a card's `prep`.

    Args:
        parser: gets a group of its own.
        trained: for a prediction, whose model has settled what changes grey values and channels.
    """
    group = parser.add_argument_group("preparation (over the card's prep)")
    add_option(group, "--brain", choices=BRAIN, help=f"how the brain is found ({CARD}, else auto)")
    add_option(group, "--brain-weights", type=Path, metavar="DIR", help="folder with the weights of HD-BET's network")
    add_option(
        group,
        "--allow-download",
        action="store_true",
        help="fetch HD-BET's weights into WORKSPACE/weights where no folder is named (default: never)",
    )
    add_option(
        group,
        "--coregister",
        choices=COREGISTER,
        help=f"how sequences on other grids come to the reference's ({CARD}, else affine)",
    )
    add_option(group, "--nan", choices=("repair", "refuse"), help=f"voxels that are NaN ({CARD}, else repair)")
    add_option(group, "--distortion", metavar="NAME", help=f"an installed correction of distortion ({CARD}, else none)")
    if trained:
        return
    add_option(
        group, "--reference", choices=REFERENCES, help=f"the sequence whose grid a case lives on ({CARD}, else swi)"
    )
    add_option(group, "--bias", choices=("none", "n4"), help=f"correction of the bias field ({CARD}, else none)")
    add_option(
        group,
        "--derive",
        nargs="+",
        choices=DERIVED,
        help=f"further channels made of the sequences ({CARD}, else none)",
    )
    add_option(
        group,
        "--normalize",
        choices=("none", "zscore"),
        help=f"of each sequence inside the brain ({CARD}, else none: the network's input is normalized anyway)",
    )


def preparation(args: argparse.Namespace, workspace: "Workspace") -> "Preparation":
    """What the options change of the cards' `prep`.

    Raises:
        InputError: weights that are not there, or that cannot be fetched.
    """
    from cmb_autoseg.preprocessing.settings import Preparation

    named = {
        "brain": args.brain,
        "coregister": args.coregister,
        "nan": args.nan,
        "distortion": args.distortion,
        "reference": getattr(args, "reference", None),
        "bias": getattr(args, "bias", None),
        "derived": _tuple(getattr(args, "derive", None)),
        "normalize": getattr(args, "normalize", None),
    }
    changes: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    store = workspace.root / "weights" / "hd_bet" if args.allow_download else None
    return Preparation(changes, args.brain_weights, store, args.device)


def _tuple(values: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)
