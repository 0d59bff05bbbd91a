"""What a command runs on: cores, memory, and what its records say of both."""

import os
import platform
from pathlib import Path

__all__ = ["available_bytes", "available_cores", "described_machine", "processor_name"]


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_bytes() -> int:
    """Memory that processes may still take: of the machine, and of the control group if that is less."""
    free = _machine_bytes()
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return min(free, int(limit) - int(used)) if limit.isdecimal() and used.isdecimal() else free


def _machine_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def described_machine() -> dict[str, str | int]:
    """For logs and records; names no host and no person."""
    return {"system": platform.platform(), "processor": processor_name(), "cores": available_cores()}


def processor_name() -> str:
    """As the system calls it; its kind where it has no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
