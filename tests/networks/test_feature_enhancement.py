import pytest
import torch
from torch import Tensor

from cmb_autoseg.networks.feature_enhancement import enhance, enhancement_mask


def boxes(*rows: tuple[float, ...], columns: int = 4) -> list[Tensor]:
    return [torch.tensor(rows, dtype=torch.float32).reshape(-1, columns)]


def hand_computed() -> tuple[Tensor, Tensor]:
    """An 8 x 8 picture of 100 with a bleed in columns 2-4 and rows 1-3, and the mask of its box, by hand.

    Of the box the sum is 20 + 50 + 30 + 50 + 0 + 50 + 30 + 40 + 180 = 450, the mean 50 and B_mean 75.
    """
    image = torch.full((1, 8, 8), 100.0)
    image[0, 1:4, 2:5] = torch.tensor([[20.0, 50.0, 30.0], [50.0, 0.0, 50.0], [30.0, 40.0, 180.0]])
    expected = torch.zeros(1, 1, 8, 8)
    expected[0, 0, 1:4, 2:5] = torch.tensor(
        [[1 - 20 / 75, 1 - 50 / 75, 1 - 30 / 75], [1 - 50 / 75, 1.0, 1 - 50 / 75], [1 - 30 / 75, 1 - 40 / 75, 0.0]]
    )
    return image, expected


def test_a_picture_of_8_by_8_as_computed_by_hand() -> None:
    image, expected = hand_computed()

    mask = enhancement_mask(image, boxes((2, 1, 5, 4)), beta=1.5)

    torch.testing.assert_close(mask, expected)
    assert mask[0, 0, 3, 4] == 0, "180 is over B_mean, 75, and discarded"


def test_darker_pixels_of_a_box_are_enhanced_more() -> None:
    image, expected = hand_computed()
    features = torch.ones(1, 3, 8, 8)

    enhanced = enhance(features, enhancement_mask(image, boxes((2, 1, 5, 4))))

    torch.testing.assert_close(enhanced, 1 + expected.expand(1, 3, 8, 8))
    assert enhanced[0, 0, 2, 3] == 2 > enhanced[0, 0, 1, 2] > enhanced[0, 0, 1, 3] > enhanced[0, 0, 0, 0] == 1


def test_beta_decides_which_pixels_are_too_bright() -> None:
    """With beta 1, B_mean is the mean itself, 50: the four pixels of exactly 50 stay in with 0, 180 goes."""
    image, _ = hand_computed()

    mask = enhancement_mask(image, boxes((2, 1, 5, 4)), beta=1.0)

    expected = torch.tensor([[1 - 20 / 50, 0.0, 1 - 30 / 50], [0.0, 1.0, 0.0], [1 - 30 / 50, 1 - 40 / 50, 0.0]])
    torch.testing.assert_close(mask[0, 0, 1:4, 2:5], expected)


def test_a_volume_is_enhanced_like_a_picture() -> None:
    """Two voxels along z, y = 1, x = 2: 10 and 30, mean 20, B_mean 30."""
    image = torch.full((1, 4, 4, 4), 50.0)
    image[0, 1, 1, 2], image[0, 2, 1, 2] = 10.0, 30.0

    mask = enhancement_mask(image, boxes((2, 1, 1, 3, 2, 3), columns=6))

    assert mask.shape == (1, 1, 4, 4, 4)
    assert mask[0, 0, 1, 1, 2] == pytest.approx(1 - 10 / 30)
    assert mask[0, 0, 2, 1, 2] == 0, "1 - 30 / 30"
    assert mask.sum() == mask[0, 0, 1, 1, 2]


def test_the_mask_is_averaged_over_the_pixels_of_a_feature() -> None:
    """Stride 4: rows 1-3, columns 2-4 lie in the upper two of four features."""
    image, expected = hand_computed()
    features = torch.full((1, 2, 2, 2), 10.0)

    enhanced = enhance(features, enhancement_mask(image, boxes((2, 1, 5, 4))))

    left, right = float(expected[..., :4, :4].mean()), float(expected[..., :4, 4:].mean())
    assert left > right > 0
    torch.testing.assert_close(enhanced[0, 1], 10 * torch.tensor([[1 + left, 1 + right], [1.0, 1.0]]))


def test_a_lesion_of_one_voxel_reaches_coarse_features() -> None:
    image = torch.full((1, 8, 8, 8), 100.0)
    image[0, 4, 3, 5] = 10.0

    enhanced = enhance(torch.ones(1, 1, 2, 2, 2), enhancement_mask(image, boxes((4, 3, 4, 6, 4, 5), columns=6)))

    changed = torch.nonzero(enhanced[0, 0] > 1)
    assert changed.tolist() == [[1, 0, 1]]


@pytest.mark.parametrize("axes", [2, 3])
def test_without_boxes_nothing_changes(axes: int) -> None:
    features = torch.randn((2, 3, *[4] * axes), generator=torch.Generator().manual_seed(0))
    nowhere = [torch.zeros(0, 2 * axes), torch.full((1, 2 * axes), 20.0)]

    enhanced = enhance(features, enhancement_mask(torch.rand(2, *[8] * axes), nowhere))

    assert torch.equal(enhanced, features)


def test_each_picture_has_boxes_of_its_own() -> None:
    image, expected = hand_computed()

    mask = enhancement_mask(image.repeat(2, 1, 1), [torch.zeros(0, 4), *boxes((2, 1, 5, 4))])

    assert not mask[0].any()
    torch.testing.assert_close(mask[1:], expected)


def test_where_boxes_overlap_the_larger_value_counts() -> None:
    image, expected = hand_computed()
    one, other = (2, 1, 5, 4), (0, 0, 8, 8)

    alone = enhancement_mask(image, boxes(other))
    both = enhancement_mask(image, boxes(one, other))

    torch.testing.assert_close(both, torch.maximum(alone, expected))
    torch.testing.assert_close(both, enhancement_mask(image, boxes(other, one)))


@pytest.mark.parametrize(
    ("low_and_high", "first", "last"),
    [
        ((2.0, 5.0), 2, 4),
        ((2.5, 4.5), 2, 3),  # the middle of 2 is on the lower face, that of 4 on the upper one
        ((2.6, 4.6), 3, 4),
        ((2.6, 2.9), 2, 2),  # no middle is inside, but the box's own lies in pixel 2
        ((-3.0, 1.2), 0, 0),
        ((6.4, 11.0), 6, 7),
    ],
)
def test_pixels_whose_middle_is_in_the_box_are_inside(low_and_high: tuple[float, float], first: int, last: int) -> None:
    low, high = low_and_high
    image = torch.ones(1, 8, 8)

    along_columns = enhancement_mask(image, boxes((low, 3, high, 4)))[0, 0]
    along_rows = enhancement_mask(image, boxes((3, low, 4, high)))[0, 0]

    assert torch.nonzero(along_columns[3]).flatten().tolist() == list(range(first, last + 1))
    assert torch.equal(along_columns.T, along_rows)
    assert int((along_columns > 0).sum()) == last - first + 1


def test_a_black_box_enhances_nothing() -> None:
    assert not enhancement_mask(torch.zeros(1, 8, 8), boxes((1, 1, 4, 4))).any()


def test_the_mask_carries_no_gradients_but_the_features_do() -> None:
    image, _ = hand_computed()
    features = torch.ones(1, 1, 8, 8, requires_grad=True)

    mask = enhancement_mask(image.requires_grad_(), boxes((2, 1, 5, 4)))
    (gradient,) = torch.autograd.grad(enhance(features, mask).sum(), features)

    assert not mask.requires_grad
    torch.testing.assert_close(gradient, 1 + mask)


def test_boxes_of_other_axes_or_another_number_of_pictures_are_refused() -> None:
    image = torch.ones(1, 8, 8)
    with pytest.raises(ValueError, match="2 axes need \\(n, 4\\)"):
        enhancement_mask(image, boxes((1, 1, 1, 2, 2, 2), columns=6))
    with pytest.raises(ValueError, match="2 tensors of boxes for 1 images"):
        enhancement_mask(image, [torch.zeros(0, 4)] * 2)
