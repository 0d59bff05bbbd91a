"""Reading the sequences of a case, and refusing those that nothing can be learnt from."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cmb_autoseg.errors import GeometryError, InputError
from cmb_autoseg.geometry import Volume, check_same_grid
from cmb_autoseg.readers import read_volume
from cmb_autoseg.records import Case, Role

__all__ = ["burned_in_warnings", "check_label_grid", "orientation_warnings", "read_sequences", "repair"]


QFORM_TOLERANCE_MM = 1.0
"""Rounding of the qform's quaternion moves a corner by less."""
LARGEST_VALUE = 1e15
"""Larger grey values overflow float32 when they are squared and summed."""


def read_sequences(case: Case) -> dict[Role, Volume]:
    """Read every sequence of a case as it is stored: own axes, float32, NaN left in.

    Raises:
        InputError: no sequence at all, an unreadable file, or one without any contrast, as a mask is.
        GeometryError: `copy_geometry_from` between files of different shape.
    """
    if not case.images:
        raise InputError(f"{case.name}: no image; name at least one susceptibility sequence under images")
    volumes = {role: _read(case, role) for role in case.images}
    return {role: _with_geometry(case, role, volumes) for role in volumes}


def _read(case: Case, role: Role) -> Volume:
    source = case.images[role]
    try:
        volume = read_volume(source)
    except InputError as error:
        raise InputError(f"{case.name}: {role}: {error}") from None
    finite = np.isfinite(volume.data)
    if not finite.any():
        raise InputError(
            f"{case.name}: {role}: {source.path}: every voxel is NaN or infinite; export the scan again or leave it out"
        )
    low, high = (float(f(volume.data, where=finite, initial=i)) for f, i in ((np.min, np.inf), (np.max, -np.inf)))
    if low == high:
        found = "zero" if low == 0 else f"{low:g}"
        raise InputError(
            f"{case.name}: {role}: {source.path}: every voxel is {found}; export the scan again or leave it out"
        )
    if ((volume.data == low) | (volume.data == high) | ~finite).all():
        raise InputError(
            f"{case.name}: {role}: {source.path}: has the values {low:g} and {high:g} alone, as a mask has and no "
            "scan; take the mask out of the folder, or name the scan that it was drawn on"
        )
    if max(-low, high) > LARGEST_VALUE:
        raise InputError(
            f"{case.name}: {role}: {source.path}: values reach {max(-low, high):.2g}, which are no grey values; "
            "the file is damaged or wrongly scaled: export the scan again"
        )
    return volume


def _with_geometry(case: Case, role: Role, volumes: dict[Role, Volume]) -> Volume:
    giver = case.images[role].copy_geometry_from
    if giver is None:
        return volumes[role]
    if giver not in volumes:
        raise InputError(
            f"{case.name}: {role}: copy_geometry_from names {giver}, which this case lacks "
            f"(there: {', '.join(volumes)}); name one of them"
        )
    if volumes[giver].shape != volumes[role].shape:
        raise GeometryError(
            f"{case.name}: {role}: shape {volumes[role].shape} differs from {giver} {volumes[giver].shape}, "
            "so its geometry cannot be copied; remove copy_geometry_from and register them first"
        )
    # The giver's header goes along: it holds the qform and sform that results are written with.
    return replace(volumes[role], affine=volumes[giver].affine, header=volumes[giver].header)


def orientation_warnings(role: Role, volume: Volume) -> tuple[str, ...]:
    """Say where a header leaves open, or says twice, how a scan lies in the head."""
    if volume.header is None:
        return ()
    name = Path(volume.name).name
    qform, sform = (getattr(volume.header, f"get_{kind}")(coded=True)[0] for kind in ("qform", "sform"))
    if qform is None and sform is None:
        return (f"{role}: {name} does not say how it lies in the head (qform and sform code 0); left may be right",)
    if qform is None or sform is None:
        return ()
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in volume.shape], [1])).reshape(4, -1)
    apart_mm = float(np.linalg.norm(((qform - sform) @ corners)[:3], axis=0).max())
    if apart_mm <= QFORM_TOLERANCE_MM:
        return ()
    return (f"{role}: qform and sform of {name} place a corner {apart_mm:.1f} mm apart; the sform is used",)


def repair(case: Case, role: Role, volume: Volume) -> tuple[Volume, tuple[str, ...]]:
    """Set NaN and infinite voxels to 0 and say how many, or refuse them if the card says so.

    Raises:
        InputError: there are some and `prep.nan` is `refuse`.
    """
    bad = ~np.isfinite(volume.data)
    count = int(np.count_nonzero(bad))
    if count == 0:
        return volume, ()
    if case.prep.nan == "refuse":
        raise InputError(
            f"{case.name}: {role}: {volume.name}: {count} voxels are NaN or infinite; "
            "set prep.nan: repair to make them 0, or export the scan again"
        )
    repaired = volume.with_data(np.where(bad, volume.data.dtype.type(0), volume.data))
    return repaired, (f"{role}: {count} NaN or infinite voxels of {Path(volume.name).name} set to 0",)


def check_label_grid(case: Case, image: Volume, label: Volume) -> None:
    """Refuse a label that is not stored like the sequence on which it was made: lesion tables count its voxels.

    Raises:
        GeometryError: names the case, what was found and the cure.
    """
    try:
        check_same_grid(label, image, "resample the label to its image first")
    except GeometryError as error:
        raise GeometryError(f"{case.name}: {error}") from None


def burned_in_warnings(case: Case, role: Role, volume: Volume) -> list[str]:
    """Of pictures: whether some show text, which may name the person.

    Args:
        case: tells what is made of pictures.
        role: of the sequence.
        volume: as stored: columns, rows, slices.
    """
    if case.images[role].kind != "pictures":
        return []
    from cmb_autoseg.quality_control.burned_in_text import burned_in_text

    brightest = float(np.nanmax(volume.data, initial=1.0))
    grey = (np.nan_to_num(volume.data) * min(1.0, 255.0 / brightest)).clip(0, 255).astype(np.uint8)
    shown = [k for k in range(grey.shape[2]) if burned_in_text(grey[:, :, k].T)]
    if not shown:
        return []
    return [
        f"{role}: {len(shown)} of {grey.shape[2]} pictures seem to hold burned-in text (first slice {shown[0]}); look"
    ]
