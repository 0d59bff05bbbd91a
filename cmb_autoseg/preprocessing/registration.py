"""Two sequences of one person brought together: ANTs with mutual information, and whether it worked.

Both are resampled to one voxel size first, since the metric gains nothing from finer voxels and its
cost grows with their number. The scanner coordinates are the start; where they end badly, the
centres of the two heads are tried as well. `benchmarks/registration.py` measures settings and bounds.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.errors import GeometryError
from cmb_autoseg.geometry import Volume
from cmb_autoseg.preprocessing.ants_alignment import Picture, Stage, align
from cmb_autoseg.preprocessing.brain_mask import classical_mask, dilate_mm, looks_stripped, support_mask
from cmb_autoseg.preprocessing.resampling import resample_image
from cmb_autoseg.records import RegistrationBounds, Role

__all__ = ["SCHEDULE", "Registration", "Schedule", "check_registration", "register", "working_copy"]

BoolArray = NDArray[np.bool_]
Matrix = NDArray[np.float64]

CLIPPED_PERCENT = (0.5, 99.5)
"""Of the grey values: fat and vessels at the ends would leave few bins of the histogram to the brain."""
BINS = 32
HEAD_MM = 4.0
"""Voxels on which the two heads are found and compared."""
GOOD_OVERLAP, GOOD_DETAIL = 0.8, 0.5
"""Below either, the other start is tried as well."""
DISPLACED_MM = 6.0
MIN_COMMON = 0.05
"""With less of the head in both fields of view there is no overlap to speak of."""


@dataclass(frozen=True)
class Schedule:
    """How a registration proceeds."""

    working_mm: float
    """Voxels of the copies on which it works."""
    margin_mm: float
    """The metric looks at the brain and so far around it."""
    rigid: Stage
    affine: Stage


SCHEDULE = Schedule(
    working_mm=2.0,
    margin_mm=0.0,
    rigid=Stage("Rigid", (40, 15, 8), (4, 2, 1), (4.0, 2.0, 1.0)),
    affine=Stage("Affine", (30, 20), (2, 1), (1.0, 0.5)),
)
"""The trade-off that was chosen; see `benchmarks/README.md`."""


@dataclass(frozen=True)
class Registration:
    """Where the fixed image's points lie in the moving one, and how good that is."""

    matrix: Matrix
    """(4, 4), RAS millimetres of the fixed image to RAS millimetres of the moving one."""
    overlap: float
    """Dice of the two foregrounds (head or brain) inside the common field of view; where only one of
    the scans is skull-stripped, the share of its brain that lies in the other's head."""
    information_before: float
    """Mutual information inside the fixed brain by the scanner coordinates alone, nats."""
    information_after: float
    """The same when registered."""
    information_displaced: float
    """The same when registered and then displaced by 6 mm, mean over the six directions. Scans of one
    person lose much of their information by this; scans that only look alike lose little."""
    translation_mm: float
    """By how much the centre of the fixed brain moved."""
    rotation_deg: float
    scale: float
    """The largest factor by which a direction is stretched or shrunk; 1 for a rigid transform."""

    @property
    def detail(self) -> float:
        """Share of the information that 6 mm of displacement take away."""
        return 1 - self.information_displaced / self.information_after if self.information_after > 0 else 0.0

    @property
    def figures(self) -> dict[str, float]:
        """For the case's record, rounded."""
        names = ("overlap", "information_before", "information_after", "detail", "translation_mm", "rotation_deg")
        return {name: round(float(getattr(self, name)), 4) for name in (*names, "scale")}


def register(
    fixed: Volume,
    moving: Volume,
    fixed_mask: BoolArray | None = None,
    method: Literal["rigid", "affine"] = "affine",
    schedule: Schedule = SCHEDULE,
) -> Registration:
    """Find where the head of `fixed` lies in `moving`; the same input gives the same bytes.

    Args:
        fixed: the reference; canonical axes, finite.
        moving: another sequence of the same person; canonical axes, finite.
        fixed_mask: the brain in `fixed`; None for its foreground.
        method: `affine` also allows for scale and shear, as gradients that are not quite linear cause.
        schedule: levels, voxels and iterations.

    Raises:
        GeometryError: the two have nothing in common that could be registered.
    """
    still, other = working_copy(fixed, schedule.working_mm), working_copy(moving, schedule.working_mm)
    heads = _head(fixed), _head(moving)
    mask = _carried(heads[0].mask if fixed_mask is None else fixed.with_data(fixed_mask), still)
    region = dilate_mm(mask, schedule.margin_mm, still.spacing_mm) if schedule.margin_mm > 0 else mask
    stages = [schedule.rigid] if method == "rigid" else [schedule.rigid, schedule.affine]
    best = _from_start(still, other, heads, mask, region, stages, np.eye(4))
    if best is None or best.overlap < GOOD_OVERLAP or best.detail < GOOD_DETAIL:
        start = np.eye(4)
        start[:3, 3] = _centre(heads[1].mask) - _centre(heads[0].mask)
        again = _from_start(still, other, heads, mask, region, stages, start)
        if best is None or (again is not None and again.information_after > best.information_after):
            best = again
    if best is None:
        raise GeometryError(
            f"{moving.name}: cannot be registered to {fixed.name}: the two do not overlap; check that both show "
            "the same person's head, or leave the sequence out"
        )
    return best


def check_registration(
    registration: Registration, settings: RegistrationBounds, case: str, role: Role, reference: Role
) -> None:
    """Refuse a registration that cannot be right.

    Args:
        registration: of `role` to `reference`.
        settings: the bounds, `prep.registration` of the card.
        case: its name, for the message.
        role: the moving sequence.
        reference: the fixed one.

    Raises:
        GeometryError: a bound is broken; names the first one, what was found and the cure.
    """
    found = registration
    upper = (
        ("moved by {:.1f} mm", found.translation_mm, settings.max_translation_mm, "max_translation_mm"),
        ("turned by {:.1f} degrees", found.rotation_deg, settings.max_rotation_deg, "max_rotation_deg"),
        ("scaled by a factor of {:.3f}", found.scale, settings.max_scale, "max_scale"),
    )
    lower = (
        ("overlap {:.2f}", found.overlap, settings.min_overlap, "min_overlap"),
        ("mutual information {:.3f} nats", found.information_after, settings.min_information, "min_information"),
        ("agreement in detail {:.2f}", found.detail, settings.min_detail, "min_detail"),
    )
    broken = [(text, value, bound, key, "most") for text, value, bound, key in upper if not value <= bound]
    broken += [(text, value, bound, key, "least") for text, value, bound, key in lower if not value >= bound]
    for text, value, bound, key, side in broken:
        figures = (
            f"moved {found.translation_mm:.1f} mm and {found.rotation_deg:.1f} degrees, overlap {found.overlap:.2f}, "
            f"information {found.information_before:.2f} before, {found.information_after:.2f} after"
        )
        raise GeometryError(
            f"{case}: {role} does not register to {reference}: {text.format(value)}, at {side} {bound:g} "
            f"(prep.registration.{key}; {figures}); check that both scans are of one person and whole; widen the bound "
            "if the figures look right, set prep.coregister: header to trust the headers, or "
            "prep.registration.on_failure: leave_out to go without it"
        )


@dataclass(frozen=True)
class _Head:
    """Foreground of one scan."""

    mask: Volume
    """On cubes of `HEAD_MM`; bool."""
    stripped: bool


Heads = tuple[_Head, _Head]
"""Of the fixed and of the moving scan."""


def _head(volume: Volume) -> _Head:
    """The head, or the brain of a stripped scan."""
    copy = working_copy(volume, HEAD_MM)
    stripped = looks_stripped(copy)
    return _Head(copy.with_data(support_mask(copy) if stripped else classical_mask(copy)), stripped)


def _from_start(
    still: Volume,
    other: Volume,
    heads: Heads,
    mask: BoolArray,
    region: BoolArray,
    stages: list[Stage],
    start: Matrix,
) -> Registration | None:
    """Register from a first guess of the matrix; None where ANTs finds nothing in common."""
    nearer = np.linalg.inv(start) @ other.affine
    try:
        found = align(Picture(still.data, still.affine), Picture(other.data, nearer), region, stages)
    except RuntimeError:
        return None
    return _measure(still, other, heads, mask, start @ found)


def _measure(still: Volume, other: Volume, heads: Heads, mask: BoolArray, matrix: Matrix) -> Registration:
    centre = _centre(still.with_data(mask))
    turn, stretch = _polar(matrix)
    displaced = [_information(still, other, mask, _moved(matrix, step)) for step in DISPLACED_MM * SIX]
    return Registration(
        matrix=matrix,
        overlap=_overlap(heads, matrix),
        information_before=_information(still, other, mask, np.eye(4)),
        information_after=_information(still, other, mask, matrix),
        information_displaced=float(np.mean(displaced)),
        translation_mm=float(np.linalg.norm(matrix[:3, :3] @ centre + matrix[:3, 3] - centre)),
        rotation_deg=float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))),
        scale=float(np.maximum(stretch, 1 / stretch).max()),
    )


SIX = np.concatenate([np.eye(3), -np.eye(3)])
"""Unit steps in each direction."""


def _moved(matrix: Matrix, step_mm: NDArray[np.float64]) -> Matrix:
    displaced = matrix.copy()
    displaced[:3, 3] += step_mm
    return displaced


def _polar(matrix: Matrix) -> tuple[Matrix, NDArray[np.float64]]:
    """The rotation nearest to a matrix, and by how much its directions are stretched."""
    left, stretch, right = np.linalg.svd(matrix[:3, :3])
    return np.asarray(left @ right), np.asarray(stretch)


def working_copy(volume: Volume, working_mm: float) -> Volume:
    """The volume on cubes of `working_mm` along its own axes, without its extreme values."""
    extent_mm = np.multiply(volume.shape, volume.spacing_mm)
    shape = np.maximum(np.ceil(extent_mm / working_mm - 1e-3), 1).astype(int)
    affine = np.eye(4)
    # ITK knows no shear: the nearest axes at right angles will do for a grid to work on.
    affine[:3, :3] = working_mm * _polar(volume.affine / np.array([*volume.spacing_mm, 1.0]))[0]
    affine[:3, 3] = volume.to_ras_mm((np.array([volume.shape]) - 1) / 2)[0] - affine[:3, :3] @ ((shape - 1) / 2)
    grid = Volume(np.broadcast_to(np.float32(0), tuple(shape)), affine, name=volume.name)
    copy = resample_image(volume, grid)
    known = copy.data[copy.data != 0]
    low, high = np.percentile(known, CLIPPED_PERCENT) if known.size else (0.0, 0.0)
    return copy.with_data(np.where(copy.data != 0, np.clip(copy.data, low, high), 0).astype(np.float32))


def _carried(mask: Volume, still: Volume) -> BoolArray:
    return np.asarray(resample_image(mask, still).data >= 0.5)


def _centre(mask: Volume) -> NDArray[np.float64]:
    """Centre of mass of a mask, RAS millimetres; the volume's middle for an empty mask."""
    where = np.argwhere(mask.data)
    middle = where.mean(axis=0) if len(where) else (np.array(mask.shape) - 1) / 2
    return np.asarray(mask.to_ras_mm(middle[None])[0])


def _overlap(heads: Heads, matrix: Matrix) -> float:
    """See `Registration.overlap`; 0 where hardly anything of the head is in the common field of view."""
    still, other = (head.mask for head in heads)
    seen = resample_image(other.with_data(np.ones(other.shape, np.float32)), still, matrix).data > 0
    one, two = still.data & seen, resample_image(other, still, matrix).data >= 0.5
    if one.sum() < MIN_COMMON * still.data.sum() or not two.any():
        return 0.0
    both = float(np.count_nonzero(one & two))
    if heads[0].stripped != heads[1].stripped:
        return both / float(np.count_nonzero(one if heads[0].stripped else two))
    return 2 * both / float(np.count_nonzero(one) + np.count_nonzero(two))


def _information(still: Volume, other: Volume, mask: BoolArray, matrix: Matrix) -> float:
    """Mutual information of the two inside the mask, where `other` reaches; nats, from 32 x 32 bins."""
    box = tuple(slice(int(where.min()), int(where.max()) + 1) for where in np.nonzero(mask)) if mask.any() else ()
    if not box:
        return 0.0
    affine = still.affine.copy()
    affine[:3, 3] = still.to_ras_mm(np.array([[side.start for side in box]]))[0]
    part = Volume(still.data[box], affine)
    warped = resample_image(other, part, matrix).data
    inside = mask[box] & (warped != 0)
    one, two = part.data[inside], warped[inside]
    if one.size < BINS * BINS or np.ptp(one) == 0 or np.ptp(two) == 0:
        return 0.0
    joint = np.histogram2d(one, two, BINS)[0] / one.size
    product = joint.sum(axis=1)[:, None] * joint.sum(axis=0)[None, :]
    filled = joint > 0
    return float((joint[filled] * np.log(joint[filled] / product[filled])).sum())
