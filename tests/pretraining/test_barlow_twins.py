import numpy as np
import pytest
import torch
from scipy.linalg import hadamard

from cmb_autoseg.pretraining.barlow_twins import Projector, barlow_twins_loss, cross_correlation


def reference_loss(first, second, weight):
    """Equations 1 and 2 of Zbontar et al. entry by entry, in float64."""
    n, d = first.shape
    loss = 0.0
    for i in range(d):
        for j in range(d):
            a, b = first[:, i] - first[:, i].sum() / n, second[:, j] - second[:, j].sum() / n
            entry = (a * b).sum() / (np.sqrt((a**2).sum()) * np.sqrt((b**2).sum()))
            loss += (1 - entry) ** 2 if i == j else weight * entry**2
    return loss


def random_views(n=24, d=7, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.normal(2, 3, (n, d))
    return torch.from_numpy(first), torch.from_numpy(0.5 * first + rng.normal(size=(n, d)))


def decorrelated():
    """Eight samples of seven features with zero mean, unit deviation and no correlation."""
    return torch.from_numpy(hadamard(8)[:, 1:].astype(np.float64))


@pytest.mark.parametrize("weight", [0.005, 0.7])
def test_the_loss_is_that_of_the_paper(weight):
    first, second = random_views()
    expected = reference_loss(first.numpy(), second.numpy(), weight)
    assert float(barlow_twins_loss(first, second, weight).loss) == pytest.approx(expected, rel=1e-12)
    single = barlow_twins_loss(first.float(), second.float(), weight)
    assert float(single.loss) == pytest.approx(expected, rel=1e-6)


def test_identical_views_of_decorrelated_features_have_no_loss():
    terms = barlow_twins_loss(decorrelated(), 3 * decorrelated() + 1, 1.0)
    assert float(terms.loss) == pytest.approx(0, abs=1e-12)
    assert float(terms.on_diagonal) == pytest.approx(1, abs=1e-12)
    assert float(terms.off_diagonal) == pytest.approx(0, abs=1e-12)


def test_the_diagonal_of_identical_views_is_one_however_few_samples():
    first, _ = random_views(n=3, d=2)
    assert torch.allclose(cross_correlation(first, first).diagonal(), torch.ones(2, dtype=torch.float64), atol=1e-12)


def test_opposite_views_and_equal_features_by_hand():
    column = torch.tensor([1.0, -1.0, 1.0, -1.0])
    first = torch.stack((column, column), dim=1)
    terms = barlow_twins_loss(first, -first, 0.5)
    # Diagonal -1, -1: 2 * (1 + 1)^2; off the diagonal -1, -1: 0.5 * 2.
    assert float(terms.loss) == pytest.approx(9)
    assert float(terms.on_diagonal) == pytest.approx(-1)
    assert float(terms.off_diagonal) == pytest.approx(1)


def test_it_does_not_matter_which_view_is_first():
    first, second = random_views()
    there, back = barlow_twins_loss(first, second, 0.1), barlow_twins_loss(second, first, 0.1)
    assert float(there.loss) == pytest.approx(float(back.loss), rel=1e-12)
    assert torch.allclose(cross_correlation(first, second), cross_correlation(second, first).T)


def test_the_gradient_is_that_of_the_loss():
    first, second = (view.requires_grad_() for view in random_views(n=6, d=4))
    assert torch.autograd.gradcheck(lambda a, b: barlow_twins_loss(a, b, 0.1).loss, (first, second))


def test_a_constant_feature_correlates_with_nothing():
    first, second = random_views(d=3)
    first[:, 1] = 5.0
    first.requires_grad_()
    assert not cross_correlation(first, second)[1].any()
    barlow_twins_loss(first, second, 0.1).loss.backward()
    assert bool(torch.isfinite(first.grad).all())


@pytest.mark.parametrize("shapes", [((4, 3), (4, 2)), ((1, 3), (1, 3)), ((4, 3, 2), (4, 3, 2))])
def test_views_that_are_no_pairs_are_refused(shapes):
    with pytest.raises(ValueError, match="sample, feature"):
        barlow_twins_loss(*(torch.zeros(shape) for shape in shapes), 0.1)


def test_the_projector_has_the_layers_of_the_paper():
    projector = Projector(5, (11, 13, 17))
    linear = [layer for layer in projector if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(5, 11), (11, 13), (13, 17)]
    assert [type(layer).__name__ for layer in projector] == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear"]
    assert Projector(5, (9,))(torch.randn(4, 5)).shape == (4, 9)
