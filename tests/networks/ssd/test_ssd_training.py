"""Loss, boxes, enhancement and weights of the detector."""

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.ssd import SSD
from torchvision.models.vgg import cfgs, make_layers
from torchvision.ops import box_iou

from cmb_autoseg.networks.ssd import SingleShotDetector, SSDOptions, decode, detection_loss, suppressed
from cmb_autoseg.networks.ssd.matching import boxes_from, match, places_of
from cmb_autoseg.networks.ssd.weights import MismatchError, give_weights

SMALL = {"channels": 2, "size": 300, "width": 0.02}


def random_boxes(generator, n, size=300.0):
    low = torch.rand(n, 2, generator=generator) * size * 0.8
    return torch.cat((low, low + 5 + torch.rand(n, 2, generator=generator) * 40), dim=1)


def test_matching_and_places_are_those_of_torchvision():
    generator = torch.Generator().manual_seed(1)
    anchors, truth = random_boxes(generator, 400), random_boxes(generator, 6)
    held = match(anchors, truth)
    assert torch.equal(held, SSDMatcher(0.5)(box_iou(truth, anchors)))
    at = held >= 0
    coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))
    expected = coder.encode_single(truth[held[at]], anchors[at])
    torch.testing.assert_close(places_of(truth[held[at]], anchors[at]), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(boxes_from(expected, anchors[at]), truth[held[at]], rtol=1e-4, atol=1e-3)


def test_loss_of_one_picture_is_that_of_torchvision():
    """Within one picture the hardest negatives of the batch are those of the picture."""
    generator = torch.Generator().manual_seed(2)
    anchors, truth = random_boxes(generator, 300), random_boxes(generator, 3)
    logits = torch.randn(1, 300, 2, generator=generator)
    places = torch.randn(1, 300, 4, generator=generator)
    theirs = SSD.__new__(SSD)
    nn.Module.__init__(theirs)
    theirs.box_coder, theirs.neg_to_pos_ratio = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0)), 3.0
    parts = theirs.compute_loss(
        [{"boxes": truth, "labels": torch.ones(3, dtype=torch.int64)}],
        {"cls_logits": logits, "bbox_regression": places},
        [anchors],
        [match(anchors, truth)],
    )
    expected = parts["bbox_regression"] + parts["classification"]
    torch.testing.assert_close(detection_loss(logits, places, anchors, [truth]), expected)


def test_slices_without_microbleed_teach_as_well():
    generator = torch.Generator().manual_seed(3)
    anchors = random_boxes(generator, 50)
    logits = torch.zeros(2, 50, 2, requires_grad=True)
    loss = detection_loss(logits, torch.zeros(2, 50, 4), anchors, [torch.zeros(0, 4), torch.zeros(0, 4)])
    loss.backward()
    assert loss.item() == pytest.approx(6 * torch.log(torch.tensor(2.0)).item())  # three of either picture, by hand
    assert int((logits.grad != 0).any(dim=-1).sum()) == 6


def test_repetitions_are_suppressed():
    boxes = torch.tensor([[10.0, 10, 20, 20], [11, 10, 21, 20], [100, 100, 110, 110], [-5, 0, 5, 10], [50, 50, 60, 60]])
    scores = torch.tensor([0.6, 0.9, 0.5, 0.4, 0.001])
    kept = suppressed(boxes, scores, 300, 0.01, 0.45, 10)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.5, 0.4])
    assert kept.boxes[2].tolist() == [0, 0, 5, 10]  # cut off at the picture's edge
    assert len(suppressed(boxes, scores, 300, 0.01, 0.45, 1).boxes) == 1


def test_anchors_come_back_where_the_network_says_nothing_of_them():
    network = SingleShotDetector(SSDOptions(**SMALL))
    n = len(network.anchors)
    boxes, scores = decode(torch.zeros(1, n, 2), torch.zeros(1, n, 4), network.anchors)
    torch.testing.assert_close(boxes[0], network.anchors, rtol=1e-4, atol=1e-3)
    assert scores.unique().tolist() == [0.5]


def test_enhancement_changes_training_alone():
    torch.manual_seed(0)
    network = SingleShotDetector(SSDOptions(**SMALL, batch_norm=True))
    other = SingleShotDetector(SSDOptions(**SMALL, batch_norm=True))
    other.load_state_dict(network.state_dict())
    pictures, mask = torch.rand(2, 2, 300, 300), torch.zeros(2, 1, 300, 300)
    mask[..., 96:112, 96:112] = 0.5
    plain = network.train().features(pictures)
    strengthened = network.features(pictures, mask)
    # 8 pixels a place: places 12 and 13; normalization over channels hides a factor common to all of them there.
    assert not torch.allclose(plain[1], strengthened[1])
    network.load_state_dict(other.state_dict())
    with torch.no_grad():
        said = [net.eval()(pictures) for net in (network, other)]
    assert all(torch.equal(one, two) for one, two in zip(*said, strict=True))
    with pytest.raises(ValueError, match="in training alone"):
        network.eval()(pictures, mask)


def test_enhancement_lies_right_behind_the_first_map():
    network = SingleShotDetector(SSDOptions(**SMALL)).train()
    network.first_norm = nn.Identity()
    pictures, mask = torch.rand(1, 2, 300, 300), torch.ones(1, 1, 300, 300)
    plain, strengthened = network.features(pictures), network.features(pictures, mask)
    torch.testing.assert_close(strengthened[0], 2 * plain[0])  # X + 1 * X
    torch.testing.assert_close(strengthened[1], network.maps[1](2 * network.maps[0]((pictures - 0.449) / 0.226)))


class Vgg16(nn.Module):
    """torchvision's without its classifier of 120 million weights, of which one stands for all."""

    def __init__(self):
        super().__init__()
        self.features = make_layers(cfgs["D"], batch_norm=False)
        self.classifier = nn.Sequential(nn.Linear(1, 1))


@pytest.mark.parametrize(("backbone", "stop"), [("vgg16", 23), ("mobilenet", 7)])
def test_weights_of_torchvision_are_taken(backbone, stop):
    """`stop`: behind conv4_3 with its ReLU, and behind the last layer of stride 8."""
    torch.manual_seed(0)
    source = (Vgg16() if backbone == "vgg16" else mobilenet_v2(weights=None)).eval()
    network = SingleShotDetector(SSDOptions(channels=2, size=300, backbone=backbone)).eval()
    taken = give_weights(network, source.state_dict())
    assert taken == sum(1 for name in source.state_dict() if not name.startswith("classifier."))
    grey = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = source.features[:stop](grey.expand(-1, 3, -1, -1))
        found = network.maps[0](grey.expand(-1, 2, -1, -1))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_weights_of_another_network_are_refused():
    network = SingleShotDetector(SSDOptions(channels=2, size=300))
    with pytest.raises(MismatchError):
        give_weights(network, mobilenet_v2(weights=None).state_dict())
