import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from cmb_autoseg.pretraining.barlow_twins import barlow_twins_loss
from cmb_autoseg.pretraining.objectives import Execution
from cmb_autoseg.pretraining.patches import CasePatches
from cmb_autoseg.pretraining.setup import build_encoder, build_objective

CPU = torch.device("cpu")


def in_double(setup, cases):
    """Encoder, objective and a batch of 5 samples in float64."""
    patches = CasePatches(cases, setup.patch_shape, 1.0)
    objective = build_objective(setup, 0)
    samples = [objective.sampler(np.random.default_rng(number), patches) for number in range(5)]
    batch = {
        key: value.double() if value.is_floating_point() else value for key, value in default_collate(samples).items()
    }
    objective.head.double()
    return build_encoder(len(setup.channels), setup.topology, 0).double(), objective, batch


def gradients(*modules):
    return [p.grad.clone() for module in modules for p in module.parameters() if p.grad is not None]


def accumulated(setup, cases, micro_batch_size):
    encoder, objective, batch = in_double(setup, cases)
    figures = objective.accumulate(encoder, batch, Execution(CPU, micro_batch_size=micro_batch_size))
    return figures, gradients(encoder, objective.head)


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-8, atol=1e-10)


def pooled(maps, batch):
    return maps[-1].mean(dim=(2, 3, 4))


def at_places(maps, batch):
    """One place after the other, of level 1."""
    return torch.stack([maps[1][n, :, z, y, x] for n in range(5) for z, y, x in batch["places"][n].tolist()])


def plain(setup, cases, compared):
    """Loss and gradient by one ordinary backward pass through everything."""
    encoder, objective, batch = in_double(setup, cases)
    maps = [encoder(batch[view]) for view in ("first", "second")]
    weight = setup.settings.barlow_twins.redundancy_weight
    loss = torch.zeros((), dtype=torch.float64)
    for features, projector in zip(compared, objective.head, strict=True):
        loss = loss + barlow_twins_loss(*(projector(features(each, batch)) for each in maps), weight).loss
    loss.backward()
    return float(loss.detach()), gradients(encoder, objective.head)


@pytest.mark.parametrize("micro_batch_size", [None, 1, 2])
@pytest.mark.parametrize(
    ("places", "compared"), [("patch", [pooled]), ("voxels", [at_places]), ("both", [at_places, pooled])]
)
def test_the_gradient_of_a_large_batch_is_exact(make_setup, cases, places, compared, micro_batch_size):
    setup = make_setup(places=places)
    loss, expected = plain(setup, cases, compared)
    figures, found = accumulated(setup, cases, micro_batch_size)
    assert figures["loss"] == pytest.approx(loss, rel=1e-10)
    assert_same(found, expected)


def test_the_encoder_keeps_no_graph_of_more_than_a_micro_batch(make_setup, cases):
    encoder, objective, batch = in_double(make_setup(), cases)
    sizes = []
    encoder.stem.register_forward_hook(lambda _, inputs, out: sizes.append((len(inputs[0]), out.requires_grad)))
    objective.accumulate(encoder, batch, Execution(CPU, micro_batch_size=2))
    assert sizes == [(4, False), (4, False), (2, False), (4, True), (4, True), (2, True)]
    sizes.clear()
    objective.accumulate(encoder, batch, Execution(CPU, micro_batch_size=5))
    assert sizes == [(10, True)]


@pytest.mark.parametrize("micro_batch_size", [1, 2])
def test_masked_autoencoding_weighs_every_voxel_alike(make_setup, cases, micro_batch_size):
    setup = make_setup("masked_autoencoding")
    encoder, objective, batch = in_double(setup, cases)
    error = (objective.head(encoder(batch["visible"])) - batch["image"]).square()
    loss = error[batch["asked"]].mean()
    loss.backward()
    figures, found = accumulated(setup, cases, micro_batch_size)
    assert figures["loss"] == pytest.approx(float(loss.detach()), rel=1e-6)
    assert_same(found, gradients(encoder, objective.head))


def test_masked_patches_show_no_voxel_that_they_ask_for(make_setup, cases):
    setup = make_setup("masked_autoencoding")
    _, _, batch = in_double(setup, cases)
    assert bool(batch["asked"].any())
    assert not batch["visible"][batch["asked"]].any()
    assert bool((batch["image"][batch["asked"]] != 0).all())


def test_embeddings_are_the_features_that_are_learned(make_setup, cases):
    for places, expected in (("patch", (5, 8)), ("voxels", (25, 6)), ("both", (5, 8))):
        encoder, objective, batch = in_double(make_setup(places=places), cases)
        with torch.no_grad():
            assert objective.embed(encoder, batch["first"], Execution(CPU)).shape == expected


@pytest.mark.parametrize("method", ["barlow_twins", "masked_autoencoding"])
def test_half_precision_reaches_the_encoder_alone_and_in_both_passes(make_setup, cases, method):
    setup = make_setup(method)
    found = []
    for micro_batch_size in (None, 2):
        encoder, objective, batch = in_double(setup, cases)
        kinds = []
        encoder.stem[0].register_forward_hook(lambda _, inputs, out, kinds=kinds: kinds.append(out.dtype))
        batch = {key: value.float() if value.is_floating_point() else value for key, value in batch.items()}
        encoder.float(), objective.head.float()
        execution = Execution(CPU, micro_batch_size=micro_batch_size, autocast=torch.bfloat16)
        objective.accumulate(encoder, batch, execution)
        assert set(kinds) == {torch.bfloat16}
        assert {parameter.grad.dtype for parameter in encoder.parameters()} == {torch.float32}
        found.append(torch.cat([gradient.flatten() for gradient in gradients(encoder, objective.head)]))
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 0.1


@pytest.mark.parametrize("method", ["barlow_twins", "masked_autoencoding"])
def test_a_scaled_loss_scales_every_gradient(make_setup, cases, method):
    setup = make_setup(method)
    _, expected = accumulated(setup, cases, None)
    encoder, objective, batch = in_double(setup, cases)
    objective.accumulate(encoder, batch, Execution(CPU, micro_batch_size=2, scale=lambda loss: 64 * loss))
    assert_same([gradient / 64 for gradient in gradients(encoder, objective.head)], expected)
