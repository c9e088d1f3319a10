"""What a benchmark ran on: the first line that each of them prints. A figure without it means nothing."""

import os
import platform
import subprocess
from pathlib import Path


def described() -> str:
    """Processor, cores, load, Python and commit, in one line."""
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    python = f"Python {platform.python_version()}"
    return f"{cpu_model()}, {os.cpu_count()} cores, {memory_gib():.0f} GiB, {load}, {python}; commit {commit()}"


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def commit() -> str:
    """Of the checkout that this file lies in; `-dirty` where it has changes."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    said = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"
