"""The files that a service reads: its seal, its instances, its backups; and the hook that it runs."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError, SourceUnreachable
from engine.readers.file_source import FileSource
from engine.service.backups import find_backup
from engine.service.exchange import ExchangeFailed, ExchangeHook
from engine.service.instances import read_instances
from engine.service.record import TlsFiles
from engine.service.refusals import BadParameter, InstanceUnknown, NotConfiguredHere
from engine.service.sealing import Seal, read_or_make_key


def test_a_seal_opens_only_what_it_has_closed(tmp_path: Path) -> None:
    key = read_or_make_key(tmp_path / "key")
    seal = Seal(key)
    sealed = seal.close("pässword")

    assert sealed is not None
    assert "pässword" not in sealed
    assert Seal(read_or_make_key(tmp_path / "key")).open(sealed) == "pässword"
    assert (seal.close(None), seal.open(None)) == (None, None)
    with pytest.raises(ConfigError, match="another key"):
        Seal(read_or_make_key(tmp_path / "other")).open(sealed)


INSTANCES = """
[[instances]]
id = "one"
name = "First"
addrs = "a.example:6379"
username = "ferry"
password = "s3cret"
tls = true
tls_ca = "/etc/ca.pem"
[[instances]]
id = "two"
addrs = "b.example:6379"
project_id = "p2"
"""


def test_instances_are_seen_by_their_projects(tmp_path: Path) -> None:
    (tmp_path / "i.toml").write_text(INSTANCES)
    instances = read_instances(tmp_path / "i.toml")

    one = instances.get("p1", "one")
    assert (one.name, one.username, one.password) == ("First", "ferry", "s3cret")
    assert one.tls == TlsFiles(ca_file="/etc/ca.pem")
    assert "s3cret" not in repr(one)
    assert [it.id for it in instances.of_project("p1")] == ["one"]
    assert [it.id for it in instances.of_project("p2")] == ["one", "two"]
    with pytest.raises(InstanceUnknown):
        instances.get("p1", "two")
    assert read_instances(None).of_project("p1") == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("instances = 1", "has no list"),
        ("nonsense", "not valid TOML"),
        ("[[instances]]\naddrs = 'a:1'", "needs an id"),
        ("[[instances]]\nid = 'a b'\naddrs = 'a:1'", "needs an id"),
        ("[[instances]]\nid = 'a'", "needs addrs"),
        ("[[instances]]\nid = 'a'\naddrs = 'a:1'\nport = '1'", "unknown key port"),
        ("[[instances]]\nid = 'a'\naddrs = 'a:1'\ntls = 'yes'", "wrong type"),
        ("[[instances]]\nid = 'a'\naddrs = 'a:1'\ntls_ca = 'x'", "TLS files but no TLS"),
        ("[[instances]]\nid = 'a'\naddrs = 'a:1'\npassword_file = 'absent'", "password file"),
        ("[[instances]]\nid = 'a'\naddrs = 'a:1'\n" * 2, "the id a twice"),
    ],
)
def test_an_instances_file_that_is_none(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "i.toml").write_text(text)

    with pytest.raises(ConfigError, match=reason):
        read_instances(tmp_path / "i.toml")


def named(file_name: str, bucket: str | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "file_source": "self_build_obs", "bucket_name": bucket, "files": [{"file_name": file_name}],
    } | changes  # fmt: skip


def test_backups_are_found_below_their_folder_and_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    (folder / "bucket").mkdir(parents=True)
    (folder / "bucket" / "a.rdb").write_bytes(b"REDIS")
    (tmp_path / "secret").write_text("x")
    (folder / "way-out").symlink_to(tmp_path / "secret")

    assert find_backup(folder, named("a.rdb", "bucket")).name == "a.rdb"
    assert find_backup(folder, named("bucket/a.rdb")).name == "a.rdb"
    for name, bucket in (
        ("../secret", None),
        ("secret", ".."),
        ("way-out", None),
        (str(tmp_path / "secret"), None),
        ("bucket", None),
        ("absent", None),
        ("a" * 5000, None),
        ("nul\x00", None),
    ):
        with pytest.raises(BadParameter):
            find_backup(folder, named(name, bucket))
    with pytest.raises(BadParameter):
        find_backup(folder, named("a.rdb", files=[]))
    for wrong in (None, "other"):
        with pytest.raises(NotConfiguredHere):
            find_backup(folder, named("a.rdb", file_source=wrong))
    with pytest.raises(NotConfiguredHere):
        find_backup(None, named("a.rdb"))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
async def test_a_backup_that_is_no_rdb_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    backup = FileSource(tmp_path / "x")
    try:
        with pytest.raises(SourceUnreachable, match="is no RDB file"):
            await backup.start()
    finally:
        await backup.close()


async def test_a_backup_source_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"REDIS0011" + b"x" * 1000)
    backup = FileSource(tmp_path / "x")
    await backup.start()
    path = backup.endpoint.unix_path
    assert path is not None
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(
        b"PING\r\n*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\nx\r\n*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n"
    )
    assert await reader.readline() == b"+PONG\r\n"
    assert await reader.readline() == b"+PONG\r\n"
    assert (await reader.readline()).startswith(b"-ERR")
    assert (await reader.readline()).startswith(b"+FULLRESYNC ")
    assert await reader.readline() == b"$1009\r\n"
    assert await reader.readexactly(1009) == (tmp_path / "x").read_bytes()

    await backup.close()

    assert await reader.read() == b""
    writer.close()
    assert not Path(path).parent.exists()


async def test_a_command_that_hangs_or_is_not_there_has_failed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    hang = f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(60)"
    hook = ExchangeHook(command=(sys.executable, "-c", hang), timeout_seconds=1.5)
    with pytest.raises(ExchangeFailed, match=r"no end within 1\.5 s"):
        await hook.carry_out({})
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)

    with pytest.raises(ExchangeFailed, match="cannot be run: No such file"):
        await ExchangeHook(command=("/no/such/command",)).carry_out({})
    with pytest.raises(ExchangeFailed, match="did not answer: ConnectError"):
        await ExchangeHook(webhook="http://127.0.0.1:1/").carry_out({})
    assert not ExchangeHook().is_there
