import os
import signal
import socket
import time

import pytest
import torch
from torch import multiprocessing

from cmb_autoseg.errors import InputError
from cmb_autoseg.interruption import Stopped, stops_raise
from cmb_autoseg.pretraining import distributed
from cmb_autoseg.pretraining.distributed import World, join_world
from cmb_autoseg.pretraining.loop import CHECKPOINT, pretrain
from cmb_autoseg.pretraining.setup import build_encoder


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def place_of(rank, port, address="127.0.0.1"):
    """What torchrun sets for one of two processes."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }


def learn(rank, port, setups, cases, folder):
    """One of two processes, as torchrun starts them."""
    torch.set_num_threads(1)
    os.environ.update(place_of(rank, port))
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
        process.join(300)
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


def take_place(monkeypatch, *place):
    for name, value in place_of(*place).items():
        monkeypatch.setenv(name, value)


def test_a_port_that_is_in_use_is_refused_with_the_variables_names(monkeypatch):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        take_place(monkeypatch, 0, port)
        with pytest.raises(InputError, match=f"MASTER_ADDR, MASTER_PORT: the 2 .* 127.0.0.1, port {port} .*EADDRINUSE"):
            join_world("cpu")


@pytest.mark.parametrize("address", ["nosuch.invalid", "a..b"])
def test_an_address_that_nobody_knows_is_refused_after_a_while(monkeypatch, capsys, address):
    monkeypatch.setattr(distributed, "SECONDS_FOR_A_NAME", 0.2)
    monkeypatch.setattr(distributed, "SECONDS_BETWEEN_TRIES", 0.1)
    take_place(monkeypatch, 1, 29500, address)
    with pytest.raises(InputError, match=f"MASTER_ADDR: no machine is known as {address} .*; give all processes"):
        join_world("cpu")
    assert capsys.readouterr().err.count(f"no machine is known as {address}") == 1


def wait_for_others(rank, port, began):
    os.environ.update(place_of(rank, port))
    try:
        with stops_raise():
            began.set()
            join_world("cpu")
    except Stopped as stop:
        os._exit(128 + stop.number)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_ends_the_wait_for_the_other_processes(rank):
    context = multiprocessing.get_context("fork")
    began = context.Event()
    process = context.Process(target=wait_for_others, args=(rank, free_port(), began))
    process.start()
    assert began.wait(60)
    time.sleep(0.5)
    process.terminate()
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM
