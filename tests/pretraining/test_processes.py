import socket

import pytest
import torch
from torch import multiprocessing

from cmb_autoseg.errors import InputError
from cmb_autoseg.pretraining.distributed import World
from cmb_autoseg.pretraining.loop import CHECKPOINT, pretrain
from cmb_autoseg.pretraining.setup import build_encoder


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def learn(rank, port, setups, cases, folder):
    """One of two processes, as torchrun starts them."""
    from os import environ

    torch.set_num_threads(1)
    environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    for name, setup in setups.items():
        encoder = build_encoder(len(setup.channels), setup.topology, 3)
        rows = pretrain(encoder, cases, setup, folder / name, "cpu", 3)
        torch.save({"encoder": encoder.state_dict(), "rows": rows}, folder / name / f"process_{rank}.pth")


def test_two_processes_learn_what_one_does(make_setup, cases, tmp_path):
    schedule = {"epochs": 1, "steps_per_epoch": 2}
    setups = {
        "patch": make_setup(**schedule),
        "both": make_setup(places="both", micro_batch_size=1, **schedule),
        "masked": make_setup("masked_autoencoding", **schedule),
    }
    for name in setups:
        (tmp_path / name).mkdir()
    context = multiprocessing.get_context("fork")
    port = free_port()
    processes = [context.Process(target=learn, args=(rank, port, setups, cases, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    for name, setup in setups.items():
        encoder = build_encoder(len(setup.channels), setup.topology, 3)
        rows = pretrain(encoder, cases, setup, tmp_path / name / "alone", "cpu", 3)
        alone, together = (
            torch.load(folder / CHECKPOINT, weights_only=True)
            for folder in (tmp_path / name / "alone", tmp_path / name)
        )
        for part in ("encoder", "head"):
            for key, weight in alone[part].items():
                assert torch.allclose(weight, together[part][key], rtol=0, atol=1e-5), (name, part, key)
        for rank in range(2):
            found = torch.load(tmp_path / name / f"process_{rank}.pth", weights_only=True)
            for key, weight in encoder.state_dict().items():
                assert torch.allclose(weight, found["encoder"][key], rtol=0, atol=1e-5), (name, rank, key)
            assert found["rows"][0]["loss"] == pytest.approx(rows[0]["loss"], rel=1e-4)


def test_a_batch_that_cannot_be_dealt_evenly_is_refused():
    assert list(World(1, 2).share(6)) == [3, 4, 5]
    with pytest.raises(InputError, match="batch_size: found 5 over 2 processes, expected a multiple of 2"):
        World(0, 2).share(5)
