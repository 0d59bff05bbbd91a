"""How the planner decides: what a small lesion is on a grid, and which axes each level pools."""

import numpy as np
import style
from matplotlib.patches import Circle, Patch, Rectangle

from cmb_autoseg.planners.topology import plan_topology

DIAMETER_MM = 2.0
PLANES = {
    "0.5 mm voxels": 0.5,
    "planned: a third of the diameter": DIAMETER_MM / 3,
    "1 mm voxels": 1.0,
}
GRIDS = {"1 x 0.5 x 0.5 mm": (1.0, 0.5, 0.5), "2 x 0.9 x 0.9 mm": (2.0, 0.9, 0.9), "4 x 1 x 1 mm": (4.0, 1.0, 1.0)}
FEATURES = (32, 64, 128, 256)
PATCH_MM = 64


def draw():
    figure = style.new_figure(9.4, 4.9)
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.0))
    above.suptitle(
        f"A lesion of {DIAMETER_MM:g} mm (circle) in one slice, and the voxels that it fills by half", size=10
    )
    for axes, (title, size) in zip(above.subplots(1, 3), PLANES.items(), strict=True):
        _lesion(axes, title, size)
    below.suptitle("Voxels that each level of the network sees (slice thickness up, in-plane across)", size=10)
    for axes, (title, spacing) in zip(below.subplots(1, 3), GRIDS.items(), strict=True):
        _levels(axes, title, spacing)
    kinds = [
        Patch(fc=f"{style.BLUE}44", ec=style.BLUE, label="kernels 1 x 3 x 3: in-plane only"),
        Patch(fc=f"{style.ORANGE}44", ec=style.ORANGE, label="kernels 3 x 3 x 3"),
    ]
    below.legend(handles=kinds, loc="lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def _lesion(axes, title, size_mm):
    """Voxels of a 4 mm square; the lesion's middle lies a quarter voxel off a corner, as chance would have it."""
    edges = np.arange(np.ceil(2.2 / size_mm) * -size_mm, 2.2, size_mm) + size_mm / 4
    filled = 0
    for x in edges:
        for y in edges:
            share = _share_inside(x, y, size_mm)
            filled += share >= 0.5
            color = f"{style.VERMILION}88" if share >= 0.5 else "white"
            axes.add_patch(Rectangle((x, y), size_mm, size_mm, fc=color, ec="0.75"))
    axes.add_patch(Circle((0, 0), DIAMETER_MM / 2, fill=False, ec="black", lw=1.4))
    axes.set(xlim=(-2.1, 2.1), ylim=(-2.1, 2.1), aspect="equal")
    axes.set_axis_off()
    axes.set_title(f"{title}: {filled} voxels", size=9)


def _share_inside(x, y, size_mm):
    steps = (np.arange(20) + 0.5) / 20 * size_mm
    inside = (x + steps[:, None]) ** 2 + (y + steps[None, :]) ** 2 <= (DIAMETER_MM / 2) ** 2
    return inside.mean()


def _levels(axes, title, spacing_mm):
    patch = tuple(int(round(PATCH_MM / size / 16) * 16) for size in spacing_mm)
    topology = plan_topology(spacing_mm, patch, FEATURES)
    size, left = np.array(spacing_mm), 0.0
    for level, (stride, kernel) in enumerate(zip(topology.strides, topology.kernel_sizes, strict=True), start=1):
        size = size * stride
        color = style.BLUE if kernel[0] == 1 else style.ORANGE
        axes.add_patch(Rectangle((left, 0), size[2], size[0], fc=f"{color}44", ec=color, lw=1.4))
        axes.text(left + size[2] / 2, -0.5, f"{level}", ha="center", va="top", size=8)
        left += size[2] + 1.4
    axes.set(xlim=(-0.5, 19.5), ylim=(-1.8, 8.5), aspect="equal")
    axes.set_axis_off()
    axes.set_title(title, size=9)


if __name__ == "__main__":
    print(style.save(draw(), "planning"))
