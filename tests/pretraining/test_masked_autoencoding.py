import numpy as np
import pytest
import torch

from cmb_autoseg.errors import InputError
from cmb_autoseg.pretraining.masked_autoencoding import BlockMask, build_decoder, squared_error
from cmb_autoseg.records import Topology


def test_each_sequence_loses_the_same_number_of_blocks_and_its_own():
    mask = BlockMask(ratio=0.6, block=4)
    blanked = mask.draw(np.random.default_rng(0), 3, (8, 16, 16))
    assert mask.block_shape((8, 16, 16)) == (2, 4, 4)
    blocks = blanked.reshape(3, 4, 2, 4, 4, 4, 4)
    whole = blocks.all(axis=(2, 4, 6))
    assert np.array_equal(whole, blocks.any(axis=(2, 4, 6)))
    assert list(whole.sum(axis=(1, 2, 3))) == [38, 38, 38]  # 60 % of 64 blocks.
    assert not np.array_equal(whole[0], whole[1])


@pytest.mark.parametrize(("ratio", "block"), [(0.001, 4), (0.999, 4), (0.6, 16), (0.5, 40)])
def test_a_mask_of_nothing_or_everything_is_refused(ratio, block):
    with pytest.raises(InputError, match=f"ratio {ratio} and block {block} blank"):
        BlockMask(ratio, block).refuse_misfit((8, 16, 16))
    BlockMask(0.6, 4).refuse_misfit((8, 16, 16))
    BlockMask(0.5, 8).refuse_misfit((8, 16, 16))


def test_blocks_that_do_not_divide_the_patch_are_cut_at_its_end():
    assert BlockMask(0.5, 8).draw(np.random.default_rng(0), 1, (5, 20, 12)).shape == (1, 5, 20, 12)


def test_only_blanked_voxels_of_the_brain_are_asked_for():
    image = torch.tensor([[[[1.0, 2.0, 0.0, 4.0]]], [[[0.0, 0.0, 0.0, 0.0]]]])
    blanked = np.array([[[[True, False, True, True]]], [[[True, True, True, True]]]])
    visible, asked = BlockMask().apply(image, blanked)
    assert visible[0].flatten().tolist() == [0, 2, 0, 0]
    assert asked[0].flatten().tolist() == [True, False, False, True]
    assert not asked[1].any()
    # Errors 1 - 3 and 4 - 3 of the voxels that were asked for; the other prediction does not count.
    assert float(squared_error(torch.full_like(image, 3.0), image, asked)) == 5.0


def test_the_decoder_gives_a_value_for_every_voxel_and_starts_without_a_prior():
    topology = Topology(
        features_per_stage=(4, 8),
        kernel_sizes=((3, 3, 3),) * 2,
        strides=((1, 1, 1), (2, 2, 2)),
        n_blocks_per_stage=(1, 1),
    )
    decoder = build_decoder(3, topology, 0)
    filled_in = decoder([torch.randn(2, 4, 4, 8, 8), torch.randn(2, 8, 2, 4, 4)])
    assert filled_in.shape == (2, 3, 4, 8, 8)
    assert not decoder.heads[-1].bias.any()
