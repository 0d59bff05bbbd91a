"""Which kind of folder it is, and so which kind of card is drafted."""

from collections.abc import Sequence
from pathlib import Path

from cmb_autoseg.dataset_conversion.draft.dicom import draft_dicom
from cmb_autoseg.dataset_conversion.draft.pictures import draft_pictures
from cmb_autoseg.dataset_conversion.draft.shipped import draft_of_shipped
from cmb_autoseg.dataset_conversion.draft.volumes import draft_volumes
from cmb_autoseg.dataset_conversion.sorting.walk import list_files
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import NIFTI_SUFFIXES
from cmb_autoseg.readers import ITK_SUFFIXES, MATLAB_SUFFIX, PICTURE_SUFFIXES
from cmb_autoseg.readers.archive import is_archive, list_members
from cmb_autoseg.readers.dicom_frames import is_dicom

__all__ = ["draft_card"]

VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, *ITK_SUFFIXES, MATLAB_SUFFIX)
MARK_SUFFIXES = (".tsv", ".csv", ".json", ".xlsx", ".txt", ".xml")
ARCHIVES_OPENED = 200
"""The others are taken to be like these."""
FILES_PROBED = 40
"""So many files without a known suffix are looked at to see whether they are DICOM."""


def draft_card(folder: Path) -> str:
    """Write a card's YAML for a folder; the guesses are for a person to check.

    Raises:
        InputError: the folder holds no scans that are read.
    """
    paths = list_files(folder)
    volumes = [path for path in paths if path.lower().endswith(VOLUME_SUFFIXES)]
    marks = [path for path in paths if path.lower().endswith(MARK_SUFFIXES)]
    pictures = [path for path in paths if path.lower().endswith(PICTURE_SUFFIXES)]
    archives = [path for path in paths if is_archive(path)]
    dicom = _dicom_files(folder, [*set(paths).difference(volumes, marks, pictures, archives)])
    shipped = draft_of_shipped(folder, paths)
    if shipped is not None:
        return shipped
    if len(dicom) > len(volumes):
        return draft_dicom(folder, dicom, volumes)
    if len(pictures) > len(volumes):
        return draft_pictures(folder, pictures, marks)
    members = [member for member in _members(folder, archives) if member.lower().endswith(VOLUME_SUFFIXES)]
    if not volumes and not members:
        raise InputError(
            f"{folder}: no scans in it: no NIfTI files, DICOM, MetaImage, NRRD, .mat, pictures or archives of these; "
            "convert the scans, or choose another folder"
        )
    return draft_volumes(folder, [*volumes, *members], marks)


def _dicom_files(folder: Path, paths: Sequence[str]) -> list[str]:
    """The files if most of them are DICOM by what they say, else those of them whose suffix says so."""
    ordered = sorted(paths)
    probed = ordered[:: max(1, len(ordered) // FILES_PROBED)]
    are_dicom = sum(is_dicom(folder / path) for path in probed)
    if probed and are_dicom > len(probed) / 2:
        return ordered
    return [path for path in ordered if path.lower().endswith((".dcm", ".ima")) and is_dicom(folder / path)]


def _members(folder: Path, archives: Sequence[str]) -> list[str]:
    """Members as `ARCHIVE!/MEMBER`; of very many archives those of some."""
    found: list[str] = []
    for archive in archives[:: max(1, len(archives) // ARCHIVES_OPENED)]:
        try:
            found += [f"{archive}!/{member.name}" for member in list_members(folder / archive) if not member.fault]
        except InputError:  # `check` tells of a damaged one
            continue
    return found
