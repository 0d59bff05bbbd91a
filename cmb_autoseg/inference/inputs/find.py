"""Which kind of input it is."""

from collections.abc import Iterable
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.files import as_text
from cmb_autoseg.geometry import is_nifti, nifti_stem
from cmb_autoseg.inference.dicom import holds_dicom
from cmb_autoseg.inference.input_kinds import WHAT_IN_MAY_BE
from cmb_autoseg.inference.inputs.bids import cases_of_bids, is_bids
from cmb_autoseg.inference.inputs.cards import cases_of_card, may_be_card
from cmb_autoseg.inference.inputs.channels import cases_of_channels, has_channel_number
from cmb_autoseg.inference.inputs.common import InputFailure, InputSettings, listed, susceptibility
from cmb_autoseg.inference.inputs.dicom import case_of_dicom
from cmb_autoseg.inference.inputs.files import case_of_file, cases_of_files
from cmb_autoseg.readers import PICTURE_SUFFIXES
from cmb_autoseg.records import Case

__all__ = ["find_cases", "is_single_file"]


def is_single_file(source: Path) -> bool:
    """Whether the input is one scan; one that is bad is bad input, not a cohort with a failure."""
    return source.is_file() and is_nifti(source)


def find_cases(source: Path, settings: InputSettings) -> tuple[list[Case], list[InputFailure]]:
    """Find what is to be predicted.

    Args:
        source: NIfTI file, folder of NIfTI files, BIDS root, DICOM folder, or card.
        settings: the model's channels and what the user says of the input.

    Returns:
        The cases by name, and the inputs that are none. What was assumed of a case, chosen or left
        out stands in its `notes`.

    Raises:
        InputError: no such input, nothing in it, or a single input that cannot be used.
    """
    _check_roles(settings)
    if source.is_dir():
        cases, failures = _cases_of_folder(source, settings)
    elif is_single_file(source):
        _check_name(source)
        _check_preferred(settings, [source])
        cases, failures = [case_of_file(source, settings)], []
    elif may_be_card(source):
        cases, failures = cases_of_card(str(source), settings)
    else:
        found = "a file of another kind" if source.exists() else "no such file or folder"
        raise InputError(f"-i {source}: {found}; {WHAT_IN_MAY_BE}")
    return sorted(cases, key=lambda case: case.name), sorted(failures, key=lambda failure: failure.case)


def _check_roles(settings: InputSettings) -> None:
    usable = susceptibility(settings.roles)
    if not usable:
        known = listed(settings.roles)
        raise InputError(f"the model knows no susceptibility sequence (it has {known}); train it on one")
    if settings.role is not None and settings.role not in usable:
        raise InputError(f"role {settings.role}: the model cannot use it alone; choose one of {listed(usable)}")


def _cases_of_folder(folder: Path, settings: InputSettings) -> tuple[list[Case], list[InputFailure]]:
    images, failures = _scans_in(folder)
    if any(map(has_channel_number, images)) and settings.role is None:
        _check_preferred(settings, images)
        cases, more = cases_of_channels(images, settings)
        return cases, failures + more
    if images or failures:
        cases, more = cases_of_files(images, settings)
        if cases or failures + more:
            _check_preferred(settings, images)
            return cases, failures + more
    if is_bids(folder):
        return cases_of_bids(folder, settings)
    if holds_dicom(folder):
        _check_preferred(settings, [])
        return [case_of_dicom(folder, settings)], []
    below = sorted(path for path in folder.rglob("*.nii*") if path.parent != folder and _is_visible_nifti(path))
    if below:
        raise InputError(
            f"-i {folder}: no scan directly in it, and subfolders are not searched ({_counted(below, folder)}); "
            "give the folder that holds the scans, the root of a BIDS dataset, or a card "
            f"(cmb_cohort init {folder} drafts one)"
        )
    if any(path.suffix.lower() in PICTURE_SUFFIXES for path in folder.rglob("*.*")):
        raise InputError(
            f"-i {folder}: holds pictures, which say neither whose they are nor how far apart; describe them in a card "
            f"(cmb_cohort init {folder} -o my_card.yaml drafts one) and give -i my_card.yaml"
        )
    raise InputError(
        f"-i {folder}: nothing to predict in it; expected CASE_0000.nii.gz or other .nii and .nii.gz files, "
        f"sub-*/ folders of a BIDS dataset, or DICOM files"
    )


def _scans_in(folder: Path) -> tuple[list[Path], list[InputFailure]]:
    """The scans directly in a folder, and those whose names no table could hold."""
    scans, failures = list[Path](), list[InputFailure]()
    for path in sorted(path for path in folder.iterdir() if path.is_file() and _is_visible_nifti(path)):
        try:
            _check_name(path)
        except InputError as error:
            failures.append(InputFailure(as_text(nifti_stem(path)), str(error)))
        else:
            scans.append(path)
    return scans, failures


def _check_preferred(settings: InputSettings, scans: Iterable[Path]) -> None:
    from cmb_autoseg.dataset_conversion.sorting.choice import check_preferred

    check_preferred(settings.prefer, (path.name for path in scans))


def _check_name(scan: Path) -> None:
    if as_text(scan.name) != scan.name:
        raise InputError(f"{as_text(str(scan))}: its name holds bytes that are no UTF-8 text; rename the file")


def _is_visible_nifti(path: Path) -> bool:
    return is_nifti(path) and not path.name.startswith(".")


def _counted(paths: Iterable[Path], folder: Path) -> str:
    there = list(paths)
    return f"{len(there)} NIfTI files below, first {there[0].relative_to(folder)}"
