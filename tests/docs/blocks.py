"""Fenced blocks of the documentation, and a small shell that runs them in this process.

A `bash` block is run, line by line, unless the line before it is `<!-- not run: reason -->`. Heavy commands
run with the smaller numbers of SMALLER; everything else is as the reader types it.
"""

import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
COMMANDS = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
NNUNET = {"nnUNetv2_predict_from_modelfolder": "predict_entry_point_modelfolder"}
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)

SMALLER = {
    # Six phantoms in a small scanner instead of twenty people (the fixture `small_scanner`).
    "cmb_simulate": ({"-n": "6", "--n-test": "1"}, []),
    # Two steps a fold (and the fixture `small_recipes`).
    "cmb_train": ({}, ["--epochs", "1", "--steps-per-epoch", "2", "-device", "cpu"]),
    "cmb_plan_preprocess": ({}, ["-device", "cpu"]),
    "cmb_finalize": ({}, ["-device", "cpu"]),
    "cmb_predict": ({}, ["-device", "cpu"]),
}
"""By command: options whose value is replaced, and arguments that are added, in the tests alone."""


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    text: str
    mark: str

    @property
    def runs(self):
        return self.language == "bash" and not self.mark.startswith("not run: ")

    def lines(self):
        """Whole commands: comments are dropped, lines that end in a backslash are joined."""
        joined = self.text.replace("\\\n", " ")
        return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def blocks(page):
    found = BLOCK.finditer((DOCS / page).read_text(encoding="utf-8"))
    return [Block(page, each["language"], each["text"], each["mark"] or "") for each in found]


def main_of(command):
    """The function behind a command."""
    return importlib.import_module(COMMANDS[command].partition(":")[0]).main


def smaller(words):
    """A command with the numbers that suit a test."""
    replaced, added = SMALLER.get(words[0], ({}, []))
    result = list(words)
    for option, value in replaced.items():
        if option in result:
            result[result.index(option) + 1] = value
    return result if {"--version", "--list-recipes", "--show-recipe"} & {*result} else result + added


def run_line(line, monkeypatch):
    """Run one line: our commands and nnU-Net's in this process, `export` and `cd` for it, the rest in bash."""
    for part in line.split(" && "):
        words = shlex.split(part)
        if words[0] in COMMANDS:
            _run_command(smaller(words))
        elif words[0] in NNUNET:
            _run_nnunet(words, monkeypatch)
        elif words[0] == "cd":
            monkeypatch.chdir(words[1])
        elif words[0] == "export":
            name, _, value = part.removeprefix("export ").partition("=")
            monkeypatch.setenv(name, bash(f'value={value}; printf %s "$value"'))
        else:
            bash(part)


def bash(line):
    """What a line prints where the environment of these tests is activated."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs}
    return subprocess.run(["bash", "-ec", line], env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def _run_command(words):
    try:
        code = main_of(words[0])(words[1:])
    except SystemExit as end:
        code = end.code
    assert code == 0, f"{shlex.join(words)} left with {code}"


def _run_nnunet(words, monkeypatch):
    """nnU-Net's command in this process; its pools of processes would import torch six times."""
    import torch

    module = importlib.import_module("nnunetv2.inference.predict_from_raw_data")

    def sequential(self, source, out, save_probabilities, **_):
        return self.predict_from_files_sequential(source, out, save_probabilities)

    threads = torch.get_num_threads()
    with monkeypatch.context() as patch:
        patch.setattr(module.nnUNetPredictor, "predict_from_files", sequential)
        patch.setattr(sys, "argv", words)
        getattr(module, NNUNET[words[0]])()
    torch.set_num_threads(threads)


def run_page(page, monkeypatch):
    """Run every block of a page in the working directory; returns how many lines ran."""
    lines = [line for block in blocks(page) if block.runs for line in block.lines()]
    for line in lines:
        run_line(line, monkeypatch)
    return len(lines)


def pages():
    return sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def environment_without_tool_variables(monkeypatch):
    for name in list(os.environ):
        if name.startswith("nnUNet_") or name == "CMB_WORKSPACE":
            monkeypatch.delenv(name)


def reference_generator():
    spec = spec_from_file_location("generate_reference", DOCS / "generate_reference.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
