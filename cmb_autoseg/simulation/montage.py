"""A picture of a simulated scan: slices of every sequence with lesions and mimics marked."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmb_autoseg.simulation.contents.sources import Inclusion, Kind
from cmb_autoseg.simulation.contents.visibility import Mark
from cmb_autoseg.simulation.scan import SimulatedScan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_montage", "shown_slices", "write_montage"]

WIDTH_PX = 1600
DPI = 100
ROOM_MM = 2.5
"""Between what is marked and its mark."""
NAMES = {
    "mag": "magnitude",
    "phase": "phase",
    "swi": "SWI",
    "minip": "minIP",
    "qsm": "QSM",
    "t1w": "T1w",
}
BRIGHTEST = 1.7
"""White at most, as a multiple of the brain's median."""
QSM_WINDOW_PPM = (-0.15, 0.25)
# Okabe and Ito's colors, which people with any color vision tell apart; shapes differ as well.
LESION_COLOR = "#56B4E9"
MIMICS = {
    Kind.CALCIFICATION: ("s", "#E69F00"),
    Kind.CAVERNOMA: ("D", "#CC79A7"),
    Kind.HAEMORRHAGE: ("^", "#009E73"),
    Kind.SIDEROSIS: ("v", "#F0E442"),
}


def write_montage(path: Path, scan: SimulatedScan, columns: int = 6, names: tuple[str, ...] = tuple(NAMES)) -> None:
    """Write a PNG, 1600 pixels wide: a row a sequence, a column a slice; parents are made.

    The same scan gives the same bytes. Arguments as for `draw_montage`.
    """
    figure = draw_montage(scan, columns, names, title=path.stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, format="png", metadata={"Software": None})


def draw_montage(
    scan: SimulatedScan, columns: int = 6, names: tuple[str, ...] = tuple(NAMES), title: str = ""
) -> "Figure":
    """Draw what `write_montage` writes.

    Slices are shown as radiologists see them, the patient's right on the left; axes are millimetres
    of the volume. Magnitude and phase are those of the last echo. A solid ring is a microbleed that
    a reader can see, a dotted ring one that is too faint; each kind of mimic has its shape. Veins
    and arteries are not marked. The marks' `gid` names what they mark.

    Args:
        scan: a simulated scan with any of the images.
        columns: how many slices at most.
        names: which images, from top to bottom; those that the scan lacks are left out.
        title: put before the protocol.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [name for name in names if name in scan.images]
    slices = shown_slices(scan, columns)
    box = _box(scan)
    cell_in = WIDTH_PX / DPI / len(slices)
    row_in = min(cell_in * (box[3] - box[2]) / (box[1] - box[0]), 4.0)
    head_in, foot_in = 0.62, 0.34
    height_in = head_in + foot_in + row_in * len(rows)
    figure = Figure(figsize=(WIDTH_PX / DPI, height_in), facecolor="black")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(rows),
        len(slices),
        left=0.0,
        right=1.0,
        bottom=foot_in / height_in,
        top=1 - head_in / height_in,
        wspace=0.01,
        hspace=0.01,
    )
    for row, name in enumerate(rows):
        volume = scan.last_echo(name)
        window = _window(volume, scan, name)
        for column, k in enumerate(slices):
            axes = figure.add_subplot(grid[row, column], gid=f"{name} {k}")
            _draw_slice(axes, volume[:, :, k], scan, box, window)
            _draw_marks(axes, scan, k)
            if row == 0:
                _write(axes, 0.99, 0.99, f"z {scan.grid.origin_mm[2] + k * scan.grid.spacing_mm[2]:.0f} mm", "right")
            if column == 0:
                _write(axes, 0.01, 0.99, NAMES[name], "left")
    figure.text(0.004, 1 - 0.08 / height_in, _heading(scan, title), color="white", size=12, va="top")
    _draw_legend(figure, scan)
    return figure


def shown_slices(scan: SimulatedScan, columns: int) -> list[int]:
    """Which slices show most: visible microbleeds first, then mimics, then faint ones, then evenly over the brain."""
    wanted = [_marked_slices(mark, scan) for mark in scan.marks if mark.visible]
    wanted += [_slices_of(mimic, scan) for mimic in scan.contents.mimics]
    wanted += [_marked_slices(mark, scan) for mark in scan.marks if not mark.visible]
    wanted = [slices for slices in wanted if slices]
    chosen: list[int] = []
    while wanted and len(chosen) < columns:
        # The slice through the first thing not shown yet that shows most of the others too.
        best = max(wanted[0], key=lambda k: sum(k in slices for slices in wanted))
        chosen.append(best)
        wanted = [slices for slices in wanted if best not in slices]
    held = np.flatnonzero(scan.brain.any(axis=(0, 1)))
    if not len(held):
        held = np.arange(scan.grid.shape[2])
    spread = [int(held[round(share * (len(held) - 1))]) for share in np.linspace(0.15, 0.85, columns)]
    # Of the even spread, those farthest from what is chosen fill up.
    while len(chosen) < columns and (left := [k for k in spread if k not in chosen]):
        chosen.append(max(left, key=lambda k: min((abs(k - c) for c in chosen), default=0)))
    return sorted(chosen)


def _marked_slices(mark: Mark, scan: SimulatedScan) -> list[int]:
    """Slices in which a microbleed is marked, the one through its middle first."""
    if not len(mark.all_voxels):
        return _slices_of(mark.lesion, scan)
    counts = np.bincount(mark.all_voxels[:, 2])
    return [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]


def _slices_of(inclusion: Inclusion, scan: SimulatedScan) -> list[int]:
    """Slices that an inclusion's core reaches into, its middle first; none outside the volume."""
    middle = scan.grid.to_voxels(np.array([inclusion.centre_mm]))[0]
    if not np.all((middle > -0.5) & (middle < np.array(scan.grid.shape) - 0.5)):
        return []
    low, high = (round(middle[2] + sign * _half_height_mm(inclusion) / scan.grid.spacing_mm[2]) for sign in (-1, 1))
    inside = range(max(0, low), min(scan.grid.shape[2] - 1, high) + 1)
    return sorted(inside, key=lambda k: abs(k - middle[2]))


def _half_height_mm(inclusion: Inclusion) -> float:
    z = inclusion.centre_mm[2]
    return max(abs(sphere.centre_mm[2] - z) + sphere.radius_mm for sphere in inclusion.spheres)


def _box(scan: SimulatedScan) -> tuple[float, float, float, float]:
    """Left, right, lower and upper edge of what is shown, millimetres: the brain and a rim."""
    edges = []
    for axis in (0, 1):
        held = np.flatnonzero(scan.brain.any(axis=tuple(d for d in range(3) if d != axis)))
        first, last = (held[0], held[-1]) if len(held) else (0, scan.grid.shape[axis] - 1)
        step, origin, n = scan.grid.spacing_mm[axis], scan.grid.origin_mm[axis], scan.grid.shape[axis]
        rim = round(6 / step)
        edges += [origin + (max(0, first - rim) - 0.5) * step, origin + (min(n - 1, last + rim) + 0.5) * step]
    return edges[0], edges[1], edges[2], edges[3]


def _window(volume: NDArray[np.float32], scan: SimulatedScan, name: str) -> tuple[float, float]:
    """Black and white as a radiologist would set them."""
    if name == "phase":
        return -np.pi, np.pi
    if name == "qsm":
        return QSM_WINDOW_PPM
    inside = volume[scan.brain] if scan.brain.any() else volume
    # Where fluid is bright, white is set by tissue, or lesions would be looked for in the dark.
    return 0.0, float(min(1.05 * np.percentile(inside, 99.5), BRIGHTEST * np.median(inside)))


def _draw_slice(
    axes: "Axes",
    image: NDArray[np.float32],
    scan: SimulatedScan,
    box: tuple[float, float, float, float],
    window: tuple[float, float],
) -> None:
    x, y = (
        (origin - 0.5 * step, origin + (n - 0.5) * step)
        for origin, step, n in zip(scan.grid.origin_mm[:2], scan.grid.spacing_mm[:2], image.shape, strict=True)
    )
    axes.imshow(
        image.T, cmap="gray", vmin=window[0], vmax=window[1], origin="lower", extent=(*x, *y), interpolation="bilinear"
    )
    axes.set_xlim(box[1], box[0])
    axes.set_ylim(box[2], box[3])
    axes.set_axis_off()


def _draw_marks(axes: "Axes", scan: SimulatedScan, k: int) -> None:
    from matplotlib.patches import Circle

    for mark in scan.marks:
        if k not in _marked_slices(mark, scan):
            continue
        x, y, radius = _ring(mark, scan, k)
        style = "-" if mark.visible else ":"
        gid = "microbleed" if mark.visible else "faint microbleed"
        axes.add_patch(
            Circle((x, y), radius, fill=False, edgecolor=LESION_COLOR, linewidth=1.0, linestyle=style, gid=gid)
        )
    for mimic in scan.contents.mimics:
        if k in _slices_of(mimic, scan):
            x, y, _ = mimic.centre_mm
            # A marker's size is in points; what it marks in millimetres: measure one against the other.
            points = axes.get_window_extent().height / DPI * 72 / abs(np.diff(axes.get_ylim())[0])
            size = 2 * (mimic.radius_mm + ROOM_MM) * points
            axes.plot(x, y, gid=str(mimic.kind), **_mimic_style(mimic.kind, size))


def _mimic_style(kind: Kind, size: float) -> dict[str, Any]:
    marker, color = MIMICS[kind]
    return {
        "linestyle": "none",
        "marker": marker,
        "markersize": size,
        "markerfacecolor": "none",
        "markeredgecolor": color,
        "markeredgewidth": 1.0,
    }


def _ring(mark: Mark, scan: SimulatedScan, k: int) -> tuple[float, float, float]:
    """Centre and radius of a ring about what is visible in a slice, else about the core; millimetres."""
    here = mark.all_voxels[mark.all_voxels[:, 2] == k]
    if not len(here):
        x, y, _ = mark.lesion.centre_mm
        return x, y, mark.lesion.radius_mm + ROOM_MM
    points = scan.grid.to_mm(here)[:, :2]
    x, y = points.mean(axis=0)
    return float(x), float(y), float(np.linalg.norm(points - (x, y), axis=1).max()) + ROOM_MM


def _write(axes: "Axes", x: float, y: float, text: str, side: str) -> None:
    back = {"facecolor": "black", "alpha": 0.6, "linewidth": 0, "pad": 1}
    axes.text(x, y, text, color="white", size=9, ha=side, va="top", transform=axes.transAxes, bbox=back)


def _heading(scan: SimulatedScan, title: str) -> str:
    protocol, person = scan.protocol, scan.person
    echoes = "/".join(f"{time:g}" for time in protocol.echo_times_ms)
    voxel = " x ".join(f"{step:g}" for step in protocol.spacing_mm)
    visible = sum(mark.visible for mark in scan.marks)
    tilt = ", oblique" if any(protocol.tilt_deg) else ""
    moved = "" if np.array_equal(scan.t1w_shift, np.eye(4)) else ", T1w deliberately misaligned"
    return (
        f"{title + ': ' if title else ''}simulated, no real scan. Protocol {protocol.name}: "
        f"{protocol.field_strength_t:g} T, TE {echoes} ms, TR {protocol.repetition_time_ms:g} ms, "
        f"{protocol.flip_angle_deg:g} deg, {voxel} mm{tilt}, SNR {protocol.snr:g}\n"
        f"{person.age} years, {person.sex}; {visible} visible microbleeds, {len(scan.marks) - visible} too faint, "
        f"{len(scan.contents.mimics)} mimics besides vessels, which are not marked{moved}. "
        "Only marks of the slices shown. The patient's right is on the left."
    )


def _draw_legend(figure: "Figure", scan: SimulatedScan) -> None:
    from matplotlib.lines import Line2D

    def ring(style: str, color: str) -> Line2D:
        return Line2D([], [], linestyle=style, color=color)

    handles = []
    if any(mark.visible for mark in scan.marks):
        handles.append((ring("-", LESION_COLOR), "microbleed (ring)"))
    if any(not mark.visible for mark in scan.marks):
        handles.append((ring(":", LESION_COLOR), "microbleed too faint to see"))
    for kind in MIMICS:
        if any(mimic.kind is kind for mimic in scan.contents.mimics):
            handles.append((Line2D([], [], **_mimic_style(kind, 9)), str(kind)))
    if handles:
        figure.legend(
            [handle for handle, _ in handles],
            [label for _, label in handles],
            loc="lower left",
            ncols=len(handles),
            frameon=False,
            labelcolor="white",
            borderaxespad=0.2,
        )
