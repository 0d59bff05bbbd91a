"""The layers of the detector against the publications, and against torchvision's own SSD."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet34
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSDFeatureExtractorVGG
from torchvision.models.vgg import cfgs, make_layers

from cmb_autoseg.networks.ssd import SingleShotDetector, SSDOptions, anchor_boxes, anchors_per_place
from cmb_autoseg.networks.ssd.anchors import MAP_SIZES

VGG = [
    *[("conv1_1", 64, 3), ("conv1_2", 64, 3), ("conv2_1", 128, 3), ("conv2_2", 128, 3)],
    *[("conv3_1", 256, 3), ("conv3_2", 256, 3), ("conv3_3", 256, 3)],
    *[("conv4_1", 512, 3), ("conv4_2", 512, 3), ("conv4_3", 512, 3)],
    *[("conv5_1", 512, 3), ("conv5_2", 512, 3), ("conv5_3", 512, 3), ("fc6", 1024, 3), ("fc7", 1024, 1)],
]
EXTRAS = {
    300: [
        *[("conv6_1", 256, 1), ("conv6_2", 512, 3), ("conv7_1", 128, 1), ("conv7_2", 256, 3)],
        *[("conv8_1", 128, 1), ("conv8_2", 256, 3), ("conv9_1", 128, 1), ("conv9_2", 256, 3)],
    ],
    512: [
        *[("conv6_1", 256, 1), ("conv6_2", 512, 3), ("conv7_1", 128, 1), ("conv7_2", 256, 3)],
        *[("conv8_1", 128, 1), ("conv8_2", 256, 3), ("conv9_1", 128, 1), ("conv9_2", 256, 3)],
        *[("conv10_1", 128, 1), ("conv10_2", 256, 4)],
    ],
}
MAPS = {
    300: [(512, 38), (1024, 19), (512, 10), (256, 5), (256, 3), (256, 1)],
    512: [(512, 64), (1024, 32), (512, 16), (256, 8), (256, 4), (256, 2), (256, 1)],
}
PUBLISHED_ANCHORS = {300: [4, 6, 6, 6, 4, 4], 512: [4, 6, 6, 6, 6, 4, 4]}
N_PUBLISHED = {300: 8732, 512: 24564}
"""Anchors of SSD-300 and SSD-512 (Liu et al. 2016, table 7)."""


def convolutions(network):
    """Name, filters and kernel of each convolution but the heads', in order."""
    modules = [(name.rpartition(".")[2], module) for name, module in network.maps.named_modules()]
    return [(name, m.out_channels, m.kernel_size[0]) for name, m in modules if isinstance(m, nn.Conv2d)]


def on_meta(**options):
    with torch.device("meta"):
        return SingleShotDetector(SSDOptions(**options))


@pytest.mark.parametrize("size", [300, 512])
def test_vgg_has_the_published_layers(size):
    network = on_meta(channels=3, size=size, anchors="published")
    assert convolutions(network) == VGG + EXTRAS[size]
    maps = network.features(torch.zeros(1, 3, size, size, device="meta"))
    assert [(f.shape[1], f.shape[2]) for f in maps] == MAPS[size]
    assert anchors_per_place(size, "published") == PUBLISHED_ANCHORS[size]
    assert len(anchor_boxes(size, "published")) == N_PUBLISHED[size]
    dilated = network.maps[1].fc6
    assert (dilated.dilation, dilated.padding) == ((6, 6), (6, 6))


def counted(table, n_in=3):
    """Weights and biases of convolutions in a row, by hand from filters and kernels."""
    total = 0
    for _, n_out, kernel in table:
        total += n_out * (n_in * kernel**2 + 1)
        n_in = n_out
    return total


@pytest.mark.parametrize("size", [300, 512])
def test_parameters_are_those_of_the_layer_table(size):
    network = on_meta(channels=3, size=size, anchors="published")
    heads = sum(
        (2 + 4) * per_place * (channels * 9 + 1)
        for per_place, (channels, _) in zip(PUBLISHED_ANCHORS[size], MAPS[size], strict=True)
    )
    norm = 512
    expected = counted(VGG + EXTRAS[size]) + norm + heads
    assert sum(p.numel() for p in network.parameters()) == expected


def test_same_weights_give_the_features_of_torchvision():
    torch.manual_seed(0)
    theirs = SSDFeatureExtractorVGG(make_layers(cfgs["D"]), highres=False).eval()
    ours = SingleShotDetector(SSDOptions(channels=3, size=300)).eval()
    source = [m for m in theirs.modules() if isinstance(m, nn.Conv2d)]
    target = [m for m in ours.maps.modules() if isinstance(m, nn.Conv2d)]
    # torchvision's container holds the extra layers' modules in the order of the network as well.
    for one, other in zip(source, target, strict=True):
        other.load_state_dict(one.state_dict())
    picture = torch.rand(1, 3, 300, 300)
    with torch.no_grad():
        expected = list(theirs((picture - 0.449) / 0.226).values())
        found = ours.features(picture)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_published_anchors_are_those_of_torchvision():
    generator = DefaultBoxGenerator(
        [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
        steps=[8, 16, 32, 64, 100, 300],
    )
    maps = [torch.zeros(1, 1, n, n) for n in MAP_SIZES[300]]
    expected = generator(ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)]), maps)[0]
    torch.testing.assert_close(anchor_boxes(300, "published"), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("backbone", ["resnet34", "mobilenet"])
@pytest.mark.parametrize("size", [300, 512])
def test_other_backbones_have_maps_of_the_same_sizes(backbone, size):
    network = on_meta(channels=2, size=size, backbone=backbone)
    maps = network.features(torch.zeros(2, 2, size, size, device="meta"))
    assert [f.shape[2] for f in maps] == list(MAP_SIZES[size])


def test_resnet_34_has_the_layers_of_torchvision():
    network = on_meta(channels=3, size=300, backbone="resnet34")
    theirs = [tuple(v.shape) for k, v in resnet34(weights=None).state_dict().items() if not k.startswith("fc.")]
    ours = [tuple(v.shape) for part in network.pretrained for v in part.state_dict().values()]
    assert ours == theirs


def test_a_reduced_variant_has_fewer_channels_and_the_same_layers():
    reduced = on_meta(channels=1, size=300, width=0.25)
    assert [name for name, _, _ in convolutions(reduced)] == [name for name, _, _ in VGG + EXTRAS[300]]
    assert {name: filters for name, filters, _ in convolutions(reduced)}["conv4_3"] == 128


def test_small_anchors_leave_no_microbleed_out():
    """Boxes of 6 to 24 pixels anywhere, up to 1.6 times as long as wide, overlap an anchor by half or more."""
    from torchvision.ops import box_iou

    anchors = anchor_boxes(512)
    middles = (anchors[:, :2] + anchors[:, 2:]) / 2
    near = anchors[((middles - 256).abs().amax(dim=1) < 32) & ((anchors[:, 2] - anchors[:, 0]) < 64)]
    generator = torch.Generator().manual_seed(0)
    width = 6 * 4 ** torch.rand(1500, generator=generator)
    height = (width * 1.6 ** (2 * torch.rand(1500, generator=generator) - 1)).clamp(min=6)
    middle = torch.rand(1500, 2, generator=generator) * 16 + 248
    half = torch.stack((width, height), dim=1) / 2
    best = box_iou(torch.cat((middle - half, middle + half), dim=1), near).amax(dim=1)
    assert best.min() >= 0.5


def test_the_full_network_takes_a_step():
    """SSD-300 with VGG-16 at full width, one picture, with feature enhancement."""
    from cmb_autoseg.networks.ssd import detection_loss

    torch.manual_seed(0)
    network = SingleShotDetector(SSDOptions(channels=1, size=300))
    mask = torch.zeros(1, 1, 300, 300)
    mask[..., 100:110, 100:110] = 0.5
    logits, places = network(torch.rand(1, 1, 300, 300), mask)
    loss = detection_loss(logits, places, network.anchors, [torch.tensor([[100.0, 100, 110, 110]])])
    loss.backward()
    assert torch.isfinite(loss)
    first = network.maps[0].conv1_1.weight
    before = first.detach().clone()
    torch.optim.Adam(network.parameters(), 1e-3).step()
    assert not torch.equal(before, first)
