"""Faults that are planted in made-up or simulated scans, and the short preparation that they meet.

A fault takes a random generator, the scan, and others of its cohort, with somebody of none at the end; it
gives back the scan spoilt. Scans are
as files hold them: own axes and affines. The brain's mask lives on the reference sequence's grid, and loses
what the fault takes away.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from cmb_autoseg.errors import InputError
from cmb_autoseg.geometry import Volume, to_canonical
from cmb_autoseg.quality_control.findings import CohortCase
from cmb_autoseg.quality_control.measures import measure_quality
from cmb_autoseg.quality_control.verdicts import judge
from cmb_autoseg.records import Role

SWI, T1, QSM = Role.SWI, Role.T1, Role.QSM


def measured(scan) -> CohortCase:
    """Canonical axes, NaN to 0, other grids brought to the reference's by their headers, and the measures.

    Raises:
        InputError: a sequence without contrast, as `prepare_case` refuses it.
    """
    for role, volume in scan.volumes.items():
        finite = volume.data[np.isfinite(volume.data)]
        if not finite.size or np.ptp(finite) == 0:
            raise InputError(f"{scan.name}: {role}: nothing in it")
    upright = {role: to_canonical(volume) for role, volume in scan.volumes.items()}
    finite = {role: v.with_data(np.nan_to_num(v.data, nan=0.0)) for role, v in upright.items()}
    reference = finite[SWI]
    on_grid = {role: _on_grid(volume, reference) for role, volume in finite.items()}
    label = None if scan.label is None else to_canonical(scan.label)
    quality = measure_quality(on_grid, to_canonical(scan.brain), label, stored=scan.volumes)
    return CohortCase(case=scan.name, cohort=scan.cohort, subject=scan.subject, quality=quality)


def _on_grid(volume, reference):
    if volume.shape == reference.shape and np.allclose(volume.affine, reference.affine, atol=1e-3):
        return volume
    matrix = np.linalg.inv(volume.affine) @ reference.affine
    data = ndimage.affine_transform(volume.data, matrix[:3, :3], matrix[:3, 3], reference.shape, order=1)
    return Volume(data.astype(np.float32), reference.affine)


@dataclass(frozen=True)
class Trial:
    """One planted fault, and what became of it."""

    fault: "Fault"
    case: str
    outcome: str
    """`pass`, `review`, `fail`, or `refused` by preparation."""
    reasons: str

    @property
    def found(self) -> bool:
        return self.outcome != "pass"


def plant_all(scans, stranger, clean, seed, batch=6, chosen=None, settings=None):
    """Plant every fault, `batch` at a time, each in a case of its own of a cohort whose others stay clean.

    Args:
        scans: the cohort.
        stranger: a scan of the same protocol that is not of it.
        clean: their measures.
        seed: of the faults' own chance and of the cases that they meet.

    Returns:
        The trials, and false alarms: cases that were neither spoilt nor copied and did not pass, with reasons.
    """
    rng = np.random.default_rng(seed)
    faults = list(FAULTS) if chosen is None else [f for f in FAULTS if chosen in f.name or chosen in f.kind]
    trials, alarms = [], []
    for start in range(0, len(faults), batch):
        part = faults[start : start + batch]
        cases = {case.case: case for case in clean}
        free = [scans[n] for n in rng.permutation(len(scans))]
        victims = {}
        for planted in sorted(part, key=lambda f: not f.lesions):
            fitting = [s for s in free if not planted.lesions or _lesion_count(s) >= 2]
            victim = fitting[0]
            free.remove(victim)
            victims[victim.name] = planted
        for name, planted in victims.items():
            scan = next(s for s in scans if s.name == name)
            turn = int(rng.integers(len(free)))
            others = [*free[turn:], *free[:turn], stranger]
            try:
                cases[name] = measured(planted.plant(rng, scan, others))
            except InputError as error:
                del cases[name]
                trials.append(Trial(planted, name, "refused", str(error)))
        for verdict in judge(list(cases.values()), settings):
            if verdict.case in victims:
                trials.append(Trial(victims[verdict.case], verdict.case, verdict.verdict, verdict.reasons))
            elif any(f.level != "note" and f.rule != "copy" for f in verdict.findings):
                alarms.append((verdict.case, verdict.reasons))
    order = {f.name: n for n, f in enumerate(FAULTS)}
    return sorted(trials, key=lambda t: order[t.fault.name]), alarms


def _lesion_count(scan):
    return ndimage.label(scan.label.data, np.ones((3, 3, 3)))[1]


@dataclass(frozen=True)
class Fault:
    kind: str
    name: str
    plant: Callable
    lesions: bool = False
    """It shows only in a scan with lesions."""


FAULTS: list[Fault] = []


def fault(kind, name, lesions=False, **settings):
    def register(function):
        FAULTS.append(Fault(kind, name, lambda *args: function(*args, **settings), lesions))
        return function

    return register


def _with_label(scan, data):
    return replace(scan, label=Volume(np.ascontiguousarray(data).astype(np.uint8), scan.label.affine))


def _with_brain(scan, data):
    return replace(scan, brain=Volume(np.ascontiguousarray(data).astype(np.uint8), scan.brain.affine))


def _map(scan, function, roles=None):
    """The same change of data to several sequences."""
    for role in roles or scan.volumes:
        scan = scan.with_volume(role, np.asarray(function(scan.volumes[role].data), dtype=np.float32))
    return scan


def _regrid(scan, change):
    """The same change of data and affine to all sequences, the label and the brain."""
    volumes = {role: change(volume) for role, volume in scan.volumes.items()}
    label = None if scan.label is None else change(scan.label)
    return replace(scan, volumes=volumes, label=label, brain=change(scan.brain))


def _other_person(scan, others: Sequence):
    """Somebody else's scan on the same grids."""
    fitting = [o for o in others if all(o.volumes[r].shape == v.shape for r, v in scan.volumes.items())]
    return next(o for o in fitting if o.subject != scan.subject)


# Labels


@fault("flipped label", "label mirrored left-right", lesions=True, axis=0)
@fault("flipped label", "label mirrored front-back", lesions=True, axis=1)
@fault("flipped label", "label mirrored top-bottom", lesions=True, axis=2)
def flip_label(rng, scan, others, axis):
    return _with_label(scan, np.flip(scan.label.data, axis))


@fault("shifted label", "label moved 5 voxels in plane", lesions=True, step=5, axis=1)
@fault("shifted label", "label moved 3 slices", lesions=True, step=3, axis=2)
def shift_label(rng, scan, others, step, axis):
    return _with_label(scan, np.roll(scan.label.data, step, axis))


@fault("foreign label", "label of another person", lesions=True)
def foreign_label(rng, scan, others):
    fitting = [o for o in others if o.label.data.shape == scan.label.data.shape and o.label.data.sum() > 10]
    return _with_label(scan, next(o for o in fitting if o.subject != scan.subject).label.data)


@fault("label outside brain", "a lesion in the air")
def label_in_air(rng, scan, others):
    data = scan.label.data.copy()
    data[1:4, 1:4, 1:3] = 1
    return _with_label(scan, data)


@fault("huge lesion", "a lesion of 20 mm")
def huge_lesion(rng, scan, others):
    center = np.argwhere(scan.brain.data)[len(np.argwhere(scan.brain.data)) // 2]
    grid = np.indices(scan.brain.shape).T - center
    ball = np.linalg.norm(grid * np.array(scan.brain.spacing_mm), axis=-1).T <= 10
    return _with_label(scan, scan.label.data | ball)


@fault("huge lesion", "the brain mask given as label")
def brain_as_label(rng, scan, others):
    return _with_label(scan, scan.brain.data)


@fault("label of noise", "random places marked")
def random_label(rng, scan, others):
    data = np.zeros(scan.brain.shape, bool)
    inside = np.argwhere(ndimage.binary_erosion(scan.brain.data > 0, iterations=3))
    for center in inside[rng.integers(len(inside), size=6)]:
        data[tuple(slice(n, n + 2) for n in center)] = True
    return _with_label(scan, data)


# Which file is which


@fault("swapped sequences", "SWI and T1 swapped", one=SWI, two=T1)
@fault("swapped sequences", "SWI and QSM swapped", one=SWI, two=QSM)
@fault("swapped sequences", "T1 and QSM swapped", one=T1, two=QSM)
def swap(rng, scan, others, one, two):
    volumes = dict(scan.volumes)
    volumes[one], volumes[two] = volumes[two], volumes[one]
    return replace(scan, volumes=volumes)


@fault("sequence twice", "the SWI given as T1 too")
def same_twice(rng, scan, others):
    return replace(scan, volumes={**scan.volumes, T1: scan.volumes[SWI]})


@fault("another person's sequence", "T1 of another person", role=T1)
@fault("another person's sequence", "QSM of another person", role=QSM)
def foreign_sequence(rng, scan, others, role):
    return replace(scan, volumes={**scan.volumes, role: _other_person(scan, others).volumes[role]})


@fault("another person's sequence", "T1 of a person who is not in the cohort")
def stranger(rng, scan, others):
    return replace(scan, volumes={**scan.volumes, T1: others[-1].volumes[T1]})


def _copy_of(scan, others):
    other = _other_person(scan, others)
    return replace(other, name=scan.name, subject=scan.subject)


@fault("duplicate", "the same scan under two names")
def duplicate(rng, scan, others):
    return _copy_of(scan, others)


@fault("duplicate", "stored again with other axes")
def duplicate_axes(rng, scan, others):
    def turn(volume):
        affine = volume.affine @ np.diag([1, -1, 1, 1.0])
        affine[:3, 3] = volume.affine[:3, 3] + volume.affine[:3, 1] * (volume.shape[1] - 1)
        return Volume(np.ascontiguousarray(volume.data[:, ::-1]), affine)

    return _regrid(_copy_of(scan, others), turn)


@fault("duplicate", "rescaled copy")
def duplicate_scaled(rng, scan, others):
    return _map(_copy_of(scan, others), lambda data: data * 3.7)


@fault("near-duplicate", "copy mirrored left-right")
def duplicate_mirrored(rng, scan, others):
    return _regrid(_copy_of(scan, others), lambda v: Volume(np.ascontiguousarray(v.data[::-1]), v.affine))


@fault("near-duplicate", "copy in 8 bits")
def duplicate_8_bits(rng, scan, others):
    return _map(
        _copy_of(scan, others), lambda data: np.rint(np.clip(data / np.percentile(data, 99.9), 0, 1) * 255), [SWI, T1]
    )


@fault("near-duplicate", "copy with noise added")
def duplicate_noise(rng, scan, others):
    return _map(_copy_of(scan, others), lambda data: data + rng.normal(0, 0.03 * np.ptp(data), data.shape))


@fault("near-duplicate", "copy with the margin cut off")
def duplicate_cropped(rng, scan, others):
    def crop(volume):
        affine = volume.affine.copy()
        affine[:3, 3] = volume.affine[:3, :3] @ [2, 3, 0] + volume.affine[:3, 3]
        return Volume(np.ascontiguousarray(volume.data[2:-2, 3:-2]), affine)

    return _regrid(_copy_of(scan, others), crop)


# Acquisition


def _spectrum(data, change):
    transformed = np.fft.fftn(data)
    return np.abs(np.fft.ifftn(change(transformed)))


@fault("motion", "SWI: head moves along j", role=SWI, axis=1)
@fault("motion", "SWI: head moves along i", role=SWI, axis=0)
@fault("motion", "T1: head moves along j", role=T1, axis=1)
def motion(rng, scan, others, role, axis):
    data = scan.volumes[role].data
    lines = data.shape[axis]
    steps = np.repeat(rng.normal(0, 1.6, lines // 6 + 1), 6)[:lines]
    shape = [lines if a == axis else 1 for a in range(3)]
    phase = np.exp(2j * np.pi * np.fft.fftfreq(lines) * np.fft.ifftshift(steps)).reshape(shape)
    return scan.with_volume(role, _spectrum(data, lambda k: k * phase).astype(np.float32))


@fault("ghost", "SWI: half-field ghost along j", role=SWI, axis=1)
@fault("ghost", "T1: half-field ghost along i", role=T1, axis=0)
def ghost(rng, scan, others, role, axis, share=0.2):
    data = scan.volumes[role].data
    return scan.with_volume(role, (data + share * np.roll(data, data.shape[axis] // 2, axis)).astype(np.float32))


@fault("noise", "SWI: six times the noise", role=SWI, times=0.22)
@fault("noise", "T1: six times the noise", role=T1, times=0.25)
@fault("noise", "QSM: six times the noise", role=QSM, times=0.6)
def noise(rng, scan, others, role, times):
    data = scan.volumes[role].data
    sigma = times * (np.percentile(np.abs(data), 99.5) if role is QSM else np.median(data[scan.brain.data > 0]))
    noisy = data + rng.normal(0, sigma, data.shape)
    return scan.with_volume(role, (noisy if role is QSM else np.abs(noisy)).astype(np.float32))


@fault("blur", "SWI smoothed", role=SWI)
@fault("blur", "T1 smoothed", role=T1)
def blur(rng, scan, others, role):
    return _map(scan, lambda data: ndimage.gaussian_filter(data, [1.2, 1.2, 0]), [role])


@fault("spikes", "SWI: a spike in k-space")
def spike(rng, scan, others):
    def change(k):
        k[7, 11, 1] += 0.1 * np.abs(k[0, 0, 0])
        return k

    return _map(scan, lambda data: _spectrum(data, change), [SWI])


@fault("dropout", "SWI: one slice at a third of its signal")
def dropout(rng, scan, others):
    def change(data):
        data = data.copy()
        data[:, :, data.shape[2] // 2] *= 0.33
        return data

    return _map(scan, change, [SWI])


@fault("uneven slices", "SWI: every other slice dim")
def uneven(rng, scan, others):
    def change(data):
        data = data.copy()
        data[:, :, ::2] *= 0.5
        return data

    return _map(scan, change, [SWI])


@fault("moved slices", "SWI: head moved for three slices")
def moved_slices(rng, scan, others):
    def change(data):
        data = data.copy()
        middle = data.shape[2] // 2
        steps = round(16 / scan.volumes[SWI].spacing_mm[0])
        data[:, :, middle : middle + 3] = np.roll(data[:, :, middle : middle + 3], steps, 0)
        return data

    return _map(scan, change, [SWI])


# Coverage


def _kept_slices(scan, axis, keep):
    def cut(volume):
        part = tuple(keep if a == axis else slice(None) for a in range(3))
        affine = volume.affine.copy()
        affine[:3, 3] += volume.affine[:3, axis] * keep.start
        return Volume(np.ascontiguousarray(volume.data[part]), affine)

    return _regrid(scan, cut)


@fault("half coverage", "upper half not scanned", part=(0.0, 0.55))
@fault("half coverage", "lower half not scanned", part=(0.5, 1.0))
def half(rng, scan, others, part):
    there = np.flatnonzero(scan.brain.data.any(axis=(0, 1)))
    low, high = int(there[0]), int(there[-1]) + 1
    start = 0 if part[0] == 0 else low + round(part[0] * (high - low))
    stop = scan.brain.shape[2] if part[1] == 1 else low + round(part[1] * (high - low))
    return _kept_slices(scan, 2, slice(start, stop))


@fault("half coverage", "upper half blank")
def blank_half(rng, scan, others):
    keep = np.zeros(scan.brain.shape, bool)
    there = np.flatnonzero(scan.brain.data.any(axis=(0, 1)))
    keep[:, :, : (there[0] + there[-1]) // 2] = True
    return _with_brain(_map(scan, lambda data: np.where(keep, data, 0)), scan.brain.data & keep)


@fault("half coverage", "one side of the head not in the field of view")
def one_side(rng, scan, others):
    there = np.flatnonzero(scan.brain.data.any(axis=(1, 2)))
    return _kept_slices(scan, 0, slice(int(there[0] + 0.4 * len(there)), scan.brain.shape[0]))


# Grey values


@fault("wrong polarity", "SWI inverted", role=SWI)
def invert(rng, scan, others, role):
    return _map(scan, lambda data: np.percentile(data, 99.9) - data, [role])


@fault("wrong polarity", "QSM of the other sign")
def negate(rng, scan, others):
    return _map(scan, lambda data: -data, [QSM])


@fault("inverted contrast", "T1 inverted within the head")
def invert_head(rng, scan, others):
    return _map(
        scan, lambda data: np.where(data > 0.12 * data.max(), 1.1 * np.percentile(data, 99.5) - data, data), [T1]
    )


@fault("not a number", "T1 with a block of NaN")
def nan_block(rng, scan, others):
    data = scan.volumes[T1].data.copy()
    data[20:30, 20:30, 10:14] = np.nan
    return scan.with_volume(T1, data)


@fault("not a number", "T1 all NaN")
def nan_all(rng, scan, others):
    return scan.with_volume(T1, np.full(scan.volumes[T1].shape, np.nan, np.float32))


@fault("clipped", "SWI: brightest tenth cut off", share=90)
@fault("clipped", "SWI: brightest half cut off", share=50)
def clip(rng, scan, others, share):
    inside = scan.brain.data > 0
    return _map(scan, lambda data: np.minimum(data, np.percentile(data[inside], share)), [SWI])


@fault("truncated", "T1: darkest 40 % set to 0")
def truncate(rng, scan, others):
    inside = scan.brain.data > 0
    return _map(scan, lambda data: np.maximum(data - np.percentile(data[inside], 40), 0), [T1])


@fault("few grey values", "SWI in 16 grey values")
def coarse_values(rng, scan, others):
    return _map(scan, lambda data: np.rint(np.clip(data / np.percentile(data, 99.5), 0, 1) * 15), [SWI])


@fault("overflow", "SWI stored modulo half its range")
def overflow(rng, scan, others):
    return _map(scan, lambda data: np.mod(data, 0.9 * np.median(data[scan.brain.data > 0])), [SWI])


# Slices and geometry


@fault("missing slices", "three slices blank")
def blank_slices(rng, scan, others):
    def change(data):
        data = data.copy()
        middle = data.shape[2] // 2
        data[:, :, middle : middle + 3] = 0
        return data

    return _map(scan, change, [SWI])


@fault("missing slices", "every third slice lost")
def lost_slices(rng, scan, others):
    keep = [n for n in range(scan.brain.shape[2]) if n % 3]
    return _regrid(scan, lambda v: Volume(np.ascontiguousarray(v.data[:, :, keep]), v.affine))


@fault("constant slice", "a slice of one grey value")
def constant_slice(rng, scan, others):
    def change(data):
        data = data.copy()
        data[:, :, data.shape[2] // 2] = np.median(data)
        return data

    return _map(scan, change, [T1])


@fault("repeated slices", "a slice stored twice")
def repeated(rng, scan, others):
    def change(data):
        data = data.copy()
        data[:, :, data.shape[2] // 2] = data[:, :, data.shape[2] // 2 + 1]
        return data

    return _map(scan, change, [SWI])


def _scaled(scan, factors):
    def change(volume):
        affine = volume.affine.copy()
        affine[:3, :3] = affine[:3, :3] * factors
        return Volume(volume.data, affine)

    return _regrid(scan, change)


@fault("wrong spacing", "voxels half as large in plane", factors=(0.5, 0.5, 1))
@fault("wrong spacing", "slices half as thick", factors=(1, 1, 0.5))
@fault("wrong spacing", "1 mm written for every voxel", factors=None)
def wrong_spacing(rng, scan, others, factors):
    return _scaled(scan, np.array(factors or [1 / mm for mm in scan.brain.spacing_mm]))


@fault("orientation", "header says another plane")
def other_plane(rng, scan, others):
    def change(volume):
        affine = volume.affine.copy()
        affine[:3, [1, 2]] = affine[:3, [2, 1]]
        return Volume(volume.data, affine)

    return _regrid(scan, change)


@fault("orientation", "upside down without the header saying so")
def upside_down(rng, scan, others):
    return _regrid(scan, lambda v: Volume(np.ascontiguousarray(v.data[:, :, ::-1]), v.affine))


@fault("orientation", "front and back swapped without the header saying so")
def back_to_front(rng, scan, others):
    return _regrid(scan, lambda v: Volume(np.ascontiguousarray(v.data[:, ::-1]), v.affine))


@fault("no overlap", "T1 60 mm off", offset=60)
@fault("no overlap", "T1 15 mm off", offset=15)
def off(rng, scan, others, offset):
    affine = scan.volumes[T1].affine.copy()
    affine[1, 3] += offset
    return scan.with_volume(T1, affine=affine)


@fault("no head", "a phantom bottle")
def bottle(rng, scan, others):
    grid = (np.indices(scan.brain.shape).T - np.array(scan.brain.shape) / 2).T
    radius = np.linalg.norm(grid * np.array(scan.brain.spacing_mm).reshape(3, 1, 1, 1), axis=0)
    inside = radius < 70
    data = inside * 800 + np.abs(rng.normal(0, 30, inside.shape))
    volumes = {
        role: Volume((data + rng.normal(0, 20, data.shape)).astype(np.float32), v.affine)
        for role, v in scan.volumes.items()
    }
    return _with_brain(replace(scan, volumes=volumes), inside)
