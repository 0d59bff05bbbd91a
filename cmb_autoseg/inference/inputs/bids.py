"""BIDS roots: the shipped card `bids` says which files are which sequence."""

from collections.abc import Iterator
from pathlib import Path

from cmb_autoseg.errors import CardError, InputError
from cmb_autoseg.inference.inputs.cards import cases_of_card
from cmb_autoseg.inference.inputs.common import InputFailure, InputSettings
from cmb_autoseg.records import Case

__all__ = ["cases_of_bids", "is_bids", "refuse_raw_data"]

LOOKED_FOR = "*_swi, *_SWI, *_T2starw, *_part-mag_MEGRE, *_part-mag_GRE or *_Chimap in sub-*/[ses-*/]anat or swi"


def is_bids(folder: Path) -> bool:
    """Whether the folder is the root of a BIDS dataset, with or without its description."""
    return (folder / "dataset_description.json").is_file() or any(_sessions(folder))


def _sessions(root: Path) -> Iterator[Path]:
    """Folders of subjects and sessions that hold scans directly in `anat` or `swi`."""
    for subject in sorted(path for path in root.glob("sub-*") if path.is_dir()):
        for session in (subject, *sorted(path for path in subject.glob("ses-*") if path.is_dir())):
            if any((session / part).is_dir() for part in ("anat", "swi")):
                yield session


def refuse_raw_data(out: Path, flag: str) -> None:
    """Make sure that results do not come among the scans of a BIDS dataset; its `derivatives` are for them.

    Args:
        out: folder for results; it need not exist.
        flag: what the user calls it.

    Raises:
        InputError: it is within a participant or the source data of a dataset.
    """
    place = out.resolve()
    for folder in (place, *place.parents):
        if folder.name == "derivatives" and is_bids(folder.parent):
            return
        if (folder.name.startswith("sub-") or folder.name == "sourcedata") and is_bids(folder.parent):
            raise InputError(
                f"{flag} {out}: is within {folder.name} of the BIDS dataset {folder.parent}, among its scans; "
                f"choose a folder like {folder.parent / 'derivatives' / 'cmb_autoseg'}"
            )


def cases_of_bids(root: Path, settings: InputSettings) -> tuple[list[Case], list[InputFailure]]:
    """One case per session; a session without any file that the card knows is a failure.

    Raises:
        InputError: there is no scan in which microbleeds are visible, or the user says what scans are.
    """
    if settings.role is not None:
        raise InputError(f"--role {settings.role}: names in a BIDS dataset say what each scan is; leave the option out")
    try:
        cases, failures = cases_of_card(f"bids={root}", settings)
    except CardError:
        raise InputError(f"-i {root}: a BIDS dataset without a usable scan; looked for {LOOKED_FOR}") from None
    known = {case.name for case in cases} | {failure.case for failure in failures}
    for session in _sessions(root):
        name = "_".join(session.relative_to(root).parts)
        if name not in known:
            failures.append(InputFailure(name, f"{session}: no usable scan in it; looked for {LOOKED_FOR}"))
    return cases, failures
