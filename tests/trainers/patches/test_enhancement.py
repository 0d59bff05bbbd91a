import numpy as np
import pytest
import torch
from torch import nn

from cmb_autoseg.errors import InputError
from cmb_autoseg.networks.residual_unet import ResidualUNet
from cmb_autoseg.records import Role
from cmb_autoseg.trainers.patches.enhancement import FeatureEnhancement, enhanced_stage, lesion_boxes
from cmb_autoseg.trainers.recipe import FeatureEnhancementSettings

SETTINGS = FeatureEnhancementSettings(level=1, beta=1.5)


def patch_with_a_lesion() -> tuple[torch.Tensor, torch.Tensor]:
    """A z-scored SWI of 4 x 4 x 4 voxels of 1 with a lesion of -3 and -1, and the darkest voxel, -4, elsewhere."""
    image, label = torch.ones(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4)
    image[0, 0, 0, 0, 0] = -4.0
    image[0, 0, 2, 1, 1:3] = torch.tensor([-3.0, -1.0])
    label[0, 0, 2, 1, 1:3] = 1.0
    return image, label


def by_hand() -> torch.Tensor:
    """Over the darkest voxel the lesion has 1 and 3: the mean is 2, B_mean 3, M = 2/3 and 0."""
    expected = torch.zeros(1, 1, 4, 4, 4)
    expected[0, 0, 2, 1, 1] = 1 - 1 / 3
    return expected


def enhancement(*roles: Role) -> FeatureEnhancement:
    return FeatureEnhancement(SETTINGS, nn.Identity(), roles)


def test_grey_values_begin_at_the_darkest_voxel_of_the_patch():
    torch.testing.assert_close(enhancement(Role.SWI).mask(*patch_with_a_lesion()), by_hand())


def test_in_a_susceptibility_map_lesions_are_bright():
    image, label = patch_with_a_lesion()
    torch.testing.assert_close(enhancement(Role.QSM).mask(-image, label), by_hand())


def test_the_first_sequence_counts_in_which_microbleeds_show_and_that_the_patch_has():
    image, label = patch_with_a_lesion()
    blank, other = torch.zeros_like(image), torch.rand(image.shape)
    roles = (Role.T1, Role.QSM, Role.GRE_MAG, Role.SWI)

    torch.testing.assert_close(enhancement(*roles).mask(torch.cat((other, other, other, image), 1), label), by_hand())
    torch.testing.assert_close(enhancement(*roles).mask(torch.cat((other, other, image, blank), 1), label), by_hand())
    torch.testing.assert_close(enhancement(*roles).mask(torch.cat((other, -image, blank, blank), 1), label), by_hand())
    assert not enhancement(*roles).mask(torch.cat((other, blank, blank, blank), 1), label).any()


def test_outside_the_brain_nothing_is_enhanced():
    image, label = patch_with_a_lesion()
    image[0, 0, 2, 1, 1:3] = torch.tensor([-1.0, 0.0])
    expected = torch.zeros(4, 4, 4)
    expected[2, 1, 1] = 1 - 3 / (1.5 * 3.5)  # of 3 and 4 over the darkest
    torch.testing.assert_close(enhancement(Role.SWI).mask(image, label)[0, 0], expected)
    assert expected[2, 1, 2] == 0, "outside, though darker than the box's B_mean"


def test_boxes_are_tight_and_lesions_may_touch_by_a_corner():
    mask = np.zeros((5, 6, 7), bool)
    mask[0, 1:3, 2:5] = True
    mask[1, 3, 5] = True
    mask[4, 5, 6] = True

    assert lesion_boxes(mask).tolist() == [[2, 1, 0, 6, 4, 2], [6, 5, 4, 7, 6, 5]]
    assert lesion_boxes(np.zeros((2, 2, 2), bool)).shape == (0, 6)


def segmenter() -> ResidualUNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ResidualUNet(1, 2, 2, [4, 8], [(3, 3, 3)] * 2, [(1, 1, 1), (2, 2, 2)], [1, 1])


def test_only_meanwhile_is_the_network_another_one():
    network, (image, label) = segmenter(), patch_with_a_lesion()
    plain, keys = network(image), list(network.state_dict())
    stage = enhanced_stage(SETTINGS, list(network.encoder.stages))

    with FeatureEnhancement(SETTINGS, stage, [Role.SWI]).of(image, label):
        enhanced = network(image)
        assert list(network.state_dict()) == keys
    assert not torch.equal(enhanced, plain)
    assert torch.equal(network(image), plain)

    with FeatureEnhancement(SETTINGS, stage, [Role.SWI]).of(image, torch.zeros_like(label)):
        assert torch.equal(network(image), plain)


def test_the_chosen_stage_is_enhanced_by_x_plus_mx():
    network, (image, label) = segmenter(), patch_with_a_lesion()
    seen = []
    network.encoder.stages[1].register_forward_hook(lambda _module, _input, features: seen.append(features))
    stage = enhanced_stage(SETTINGS, list(network.encoder.stages))
    with FeatureEnhancement(SETTINGS, stage, [Role.SWI]).of(image, label):
        features = network.encoder(image)

    pooled = nn.functional.avg_pool3d(by_hand(), 2)
    torch.testing.assert_close(features[1], seen[0] * (1 + pooled))
    assert torch.equal(features[0], network.encoder(image)[0])


def test_a_level_that_the_network_has_not_is_refused():
    with pytest.raises(InputError, match="level: found 4, but the network has levels 0 to 1"):
        enhanced_stage(FeatureEnhancementSettings(level=4), list(segmenter().encoder.stages))
