import numpy as np
import pytest
import torch

from cmb_autoseg.networks.residual_unet import ResidualUNet
from cmb_autoseg.trainers.patches.augmentation import ChannelDropout, Flip, Intensity, SpatialWarp
from cmb_autoseg.trainers.patches.semi_supervised import MeanTeacher, SelfTeacher, Teaching, TwoViews
from cmb_autoseg.trainers.recipe import SemiSupervisedSettings


def linear(value):
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, value)
    return layer


def test_the_mean_teacher_is_the_moving_average():
    network = linear(1.0)
    teacher = MeanTeacher(network, decay=0.6)
    expected, weights = 1.0, [3.0, 5.0, -1.0, 2.0]
    for step, weight in enumerate(weights):
        torch.nn.init.constant_(network.weight, weight)
        teacher.follow(step)
        share = min(1 - 1 / (step + 1), 0.6)  # 0, 1/2, 0.6, 0.6
        expected = share * expected + (1 - share) * weight
        assert teacher.average.weight.item() == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(0.6 * (0.6 * (0.5 * 3 + 0.5 * 5) - 0.4) + 0.4 * 2)
    assert network.weight.item() == 2.0
    assert not teacher.average.weight.requires_grad


def test_after_the_last_step_the_average_is_the_network():
    network = linear(1.0)
    teacher = MeanTeacher(network, decay=0.5)
    for step, weight in enumerate((2.0, 4.0)):
        torch.nn.init.constant_(network.weight, weight)
        teacher.follow(step)
    teacher.hand_over()
    assert network.weight.item() == 3.0
    alone = linear(7.0)
    SelfTeacher(alone).hand_over()
    assert alone.weight.item() == 7.0


def test_a_mean_teacher_goes_on_from_its_state():
    one, two = MeanTeacher(linear(1.0), 0.9), MeanTeacher(linear(4.0), 0.9)
    two.load_state_dict(one.state_dict())
    assert two.average.weight.item() == 1.0
    assert two.network.weight.item() == 4.0


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ResidualUNet(1, 2, 2, [4, 8], [(3, 3, 3)] * 2, [(1, 1, 1), (2, 2, 2)], [1, 1], deep_supervision=True)


def test_teachers_give_probabilities_of_full_resolution_without_gradient():
    segmenter, images = network().train(), torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    logits = segmenter(images)[0]
    for teacher in (SelfTeacher(segmenter), MeanTeacher(segmenter, 0.9)):
        probability = teacher.probability(images)
        assert not probability.requires_grad
        torch.testing.assert_close(probability, torch.softmax(logits, dim=1)[:, 1].detach())
    assert segmenter.training


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (5, 1.0), (10, 2.0), (50, 2.0)])
def test_the_weight_rises_to_its_full(step, weight):
    settings = SemiSupervisedSettings(method="fixmatch", weight=2.0, ramp_up_steps=10)
    assert Teaching(settings, linear(1.0)).weight(step) == weight


def test_a_lesson_moves_the_network_towards_what_its_teacher_is_sure_of():
    segmenter = network()
    settings = SemiSupervisedSettings(method="fixmatch", ramp_up_steps=0, confidence=0.5, background_ratio=1.0)
    easy = torch.randn(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    teaching, optimizer = Teaching(settings, segmenter), torch.optim.SGD(segmenter.parameters(), 0.05)
    first = teaching.lesson(easy, easy * 0.3, 0)
    assert first.voxels > 0
    first.loss.backward()
    optimizer.step()
    assert teaching.lesson(easy, easy * 0.3, 1).loss < first.loss


def test_views_lie_voxel_on_voxel_and_differ_in_grey_values_alone():
    rng = np.random.default_rng(0)
    image = torch.zeros(2, 6, 6, 6)
    image[:, 2:4, 1:3, 3:5] = 5.0
    views = TwoViews(SpatialWarp(1.0), Flip((1, 2)), Intensity(1.0, (0.05, 0.1), 0.4), ChannelDropout(1.0, (0,)))
    grid = views.warp.draw(rng, (6, 6, 6), (1.0, 1.0, 1.0))
    easy, hard = views(rng, image, image[:1], (6, 6, 6), grid)
    assert torch.equal(easy[0] == 0, hard[0] == 0)
    assert not torch.equal(easy[0], hard[0])
    assert not hard[1].any()
    assert easy[1].any()
