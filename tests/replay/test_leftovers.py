"""Leftovers on real targets: what the task brought and the source lacks goes, everything else stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from engine.control_client import control_client
from engine.endpoint import Endpoint
from engine.errors import LedgerError, TargetAuthError, TargetUnreachable
from engine.ledger.ledger import Ledger
from engine.replay.leftovers import (
    DELETE_BATCH,
    REPORT_NAME,
    REPORTED_NAMES,
    count_unknown,
    keep_existing,
    remove_brought,
    remove_leftovers,
    write_report,
)
from tests.fix_servers import BINARIES, StartServer

pytestmark = pytest.mark.live

BINARY_NAMES = [b"\x00", b"\xff\xfe\r\n", b"", b"*", b"with space", b"redis-ferr", "ключ".encode()]


class Target:
    """A target, its control connection and a delete that keeps count."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.client = control_client(endpoint, timeout_seconds=10)
        self.batches: list[int] = []

    async def delete(self, db: int, keys: list[bytes]) -> None:
        self.batches.append(len(keys))
        pipe = self.client.pipeline(transaction=True)
        pipe.execute_command("SELECT", db)
        pipe.unlink(*keys)
        await pipe.execute()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path / "ledger")
    yield opened
    opened.close()


def note(ledger: Ledger, db: int, keys: list[bytes]) -> None:
    assert ledger.recorder is not None
    ledger.recorder.select(db)
    for key in keys:
        ledger.recorder.note_bytes(key)


async def fill(client: Redis, db: int, keys: list[bytes]) -> None:
    pipe = client.pipeline(transaction=False)
    pipe.execute_command("SELECT", db)
    for key in keys:
        pipe.set(key, b"v")
    await pipe.execute()


async def keys_of(client: Redis, db: int) -> set[bytes]:
    pipe = client.pipeline(transaction=True)
    pipe.execute_command("SELECT", db)
    pipe.keys("*")
    return set((await pipe.execute())[1])


@pytest.mark.parametrize("server_name", list(BINARIES))
async def test_leftovers_go_and_all_else_stays(
    start_server: StartServer, ledger: Ledger, server_name: str
) -> None:
    target = Target(start_server(server_name).endpoint)
    foreign = [b"foreign:%d" % n for n in range(3000)] + [b"f" + it for it in BINARY_NAMES]
    ours = [b"ours:%d" % n for n in range(3000)]
    gone = [b"gone:%d" % n for n in range(2500)] + BINARY_NAMES
    own = b"redis-ferry:checkpoint:{t}:0"
    for db in (0, 3):
        await fill(target.client, db, [*foreign, *ours, *gone, own])
    await fill(target.client, 7, foreign)
    ledger.begin_snapshot(is_first=True)
    note(ledger, 0, [*ours, *gone, own])
    note(ledger, 3, [*ours, *gone])
    ledger.end_snapshot(1000)
    ledger.begin_snapshot(is_first=False)
    note(ledger, 0, ours)
    note(ledger, 3, [*ours, *gone[:100]])

    counts = await remove_leftovers(target.client, ledger, target.delete)

    assert counts.by_db == {0: len(gone), 3: len(gone) - 100}
    assert counts.keys_seen >= 2 * len(foreign + ours + gone) + len(foreign)
    assert max(target.batches) <= DELETE_BATCH
    assert await keys_of(target.client, 0) == {*foreign, *ours, own}
    assert await keys_of(target.client, 3) == {*foreign, *ours, *gone[:100], own}
    assert await keys_of(target.client, 7) == set(foreign)
    again = await remove_leftovers(target.client, ledger, target.delete)
    assert again.keys_chosen == 0
    pipe = target.client.pipeline(transaction=False)
    pipe.execute_command("CLIENT", "INFO")
    assert b" db=0 " in (await pipe.execute())[0]
    await target.client.aclose()


async def test_a_hundred_thousand_keys(start_server: StartServer, ledger: Ledger) -> None:
    target = Target(start_server("redis-8.2").endpoint)
    names = [b"user:%d" % n for n in range(100_000)]
    for at in range(0, len(names), 10_000):
        await fill(target.client, 0, names[at : at + 10_000])
    ledger.begin_snapshot(is_first=True)
    note(ledger, 0, names[:90_000])
    ledger.end_snapshot(1000)
    ledger.begin_snapshot(is_first=False)
    note(ledger, 0, names[:90_000:3])

    counts = await remove_leftovers(target.client, ledger, target.delete)

    assert counts.by_db == {0: 60_000}
    assert await keys_of(target.client, 0) == {*names[:90_000:3], *names[90_000:]}
    await target.client.aclose()


async def test_outside_of_a_repeated_snapshot_nothing_is_removed(
    start_server: StartServer, ledger: Ledger
) -> None:
    target = Target(start_server("redis-8.2").endpoint)
    await fill(target.client, 0, [b"a"])
    ledger.begin_snapshot(is_first=True)
    note(ledger, 0, [b"a"])

    in_first = await remove_leftovers(target.client, ledger, target.delete)
    ledger.end_snapshot(1000)
    behind_it = await remove_leftovers(target.client, ledger, target.delete)

    assert (in_first.keys_chosen, behind_it.keys_chosen) == (0, 0)
    assert await keys_of(target.client, 0) == {b"a"}
    await target.client.aclose()


async def test_before_a_repeated_snapshot_that_may_not_replace_all_brought_keys_go(
    start_server: StartServer, ledger: Ledger
) -> None:
    target = Target(start_server("redis-8.2").endpoint)
    await fill(target.client, 0, [b"theirs", b"both"])
    await fill(target.client, 2, [b"theirs2"])
    kept = await keep_existing(target.client, ledger)
    ledger.begin_snapshot(is_first=True)
    note(ledger, 0, [b"ours", b"both"])  # `both` was refused by the target: it had it
    await fill(target.client, 0, [b"ours", b"foreign"])

    counts = await remove_brought(target.client, ledger, target.delete)

    assert kept.by_db == {0: 2, 2: 1}
    assert counts.by_db == {0: 1}
    assert await keys_of(target.client, 0) == {b"theirs", b"both", b"foreign"}
    with pytest.raises(LedgerError):
        await keep_existing(target.client, ledger)
    await target.client.aclose()


async def test_a_ledger_that_is_not_trusted_only_counts_and_names(
    start_server: StartServer, tmp_path: Path
) -> None:
    target = Target(start_server("redis-8.2").endpoint)
    directory = tmp_path / "ledger"
    Ledger.open(directory).close()
    (directory / "ledger.json").write_text("torn")
    ledger = Ledger.open(directory)
    ours = [b"ours:%d" % n for n in range(100)]
    others = [b"other:%d" % n for n in range(REPORTED_NAMES + 500)]
    await fill(target.client, 0, ours + others)
    await fill(target.client, 5, [b"\xff\n"])
    ledger.begin_snapshot(is_first=False)
    note(ledger, 0, ours)

    assert (await remove_leftovers(target.client, ledger, target.delete)).keys_chosen == 0
    assert (await remove_brought(target.client, ledger, target.delete)).keys_chosen == 0
    names: list[tuple[int, bytes]] = []
    assert await count_unknown(target.client, ledger, lambda *_: True, names) == len(others) + 1
    write_report(directory / REPORT_NAME, names)

    lines = (directory / REPORT_NAME).read_text().splitlines()
    assert len(lines) == REPORTED_NAMES
    assert set(lines) <= {f"0 {name!r}" for name in others} | {"5 b'\\xff\\n'"}
    assert len(await keys_of(target.client, 0)) == len(ours + others)
    assert target.batches == []
    ledger.close()
    await target.client.aclose()


async def test_a_target_without_unknown_keys_leaves_no_report(
    start_server: StartServer, ledger: Ledger
) -> None:
    target = Target(start_server("redis-8.2").endpoint)
    assert ledger.directory is not None
    report = ledger.directory / REPORT_NAME
    report.write_text("of an earlier run")
    await fill(target.client, 0, [b"a"])
    ledger.begin_snapshot(is_first=False)
    note(ledger, 0, [b"a"])

    names: list[tuple[int, bytes]] = []
    assert await count_unknown(target.client, ledger, lambda *_: True, names) == 0
    write_report(report, names)

    assert not report.exists()
    await target.client.aclose()


async def test_a_target_that_does_not_permit_scan_says_what_to_grant(
    start_server: StartServer, ledger: Ledger
) -> None:
    server = start_server("redis-8.2")
    with server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-scan")
        admin.set("a", 1)
    endpoint = Endpoint(host=server.host, port=server.port, username="u", password="p")
    target = Target(endpoint)
    ledger.begin_snapshot(is_first=False)

    with pytest.raises(TargetAuthError, match="scan"):
        await remove_leftovers(target.client, ledger, target.delete)
    await target.client.aclose()


async def test_a_target_that_is_gone_is_unreachable(
    start_server: StartServer, ledger: Ledger
) -> None:
    server = start_server("redis-8.2")
    target = Target(server.endpoint)
    server.stop()
    ledger.begin_snapshot(is_first=False)

    with pytest.raises(TargetUnreachable):
        await remove_leftovers(target.client, ledger, target.delete)
    await target.client.aclose()
