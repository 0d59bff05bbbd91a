"""The scan of a case: what its pictures are drawn on, and whose voxels a list counts in where no mask tells it."""

from collections.abc import Sequence
from pathlib import Path

from cmb_autoseg.errors import InputError
from cmb_autoseg.evaluation.inputs.sides import CaseFiles
from cmb_autoseg.files import read_json

__all__ = ["find_image", "image_of"]

IMAGE_NAMES = ("{case}_0000.nii.gz", "{case}.nii.gz", "{case}_0000.nii", "{case}.nii")


def image_of(files: CaseFiles, folder: Path | None) -> Path | None:
    """The scan of a case in a folder; None where there is none, or no folder."""
    return None if folder is None else find_image(folder, files.name, _scans_of(files))


def find_image(folder: Path, case: str, scans: Sequence[str] = ()) -> Path | None:
    """The first image of a case as nnU-Net names it: `<case>_0000.nii.gz`, else `<case>.nii.gz`.

    Else the first of `scans` that lies in the folder or below it, as in a BIDS dataset.
    """
    named = next((path for name in IMAGE_NAMES if (path := folder / name.format(case=case)).is_file()), None)
    if named is not None:
        return named
    return next((path for name in scans for path in sorted(folder.rglob(name))), None)


def _scans_of(files: CaseFiles) -> list[str]:
    """Names of the files that a case was predicted from, by the record that `cmb_predict` leaves beside the mask."""
    record = files.predicted.path.with_name(f"{files.name}.json")
    try:
        inputs = read_json(record)["inputs"] if record.is_file() else []
        return [str(scan["file"]) for scan in inputs if "*" not in str(scan["file"])]
    except (InputError, KeyError, TypeError):  # of another tool
        return []
