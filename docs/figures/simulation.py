"""A simulated scan and, close up, a microbleed beside a calcification and a vein; takes about five minutes."""

import io

import numpy as np
import style
import torch
from matplotlib.patches import Circle, Rectangle
from PIL import Image, ImageColor

from cmb_autoseg.simulation.anatomy.mni152 import load_mni152
from cmb_autoseg.simulation.contents.sources import Kind
from cmb_autoseg.simulation.person import simulate_person
from cmb_autoseg.simulation.protocols import PROTOCOLS

PROTOCOL, SEED, PERSON = "swi_3t", 7, 3
NAMES = {"mag": "magnitude", "phase": "phase", "swi": "SWI", "qsm": "QSM"}
HALF_MM = 11.0
GRAYS = 36
MARK_COLORS = {"microbleed": "#56B4E9", "mimic": style.ORANGE}


def simulate():
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return simulate_person(
        load_mni152(), PROTOCOLS[PROTOCOL], SEED, PERSON, lesion_free=False, device=device, images=tuple(NAMES)
    )


def draw_scan(scan):
    """Two slices of each image, through a microbleed and through a calcification, the patient's right on the left."""
    figure = style.new_figure(8.2, 4.9)
    grid = figure.subplots(2, len(NAMES), gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    for row, point in zip(grid, (lesion_of(scan).centre_mm, calcification_of(scan).centre_mm), strict=True):
        k = slice_of(scan, point)
        for axes, name in zip(row, NAMES, strict=True):
            show(axes, scan, name, k)
            mark(axes, scan, k)
    for axes, title in zip(grid[0], NAMES.values(), strict=True):
        axes.set_title(title, size=9)
    return figure


def draw_mimics(scan):
    """22 mm of the slices through a microbleed, a calcification and a vein, in each image."""
    points = {
        "microbleed": lesion_of(scan).centre_mm,
        "calcification": calcification_of(scan).centre_mm,
        "vein": vein_of(scan),
    }
    figure = style.new_figure(7.2, 5.6)
    grid = figure.subplots(len(points), len(NAMES), gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    for row, (what, (x, y, z)) in zip(grid, points.items(), strict=True):
        for axes, name in zip(row, NAMES, strict=True):
            show(axes, scan, name, slice_of(scan, (x, y, z)))
            axes.set_xlim(x + HALF_MM, x - HALF_MM)
            axes.set_ylim(y - HALF_MM, y + HALF_MM)
        row[0].text(-0.06, 0.5, what, rotation=90, va="center", ha="right", size=9, transform=row[0].transAxes)
    for axes, title in zip(grid[0], NAMES.values(), strict=True):
        axes.set_title(title, size=9)
    return figure


def lesion_of(scan):
    visible = [mark for mark in scan.marks if mark.visible]
    return max(visible, key=lambda mark: mark.peak_drop_sds).lesion


def calcification_of(scan):
    specks = [mimic for mimic in scan.contents.mimics if mimic.kind is Kind.CALCIFICATION and inside(scan, mimic)]
    return max(specks, key=lambda speck: speck.volume_mm3)


def inside(scan, thing):
    i, j, k = np.rint(scan.grid.to_voxels(np.array([thing.centre_mm]))[0]).astype(int)
    return bool(scan.brain[max(i - 6, 0) : i + 7, max(j - 6, 0) : j + 7, k].all())


def vein_of(scan):
    """The middle of the thickest vein deep in the brain."""
    veins = [tube for tube in scan.contents.tubes if tube.kind is Kind.VEIN and tube.family == "deep"]
    thick = max(veins, key=lambda vein: vein.radius_mm.mean())
    return tuple(thick.points_mm[len(thick.points_mm) // 2])


def slice_of(scan, point_mm):
    return round(scan.grid.to_voxels(np.array([point_mm]))[0, 2])


def show(axes, scan, name, k):
    image = scan.images[name]
    volume = image[..., -1] if image.ndim == 4 else image
    windows = {"phase": (-np.pi, np.pi), "qsm": (-0.15, 0.25)}
    low, high = windows.get(name, (0, np.percentile(volume[scan.brain], 99.5)))
    edges = []
    for axis in (0, 1):
        origin, step = scan.grid.origin_mm[axis], scan.grid.spacing_mm[axis]
        edges += [origin - step / 2, origin + (volume.shape[axis] - 0.5) * step]
    axes.imshow(
        volume[:, :, k].T, cmap="gray", vmin=low, vmax=high, origin="lower", extent=edges, interpolation="bicubic"
    )
    held = np.argwhere(scan.brain.any(axis=2))
    (left, rear), (right, front) = (scan.grid.to_mm(np.append(edge, 0))[:2] for edge in (held.min(0), held.max(0)))
    axes.set_xlim(right + 4, left - 4)
    axes.set_ylim(rear - 4, front + 4)
    axes.set_axis_off()


def mark(axes, scan, k):
    for found in scan.marks:
        if found.visible and k in found.voxels[:, 2]:
            x, y, _ = found.lesion.centre_mm
            axes.add_patch(Circle((x, y), 5, fill=False, ec=MARK_COLORS["microbleed"], lw=1))
    for mimic in scan.contents.mimics:
        x, y, z = mimic.centre_mm
        if abs(slice_of(scan, (x, y, z)) - k) <= 1:
            axes.add_patch(Rectangle((x - 4, y - 4), 8, 8, fill=False, ec=MARK_COLORS["mimic"], lw=1))


def save(figure, name):
    """As `style.save`, with few grays, since noise takes room, and the marks' colors."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=100, format="png", metadata={"Software": None})
    colors = [(gray, gray, gray) for gray in np.linspace(0, 255, GRAYS).round().astype(int).tolist()]
    colors += [ImageColor.getrgb(color) for color in MARK_COLORS.values()]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for color in colors for value in color])
    path = style.IMAGES / f"{name}.png"
    Image.open(drawn).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > style.MAX_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes, more than {style.MAX_BYTES}")
    return path


if __name__ == "__main__":
    simulated = simulate()
    print(save(draw_scan(simulated), "simulation-scan"))
    print(save(draw_mimics(simulated), "simulation-mimics"))
