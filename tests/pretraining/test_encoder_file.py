import pickle

import pytest
import torch

from cmb_autoseg.errors import InputError
from cmb_autoseg.networks.residual_unet import ResidualEncoder
from cmb_autoseg.pretraining.encoder_file import read_encoder, write_encoder
from cmb_autoseg.records import Encoder, Role, Topology

TOPOLOGY = Topology(
    features_per_stage=(4, 8),
    kernel_sizes=((1, 3, 3), (3, 3, 3)),
    strides=((1, 1, 1), (1, 2, 2)),
    n_blocks_per_stage=(2, 2),
)


def record(**changes):
    known = {
        "name": "ssl_tiny",
        "method": "barlow_twins",
        "datasets": ("Dataset501_Elsewhere",),
        "fold": None,
        "seed": 0,
        "steps": 4,
        "channels": (Role.SWI, Role.GRE_MAG),
        "topology": TOPOLOGY,
        "patch_shape": (8, 16, 16),
        "subjects": ("Elsewhere/p6",),
        "n_cases": 1,
        "weights": "",
        "parents": ("sha256:plan", "sha256:recipe"),
    }
    return Encoder(**{**known, **changes})


def weights(seed=0):
    torch.manual_seed(seed)
    return ResidualEncoder(2, **TOPOLOGY.model_dump()).state_dict()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "ssl_tiny" / "encoder.pt"
    write_encoder(path, weights(), record())
    return path


def test_what_was_written_is_read_back_bit_by_bit(file):
    found, read = read_encoder(file)

    assert read == record(weights=read.weights)
    assert read == Encoder.read(file.with_name("encoder.json"))
    assert found.keys() == weights().keys()
    assert all(torch.equal(found[name], value) for name, value in weights().items())


def test_equal_weights_make_equal_bytes_under_any_name(file, tmp_path):
    other = tmp_path / "elsewhere.pt"
    write_encoder(other, weights(), record())
    assert other.read_bytes() == file.read_bytes()


def test_other_weights_have_another_digest(file, tmp_path):
    assert write_encoder(tmp_path / "o.pt", weights(1), record()).weights != read_encoder(file)[1].weights


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_file_is_refused_with_the_cure(file, keep):
    content = file.read_bytes()
    file.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(InputError, match=r"encoder\.pt: damaged.*delete it and run cmb_pretrain again"):
        read_encoder(file, made_here=True)
    with pytest.raises(InputError, match=r"encoder\.pt: damaged.*; give an encoder\.pt, as cmb_pretrain makes it"):
        read_encoder(file)


def test_a_flipped_weight_is_found(file):
    content = torch.load(file, weights_only=True)
    content["weights"]["stem.0.weight"][0, 0, 0, 0, 0] += 1
    torch.save(content, file)
    with pytest.raises(InputError, match="its weights are not those of its record"):
        read_encoder(file)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Runs:
        def __reduce__(self):
            return print, ("code ran",)

    path = tmp_path / "encoder.pt"
    for write in (lambda: torch.save({"weights": Runs()}, path), lambda: path.write_bytes(pickle.dumps(Runs()))):
        write()
        with pytest.raises(InputError, match="damaged, or no file of weights alone"):
            read_encoder(path)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"format": "cmb_autoseg encoder 1", "weights": [1]}])
def test_foreign_weights_are_refused(tmp_path, content):
    path = tmp_path / "encoder.pt"
    torch.save(content, path)
    with pytest.raises(InputError, match="no encoder file of this version; give an encoder"):
        read_encoder(path)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_encoder(tmp_path / "encoder.pt")
    with pytest.raises(InputError, match="a folder"):
        read_encoder(tmp_path)
