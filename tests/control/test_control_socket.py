"""The control socket: what it answers, and that nothing that comes in disturbs the task."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from engine.control import control_socket
from engine.control.control_socket import ControlSocket, socket_path
from engine.control.running_task import ask_task
from engine.endpoint import Endpoint
from engine.errors import TaskNotReached
from engine.settings import MIB, SpoolSettings, TaskSettings
from tests.conditions import until
from tests.control.scripted_task import Task


def settings_in(folder: Path | None, **changes: Any) -> TaskSettings:
    return TaskSettings(
        task_id="t1",
        source=Endpoint(host="a"),
        target=Endpoint(host="b"),
        spool=SpoolSettings(directory=folder),
        **changes,
    )


@asynccontextmanager
async def served(folder: Path | None, **changes: Any) -> AsyncIterator[Task]:
    settings = settings_in(folder, **changes)
    task = Task(settings)
    async with ControlSocket(task, settings):
        yield task


async def ask(folder: Path, **request: Any) -> dict[str, Any] | None:
    return await asyncio.to_thread(ask_task, folder, request)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "t1"


async def talk(folder: Path, *lines: bytes) -> list[bytes]:
    """Send lines over one connection, read one answer for each."""
    reader, writer = await asyncio.open_unix_connection(str(socket_path(folder)))
    answers = []
    for line in lines:
        writer.write(line + b"\n")
        answers.append(await asyncio.wait_for(reader.readline(), 5))
    writer.close()
    return answers


async def test_status_limit_and_stop(folder: Path) -> None:
    async with served(folder, bandwidth_limit_bytes_per_second=3 * MIB) as task:
        first = await ask(folder, do="status")
        changed = await ask(folder, do="set", bandwidth_limit_mb=7)
        second = await ask(folder, do="status")
        lifted = await ask(folder, do="set", bandwidth_limit_mb=None)
        stopped = await ask(folder, do="stop")

        assert first is not None
        assert second is not None
        assert (first["status"]["task_id"], first["bandwidth_limit_mb"]) == ("t1", 3)
        assert first["pid"] == os.getpid()
        assert changed == {"ok": True, "bandwidth_limit_mb": 7}
        assert second["bandwidth_limit_mb"] == 7
        assert lifted == {"ok": True, "bandwidth_limit_mb": None}
        assert task.limits == [7 * MIB, None]
        assert stopped == {"ok": True}
        assert task._stop.is_set()


async def test_only_this_user_can_reach_it_and_nothing_is_left(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o755)
    folder.chmod(0o755)

    async with served(folder):
        path = socket_path(folder)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert [it.name for it in folder.iterdir()] == ["control.sock"]
    assert not folder.exists()


async def test_what_else_is_in_the_folder_stays(folder: Path) -> None:
    async with served(folder):
        (folder / "line-0").mkdir()

    assert [it.name for it in folder.iterdir()] == ["line-0"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"", "not a JSON object"),
        (b"hello", "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe", "not a JSON object"),
        (b"[" * 4000, "not a JSON object"),
        (b"{}", '"do" must be'),
        (b'{"do": "explode"}', '"do" must be'),
        (b'{"do": ["set"]}', '"do" must be'),
        (b'{"do": "set"}', "takes"),
        (b'{"do": "set", "bandwidth_limit_mb": 1, "x": 1}', "takes"),
        (b'{"do": "set", "bandwidth_limit_mb": 0}', "1 to 10240"),
        (b'{"do": "set", "bandwidth_limit_mb": 10241}', "1 to 10240"),
        (b'{"do": "set", "bandwidth_limit_mb": true}', "1 to 10240"),
        (b'{"do": "set", "bandwidth_limit_mb": 1.5}', "1 to 10240"),
        (b'{"do": "set", "bandwidth_limit_mb": "5"}', "1 to 10240"),
        (b'{"do": "set", "bandwidth_limit_mb": NaN}', "1 to 10240"),
    ],
)
async def test_a_bad_request_gets_an_error_and_changes_nothing(
    folder: Path, line: bytes, says: str
) -> None:
    async with served(folder) as task:
        wrong, right = await talk(folder, line, b'{"do": "status"}')

    assert json.loads(wrong)["ok"] is False
    assert says in json.loads(wrong)["error"]
    assert json.loads(right)["ok"] is True
    assert task.limits == []
    assert not task._stop.is_set()


async def test_a_line_without_an_end_is_refused_and_the_next_client_served(folder: Path) -> None:
    async with served(folder):
        reader, writer = await asyncio.open_unix_connection(str(socket_path(folder)))
        writer.write(b"x" * (control_socket.LINE_LIMIT_BYTES * 3))
        refusal = json.loads(await asyncio.wait_for(reader.readline(), 5))
        rest = await asyncio.wait_for(reader.read(), 5)
        writer.close()

        assert "at most 4096 bytes" in refusal["error"]
        assert rest == b""
        assert await ask(folder, do="status")


async def test_clients_beyond_the_limit_are_turned_away_until_one_leaves(folder: Path) -> None:
    async with served(folder):
        path = str(socket_path(folder))
        idle = []
        for _ in range(control_socket.CONNECTION_LIMIT):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b'{"do": "status"}\n')
            assert await asyncio.wait_for(reader.readline(), 5)
            idle.append(writer)
        reader, writer = await asyncio.open_unix_connection(path)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        idle.pop().close()

        async def is_served() -> bool:
            try:
                return await ask(folder, do="status") is not None
            except TaskNotReached:
                return False

        await until(is_served, "a free place is used")
    # Leaving with clients that say nothing did not wait for them.
    for writer in idle:
        writer.close()


async def test_a_client_that_says_nothing_is_closed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_socket, "IDLE_TIMEOUT_SECONDS", 0.05)
    async with served(folder):
        reader, writer = await asyncio.open_unix_connection(str(socket_path(folder)))

        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_a_socket_left_by_a_killed_task_is_replaced(folder: Path) -> None:
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path(folder)))
        dead.listen()
    assert socket_path(folder).exists()
    assert await ask(folder, do="status") is None

    async with served(folder):
        assert await ask(folder, do="status")


async def test_who_takes_over_has_the_socket_and_keeps_it(folder: Path) -> None:
    first, second = Task(settings_in(folder)), Task(settings_in(folder))
    async with ControlSocket(second, settings_in(folder)):
        pass
    older = ControlSocket(first, settings_in(folder))
    async with older:
        newer = ControlSocket(second, settings_in(folder))
        await newer.__aenter__()
    try:
        await ask(folder, do="stop")
        assert (first._stop.is_set(), second._stop.is_set()) == (False, True)
    finally:
        await newer.__aexit__()


async def test_a_long_path_is_replaced_by_a_short_one_for_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = Path(tempfile.mkdtemp(prefix="rf"))
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    folder = tmp_path / ("x" * 90) / "t1"
    try:
        async with served(folder):
            path = socket_path(folder)
            assert path.parent == short / f"redis-ferry-{os.getuid()}"
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert len(os.fsencode(path)) <= control_socket.PATH_LIMIT_BYTES
            assert await ask(folder, do="status")
        assert not path.exists()
        path.parent.rmdir()
    finally:
        short.rmdir()
    assert socket_path(tmp_path / ("y" * 90) / "t1") != path


async def test_without_a_folder_there_is_no_socket() -> None:
    async with served(None) as task:
        assert task.limits == []


async def test_where_it_cannot_be_made_the_task_runs_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with structlog.testing.capture_logs() as logs:
        async with served(tmp_path / "file" / "t1"):
            assert await ask(tmp_path / "file" / "t1", do="status") is None

    (warning,) = logs
    assert warning["event"] == "control_socket.missing"
    assert "--spool-dir" in warning["remedy"]


async def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "t1").symlink_to(tmp_path / "elsewhere")

    with structlog.testing.capture_logs() as logs:
        async with served(tmp_path / "t1"):
            pass

    assert logs[0]["event"] == "control_socket.missing"
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("reply", [b"", b"nonsense\n", b"[1]\n"])
async def test_what_is_no_task_is_not_taken_for_one(folder: Path, reply: bytes) -> None:
    folder.mkdir(parents=True)

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        writer.close()

    async with await asyncio.start_unix_server(serve, str(socket_path(folder))):
        with pytest.raises(TaskNotReached):
            await ask(folder, do="status")
