"""Series of DICOM files as volumes. dcm2niix does the conversion; what it will give is known from headers alone.

Nothing that tells who was scanned enters a file name, a header or a message.
"""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from cmb_autoseg import geometry
from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.readers.dicom_frames import Frame, read_frames
from cmb_autoseg.readers.dicom_stacks import Stack, find_stacks
from cmb_autoseg.records import ImageSource

__all__ = ["convert_stack", "read_grid", "read_volume", "source_files", "source_of", "stack_of"]

HEADER: Any = nib.Nifti1Header.template_dtype


def read_grid(source: ImageSource) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine of the volume that `read_volume` gives, from headers alone.

    Raises:
        InputError: a file is missing or damaged, slices are missing, or the files hold several volumes.
    """
    return stack_of(source).grid


def read_volume(source: ImageSource, dtype: Any = np.float32) -> Volume:
    """Convert one volume of a series; scaling by the headers' slope and intercept is applied.

    Raises:
        InputError: as `read_grid`; or dcm2niix makes no volume of it.
    """
    stack = stack_of(source)
    with tempfile.TemporaryDirectory(prefix="cmb_dicom_") as scratch:
        path = convert_stack(stack, Path(scratch), source.path)
        volume = geometry.read_volume(path, dtype=dtype)
    return Volume(volume.data, volume.affine, volume.header, source.path)


def source_files(source: ImageSource) -> tuple[Path, ...]:
    """The files that hold the volume."""
    return tuple(map(Path, source.files))


def source_of(stack: Stack, path: str) -> ImageSource:
    """How a stack is found again.

    Args:
        stack: one volume.
        path: what messages call it.
    """
    return ImageSource(
        path=path,
        kind="dicom",
        files=stack.files,
        echo=stack.echo,
        part="magnitude" if stack.first.part == "magnitude" else "phase" if stack.first.part == "phase" else None,
    )


def stack_of(source: ImageSource) -> Stack:
    """The one volume that a source means.

    Raises:
        InputError: there is none, several, or it has a fault.
    """
    frames = [frame for file in source.files for frame in _frames(Path(file), source.path)]
    stacks = find_stacks(frames)
    if len(stacks) > 1 and source.part is not None:
        stacks = [stack for stack in stacks if stack.first.part == source.part]
    if len(stacks) > 1 and source.echo is not None:
        stacks = [stack for stack in stacks if stack.echo == source.echo]
    if len(stacks) != 1:
        found = f"{len(stacks)} volumes" if stacks else "no volume"
        raise InputError(f"{source.path}: {found} where one is needed; choose one by echo, or export the series again")
    if stacks[0].fault:
        raise InputError(f"{source.path}: {stacks[0].fault}")
    return stacks[0]


def _frames(file: Path, where: str) -> list[Frame]:
    try:
        return read_frames(file)
    except InputError as error:
        raise InputError(f"{where}: one of its files is{str(error).partition(':')[2]}") from None


def convert_stack(stack: Stack, scratch: Path, where: str) -> Path:
    """Let dcm2niix make one NIfTI file of a stack, in a header of which stands nothing but geometry.

    Args:
        stack: without fault.
        scratch: an empty folder for the result.
        where: what messages call the stack.

    Raises:
        InputError: dcm2niix makes no volume of it, several, or one on another grid.
    """
    import dcm2niix

    inputs = scratch / "in"
    inputs.mkdir(parents=True)
    if stack.first.index is None:
        for number, file in enumerate(stack.files):
            (inputs / f"{number:06d}.dcm").symlink_to(Path(file).absolute())
    else:
        from cmb_autoseg.readers.dicom_enhanced import write_single_frames

        write_single_frames(stack, inputs, where)
    # One merged volume (-m y), no comment (-c), nothing of a person (-ba y), no user's defaults (-g i).
    options = ["-m", "y", "-b", "n", "-ba", "y", "-c", "", "-g", "i", "-z", "n", "-d", "0", "-w", "2", "-f", "volume"]
    done = subprocess.run([dcm2niix.bin, *options, "-o", str(scratch), str(inputs)], capture_output=True, check=False)
    made = sorted(scratch.glob("*.nii"))
    if len(made) != 1:
        raise InputError(
            f"{where}: dcm2niix made {len(made) or 'no'} volume{'s' * (len(made) > 1)} of its DICOM files "
            f"(exit code {done.returncode}); copy the series again, whole, or convert it to NIfTI yourself"
        )
    _check(made[0], stack, where)
    return _without_remarks(made[0])


def _check(path: Path, stack: Stack, where: str) -> None:
    """Refuse a volume that does not lie where the headers say: no mask or point would fit it."""
    shape, affine = geometry.read_grid(path)
    if len(shape) != 3:
        raise InputError(
            f"{where}: dcm2niix took its slices for {shape[-1]} volumes; convert it to NIfTI yourself, and say which"
        )
    placed = Volume(np.broadcast_to(np.uint8(0), shape), affine, name=where)
    expected = Volume(np.broadcast_to(np.uint8(0), stack.grid[0]), stack.grid[1], name="its headers")
    geometry.check_same_grid(
        geometry.to_canonical(placed), geometry.to_canonical(expected), "convert it to NIfTI yourself, and look at it"
    )


def _without_remarks(path: Path) -> Path:
    """Blank what dcm2niix notes in the header: the time of day of the scan, the protocol."""
    with path.open("r+b") as stream:
        for field in ("db_name", "descrip", "aux_file", "intent_name"):
            dtype, offset = HEADER.fields[field][:2]
            stream.seek(offset)
            stream.write(bytes(dtype.itemsize))
    return path
