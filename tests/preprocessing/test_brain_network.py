import hashlib
import io
import json
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from cmb_autoseg._nnunet import nnunet_environment
from cmb_autoseg.errors import InputError, OutputError
from cmb_autoseg.geometry import Volume, from_canonical, write_volume
from cmb_autoseg.preprocessing import brain_download, prepare_case
from cmb_autoseg.preprocessing.brain_network import (
    HD_BET_URL,
    WEIGHT_FILES,
    download_brain_network,
    load_brain_network,
)
from cmb_autoseg.records import BrainNetworkSettings, Case, ImageSource, PrepSettings, Role

SHAPE = (24, 28, 20)
"""Of the test volumes, canonical (i, j, k)."""
PLAIN = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
RESIDUAL = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
LEVELS = {
    "n_stages": 2,
    "features_per_stage": [2, 4],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 2]],
    "n_conv_per_stage_decoder": [2],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}


def nnunet_plans(network_class=PLAIN, spacing_mm=(1.0, 1.0, 1.0), transpose=(0, 1, 2), **changed):
    """nnU-Net's plans, arrays ordered (z, y, x)."""
    count = "n_conv_per_stage" if network_class == PLAIN else "n_blocks_per_stage"
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [32, 32, 32],
        "median_image_size_in_voxels": [32, 32, 32],
        "spacing": list(spacing_mm),
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "batch_dice": True,
        "architecture": {
            "network_class_name": network_class,
            "arch_kwargs": {**LEVELS, count: [2, 2], **changed},
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    return {
        "dataset_name": "Dataset001_BET",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(spacing_mm),
        "original_median_shape_after_transp": [32, 32, 32],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(transpose),
        "transpose_backward": [list(transpose).index(axis) for axis in range(3)],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}},
    }


def old_plans():
    """The same network as plans of nnU-Net before 2.4 describe it."""
    plans = nnunet_plans()
    configuration = plans["configurations"]["3d_fullres"]
    del configuration["architecture"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 2,
        "unet_max_num_features": 4,
        "n_conv_per_stage_encoder": [2, 2],
        "n_conv_per_stage_decoder": [2],
        "num_pool_per_axis": [1, 1, 1],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]],
        "conv_kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    }
    return plans


def build(plans):
    with nnunet_environment():
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        configuration = PlansManager(json.loads(json.dumps(plans))).get_configuration("3d_fullres")
        torch.manual_seed(0)
        return get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            1,
            2,
            deep_supervision=True,
        )


def shifted_threshold(plans):
    """Weights by which brain is what is bright, moved up by one of the network's voxels."""
    network = build(plans)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.zero_()
            if "norm.weight" in name:
                weight.fill_(1)
            elif weight.ndim == 5 and "transpconvs" not in name and "seg_layers" not in name:
                # The decoder's first convolution sees what is upsampled (blank), then the skip connection.
                first = weight.shape[1] // 2 if "decoder.stages.0.convs.0" in name else 0
                weight[0, first, 1, 1, 1] = 1
        first = network.state_dict()["encoder.stages.0.0.convs.0.conv.weight"]
        first.zero_()
        first[0, 0, 0, 1, 1] = 1  # output at z is input at z - 1
        network.state_dict()["decoder.seg_layers.0.weight"][1, 0] = 1
        network.state_dict()["decoder.seg_layers.0.bias"][1] = -1.2  # about half way from dark to bright
    return network


def save(folder: Path, plans, network, labels=None) -> Path:
    """A weights folder as nnU-Net leaves it, numpy numbers in its log."""
    (folder / "fold_all").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    described = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "brain": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(labels or described))
    checkpoint = {
        "network_weights": network.state_dict(),
        "optimizer_state": {},
        "logging": {"mean_fg_dice": [np.float64(0.9)], "epochs": [np.int64(3), np.float32(1)]},
        "_best_ema": np.float64(0.95),
        "current_epoch": 1000,
        "init_args": {"configuration": "3d_fullres", "fold": "all", "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, folder / "fold_all/checkpoint_final.pth")
    return folder


@pytest.fixture(scope="module")
def shifting(tmp_path_factory):
    plans = nnunet_plans()
    return save(tmp_path_factory.mktemp("weights") / "shifting", plans, shifted_threshold(plans))


def head():
    """A bright block without symmetry, and where it is."""
    bright = np.zeros(SHAPE, dtype=bool)
    bright[4:20, 6:22, 3:12] = True
    bright[4:10, 6:12, 12:15] = True
    return np.where(bright, 100.0, 10.0).astype(np.float32), bright


def upright_affine(spacing_mm=(1.0, 1.0, 1.0), degrees=0.0):
    turn = np.deg2rad(degrees)
    oblique = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine = np.eye(4)
    affine[:3, :3] = oblique @ np.diag(spacing_mm)
    affine[:3, 3] = (-10.0, 5.0, 20.0)
    return affine


STORED = {
    "upright": ((0, 1, 2), (1, 1, 1)),
    "flipped": ((0, 1, 2), (-1, 1, -1)),
    "sagittal slices": ((1, 2, 0), (1, -1, 1)),
    "coronal slices": ((0, 2, 1), (-1, -1, 1)),
}


def stored(data, affine, order, directions):
    """The same head with its axes stored in another order and direction; what belongs at a voxel stays there."""
    transform = np.zeros((4, 4))
    transform[3, 3] = 1
    turned = np.transpose(data, order)
    for new, (old, direction) in enumerate(zip(order, directions, strict=True)):
        transform[old, new] = direction
        if direction < 0:
            turned = np.flip(turned, new)
            transform[old, 3] = data.shape[old] - 1
    return Volume(np.ascontiguousarray(turned), affine @ transform)


@pytest.mark.parametrize("how", STORED)
@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_the_mask_lies_right_however_the_scan_is_stored(shifting, how, degrees):
    data, bright = head()
    volume = stored(data, upright_affine(degrees=degrees), *STORED[how])

    mask = load_brain_network(shifting).mask(volume)

    moved_up = np.roll(bright, 1, axis=2)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, from_canonical(moved_up, volume))


@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 2, 0)])
def test_a_scan_of_other_voxels_is_resampled_there_and_back(tmp_path, transpose):
    plans = nnunet_plans(spacing_mm=(1.5, 1.5, 1.5), transpose=transpose)
    network = load_brain_network(save(tmp_path / "w", plans, shifted_threshold(plans)))
    data, bright = head()
    volume = Volume(data, upright_affine((0.8, 1.0, 2.0)))

    mask = network.mask(volume)

    assert mask.shape == SHAPE
    # The network shifts along its own first axis by one of its voxels.
    moved = np.zeros(3)
    moved[2 - transpose[0]] = 1.5
    centre, expected = (volume.to_ras_mm(np.argwhere(where)).mean(axis=0) for where in (mask, bright))
    np.testing.assert_allclose(centre, expected + moved, atol=0.6)
    assert mask.sum() == pytest.approx(bright.sum(), rel=0.25)


@pytest.mark.parametrize("plans", [nnunet_plans(), nnunet_plans(RESIDUAL), old_plans()], ids=["plain", "resenc", "old"])
def test_random_weights_of_hd_bets_kinds_of_network_give_a_mask_of_the_scans_shape(tmp_path, plans):
    folder = save(tmp_path / "w", plans, build(plans))
    before = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}
    volume = Volume(np.random.default_rng(0).normal(50, 9, (30, 36, 28)).astype(np.float32), upright_affine())

    network = load_brain_network(folder)
    first, second = network.mask(volume), load_brain_network(folder, mirror=False).mask(volume)

    assert first.shape == volume.shape
    assert 0 < first.sum() < first.size
    np.testing.assert_array_equal(first, second)
    assert before == {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}
    assert not np.array_equal(load_brain_network(folder, mirror=True).mask(volume), first)


def block_mm(volume, up_mm=0.0):
    """The voxels of a volume whose centre lies in a block of the scanner, without symmetry and 700 cm3 large."""
    x, y, z = (part.reshape(volume.shape) for part in volume.to_ras_mm(np.argwhere(np.ones(volume.shape))).T)
    z = z - up_mm
    low = (np.abs(x) < 45) & (np.abs(y) < 50) & (z > -40) & (z < 30)
    return low | ((x > 0) & (x < 45) & (y > 10) & (y < 50) & (z >= 30) & (z < 50))


def centred(shape, spacing_mm, degrees):
    affine = upright_affine(spacing_mm, degrees)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Volume(np.zeros(shape, dtype=np.float32), affine)


@pytest.mark.parametrize("how", ["upright", "sagittal slices"])
def test_the_mask_found_on_t1_is_carried_to_the_swi_of_another_grid(tmp_path, how):
    plans = nnunet_plans(spacing_mm=(4.0, 4.0, 4.0))
    plans["configurations"]["3d_fullres"]["patch_size"] = [48, 48, 48]
    weights = save(tmp_path / "weights", plans, shifted_threshold(plans))
    t1 = centred((44, 46, 48), (4.0, 4.0, 4.0), 15.0)
    noise = np.random.default_rng(1).normal(0, 1, t1.shape)  # without it, T1 would pass for stripped
    t1 = stored(np.where(block_mm(t1), 100.0, 10.0) + noise, t1.affine, *STORED[how])
    swi = centred((90, 90, 36), (2.0, 2.0, 4.0), 0.0)
    swi = swi.with_data(np.random.default_rng(0).normal(60, 5, swi.shape).astype(np.float32))
    for role, volume in {"t1": t1, "swi": swi}.items():
        write_volume(tmp_path / f"{role}.nii.gz", volume, np.float32)
    settings = BrainNetworkSettings(folder=str(weights))
    case = Case(
        name="sub-1",
        cohort="a",
        subject="1",
        images={role: ImageSource(path=str(tmp_path / f"{role.value}.nii.gz")) for role in (Role.SWI, Role.T1)},
        prep=PrepSettings(brain="auto", hd_bet=settings, coregister="header"),
    )

    prepared = prepare_case(case)

    assert any("HD-BET's network" in step.decision and "on t1" in step.decision for step in prepared.steps)
    np.testing.assert_allclose(prepared.brain.affine, swi.affine, atol=1e-4)
    # The network moves the block by one of its voxels along T1's own upward axis, 15 degrees off.
    turned = centred((44, 46, 48), (4.0, 4.0, 4.0), 15.0).affine[:3, 2]
    found = prepared.brain.data > 0
    centre, expected = (swi.to_ras_mm(np.argwhere(where)).mean(axis=0) for where in (found, block_mm(swi)))
    np.testing.assert_allclose(centre, expected + turned, atol=1.5)
    assert found.sum() == pytest.approx(block_mm(swi).sum(), rel=0.2)


def test_nothing_is_printed_and_the_environment_stays(shifting, capfd, monkeypatch):
    monkeypatch.delenv("nnUNet_compile", raising=False)
    load_brain_network(shifting).mask(Volume(head()[0], upright_affine()))
    assert capfd.readouterr() == ("", "")
    import os

    assert "nnUNet_compile" not in os.environ


def test_the_checkpoint_is_held_against_its_digest(shifting):
    right = hashlib.sha256((shifting / WEIGHT_FILES[2]).read_bytes()).hexdigest()
    network = load_brain_network(shifting, right)
    assert network.checkpoint_digest == f"sha256:{right}"
    assert load_brain_network(shifting, f"sha256:{right.upper()}").digest == network.digest
    with pytest.raises(InputError, match=rf"SHA-256 is {right}, expected {'0' * 64}; get the weights again"):
        load_brain_network(shifting, "0" * 64)


def test_another_plan_gives_another_digest(tmp_path, shifting):
    plans = nnunet_plans(spacing_mm=(2.0, 1.0, 1.0))
    other = load_brain_network(save(tmp_path / "w", plans, shifted_threshold(plans)))
    assert other.digest != load_brain_network(shifting).digest


@pytest.mark.parametrize("name", WEIGHT_FILES)
def test_a_missing_file_is_named(tmp_path, name):
    plans = nnunet_plans()
    folder = save(tmp_path / "w", plans, build(plans))
    (folder / name).unlink()
    with pytest.raises(InputError, match=rf"w: lacks {name}; the folder of HD-BET's weights must hold") as caught:
        load_brain_network(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        load_brain_network(tmp_path / "nowhere")


def test_foreign_network_classes_and_parts_are_refused(tmp_path):
    good = build(nnunet_plans())
    for number, plans in enumerate([nnunet_plans("os.path.Evil"), nnunet_plans(nonlin="subprocess.Popen")]):
        with pytest.raises(InputError, match=r"(os.path.Evil|subprocess.Popen) is foreign code"):
            load_brain_network(save(tmp_path / str(number), plans, good))


class Spy:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, capfd):
    plans = nnunet_plans()
    folder = save(tmp_path / "w", plans, build(plans))
    torch.save({"network_weights": {}, "logging": Spy()}, folder / WEIGHT_FILES[2])
    with pytest.raises(InputError, match="needs more than tensors and numbers"):
        load_brain_network(folder)
    assert "code ran" not in capfd.readouterr().out


def test_numpy_numbers_are_read_under_their_old_name_too(tmp_path):
    plans = nnunet_plans()
    folder = save(tmp_path / "w", plans, shifted_threshold(plans))
    path = folder / WEIGHT_FILES[2]
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    pickled = next(name for name in members if name.endswith("data.pkl"))
    assert b"numpy._core.multiarray\n" in members[pickled]
    members[pickled] = members[pickled].replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for name, content in members.items():
            new.writestr(name, content)
    assert load_brain_network(folder).mask(Volume(head()[0], upright_affine())).any()


@pytest.mark.parametrize("fault", ["weights of another network", "two channels", "damaged checkpoint", "no plan"])
def test_files_that_do_not_fit_together_are_refused_in_one_line(tmp_path, fault):
    plans = nnunet_plans()
    network = build(nnunet_plans(features_per_stage=[3, 6]) if fault.startswith("weights") else plans)
    labels = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "brain": 1}}
    folder = save(tmp_path / "w", plans, network, labels if fault == "two channels" else None)
    if fault == "damaged checkpoint":
        (folder / WEIGHT_FILES[2]).write_bytes(b"PK\x03\x04 and no more")
    if fault == "no plan":
        (folder / "plans.json").write_text("[]")
    with pytest.raises(InputError) as caught:
        load_brain_network(folder)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_a_network_that_gives_no_number_is_told_of(tmp_path):
    plans = nnunet_plans()
    network = shifted_threshold(plans)
    with torch.no_grad():
        network.state_dict()["decoder.seg_layers.0.weight"].fill_(float("nan"))
    broken = load_brain_network(save(tmp_path / "w", plans, network))
    with pytest.raises(InputError, match=r"head.nii.gz: the brain network in .* gives no finite number"):
        broken.mask(Volume(head()[0], upright_affine(), None, "head.nii.gz"))


def archive(folder: Path, root="", extra=()) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as content:
        for name in WEIGHT_FILES:
            content.write(folder / name, root + name)
        for name in extra:
            content.writestr(name, b"planted")
    return packed.getvalue()


class Response(io.BytesIO):
    def __init__(self, content, length=None):
        super().__init__(content)
        self.headers = {"Content-Length": str(len(content) if length is None else length)}


def serve(monkeypatch, response):
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        if isinstance(response, Exception):
            raise response
        return response

    monkeypatch.setattr(brain_download.urllib.request, "urlopen", urlopen)
    return asked


@pytest.mark.parametrize("root", ["", "release_2.0.0/"])
def test_published_weights_are_fetched_and_nothing_but_them_is_unpacked(tmp_path, monkeypatch, shifting, root):
    content = archive(shifting, root, ["../escaped.txt", "/absolute.txt", "fold_all/debug.json"])
    asked = serve(monkeypatch, Response(content))
    target = tmp_path / "inner" / "hd-bet"
    counted = []

    digest = download_brain_network(target, counted.append)

    assert asked == [HD_BET_URL]
    assert counted[-1] == len(content)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == sorted(f"inner/hd-bet/{name}" for name in (*WEIGHT_FILES, "download.json"))
    assert load_brain_network(target, digest).mask(Volume(head()[0], upright_affine())).any()
    told = json.loads((target / "download.json").read_text())
    assert told["checkpoint"] == digest
    assert told["archive"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert told["publisher_checksum"] is None


FAULTS = {
    "offline": (urllib.error.URLError("Name or service not known"), "Name or service not known"),
    "too slow": (TimeoutError("timed out"), "timed out"),
    "cut off": (Response(b"PK", 100), "2 of 100 bytes came"),
    "a web page": (Response(b"<html>sorry</html>"), "no sound zip archive"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_download_names_the_address_and_the_way_around_it_and_leaves_nothing(tmp_path, monkeypatch, fault):
    response, reason = FAULTS[fault]
    serve(monkeypatch, response)
    with pytest.raises(InputError, match=reason) as caught:
        download_brain_network(tmp_path / "hd-bet")
    assert HD_BET_URL in str(caught.value)
    if fault != "a web page":
        assert "--brain-weights DIR" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_of_something_else_is_refused(tmp_path, monkeypatch):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as content:
        content.writestr("fold_all/checkpoint_final.pth", b"")
    serve(monkeypatch, Response(packed.getvalue()))
    with pytest.raises(InputError, match=r"the archive lacks dataset.json, plans.json"):
        download_brain_network(tmp_path / "hd-bet")


def test_a_folder_in_use_is_left_alone(tmp_path, monkeypatch):
    asked = serve(monkeypatch, Response(b""))
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match="is not empty"):
        download_brain_network(tmp_path)
    assert asked == []
    assert (tmp_path / "mine.txt").read_text() == "keep"
