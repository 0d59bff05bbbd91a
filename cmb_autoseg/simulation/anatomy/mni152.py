"""The average head: MNI152 maps that ship inside nilearn, read once a process."""

from functools import cache

import numpy as np
import torch

from cmb_autoseg.simulation.anatomy.head import Template
from cmb_autoseg.simulation.grids import Grid

__all__ = ["load_mni152"]


@cache
def load_mni152() -> Template:
    """Grey matter, white matter and brain of the MNI152 template at 1 mm; nothing is downloaded.

    Source: ICBM 2009a nonlinear symmetric, Fonov et al. 2011, as packaged by nilearn.
    """
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_gm_template, load_mni152_wm_template

    images = [
        load_mni152_gm_template(resolution=1),
        load_mni152_wm_template(resolution=1),
        load_mni152_brain_mask(resolution=1),
    ]
    maps = torch.stack([torch.from_numpy(np.asarray(image.dataobj, dtype=np.float32)) for image in images])
    affine = images[0].affine
    i, j, k = maps.shape[1:]
    x, y, z = (float(v) for v in affine[:3, 3])
    return Template(maps, Grid((i, j, k), (1.0, 1.0, 1.0), (x, y, z)))
