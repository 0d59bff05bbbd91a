"""Measure a raw dataset: grids, brains, grey values and lesions, case by case."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cmb_autoseg.geometry import Volume, read_volume
from cmb_autoseg.lesions import find_components
from cmb_autoseg.parallel import in_threads
from cmb_autoseg.raw_dataset import RawCase, RawDataset
from cmb_autoseg.records import CaseFingerprint, Fingerprint, IntensityRange, LesionSize, Role, Triple

__all__ = ["fingerprint"]


def fingerprint(
    raw: RawDataset,
    on_case: Callable[[Iterable[CaseFingerprint]], Iterable[CaseFingerprint]] = lambda cases: cases,
    workers: int = 1,
    read: Callable[..., Volume] = read_volume,
) -> Fingerprint:
    """Measure every training case, labelled or not; declared test cases are never looked at.

    Args:
        raw: the dataset.
        on_case: wraps what is measured case by case, to show progress.
        workers: threads; each holds a case.
        read: gives the volume of a file; as `read_volume`.
    """
    measured = in_threads(lambda case: _measure(case, raw.roles, read), raw.training_cases(), workers)
    cases = tuple(on_case(measured))
    return Fingerprint(dataset=raw.folders.name, roles=raw.roles, cases=cases, prep=raw.prep, parents=(raw.digest,))


def _measure(case: RawCase, roles: tuple[Role, ...], read: Callable[..., Volume]) -> CaseFingerprint:
    images = {role: read(case.image(roles.index(role))) for role in case.sequences if role in roles}
    reference = next(iter(images.values()))
    brain = np.logical_or.reduce([volume.data != 0 for volume in images.values()])
    label = read(case.label, dtype=np.uint8) if case.labelled else None
    inside = [np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis))) for axis in (2, 1, 0)]
    return CaseFingerprint(
        case=case.name,
        cohort=case.cohort,
        subject=case.subject,
        labelled=case.labelled,
        sequences=tuple(images),
        shape=_zyx(reference.shape),
        # The shortest text of a 32-bit number, which is what NIfTI stores: no digit is lost.
        spacing_mm=_zyx(tuple(float(str(np.float32(size))) for size in reference.spacing_mm)),
        box_start=_triple([int(i[0]) for i in inside]),
        box_stop=_triple([int(i[-1]) + 1 for i in inside]),
        brain_volume_ml=round(float(brain.sum()) * reference.voxel_volume_mm3 / 1000, 3),
        field_strength_t=case.field_strength_t,
        intensity={role: _intensity(volume.data, brain, label) for role, volume in images.items()},
        lesions=_lesion_sizes(label) if label is not None else (),
    )


def _intensity(data: NDArray[np.float32], brain: NDArray[np.bool_], label: Volume | None) -> IntensityRange:
    values = data[brain]
    p01, p99 = np.percentile(values, (1, 99))
    in_lesions = data[label.data > 0] if label is not None else np.empty(0)
    return IntensityRange(
        mean=float(values.mean()),
        std=float(values.std()),
        p01=float(p01),
        p99=float(p99),
        lesion_mean=float(in_lesions.mean()) if in_lesions.size else None,
    )


def _lesion_sizes(label: Volume) -> tuple[LesionSize, ...]:
    found = find_components(label.data > 0)
    if not len(found):
        return ()
    volumes_mm3 = found.sizes * label.voxel_volume_mm3
    # The last of equal axes, which is the one from feet to head.
    through_plane = 2 - int(np.argmax(np.round(label.spacing_mm[::-1], 3)))
    boxes = ndimage.find_objects(found.labels)
    return tuple(
        LesionSize(
            lesion=number,
            x_mm=round(float(centre_mm[0]), 3),
            y_mm=round(float(centre_mm[1]), 3),
            z_mm=round(float(centre_mm[2]), 3),
            voxels=int(count),
            slices=box[through_plane].stop - box[through_plane].start,
            volume_mm3=round(float(volume), 4),
            diameter_mm=round(float((6 * volume / np.pi) ** (1 / 3)), 4),
        )
        for number, (centre_mm, box, count, volume) in enumerate(
            zip(label.to_ras_mm(found.centres), boxes, found.sizes, volumes_mm3, strict=True), 1
        )
    )


def _zyx(values: tuple[int, ...] | tuple[float, ...]) -> Triple:  # type: ignore[type-arg]
    i, j, k = values
    return k, j, i


def _triple(values: list[int]) -> Triple[int]:
    z, y, x = values
    return z, y, x
