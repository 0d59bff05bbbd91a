import numpy as np
import pytest
import torch

from cmb_autoseg.simulation.acquisition.signal import scan_grid
from cmb_autoseg.simulation.acquisition.t1w import T1wDraw, draw_t1w, t1_weighted
from cmb_autoseg.simulation.contents.sources import Contents

QUIET = T1wDraw(8.0, 18.0, 1e9, torch.zeros(5, 5, 5), torch.zeros(26, 30, 24), noise_seed=1)


def test_white_matter_is_brighter_than_grey_and_fluid_is_dark(head_of, isotropic, values):
    grey, fluid = torch.zeros(40, 40, 40), torch.zeros(40, 40, 40)
    grey[:, 16:20], fluid[:, 20:] = 1, 1
    image = t1_weighted(head_of(grey=grey, fluid=fluid), values, Contents(), scan_grid(isotropic), 3.0, QUIET)

    white, cortex, ventricle = image[8, 1, 8], image[8, 6, 8], image[8, 14, 8]
    assert float(white) == pytest.approx(1, abs=0.01)
    assert 0.55 < cortex < 0.8
    assert ventricle < 0.45


def test_a_microbleed_is_nearly_invisible(white_head, isotropic, values, ball):
    lesions = Contents(microbleeds=[ball(0.7, 2.0, (0.5, 0.5, 0.5))])
    image = t1_weighted(white_head, values, lesions, scan_grid(isotropic), 3.0, QUIET)

    assert 0.8 < image.min() < 1
    assert image.mean() == pytest.approx(1, abs=1e-3)


def test_a_moved_head_is_found_where_it_moved_to(head_of, isotropic, values):
    fluid = torch.zeros(40, 40, 40)
    fluid[18:22, 18:22, 18:22] = 1
    head, grid, shift = head_of(fluid=fluid), scan_grid(isotropic), np.eye(4)
    shift[:3, 3] = (2.0, -1.0, 3.0)

    still = t1_weighted(head, values, Contents(), grid, 3.0, QUIET)
    moved = t1_weighted(head, values, Contents(), grid, 3.0, QUIET, moved=shift)

    assert torch.allclose(moved[4:12, 4:12, 5:12], still[2:10, 5:13, 2:9], atol=1e-4)


def test_noise_follows_the_drawn_ratio(white_head, isotropic, values):
    draw = draw_t1w(np.random.default_rng(0))
    noisy = T1wDraw(8.0, 18.0, draw.snr, torch.zeros(5, 5, 5), torch.zeros(26, 30, 24), draw.noise_seed)
    image = t1_weighted(white_head, values, Contents(), white_head.grid, 3.0, noisy)

    assert float(image.std()) == pytest.approx(1 / draw.snr, rel=0.02)
