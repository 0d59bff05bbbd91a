"""The average head: MNI152 maps that ship inside nilearn, read once a process."""

from functools import cache

import numpy as np
import torch

from cmb_autoseg.simulation.anatomy.average_head import template_from_brain_maps
from cmb_autoseg.simulation.anatomy.template import Template
from cmb_autoseg.simulation.grids import Grid

__all__ = ["load_mni152"]

SIZE = 0.88
"""MNI152 is larger than people are: its brain has 1.68 l of tissue where an old person has about 1.1 to 1.2."""
WHITE_GAIN = 1.25
"""Averaging blurs the thin cortex outwards on both sides; this gives white matter its share back."""
SHARPNESS = 3.0


@cache
def load_mni152() -> Template:
    """The MNI152 template at 1 mm with all that its maps lack added; nothing is downloaded.

    Source: ICBM 2009a nonlinear symmetric, Fonov et al. 2011, as packaged by nilearn.
    """
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_gm_template, load_mni152_wm_template

    images = [
        load_mni152_gm_template(resolution=1),
        load_mni152_wm_template(resolution=1),
        load_mni152_brain_mask(resolution=1),
    ]
    maps = torch.stack([torch.from_numpy(np.asarray(image.dataobj, dtype=np.float32)) for image in images])
    tissue = maps[0] + maps[1]
    maps[1] *= WHITE_GAIN
    maps[:2] *= tissue / (maps[0] + maps[1]).clamp(min=1e-6)
    i, j, k = maps.shape[1:]
    x, y, z = (float(v) for v in images[0].affine[:3, 3])
    return template_from_brain_maps(maps, Grid((i, j, k), (1.0, 1.0, 1.0), (x, y, z)), SIZE, SHARPNESS)
