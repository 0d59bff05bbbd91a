"""Frames of an enhanced multi-frame file as classic single-frame files, pixels as they are stored.

One file of enhanced MR may hold several echoes, magnitude and phase; taken apart so, each becomes one volume.
"""

from pathlib import Path
from typing import Any

from cmb_autoseg.errors import InputError
from cmb_autoseg.readers.dicom_frames import Frame
from cmb_autoseg.readers.dicom_stacks import Stack

__all__ = ["write_single_frames"]

PIXEL_KEYWORDS = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation")
SCALING = ("RescaleSlope", "RescaleIntercept")


def write_single_frames(stack: Stack, folder: Path, where: str) -> None:
    """Write each frame of a stack as a classic MR file, numbered in the order of slices.

    Nothing is copied but pixels, geometry and scaling.

    Args:
        stack: of enhanced files, without fault.
        folder: where to.
        where: what messages call the stack.

    Raises:
        InputError: the pixels of a file are damaged.
    """
    from pydicom import dcmread

    try:
        opened = {file: dcmread(file) for file in stack.files}
        for number, frame in enumerate(stack.frames, start=1):
            _write(stack, frame, number, opened[frame.file], folder / f"{number:06d}.dcm")
    except OSError as error:
        raise InputError(f"{where}: not readable ({error.strerror or 'damaged'}); copy its files again") from None
    except Exception as error:  # see read_frames
        raise InputError(f"{where}: damaged pixels ({type(error).__name__}); copy its files again") from None


def _write(stack: Stack, frame: Frame, number: int, source: Any, path: Path) -> None:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import MRImageStorage, generate_uid

    assert frame.index is not None
    assert frame.orientation is not None
    assert frame.position_mm is not None
    assert frame.spacing_mm is not None
    uid = generate_uid(entropy_srcs=[str(path)])
    group = generate_uid(entropy_srcs=[str(path.parent)])
    described = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": uid,
        "StudyInstanceUID": group,
        "SeriesInstanceUID": group,
        "FrameOfReferenceUID": group,
        "Modality": "MR",
        "ImageType": ["ORIGINAL", "PRIMARY", (frame.part or "magnitude")[0].upper()],
        "SeriesNumber": 1,
        "InstanceNumber": number,
        "MRAcquisitionType": frame.acquisition or None,
        "ScanningSequence": frame.scanning_sequence or "GR",
        "ImageOrientationPatient": [_decimal(value) for value in frame.orientation],
        "ImagePositionPatient": [_decimal(value) for value in frame.position_mm],
        "PixelSpacing": [_decimal(value) for value in frame.spacing_mm],
        "SliceThickness": _decimal(stack.step_mm),
        "Rows": frame.rows,
        "Columns": frame.columns,
        "SamplesPerPixel": 1,
        **{keyword: source.get(keyword) for keyword in PIXEL_KEYWORDS},
        **_scaling(source, frame.index),
    }
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.file_meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    for keyword, value in described.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = _pixels(source, frame)
    if source.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)


def _pixels(source: Any, frame: Frame) -> bytes:
    from pydicom.encaps import encapsulate, get_frame

    assert frame.index is not None
    if source.file_meta.TransferSyntaxUID.is_encapsulated:
        count = int(source.NumberOfFrames)
        return bytes(encapsulate([get_frame(source.PixelData, frame.index, number_of_frames=count)]))
    size = frame.rows * frame.columns * source.BitsAllocated // 8
    pixels = bytes(source.PixelData[frame.index * size : (frame.index + 1) * size])
    if len(pixels) < size:
        raise EOFError
    return pixels


def _scaling(source: Any, index: int) -> dict[str, Any]:
    """Slope and intercept of one frame, wherever the file says them."""
    groups = [source.PerFrameFunctionalGroupsSequence[index], *source.get("SharedFunctionalGroupsSequence", ())]
    for group in groups:
        for item in group.get("PixelValueTransformationSequence", ()):
            return {keyword: item.get(keyword) for keyword in SCALING}
    return {keyword: source.get(keyword) for keyword in SCALING}


def _decimal(value: float) -> str:
    """A decimal string: at most 16 characters."""
    return f"{value:.9f}"[:16]
