"""What the scripts of this folder share: commands run in turn, their ratios, the machine, JSON and Markdown."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cmb_autoseg.machine import processor_name
from cmb_autoseg.trainers.lookup import lookup_folder

__all__ = ["Run", "alternate", "command", "machine", "paired_rows", "save", "spread", "table"]

LIBRARIES = ("cmb_autoseg", "nnunetv2", "torch", "openvino", "numpy")


@dataclass(frozen=True)
class Run:
    """One run of something."""

    seconds: float
    """By the clock."""
    peak_gib: float = float("nan")
    """Memory of the largest process."""


def command(words: Sequence[object], environment: Mapping[str, str] | None = None, codes: Sequence[int] = (0,)) -> Run:
    """Run a command of this environment, quietly.

    Args:
        words: name of a command and its arguments.
        environment: variables on top of this process's.
        codes: exit codes that are right.

    Raises:
        RuntimeError: it ended with another one; with what it said.
    """
    words = [str(Path(sys.executable).with_name(str(words[0]))), *map(str, words[1:])]
    variables = {**os.environ, "nnUNet_extTrainer": str(lookup_folder()), **(environment or {})}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # so that from the second run on nothing is compiled
    with tempfile.TemporaryFile() as said:
        begun = time.perf_counter()
        process = subprocess.Popen(words, env=variables, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in codes:
            said.seek(0)
            raise RuntimeError(f"{' '.join(words)}: exit code {process.returncode}\n{said.read().decode()[-3000:]}")
    return Run(seconds, used.ru_maxrss / 2**20)


def alternate(arms: Mapping[str, Callable[[int], Run]], repeats: int) -> dict[str, list[Run]]:
    """Run all arms in turn, so many times; each is told which time it is. Progress goes to standard error."""
    runs: dict[str, list[Run]] = {name: [] for name in arms}
    for repeat in range(repeats):
        for name, arm in arms.items():
            runs[name].append(arm(repeat))
            print(f"{repeat + 1}/{repeats} {name}: {runs[name][-1].seconds:.2f} s", file=sys.stderr, flush=True)
    return runs


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, least and most."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def paired_rows(runs: Mapping[str, Sequence[Run]], reference: str) -> list[dict[str, Any]]:
    """A row an arm: seconds, and how many times longer than the reference it took, pair by pair."""
    rows = []
    for name, own in runs.items():
        ratios = [run.seconds / other.seconds for run, other in zip(own, runs[reference], strict=True)]
        row = {"": name, "seconds": spread([run.seconds for run in own])}
        row["times ours"] = "1" if name == reference else spread(ratios)
        peaks = [run.peak_gib for run in own]
        row["largest process, GiB"] = "" if peaks[0] != peaks[0] else f"{statistics.median(peaks):.2f}"
        rows.append(row)
    return rows


def machine() -> dict[str, Any]:
    """What was measured on, and with which versions."""
    import torch

    memory = next((line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "MemTotal: 0 kB")
    return {
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory.split()[1]) / 2**20),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same columns in Markdown."""
    columns = list(rows[0])
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return "\n".join([*lines, *(f"| {' | '.join(str(row[column]) for column in columns)} |" for row in rows)])


def save(out: Path, title: str, told: str, rows: Sequence[Mapping[str, Any]], raw: Mapping[str, Any]) -> None:
    """Write `<out>.json` with everything and `<out>.md` with the table, and print the latter.

    Args:
        out: without a suffix.
        title: of the page.
        told: what was run, in sentences.
        rows: of the table.
        raw: every single measurement.
    """
    where = machine()
    out.parent.mkdir(parents=True, exist_ok=True)
    content = {"title": title, "told": told, "machine": where, "rows": list(rows), **raw}
    out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    device = where["gpu"] or "no GPU"
    circumstances = f"{where['processor']}, {where['cores']} cores, {where['memory_gib']} GiB, {device}; {versions}."
    text = f"# {title}\n\n{told}\n\n{circumstances}\n\n{table(rows)}\n"
    out.with_suffix(".md").write_text(text)
    print(text)
