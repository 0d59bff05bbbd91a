"""What the first stage is shown."""

from dataclasses import replace

import numpy as np
import torch

from cmb_autoseg.starter.blocks import read_blocks
from cmb_autoseg.starter.learning import first_stage
from cmb_autoseg.starter.learning.first_stage import FirstStage, FirstStageSettings, Item
from cmb_autoseg.starter.views import draw_view, make_view


def test_the_topology_is_what_the_planner_would_choose():
    from cmb_autoseg.planners.topology import plan_topology

    settings = FirstStageSettings()
    planned = plan_topology(settings.views.spacing_mm, settings.views.patch_shape, settings.features)
    assert planned.kernel_sizes == settings.kernel_sizes
    assert planned.strides == settings.strides
    assert set(planned.n_blocks_per_stage) == {settings.blocks_per_stage}


class OneCorner(torch.nn.Module):
    """Takes one corner of the view for a microbleed."""

    def forward(self, image):
        logits = torch.zeros(len(image), 2, *image.shape[2:])
        logits[:, 1] = -10.0
        logits[:, 1, 0, 2, 3] = 10.0
        return [logits]


def test_what_was_falsely_found_is_shown_again_at_its_place(pool, settings, monkeypatch):
    block = read_blocks(next(pool.glob("*.pt")))[0]
    draw = draw_view(np.random.default_rng(3), block, settings.views)
    draw = replace(draw, scale=np.ones(3), flips=(1,))
    view = make_view(block, draw, settings.views)
    task = FirstStage(pool, replace(settings, hard_share=0.5))
    task.loss(OneCorner(), [Item(view, block, draw)], "cpu")

    z, y, x = (0, 2, 3)
    expected = draw.centre + np.array([x - 7.5, (15 - y) - 7.5, z - 1.5])
    asked_for = []
    monkeypatch.setattr(first_stage, "draw_view", lambda rng, block, views, about: (asked_for.append(about), draw)[1])
    batches = task.batches(0)
    for _ in range(10):
        next(batches)
    again = [place for place in asked_for if place is not None]
    assert 0 < len(again) < 20
    np.testing.assert_allclose(again, [expected] * len(again), atol=1e-6)


def test_patches_about_lesions_become_fewer(pool, settings, monkeypatch):
    settings = replace(settings, steps=100, batch_size=4, last_lesion_share=0.0, hard_share=0.0)
    shares = []
    monkeypatch.setattr(
        first_stage,
        "draw_view",
        lambda rng, block, views, about: (shares.append(views.lesion_share), draw_view(rng, block, views))[1],
    )
    for step in (0, 50, 98):
        batches = FirstStage(pool, settings).batches(step)
        next(batches)
        next(batches)
    first = settings.views.lesion_share
    expected = np.repeat([0.0, 0.01, 0.5, 0.51, 0.98, 0.99], 4)
    np.testing.assert_allclose(shares, first * (1 - expected), atol=1e-9)
