"""How patches are drawn: anchors of a simulated person, patches around them, and where lesions end up in patches."""

import numpy as np
import style
import torch
from matplotlib.patches import Rectangle
from scipy import ndimage

from cmb_autoseg.simulation.anatomy.mni152 import load_mni152
from cmb_autoseg.simulation.person import simulate_person
from cmb_autoseg.simulation.protocols import PROTOCOLS
from cmb_autoseg.trainers.patches.sampling import CaseAnchors, PatchSampler, PatchShares

PATCH_SHAPE = (24, 48, 48)
"""(z, y, x) voxels of 2 x 1 x 1 mm, about what is planned for this protocol on a CPU."""
COLORS = {"lesion": style.VERMILION, "brain": style.BLUE, "anywhere": style.ORANGE}
N_DRAWS = 6000


def draw():
    scan = simulate_person(load_mni152(), PROTOCOLS["small"], 1, 2, False, torch.device("cpu"))
    image = scan.swi.transpose(2, 1, 0)
    mask = scan.mask.transpose(2, 1, 0)
    numbers, count = ndimage.label(mask, np.ones((3, 3, 3)))
    lesions = [np.argwhere(numbers == n) for n in range(1, count + 1)]
    rng = np.random.default_rng(0)
    brain = np.argwhere(scan.brain.transpose(2, 1, 0))
    case = CaseAnchors("person", image.shape, lesions, brain[rng.choice(len(brain), 500, replace=False)])
    sampler = PatchSampler([case], PATCH_SHAPE, PatchShares())
    draws = [sampler.draw(rng) for _ in range(N_DRAWS)]
    middle = np.array(image.shape) / 2
    alone = min(lesions, key=lambda lesion: np.linalg.norm((lesion.mean(axis=0) - middle)[1:]))
    one = PatchSampler([CaseAnchors("person", image.shape, [alone], case.brain)], PATCH_SHAPE, PatchShares(1, 0, 0))
    figure = style.new_figure(9.4, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _slice_with_patches(left, image, lesions, draws)
    _place_in_patch(right, alone, [one.draw(rng) for _ in range(N_DRAWS)])
    return figure


def _slice_with_patches(axes, image, lesions, draws):
    z = round(np.mean(max(lesions, key=len)[:, 0]))
    axes.imshow(image[z], cmap="gray", origin="lower", vmax=np.percentile(image, 99.5))
    for kind, wanted in {"lesion": 6, "brain": 3, "anywhere": 2}.items():
        there = [d for d in draws if d.kind == kind and d.start[0] <= z < d.start[0] + PATCH_SHAPE[0]]
        for n, each in enumerate(there[:wanted]):
            _, y, x = each.start
            label = f"{kind}, {getattr(PatchShares(), kind):.0%} of the patches" if n == 0 else None
            box = Rectangle((x, y), PATCH_SHAPE[2], PATCH_SHAPE[1], fill=False, lw=1.3, ec=COLORS[kind], label=label)
            axes.add_patch(box)
    for lesion in lesions:
        _, y, x = lesion.mean(axis=0)
        inside = z in lesion[:, 0]
        axes.plot(x, y, "o" if inside else "x", ms=9, mfc="none", mec=COLORS["lesion"], mew=1.6)
    axes.set_axis_off()
    axes.set_title("Patches that cross one slice of a simulated person", size=10)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=1, frameon=False, fontsize=8)


def _place_in_patch(axes, lesion, draws):
    voxels = np.concatenate([lesion - np.array(each.start) for each in draws])
    voxels = voxels[np.all((voxels >= 0) & (voxels < PATCH_SHAPE), axis=1)]
    extent = ((0, PATCH_SHAPE[1]), (0, PATCH_SHAPE[2]))
    counts, _, _ = np.histogram2d(voxels[:, 1], voxels[:, 2], bins=24, range=extent)
    shown = axes.imshow(counts / counts.sum() * 100, origin="lower", extent=(0, 48, 0, 48), cmap="cividis")
    margin = PATCH_SHAPE[1] // 8
    edge = Rectangle((margin, margin), 48 - 2 * margin, 48 - 2 * margin, fill=False, ls="--", ec="white", lw=1.2)
    axes.add_patch(edge)
    axes.set_xlabel("voxels across the patch")
    axes.set_ylabel("voxels up the patch")
    axes.set_title("Where its lesion lies in a patch that is drawn around it", size=10)
    axes.figure.colorbar(shown, ax=axes, label="% of the lesion's voxels", shrink=0.8)


if __name__ == "__main__":
    print(style.save(draw(), "sampling"))
