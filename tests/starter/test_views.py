"""Looks at simulated blocks: geometry and grey values, on blocks whose content is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cmb_autoseg.preprocessing.network_grid import _interpolated
from cmb_autoseg.starter.blocks import SEQUENCES, Block
from cmb_autoseg.starter.views import ViewDraw, ViewSettings, draw_view, make_view

PLAIN = ViewSettings(spacing_mm=(1.5, 0.75, 0.75), patch_shape=(8, 16, 20), width=0.0, scaling=0.0)


def block_of(spacing_mm, shape=(40, 36, 24), seed=0):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.normal(1, 0.2, (4, *shape)).clip(0.1)).half()
    mask = torch.zeros(shape, dtype=torch.uint8)
    mask[18:22, 16:20, 10:13] = 1
    brain = torch.ones(shape, dtype=torch.bool)
    return Block(images, mask, brain, brain, spacing_mm, {})


def plain_draw(block, settings=PLAIN, **changes):
    n = len(SEQUENCES)
    draw = ViewDraw(
        centre=(np.array(block.mask.shape) - 1) / 2,
        scale=np.ones(3),
        present=(True,) * n,
        earlier=None,
        bias=None,
        exponents=np.ones(n),
        blur=0.0,
        noise=0.0,
        affine=np.tile([1.0, 0.0], (n, 1)),
        whole_head=False,
        grown=0,
        flips=(),
        seed=0,
    )
    return replace(draw, **changes)


@pytest.mark.parametrize("spacing_mm", [(0.5, 0.5, 1.0), (1.0, 1.0, 4.0), (0.75, 0.75, 1.5)])
def test_a_plain_view_is_what_prediction_makes_of_the_scan(spacing_mm):
    """The same values as `NetworkGrid` gives where both put their voxels at the same places."""
    block = block_of(spacing_mm, shape=(36, 36, 24))  # whole numbers of the network's voxels
    whole = tuple(
        round(n * old / new)
        for n, old, new in zip(block.mask.shape[::-1], spacing_mm[::-1], PLAIN.spacing_mm, strict=True)
    )
    settings = replace(PLAIN, patch_shape=whole)
    view = make_view(block, plain_draw(block), settings)

    images = block.images.float().numpy()
    scored = (images - images.mean((1, 2, 3), keepdims=True)) / images.std((1, 2, 3), keepdims=True)
    expected = _interpolated(
        np.ascontiguousarray(scored.transpose(0, 3, 2, 1)), whole, spacing_mm[::-1], PLAIN.spacing_mm
    )
    inner = (slice(None), *(slice(2, -2),) * 3)
    np.testing.assert_allclose(view.image.numpy()[inner], expected[inner], atol=2e-2)


def test_what_is_marked_lies_where_it_is_dark():
    block = block_of((0.75, 0.75, 1.5))
    block.images[:, block.mask > 0] = 0.0
    for flips in ((), (1,), (2,), (1, 2)):
        view = make_view(block, plain_draw(block, flips=flips), PLAIN)
        marked = view.target[0] > 0
        assert marked.any()
        assert view.image[0][marked].max() < view.image[0][~marked].min() + 1


@pytest.mark.parametrize(("earlier", "kept"), [(None, np.rint), (np.array([1.0, 1.0, 0.8]), np.asarray)])
def test_labels_are_interpolated_between_slices_where_values_are(earlier, kept):
    """Slices of 3.2 mm are thick, but not those of 2.6 mm to which they were interpolated before."""
    block, settings = block_of((1.0, 1.0, 3.2)), replace(PLAIN, patch_shape=(24, 16, 16))
    middle = 11.559  # 0.55 slices below the lesion's lowest one lies the middle of a voxel
    draw = plain_draw(block, settings, earlier=earlier, centre=np.array([19.5, 17.5, middle]))
    through = make_view(block, draw, settings).target[0].amax((1, 2)).numpy() > 0
    at = middle + (np.arange(24) - 11.5) * 1.5 / 3.2
    assert through.tolist() == (np.interp(kept(at), np.arange(24), block.mask[19, 17]) >= 0.4).tolist()


def test_missing_sequences_are_blank_and_so_is_what_lies_outside_the_brain():
    block = block_of((0.75, 0.75, 1.5))
    block.brain[:, :18] = False
    view = make_view(block, plain_draw(block, present=(True, False, True, False)), PLAIN)

    assert not view.image[[1, 3]].any()
    assert view.image[[0, 2]].any()
    assert not view.image[:, :, :7].any()  # rows of the back, along j
    assert view.image[0, :, 10:].all()


def test_a_head_that_is_not_stripped_is_seen_as_preparation_scales_it():
    """Dark skull and bright scalp around the brain: all of it is there, and the brain less contrasted."""
    block = block_of((0.75, 0.75, 1.5))
    brain = torch.zeros_like(block.brain)
    brain[14:-14, 12:-12] = True
    block = replace(block, brain=brain)
    plain = make_view(block, plain_draw(block), PLAIN).image[0]
    assert (plain == 0).any()
    rng = np.random.default_rng(0)
    settings = replace(PLAIN, head_share=1.0)
    spreads, means = [], []
    for _ in range(20):
        draw = draw_view(rng, block, settings)
        assert draw.whole_head
        seen = make_view(block, plain_draw(block, whole_head=True, affine=draw.affine), PLAIN).image
        assert (seen != 0).all()
        inside = seen[:, plain != 0]
        spreads.append([float(values.std() / plain[plain != 0].std()) for values in inside])
        means.append([float(values.mean()) for values in inside])
    swi, mag, qsm, phase = np.array(spreads).T
    assert np.allclose(swi, mag, rtol=0.1)
    assert np.ptp(swi) > 0.2
    assert swi.max() < 0.8
    assert min(qsm.min(), phase.min()) > 0.9
    assert 0.3 < np.array(means)[:, :2].mean() < 0.85


def test_what_is_cut_out_of_a_block_is_what_a_larger_patch_shows_there():
    block = block_of((0.6, 0.7, 1.3), shape=(90, 80, 50))
    larger = replace(PLAIN, patch_shape=(12, 24, 30))
    for centre in ([30.0, 45.2, 20.4], [9.0, 70.0, 44.0]):
        draw = plain_draw(block, centre=np.array(centre))
        small, large = make_view(block, draw, PLAIN), make_view(block, draw, larger)
        assert small.image.std() > 0
        torch.testing.assert_close(small.image, large.image[:, 2:-2, 4:-4, 5:-5])
        assert torch.equal(small.target, large.target[:, 2:-2, 4:-4, 5:-5])


def test_a_place_that_is_asked_for_is_seen():
    block = block_of((0.5, 0.5, 1.0), shape=(120, 120, 60))
    block.mask.zero_()
    block.mask[30:34, 90:94, 40:43] = 1
    for seed in range(20):
        draw = draw_view(np.random.default_rng(seed), block, PLAIN, about=np.array([31.5, 91.5, 41.0]))
        assert make_view(block, draw, PLAIN).target.any()


def test_views_show_lesions_as_often_as_asked():
    block = block_of((0.5, 0.5, 1.0), shape=(160, 160, 80))
    block.mask.zero_()
    block.mask[20:24, 20:24, 20:23] = 1

    def share(wanted):
        settings = replace(PLAIN, lesion_share=wanted)
        draws = (draw_view(np.random.default_rng(seed), block, settings) for seed in range(40))
        return np.mean([bool(make_view(block, draw, settings).target.any()) for draw in draws])

    assert share(1.0) == 1
    assert share(0.0) < 0.3


def test_larger_sides_make_larger_lesions():
    block = block_of((0.75, 0.75, 1.5))
    sizes = [
        int(make_view(block, plain_draw(block, scale=np.full(3, scale)), PLAIN).target.sum())
        for scale in (0.8, 1.0, 1.3)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]


def test_a_block_that_was_resampled_before_keeps_its_place():
    block = block_of((0.75, 0.75, 1.5), shape=(60, 60, 30))
    block.images[:] = 1.0
    block.images[:, 29:31, 29:31, 14:16] = 0.0
    plain = make_view(block, plain_draw(block), PLAIN).image[0]
    again = make_view(block, plain_draw(block, earlier=np.array([1.4, 1.3, 1.2])), PLAIN).image[0]

    def middle(image):
        weight = (image.max() - image).clamp(min=0)
        axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in image.shape), indexing="ij")
        return np.array([float((axis * weight).sum() / weight.sum()) for axis in axes])

    np.testing.assert_allclose(middle(again), middle(plain), atol=0.3)
    assert again.min() > plain.min()  # blurred


def test_everything_random_hangs_on_the_generator():
    block, settings = block_of((0.75, 0.75, 1.5)), replace(PLAIN, width=1.0)
    one, other, third = (
        make_view(block, draw_view(np.random.default_rng(seed), block, settings), settings) for seed in (1, 1, 2)
    )
    assert torch.equal(one.image, other.image)
    assert torch.equal(one.target, other.target)
    assert not torch.equal(one.image, third.image)
