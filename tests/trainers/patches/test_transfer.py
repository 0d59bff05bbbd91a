from pathlib import Path

import pytest
import torch

from cmb_autoseg.errors import InputError
from cmb_autoseg.networks.residual_unet import ResidualEncoder, ResidualUNet
from cmb_autoseg.records import Encoder, Plan, Role, Topology
from cmb_autoseg.trainers.patches.transfer import STEM, adapt_stem, parameter_groups, transfer_encoder

FILE = Path("encoder.pt")
KERNELS, STRIDES = [(1, 3, 3), (3, 3, 3), (3, 3, 3)], [(1, 1, 1), (1, 2, 2), (2, 2, 2)]
SWI, GRE, QSM, T1, T2 = Role.SWI, Role.GRE_MAG, Role.QSM, Role.T1, Role.T2


def encoder(channels, features=(4, 6, 8), seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        n = len(features)
        return ResidualEncoder(len(channels), features, KERNELS[:n], STRIDES[:n], [2] * n)


def record(channels, features=(4, 6, 8)):
    n = len(features)
    topology = Topology(
        features_per_stage=features, kernel_sizes=KERNELS[:n], strides=STRIDES[:n], n_blocks_per_stage=[2] * n
    )
    return Encoder(
        name="ssl_barlow_twins",
        method="barlow_twins",
        datasets=("Dataset501_X",),
        fold=None,
        seed=0,
        steps=1,
        channels=channels,
        topology=topology,
        patch_shape=(8, 16, 16),
        subjects=(),
        n_cases=0,
        weights="sha256:0",
        parents=(),
    )


def transferred(given, known, wanted, features=(4, 6, 8), own=(4, 6, 8)):
    target = encoder(wanted, own, seed=1)
    done = transfer_encoder(target, plan(wanted, own), FILE, given.state_dict(), record(known, features))
    return target, done


def plan(channels, features=(4, 6, 8), strides=STRIDES, spacing_mm=(2.0, 0.5, 0.5)):
    """What a transfer looks at."""
    n = len(features)
    topology = Topology(
        features_per_stage=features, kernel_sizes=KERNELS[:n], strides=strides[:n], n_blocks_per_stage=[2] * n
    )
    return Plan.model_construct(channels=tuple(channels), topology=topology, spacing_mm=spacing_mm)


def test_all_tensors_are_the_files_and_are_counted():
    given = encoder((SWI, GRE))
    target, done = transferred(given, (SWI, GRE), (SWI, GRE))
    assert all(torch.equal(value, given.state_dict()[name]) for name, value in target.state_dict().items())
    assert (done.n_loaded, done.n_tensors) == (len(given.state_dict()),) * 2
    assert (done.shared, done.new) == ((SWI, GRE), ())


def test_strides_that_no_shape_shows_are_compared_and_both_are_named():
    given, target = encoder((SWI,)), encoder((SWI,), seed=1)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    other = plan((SWI,), strides=[(1, 1, 1), (2, 2, 2), (2, 2, 2)])
    with pytest.raises(InputError, match="strides of level 1 are 1x2x2 in the file and 2x2x2 in the plan"):
        transfer_encoder(target, other, FILE, given.state_dict(), record((SWI,)))
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


@pytest.mark.parametrize(
    ("spacing_mm", "told"),
    [
        (None, ""),
        ((2.1, 0.5, 0.5), ""),
        ((2.0, 0.8, 0.5), "; voxels of 2 x 0.8 x 0.5 mm in the file, 2 x 0.5 x 0.5 mm in the plan (z, y, x)"),
    ],
)
def test_another_grid_is_told_and_not_refused(spacing_mm, told):
    given = encoder((SWI,))
    seen = record((SWI,)).model_copy(update={"name": "starter", "spacing_mm": spacing_mm})  # not that of the package
    done = transfer_encoder(encoder((SWI,), seed=1), plan((SWI,)), FILE, given.state_dict(), seen)
    assert str(done) == f"{done.n_tensors} of {done.n_tensors} tensors loaded; sequences: swi{told}"


def test_the_order_of_channels_plays_no_part():
    given = encoder((SWI, GRE, QSM))
    target, _ = transferred(given, (SWI, GRE, QSM), (QSM, SWI, GRE))
    images = torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(target(images[:, [2, 0, 1]]), given(images), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert torch.equal(target.state_dict()[STEM][:, 0], given.state_dict()[STEM][:, 2])


def test_new_sequences_begin_as_the_mean_of_the_files_susceptibility_sequences():
    stem = encoder((SWI, T1, GRE)).state_dict()[STEM]
    adapted = adapt_stem(stem, (SWI, T1, GRE), (GRE, QSM, T2), FILE)
    mean = (stem[:, 0] + stem[:, 2]) / 2
    assert torch.equal(adapted[:, 0], stem[:, 2])
    torch.testing.assert_close(adapted[:, 1], mean)
    torch.testing.assert_close(adapted[:, 2], mean)
    _, done = transferred(encoder((SWI, T1, GRE)), (SWI, T1, GRE), (GRE, QSM, T2))
    assert (done.shared, done.new) == ((GRE,), (QSM, T2))
    assert str(done).endswith("new: qsm, t2, as the mean of the susceptibility sequences")


def test_an_encoder_of_other_sequences_is_refused():
    with pytest.raises(
        InputError, match=r"encoder.pt: has learned t1, none of which is among swi, gre_mag of the plan"
    ):
        transferred(encoder((T1,)), (T1,), (SWI, GRE))


def test_other_features_are_refused_with_both_numbers_and_nothing_is_changed():
    target, before = encoder((SWI,), (4, 6, 8), seed=1), encoder((SWI,), (4, 6, 8), seed=1).state_dict()
    given = encoder((SWI,), (8, 6, 8))
    message = r"fits \d+ of the encoder's \d+ tensors.*stem.0.weight is 8x1x1x3x3 in the file, 4x1x1x3x3 in the network"
    with pytest.raises(InputError, match=message + r".*features of the file 8-6-8\); pretrain with this plan"):
        transfer_encoder(target, plan((SWI,)), FILE, given.state_dict(), record((SWI,), (8, 6, 8)))
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_five_in_a_hundred_tensors_may_be_missing_and_no_more():
    given = encoder((SWI,)).state_dict()
    names = [name for name in given if name != STEM]
    few = len(given) // 20
    rest = {name: value for name, value in given.items() if name not in names[:few]}
    done = transfer_encoder(encoder((SWI,), seed=1), plan((SWI,)), FILE, rest, record((SWI,)))
    assert (done.n_loaded, done.n_tensors) == (len(given) - few, len(given))
    del rest[names[few]]
    with pytest.raises(InputError, match=rf"{names[0]} is missing in the file"):
        transfer_encoder(encoder((SWI,), seed=1), plan((SWI,)), FILE, rest, record((SWI,)))


def test_a_shorter_network_takes_the_levels_that_it_has():
    target, done = transferred(encoder((SWI,)), (SWI,), (SWI,), own=(4, 6))
    assert done.n_loaded == done.n_tensors == len(target.state_dict())


def test_the_encoders_learning_rate_is_a_share_of_the_rest():
    network = ResidualUNet(1, 2, 2, [4, 8], KERNELS[:2], STRIDES[:2], [2, 2])
    (together,) = parameter_groups(network, 1.0)
    assert len(together["params"]) == len(list(network.parameters()))
    rest, ours = parameter_groups(network, 0.1)
    assert (rest["factor"], ours["factor"]) == (1.0, 0.1)
    assert {id(p) for p in ours["params"]} == {id(p) for p in network.encoder.parameters()}
    assert {id(p) for p in rest["params"]} == {id(p) for p in network.decoder.parameters()}
