"""Child processes of ours: they run the very package this process runs, and they do not outlive it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import engine

PR_SET_PDEATHSIG = 1
INSTALLED_IN = frozenset({"site-packages", "dist-packages"})
OPTION_PREFIX = "REDIS_FERRY_"


def module_command(module: str, *arguments: str) -> list[str]:
    """The command that runs `module` of this project; start it with `module_environment`.

    Without -P Python would look for it in the working directory first, and a clone of the project there, where
    nothing is compiled, would be taken for the installed package.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` for a child of ours: the options come by its arguments alone, the package is this one."""
    ours = {
        name: value
        for name, value in environment.items()
        if not name.upper().startswith(OPTION_PREFIX)
    }
    root = str(Path(engine.__file__).resolve().parent.parent)
    # What is installed, the child finds as we did. A tree we run from (or that is installed editable) is named;
    # site-packages itself must not be, it would stand before the standard library.
    if Path(root).name not in INSTALLED_IN:
        ours["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    return ours


@cache
def death_signal() -> Callable[[], None] | None:
    """Return what a child runs before exec so that it dies with the thread that forks it; None off Linux.

    One prctl and no Python lock in it: safe as a preexec_fn beside other threads.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up here: the child must not import
    parent = os.getpid()

    def die_with_parent() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)

    return die_with_parent
