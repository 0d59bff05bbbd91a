"""Blocks with dots that are easy to see, and settings by which a tiny network learns from them."""

import numpy as np
import pytest
import torch

from cmb_autoseg.starter.blocks import Block, write_person
from cmb_autoseg.starter.settings import LearningSettings
from cmb_autoseg.starter.views import ViewSettings

FACTS = {"field_strength_t": 3.0, "brain_ml": 1200.0}


@pytest.fixture
def settings():
    return LearningSettings(
        steps=12,
        batch_size=2,
        warmup_steps=2,
        features=(4, 8),
        kernel_sizes=((1, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (1, 2, 2)),
        blocks_per_stage=1,
        half_precision=False,
        views=ViewSettings(patch_shape=(4, 16, 16), width=0.3, sequence_shares=((("swi", "mag"), 1.0),)),
    )


@pytest.fixture
def pool(tmp_path):
    """Two people with three blocks each, one microbleed in the middle of every block."""
    folder = tmp_path / "pool"
    rng = np.random.default_rng(0)
    for person in range(2):
        blocks = []
        for _ in range(3):
            images = torch.from_numpy(rng.normal(1, 0.05, (4, 40, 40, 12))).half()
            mask = torch.zeros((40, 40, 12), dtype=torch.uint8)
            mask[18:22, 18:22, 5:7] = 1
            images[:, mask > 0] = 0.1
            everywhere = torch.ones_like(mask, dtype=torch.bool)
            blocks.append(Block(images, mask, everywhere, everywhere, (0.75, 0.75, 1.5), FACTS))
        write_person(folder, 0, person, blocks)
    return folder
