"""Windows of networks with random weights: against nnU-Net's predictor, between engines, and the cascade."""

import copy
import ctypes
import gc
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import expit, logit

from cmb_autoseg.inference import engines, sliding_window
from cmb_autoseg.inference.engines import Engine, make_engine
from cmb_autoseg.inference.sliding_window import BLANK_LOGIT, Windowing, foreground_logits
from cmb_autoseg.inference.tiles import fitted_windows, gaussian_weights, nnunet_windows
from cmb_autoseg.networks import ResidualUNet
from cmb_autoseg.planners.topology import plan_topology

PATCH, SHAPE = (8, 16, 16), (13, 30, 25)
HOW = Windowing(PATCH, (2, 4, 4), step=0.5)


def network(seed, spacing=(2, 1, 1)):
    topology = plan_topology(spacing, PATCH, (4, 8, 16))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = ResidualUNet(2, 2, len(topology.strides), deep_supervision=False, **topology.model_dump())
        for values in net.parameters():
            torch.nn.init.normal_(values, std=0.4)
        net.decoder.heads[-1].weight.data *= 10
    return net.eval()


@pytest.fixture(scope="module")
def networks():
    return [network(seed) for seed in range(2)]


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)


EVERYWHERE = np.ones(SHAPE, bool)


@pytest.fixture
def torch_engine(networks, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    return make_engine(networks, 2, "cpu")


@pytest.mark.parametrize("spacing", [(2, 1, 1), (1, 1, 1), (1, 1, 3)])
def test_openvino_says_what_pytorch_says(spacing, monkeypatch):
    nets = [network(seed, spacing) for seed in range(2)]
    fast = make_engine(nets, 2, "cpu")
    assert fast.name == "openvino"
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    plain = make_engine(nets, 2, "cpu")
    assert plain.name == "torch"
    for shape in (PATCH, (12, 24, 16)):
        windows = torch.randn(3, 2, *shape, generator=torch.Generator().manual_seed(1))
        for fold in range(2):
            expected = plain.foreground(fold, windows)
            assert expected.std() > 0.1
            torch.testing.assert_close(fast.foreground(fold, windows), expected, atol=1e-4, rtol=1e-4)


def test_openvino_leaves_cores_to_the_system(networks):
    """Pinned, processes beside each other all run on the first cores: two of one thread at half their speed."""
    compiled = make_engine(networks, 2, "cpu").requests[0].get_compiled_model()
    assert compiled.get_property("ENABLE_CPU_PINNING") is False


class SignalStack(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/maps and sigaltstack are Linux's")
def test_engines_may_go_in_any_order(networks):
    """OpenVINO sets this thread's stack for signals; freed, it ends the process at the next Ctrl-C."""
    first = make_engine(networks, 2, "cpu")
    second = make_engine(networks, 2, "cpu")
    assert (first.name, second.name) == ("openvino", "openvino")
    del first
    gc.collect()
    del second
    gc.collect()
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    ranges = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines()]
    assert stack.start is None or any(int(low, 16) <= stack.start < int(high, 16) for low, high in ranges)


def test_an_openvino_that_does_not_load_leaves_it_to_pytorch(networks, monkeypatch, capsys):
    monkeypatch.setattr(engines, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert make_engine(networks, 2, "cpu").name == "torch"
    assert "warning: OpenVINO does not load" in capsys.readouterr().err


def test_networks_derived_of_ours_run_in_pytorch(networks):
    class Derived(ResidualUNet):
        pass

    derived = copy.copy(networks[0])
    derived.__class__ = Derived
    assert make_engine([derived], 2, "cpu").name == "torch"


def test_other_networks_than_ours_run_in_pytorch():
    other = torch.nn.Conv3d(2, 2, 1)
    engine = make_engine([other], 2, "cpu")
    assert engine.name == "torch"
    windows = torch.randn(1, 2, *PATCH)
    logits = other(windows)
    torch.testing.assert_close(engine.foreground(0, windows), logits[:, 1] - logits[:, 0])


@pytest.mark.parametrize("mirror", [(), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("shape", [SHAPE, (5, 30, 11)])
def test_logits_are_nnunets(networks, torch_engine, mirror, shape):
    data = np.random.default_rng(3).normal(size=(2, *shape)).astype(np.float32)
    ours = foreground_logits(
        data, np.ones(shape, bool), torch_engine, 2, Windowing(PATCH, (2, 4, 4), step=0.5, mirror=mirror)
    )

    theirs = np.mean([nnunets_logits(net, data, mirror) for net in networks], axis=0)

    assert ours.std() > 0.3
    # nnU-Net adds up in half precision, to which the corners of its bell are too small.
    assert np.mean(np.abs(ours - theirs) < 0.02 * ours.std()) > 0.98


def nnunets_logits(net, data, mirror):
    from cmb_autoseg._nnunet import nnunet_environment

    with nnunet_environment():
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(
            0.5, use_mirroring=bool(mirror), perform_everything_on_device=False, device=torch.device("cpu"),
            allow_tqdm=False,
        )  # fmt: skip
        predictor.network, predictor.allowed_mirroring_axes = net, mirror or None
        predictor.label_manager = type("Labels", (), {"num_segmentation_heads": 2})()
        predictor.configuration_manager = type("Configuration", (), {"patch_size": PATCH})()
        logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(data)).float().numpy()
    return logits[1] - logits[0]


class Told(Engine):
    """Says of every window what its fold is told, and keeps how many windows it was shown."""

    name, batch, device = "torch", 2, torch.device("cpu")

    def __init__(self, *says):
        self.says, self.shown = says, [0] * len(says)

    def foreground(self, fold, windows):
        self.shown[fold] += len(windows)
        return torch.stack([self.says[fold](window[0]) for window in windows])


class WholeWindow(Told):
    """Says it of all channels."""

    def foreground(self, fold, windows):
        self.shown[fold] += len(windows)
        return torch.stack([self.says[fold](window) for window in windows])


def spots(height):
    """A network that finds what the scan shows; the higher `height`, the surer."""
    return lambda window: torch.where(window > 0, window * height, -6.0)


SCAN = np.zeros((1, 8, 48, 48), np.float32)
SCAN[0, 3:5, 6:8, 6:8] = 1.0
SCAN[0, 3:5, 40:42, 30:32] = 0.25
COVER = Windowing(PATCH, (2, 4, 4))
ALL = SCAN[0] > -1


FITTED = fitted_windows(ALL, PATCH, (2, 4, 4)).places
PLAIN = nnunet_windows(ALL, PATCH, 1.0).places
OVERLAPPING = nnunet_windows(ALL, PATCH, 0.5).places


def test_what_is_found_is_looked_at_in_nnunets_windows_by_all_folds():
    says = [spots(8.0), spots(16.0), spots(32.0)]
    exact = foreground_logits(SCAN, ALL, Told(*says), 3, Windowing(PATCH, (2, 4, 4), step=0.5))
    engine = Told(*says)

    logits = foreground_logits(SCAN, ALL, engine, 3, COVER)

    again = engine.shown[2]
    assert 2 <= again <= 8 < len(OVERLAPPING)
    assert engine.shown == [len(FITTED) + again, len(PLAIN) + again, again]
    np.testing.assert_allclose(logits, exact, atol=1e-5)


def test_where_nothing_is_found_nobody_looks_again():
    engine = Told(spots(-32.0), spots(-32.0), spots(32.0))
    logits = foreground_logits(SCAN, ALL, engine, 3, COVER)
    assert engine.shown == [len(FITTED), len(PLAIN), 0]
    assert logits.max() < 0


@pytest.mark.parametrize("seeing", [0, 1])
def test_one_of_two_covering_folds_is_enough(seeing):
    engine = Told(*(spots(8.0 if fold == seeing else -10.0) for fold in range(2)))
    logits = foreground_logits(SCAN, ALL, engine, 2, COVER)
    assert engine.shown[0] > len(FITTED)
    np.testing.assert_allclose(logits[3:5, 6:8, 6:8], (8 - 10) / 2, rtol=1e-5)


@pytest.mark.parametrize("seeing", [0, 1])
def test_one_covering_fold_may_rule_out_what_the_other_finds(seeing):
    says = [lambda window: torch.full_like(window, -20.0), spots(8.0)]
    engine = Told(says[seeing], says[1 - seeing], spots(8.0))
    logits = foreground_logits(SCAN, ALL, engine, 3, COVER)
    assert engine.shown == [len(FITTED), len(PLAIN), 0]
    np.testing.assert_allclose(logits[3:5, 6:8, 6:8], (8 - 20) / 2, rtol=1e-5)


def test_a_lesion_that_one_fold_sees_a_voxel_off_is_not_ruled_out():
    off = torch.roll(torch.from_numpy(SCAN[0]), (2, 2), (1, 2)).numpy()
    scan = np.stack([SCAN[0], off])
    says = [lambda window, own=own: torch.where(window[own] > 0, 8.0, -10.0) for own in (0, 1, 0)]
    engine = WholeWindow(*says)
    foreground_logits(scan, ALL, engine, 3, COVER)
    assert engine.shown[2] >= 2


ONE = np.zeros((1, 8, 48, 48), np.float32)
ONE[0, 3:5, 10:12, 19:21] = 1.0


def looks(*probabilities, fast=False):
    """How often all folds look at one spot of which they say this."""
    heights = [float(logit(probability)) for probability in probabilities]
    engine = Told(*(lambda window, own=own: torch.where(window > 0, own, -20.0) for own in heights))
    foreground_logits(ONE, ALL, engine, len(probabilities), Windowing(PATCH, (2, 4, 4), fast=fast))
    return engine.shown[-1]


def partner(mean, other):
    """The probability whose logit has, with another one's, this mean's."""
    return expit(2 * logit(mean) - logit(other))


def test_limits_of_a_second_look():
    assert looks(0.06, 0.06, 0.06) == looks(0.06, 0.03, 0.06) == looks(0.03, 0.06, 0.06) == 1  # 0.05 in one of two
    assert looks(0.04, 0.04, 0.9) == 0
    assert looks(0.9, partner(0.025, 0.9), 0.001) == 1  # 0.02 by their mean
    assert looks(0.9, partner(0.015, 0.9), 0.9) == 0
    assert looks(0.12, 0.001, 0.001, fast=True) == 1  # 0.1 in the only one
    assert looks(0.08, 0.9, 0.9, fast=True) == 0
    assert looks(0.06, 0.06, 0.2) == 1 < looks(0.06, 0.06, 0.6)  # 0.1 by the mean of all: 0.09 and 0.16


def test_a_single_fold_covers_and_looks_again():
    assert looks(0.06) - len(FITTED) == 1
    assert looks(0.04) == len(FITTED)


def test_a_candidate_longer_than_a_window_is_looked_at_to_its_ends():
    scan = np.zeros((1, 8, 16, 120), np.float32)
    scan[0, 4, 8, 4:116] = 0.4  # a vein, which three of four folds deny
    engine = Told(spots(8.0), *(spots(-3.0) for _ in range(3)))
    logits = foreground_logits(scan, scan[0] > -1, engine, 4, COVER)
    np.testing.assert_allclose(logits[4, 8, 4:116], 0.4 * (8 - 9) / 4, rtol=1e-4)


def test_windows_that_hardly_show_a_spot_are_left_out():
    bell = gaussian_weights(PATCH)
    shares = np.zeros((len(OVERLAPPING), *ALL.shape))
    for own, place in zip(shares, OVERLAPPING, strict=True):
        own[tuple(slice(n, n + side) for n, side in zip(place, PATCH, strict=True))] = bell
    shares /= shares.sum(axis=0)
    highest = shares[:, ONE[0] > 0].max(axis=1)
    at = {least: int(np.count_nonzero(highest >= least)) for least in (0.05, 0.1, 0.15)}
    assert at[0.05] > at[0.1] > at[0.15]
    assert looks(0.9, 0.9, 0.9) == at[0.1]


def test_three_voxels_around_are_decided_anew():
    def later(window):
        return torch.where(window > 0, 8.0, -1.0)

    logits = foreground_logits(ONE, ALL, Told(spots(8.0), spots(8.0), later), 3, COVER)
    np.testing.assert_allclose(logits[3, 10, 21:27], [*[(-6 - 6 - 1) / 3] * 3, -6, -6, -6], rtol=1e-5)


def leaning(height):
    """A network that is surer of a spot the further right it lies in its window."""

    def says(window):
        slope = torch.linspace(-0.5, 0.5, window.shape[-1])
        return torch.where(window > 0, height + slope, -20.0)

    return says


@pytest.mark.parametrize(("height", "again"), [(1.0, True), (4.0, False)])
def test_what_remains_unsure_is_looked_at_mirrored(height, again):
    """0.73 is unsure, 0.98 is not."""
    says, mirrored = [leaning(height) for _ in range(3)], Windowing(PATCH, (2, 4, 4), mirror=(1, 2))
    plain, engine = Told(*says), Told(*says)
    once = foreground_logits(ONE, ALL, plain, 3, COVER)
    exact = foreground_logits(ONE, ALL, Told(*says), 3, Windowing(PATCH, (2, 4, 4), step=0.5, mirror=(1, 2)))

    logits = foreground_logits(ONE, ALL, engine, 3, mirrored)

    spot = ONE[0] > 0
    assert not np.allclose(once[spot], exact[spot], atol=0.01)
    # Windows that hardly show the spot are left out.
    np.testing.assert_allclose(logits[spot], (exact if again else once)[spot], atol=0.02)
    assert engine.shown[2] == plain.shown[2] * (4 if again else 1)


@pytest.mark.parametrize(("height", "again"), [(1.0, True), (4.0, False)])
def test_what_remains_unsure_is_looked_at_with_fewer_channels(height, again):
    def says(window):  # each channel that shows the spot speaks for it, two of them more than twice as much
        shown = (window > 0).sum(dim=0)
        return torch.where(shown == 2, height, torch.where(shown == 1, height - 3, -20.0))

    both = np.concatenate([ONE, ONE])
    plain, engine, mirrored = (WholeWindow(*[says] * 3) for _ in range(3))
    foreground_logits(both, ALL, plain, 3, COVER)

    logits = foreground_logits(both, ALL, engine, 3, replace(COVER, fewer=((0,), (1,))))
    turned = foreground_logits(both, ALL, mirrored, 3, replace(COVER, mirror=(1, 2), fewer=((0,), (1,))))

    spot = ONE[0] > 0
    np.testing.assert_allclose(logits[spot], height - 2 if again else height, atol=1e-5)  # in one of three passes
    assert engine.shown[2] == plain.shown[2] * (3 if again else 1)
    np.testing.assert_allclose(turned[spot], height - 1.5 if again else height, atol=1e-5)  # in two of four, of which
    assert mirrored.shown[2] == plain.shown[2] * (4 if again else 1)  # three are mirrored, one of them with both


@pytest.mark.parametrize("most", [0, 10**9])
def test_networks_that_find_something_everywhere_look_everywhere(torch_engine, data, monkeypatch, most):
    monkeypatch.setattr(sliding_window, "MOST_VOXELS", most)
    cover = foreground_logits(data, EVERYWHERE, torch_engine, 2, Windowing(PATCH, (2, 4, 4)))
    exact = foreground_logits(data, EVERYWHERE, torch_engine, 2, HOW)
    np.testing.assert_allclose(cover, exact, rtol=1e-4, atol=1e-4)


def test_what_the_other_folds_do_not_confirm_is_looked_at_once():
    engine = Told(spots(8.0), spots(-10.0), spots(-32.0), spots(-32.0))
    logits = foreground_logits(SCAN, ALL, engine, 4, COVER)
    assert engine.shown[2:] == [2, 2]  # one window for each of two spots
    np.testing.assert_allclose(logits[3:5, 6:8, 6:8], (8 - 10 - 2 * 32) / 4, rtol=1e-5)
    np.testing.assert_allclose(logits[3:5, 40:42, 30:32], (8 - 10 - 2 * 32) / 16, rtol=1e-5)


def test_each_of_a_chain_of_candidates_is_looked_at():
    """Dots six voxels apart, through many windows; the last one is bright, and three of four folds deny it."""
    scan = np.zeros((1, 8, 16, 120), np.float32)
    scan[0, 4, 8, 4:112:6] = 0.4
    scan[0, 4, 8, 112] = 1.0
    engine = Told(spots(8.0), *(spots(-3.0) for _ in range(3)))
    everywhere = scan[0] > -1
    logits = foreground_logits(scan, everywhere, engine, 4, COVER)
    np.testing.assert_allclose(logits[4, 8, 4:112:6], 0.4 * (8 - 9) / 4, rtol=1e-4)
    np.testing.assert_allclose(logits[4, 8, 112], (8 - 9) / 4, rtol=1e-4)


def test_a_second_look_overrules_the_first():
    """Covering windows see the spot dimly; those of nnU-Net, which lie elsewhere, see it well."""
    size = fitted_windows(ALL, PATCH, (2, 4, 4)).size
    seen = [SCAN[(slice(None), *map(slice, place, np.add(place, size)))][0].tobytes() for place in FITTED]

    def says(window):
        return torch.where(window > 0, 0.0 if window.numpy().tobytes() in seen else 5.0, -6.0)

    logits = foreground_logits(SCAN, ALL, Told(says), 1, COVER)

    assert logits[3:5, 40:42, 30:32].min() > 4
    assert logits[0, 0, 0] == -6


def test_fast_covers_with_one_fold():
    engine = Told(spots(32.0), spots(16.0))
    logits = foreground_logits(SCAN, ALL, engine, 2, Windowing(PATCH, (2, 4, 4), fast=True))
    assert engine.shown[0] - len(FITTED) == engine.shown[1]
    assert 2 <= engine.shown[1] <= 8
    np.testing.assert_allclose(logits[3:5, 6:8, 6:8], 24, rtol=1e-5)
    blind = Told(spots(-32.0), spots(32.0))
    assert foreground_logits(SCAN, ALL, blind, 2, Windowing(PATCH, (2, 4, 4), fast=True)).max() < 0
    assert blind.shown == [len(FITTED), 0]


def test_nothing_is_said_of_air(torch_engine, data):
    brain = np.zeros(SHAPE, bool)
    brain[:8, :16, :8] = True
    logits = foreground_logits(data, brain, torch_engine, 2, Windowing(PATCH, (2, 4, 4), step=1.0))
    assert (logits[brain] > BLANK_LOGIT).all()
    assert (logits[:, :, 18:] == BLANK_LOGIT).all()


@pytest.mark.parametrize("step", [None, 0.5, 0.7])
def test_windows_that_are_left_out_change_nothing_next_to_the_brain(step):
    brain = np.zeros((16, 40, 40), bool)
    brain[:8, :40, :12] = brain[:8, :12, :40] = True
    brain[12, 36, 36] = True
    engine = Told(*(lambda window: torch.full_like(window, -6.0) for _ in range(2)))
    logits = foreground_logits(brain[None].astype(np.float32), brain, engine, 2, Windowing(PATCH, (2, 4, 4), step))
    near = ndimage.binary_dilation(brain, np.ones((3, 3, 3)))
    np.testing.assert_allclose(logits[near], -6, rtol=1e-5)
    assert (logits[~near] == BLANK_LOGIT).all()


@pytest.mark.parametrize("axes", [axes for n in (1, 2, 3) for axes in combinations((0, 1, 2), n)])
def test_a_mirrored_scan_has_a_mirrored_map(torch_engine, data, axes):
    how = Windowing(PATCH, (2, 4, 4), step=0.5, mirror=axes)
    one = foreground_logits(data, EVERYWHERE, torch_engine, 2, how)
    flipped = np.flip(data, [axis + 1 for axis in axes]).copy()
    other = np.flip(foreground_logits(flipped, EVERYWHERE, torch_engine, 2, how), axes)
    # Windows of an odd rest do not mirror onto each other to the voxel; their middle does.
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9


def test_fitted_windows_cover_the_scan():
    """One fold, which finds nothing anywhere: what it says is all that there is, and depends on the voxel alone."""
    values = np.random.default_rng(1).uniform(-8, -4, size=(1, *SHAPE)).astype(np.float32)
    engine = Told(lambda window: window)
    logits = foreground_logits(values, EVERYWHERE, engine, 1, Windowing(PATCH, (2, 4, 4)))
    np.testing.assert_allclose(logits, values[0], rtol=1e-5)
    assert engine.shown == [len(fitted_windows(np.ones(SHAPE, bool), PATCH, (2, 4, 4)).places)]
