"""What the figures were measured on. Nothing that names the machine or its folders."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.options import PROJECT_ROOT
from engine.demo.servers import find_servers

PACKAGES = ("uvloop", "redis", "hiredis", "anycrc", "Cython")


def machine() -> dict[str, object]:
    """Processor, cores, memory, kernel, and how busy it is now, at the end of a run."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_average_1_minute": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """Python, the libraries in the hot path, and the servers found."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found.update({name: binary.version for name, binary in find_servers().items()})
    return found


def commit() -> str:
    """Short commit of the project, `-dirty` behind it if files differ, `unknown` outside git."""
    try:
        short = _git("rev-parse", "--short", "HEAD")
        return short + ("-dirty" if _git("status", "--porcelain", "--", "engine") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PROJECT_ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        label, _, text = line.partition(":")
        if label.strip() == name:
            return text.strip()
    return ""
