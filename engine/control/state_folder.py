"""Where a task keeps what it needs on this machine: its spool, its list of keys, its control socket."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

# Everything that a task keeps in its folder. `redis-ferry tasks forget` removes nothing else.
_OURS = re.compile(
    r"control\.sock|c\d+|line-.*|ledger.*|owed-expiries.*|source-shards\.json|[a-z]+-\d+-\d+\.(?:set|log|new)|leftover-candidates\.txt"
    r"|refused-keys\.jsonl|cross-slot(?:\.1)?\.jsonl|owners-.*|scan"
)


def default_spool_dir(environment: Mapping[str, str]) -> Path:
    """`$XDG_STATE_HOME/redis-ferry`, else `~/.local/state/redis-ferry`, else a folder of this user in /tmp."""
    if state_home := environment.get("XDG_STATE_HOME"):
        return Path(state_home) / "redis-ferry"
    home = environment.get("HOME")
    if home and os.access(home, os.W_OK):
        return Path(home) / ".local" / "state" / "redis-ferry"
    return Path(tempfile.gettempdir()) / f"redis-ferry-{os.getuid()}"


def task_folder(spool_dir: Path, task_id: str) -> Path:
    """The folder of one task; absolute, so that it means the same in every working directory."""
    return spool_dir.absolute() / task_id


def foreign_entries(folder: Path) -> list[str]:
    """Names in a task's folder that no task has put there.

    Raises:
        OSError: it cannot be read.
    """
    return sorted(it.name for it in folder.iterdir() if not _OURS.fullmatch(it.name))
