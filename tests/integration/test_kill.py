"""Commands that are killed at random moments: the same command again ends as if nothing had happened.

Processes are forked from a server that has imported the heavy libraries once.
"""

import multiprocessing
import os
import shutil
import signal
import time

import numpy as np
import pytest
import torch

from cmb_autoseg.files import file_digest

HEAVY = [
    "torch",
    "nnunetv2.training.nnUNetTrainer.nnUNetTrainer",
    "nnunetv2.inference.predict_from_raw_data",
    "nilearn",
]
CHANGING = ("logs", "tensorboard", "run.json")
"""What two undisturbed runs do not share either."""


@pytest.fixture(scope="module")
def server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    return context


def call(module, arguments, quiet):
    """In the child: run a command and leave with its exit code."""
    torch.set_num_threads(1)
    with quiet.open("a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    os._exit(__import__(f"cmb_autoseg.cli.{module}", fromlist=["main"]).main(arguments))


class Command:
    """One command on a folder that can be put back to how it was before."""

    def __init__(self, server, module, arguments, folder, before):
        self.server, self.module, self.arguments, self.folder, self.before = server, module, arguments, folder, before

    def reset(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.before is not None:
            shutil.copytree(self.before, self.folder)

    def run(self, kill_after_s=None):
        """Exit code and seconds; the code is minus the signal's number for a run that was killed."""
        start = time.monotonic()
        process = self.server.Process(
            target=call, args=(self.module, self.arguments, self.folder.parent / "output.txt")
        )
        process.start()
        process.join(kill_after_s)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join(120)
        return process.exitcode, time.monotonic() - start


def tree(folder):
    """Digest of every file by its relative path, hidden ones included."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): file_digest(path)
        for path in files
        if not set(CHANGING) & set(path.relative_to(folder).parts)
    }


def half_written(folder):
    return [path for path in folder.rglob(".tmp*") if "logs" not in path.parts]


def kill_and_repeat(command, moments, compare):
    """Kill at each of the moments (shares of an undisturbed run's time), repeat, and compare what is there then."""
    command.reset()
    assert command.run()[0] == 0
    command.reset()
    code, seconds = command.run()
    assert code == 0
    undisturbed = compare(command.folder)
    for moment in moments:
        code = 0
        while code == 0:  # A run that was faster than the one before had ended already.
            command.reset()
            code, spent = command.run(moment * seconds)
            seconds = min(seconds, spent) if code == 0 else seconds
        assert code == -signal.SIGKILL
        assert command.run()[0] == 0, (command.folder.parent / "output.txt").read_text()[-2000:]
        assert compare(command.folder) == undisturbed, f"killed after {moment:.0%}"
        assert not half_written(command.folder)


@pytest.fixture
def moments(request):
    n = request.config.getoption("kills")
    return (np.arange(n) + np.random.default_rng(0).random(n)) / n


def test_a_killed_conversion(trained, server, moments, tmp_path):
    arguments = [str(trained.cohort / "card.yaml"), "-d", "501", "--workspace", str(tmp_path / "workspace")]
    command = Command(server, "convert", arguments, tmp_path / "workspace", None)
    kill_and_repeat(command, moments, tree)


def test_a_killed_planning(trained, server, moments, tmp_path):
    before = tmp_path / "before"
    shutil.copytree(trained.workspace / "raw", before / "raw")
    arguments = ["-d", "501", "--workspace", str(tmp_path / "workspace"), "-device", "cpu"]
    command = Command(server, "plan_preprocess", arguments, tmp_path / "workspace", before)
    kill_and_repeat(command, moments, tree)


def test_a_killed_training(trained, server, moments, tmp_path):
    before = tmp_path / "before"
    for kind in ("raw", "preprocessed"):
        shutil.copytree(trained.workspace / kind, before / kind)
    arguments = ["-d", "501", "-r", str(trained.recipe), "-f", "1", "--checkpoint-every", "1", "-device", "cpu"]
    arguments += ["--workspace", str(tmp_path / "workspace"), "--epochs", "3", "--steps-per-epoch", "3"]
    command = Command(server, "train", arguments, tmp_path / "workspace", before)

    def finished(folder):
        """Names of all files, and the bytes of those that the results hang on."""
        files = tree(folder)
        checkpoint = next(folder.rglob("checkpoint_final.pth"))
        content = torch.load(checkpoint, weights_only=True)
        weights = {name: value.numpy().tobytes() for name, value in content["network_weights"].items()}
        return sorted(files), sorted(content), content["current_epoch"], weights, content["curves"]

    kill_and_repeat(command, moments, finished)


def train_with_workers(arguments, quiet):
    """In the child: train with processes that load patches; the whole job gets SIGTERM in the first step."""
    from cmb_autoseg.trainers.patches import cmb_trainer, run

    environment, step = run.nnunet_environment, cmb_trainer.CMBTrainer.train_step

    def signalled(self, batch):
        if self.steps_done == 0:
            os.killpg(0, signal.SIGTERM)
            time.sleep(1)
        return step(self, batch)

    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # In this child it is that of the server.
    run.nnunet_environment = lambda folders, _, **rest: environment(folders, 2, **rest)
    cmb_trainer.CMBTrainer.train_step = signalled
    call("train", arguments, quiet)


def test_a_job_that_is_asked_to_end_as_a_whole_saves_its_step(trained, server, tmp_path):
    for kind in ("raw", "preprocessed"):
        shutil.copytree(trained.workspace / kind, tmp_path / "workspace" / kind)
    arguments = ["-d", "501", "-r", str(trained.recipe), "-f", "1", "-device", "cpu"]
    arguments += ["--workspace", str(tmp_path / "workspace")]
    for expected in (128 + signal.SIGTERM, 0):
        process = server.Process(target=train_with_workers, args=(arguments, tmp_path / "output.txt"))
        process.start()
        process.join(120)
        assert process.exitcode == expected, (tmp_path / "output.txt").read_text()[-2000:]
    assert "goes on after step 1" in (tmp_path / "output.txt").read_text()


def test_a_killed_finalizing(trained, server, moments, tmp_path):
    before = tmp_path / "before"
    made = shutil.ignore_patterns("crossvalidation", "operating_points.json", "model.json", "logs")
    shutil.copytree(trained.workspace, before, ignore=made)
    arguments = ["-d", "501", "-r", "tiny", "--workspace", str(tmp_path / "workspace"), "-device", "cpu"]
    command = Command(server, "finalize", arguments, tmp_path / "workspace", before)
    kill_and_repeat(command, moments, tree)


def test_a_killed_prediction(trained, server, moments, tmp_path):
    arguments = [
        "-i",
        str(trained.cohort / "card.yaml"),
        "-o",
        str(tmp_path / "out"),
        "-m",
        str(trained.model),
        "-device",
        "cpu",
    ]
    command = Command(server, "predict", [*arguments, "-f", "0"], tmp_path / "out", None)
    kill_and_repeat(command, moments, tree)
