import numpy as np
import pytest
import torch

from cmb_autoseg.trainers.patches.augmentation import ChannelDropout, Flip, Intensity, SpatialWarp, max_pooled_targets

SHAPE, SPACING = (12, 24, 24), (2.0, 1.0, 1.0)


def ball(shape, centre_mm, spacing, radius_mm=3.0):
    grids = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij")
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(grids, centre_mm, strict=True)))
    return torch.from_numpy((distance <= radius_mm).astype(np.float32))[None]


def centre_mm(image, spacing):
    voxels = np.argwhere(image[0].numpy() > 0.5)
    return (voxels.mean(axis=0) - (np.array(image.shape[1:]) - 1) / 2) * spacing


def test_no_rotation_and_no_scaling_leave_the_patch_alone():
    warp = SpatialWarp(probability=1, rotation_degrees=0, scaling=(1, 1), elastic_mm=0)
    grid = warp.draw(np.random.default_rng(0), SHAPE, SPACING)
    image = torch.randn(2, *SHAPE)
    assert torch.allclose(warp.apply(image, grid), image, atol=1e-4)


def test_rotation_keeps_distances_in_millimetres_on_an_anisotropic_grid():
    warp = SpatialWarp(probability=1, rotation_degrees=40, scaling=(1, 1), elastic_mm=0)
    rng = np.random.default_rng(4)
    source_shape = tuple(np.array(SHAPE) + 2 * warp.margin(SHAPE, SPACING))
    source = ball(source_shape, (4.0, 5.0, -2.0), SPACING)
    for _ in range(5):
        turned = warp.apply(source, warp.draw(rng, SHAPE, SPACING))
        assert np.linalg.norm(centre_mm(turned, SPACING)) == pytest.approx(np.linalg.norm((4, 5, -2)), abs=0.6)


def test_scaling_enlarges_by_its_factor():
    warp = SpatialWarp(probability=1, rotation_degrees=0, scaling=(1.5, 1.5), elastic_mm=0)
    grid = warp.draw(np.random.default_rng(0), SHAPE, SPACING)
    source = ball(SHAPE, (0, 4.0, 0), SPACING)
    assert centre_mm(warp.apply(source, grid), SPACING)[1] == pytest.approx(6.0, abs=0.3)


def test_the_margin_covers_every_draw():
    warp = SpatialWarp(probability=1)
    source_shape = tuple(int(n) for n in np.array(SHAPE) + 2 * warp.margin(SHAPE, SPACING))
    rng = np.random.default_rng(0)
    for _ in range(20):
        grid = warp.draw(rng, SHAPE, SPACING)
        half = (torch.tensor(source_shape) - 1) / 2
        assert bool((grid.abs() <= half + 1e-3).all())


def test_thick_slices_are_turned_in_plane_only():
    warp = SpatialWarp(probability=1, rotation_degrees=30, elastic_mm=0, scaling=(1, 1))
    grid = warp.draw(np.random.default_rng(0), (6, 24, 24), (4.0, 1.0, 1.0))
    z = torch.arange(6.0) - 2.5
    assert torch.allclose(grid[..., 0], z[:, None, None].expand(6, 24, 24), atol=1e-5)


def test_flips_are_drawn_per_axis_and_undo_themselves():
    flip = Flip(axes=(1, 2))
    rng = np.random.default_rng(0)
    drawn = {flip.draw(rng) for _ in range(50)}
    assert drawn == {(), (1,), (2,), (1, 2)}
    patch = torch.randn(1, 2, 3, 4)
    assert torch.equal(flip.apply(flip.apply(patch, (2,)), (2,)), patch)
    assert torch.equal(flip.apply(patch, (2,))[0, :, :, 0], patch[0, :, :, -1])


def test_intensity_leaves_the_background_at_zero_and_repeats_with_its_draw():
    intensity = Intensity(probability=1)
    patch = torch.randn(2, 4, 4, 4)
    patch[:, 0] = 0
    draw = intensity.draw(np.random.default_rng(0), 2)
    once, twice = intensity.apply(patch, draw), intensity.apply(patch, draw)
    assert torch.equal(once, twice)
    assert bool((once[:, 0] == 0).all())
    assert not torch.equal(once, patch)


def test_channel_dropout_always_leaves_a_susceptibility_sequence():
    dropout = ChannelDropout(probability=0.9, required=(0, 1))
    rng = np.random.default_rng(0)
    keeps = np.array([dropout.draw(rng, np.array([True, True, True])) for _ in range(300)])
    assert keeps[:, :2].any(axis=1).all()
    assert keeps[:, 2].mean() == pytest.approx(0.1, abs=0.06)
    only_second = np.array([dropout.draw(rng, np.array([False, True, True])) for _ in range(50)])
    assert only_second[:, 1].all()
    assert not only_second[:, 0].any()


def test_a_one_voxel_lesion_reaches_every_level():
    label = torch.zeros(1, 1, 8, 16, 16)
    label[0, 0, 3, 5, 7] = 1
    targets = max_pooled_targets(label, [(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)])
    assert [tuple(t.shape[2:]) for t in targets] == [(8, 16, 16), (8, 8, 8), (4, 4, 4)]
    assert [float(t.sum()) for t in targets] == [1, 1, 1]
