"""What tasks have left: folders on this machine, checkpoints on a target. Found, joined by name, removed."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from engine.checkpoint.catalog import (
    StoredCheckpoint,
    list_stored,
    open_connections,
    read_of_task,
    remove_of_task,
    remove_of_task_on_shard,
)
from engine.checkpoint.cluster_claim import read_whole
from engine.cluster.discovery import primaries_of
from engine.cluster.sentinel import ask_primary
from engine.connect import connect_hint
from engine.control.control_socket import socket_path
from engine.control.options import TASK_ID
from engine.control.running_task import ask_task
from engine.control.state_folder import foreign_entries, task_folder
from engine.control_client import control_client
from engine.endpoint import Endpoint
from engine.errors import (
    ConfigError,
    EngineError,
    TargetAuthError,
    TargetRefused,
    TargetUnreachable,
    TaskNotReached,
)
from engine.settings import TargetSettings

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTrace:
    """A task's folder. size_bytes: of all files in it; age_seconds: since the newest change.

    running: what the task answers on its control socket, None if it does not run. trouble: why it does not answer.
    """

    folder: Path
    size_bytes: int
    files: int
    age_seconds: float
    running: dict[str, Any] | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTrace:
    """Everything that is known of one task. local None: nothing on this machine."""

    name: str
    local: LocalTrace | None = None
    checkpoints: list[StoredCheckpoint] = field(default_factory=list)


def local_traces(spool_dir: Path) -> dict[str, LocalTrace]:
    """Every task's folder, by the task's name. A spool folder that is not there holds none.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        folders = sorted(it for it in spool_dir.iterdir() if it.is_dir() and not it.is_symlink())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(
            f"cannot read the spool folder {spool_dir}: {error.strerror}",
            hint="give the one that the task uses with --spool-dir",
        ) from None
    return {it.name: local_trace(it) for it in folders if re.fullmatch(TASK_ID, it.name)}


def local_trace(folder: Path) -> LocalTrace:
    """One task's folder, and the task in it if it runs."""
    size, count = 0, 0
    newest = 0.0
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(OSError):  # gone meanwhile: a running task releases its files
            found = path.lstat()
            newest = max(newest, found.st_mtime)
            if path.is_file():
                size, count = size + found.st_size, count + 1
    running, trouble = None, ""
    try:
        running = ask_task(folder, {"do": "status"})
    except TaskNotReached as error:
        trouble = error.message
    return LocalTrace(
        folder=folder,
        size_bytes=size,
        files=count,
        age_seconds=max(0.0, time.time() - newest),
        running=running,
        trouble=trouble,
    )


@contextlib.asynccontextmanager
async def target_client(endpoint: Endpoint) -> AsyncIterator[Redis]:
    """A control connection whose errors are ours.

    Raises:
        TargetUnreachable, TargetAuthError, TargetRefused.
    """
    client = control_client(endpoint, timeout_seconds=TIMEOUT_SECONDS)
    try:
        yield client
    except AuthenticationError as error:
        raise TargetAuthError(
            f"the target {endpoint.address} refuses the login: {error}",
            hint="check user and password: --target-password-file, or user:password@ in the URL",
        ) from None
    except NoPermissionError as error:
        raise TargetAuthError(
            f"the target {endpoint.address} does not permit it: {error}",
            hint="a list needs: ACL SETUSER <user> +scan +hgetall +object ~redis-ferry:*; forgetting +del",
        ) from None
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        raise TargetUnreachable(
            f"cannot connect to the target {endpoint.address}: {error}",
            hint=connect_hint(endpoint, "target", str(error)),
        ) from error
    except RedisError as error:
        raise TargetRefused(f"the target {endpoint.address} answers: {error}") from error
    finally:
        await client.aclose()


async def target_servers(target: Endpoint) -> tuple[list[Endpoint], bool]:
    """The servers whose keys are the target's, and whether they are a cluster's primaries.

    Raises:
        TargetUnreachable, TargetAuthError, ConfigError: Sentinels do not tell.
    """
    if target.sentinel is not None:
        return [await ask_primary(target, role="target")], False
    try:
        found = await primaries_of(target, role="target", timeout_seconds=TIMEOUT_SECONDS)
    except EngineError:
        return [target], False  # whatever is wrong is said by whoever connects
    return ([target], False) if found is None else (found, True)


async def find_traces(spool_dir: Path, target: Endpoint | None) -> list[TaskTrace]:
    """Everything on this machine and, if there is one, on the target, by name."""
    local = local_traces(spool_dir)
    stored: dict[str, list[StoredCheckpoint]] = {}
    if target is not None:
        servers, is_cluster = await target_servers(target)
        for server in servers:
            async with target_client(server) as client:
                for it in await list_stored(client):
                    whole = await _whole(it, target) if is_cluster else it
                    stored.setdefault(it.task_id, []).append(whole)
    return [
        TaskTrace(name=name, local=local.get(name), checkpoints=stored.get(name, []))
        for name in sorted(local.keys() | stored.keys())
    ]


async def find_trace(name: str, spool_dir: Path, target: Endpoint | None) -> TaskTrace:
    """Everything of one task.

    Raises:
        ConfigError: nothing of it is to be found.
    """
    folder = task_folder(spool_dir, name)
    local = local_trace(folder) if folder.is_dir() and not folder.is_symlink() else None
    stored: list[StoredCheckpoint] = []
    if target is not None:
        servers, is_cluster = await target_servers(target)
        for server in servers:
            async with target_client(server) as client:
                if is_cluster:
                    own = [it for it in await list_stored(client) if it.task_id == name]
                    stored += [await _whole(it, target) for it in own]
                else:
                    stored = await read_of_task(client, name, searches=True)
    if local is None and not stored:
        where = f"in {spool_dir}" if target is None else f"in {spool_dir} or on {target.address}"
        raise ConfigError(
            f"nothing of a task {name} is {where}",
            hint="redis-ferry tasks list shows what there is; --target URL looks on a target, too",
        )
    return TaskTrace(name=name, local=local, checkpoints=stored)


async def _whole(stored: StoredCheckpoint, target: Endpoint) -> StoredCheckpoint:
    """With the position that all slots of a cluster have; the line's own key knows the epoch only."""
    if stored.checkpoint is None:
        return stored
    found = await read_whole(target, TargetSettings(), stored.task_id, stored.line)
    if found is None:
        return stored
    phase = "snapshot" if found.position is None else "stream"
    return replace(stored, checkpoint=found, phase=phase)


async def refuse_if_it_runs(trace: TaskTrace, target: Endpoint | None) -> None:
    """Make sure that nobody works on the task, neither here nor from another machine.

    Raises:
        TaskNotReached: it runs, or it cannot be told.
    """
    stop = (
        f"stop it first: Ctrl-C or SIGTERM to its process, or redis-ferry tasks stop {trace.name}"
    )
    if trace.local is not None and trace.local.running is not None:
        pid = trace.local.running.get("pid")
        raise TaskNotReached(f"the task {trace.name} runs in process {pid}", hint=stop)
    if trace.local is not None and trace.local.trouble:
        raise TaskNotReached(trace.local.trouble, hint=stop)
    if target is not None:
        names: list[str] = []
        for server in (await target_servers(target))[0]:
            async with target_client(server) as client:
                names += await open_connections(client, trace.name) or []
        if names:
            raise TaskNotReached(
                f"the task {trace.name} has {len(names)} connections to the target: it runs, maybe on another machine",
                hint=stop,
            )


async def forget(trace: TaskTrace, target: Endpoint | None) -> list[str]:
    """Remove the checkpoints, then the folder. Returns what was removed, in words.

    Raises:
        ConfigError: the folder holds what is not a task's; nothing has been removed.
        OSError: a file cannot be removed.
    """
    local = trace.local
    if local is not None and (foreign := foreign_entries(local.folder)):
        raise ConfigError(
            f"{local.folder} holds what no task has put there: {', '.join(foreign[:5])}",
            hint="check --spool-dir; move these files away, or remove the folder by hand",
        )
    removed: list[str] = []
    if target is not None:
        servers, is_cluster = await target_servers(target)
        for server in servers if trace.checkpoints or is_cluster else []:
            async with target_client(server) as client:
                if is_cluster:
                    keys = await remove_of_task_on_shard(client, trace.name)
                else:
                    keys = await remove_of_task(client, trace.name)
            removed += [f"{key.decode('utf-8', 'replace')} on {server.address}" for key in keys]
    if local is not None:
        shutil.rmtree(local.folder)
        with contextlib.suppress(OSError):
            socket_path(local.folder).unlink()  # where the path was too long for the folder
        removed.append(str(local.folder))
    return removed
