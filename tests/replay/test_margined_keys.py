"""The search on the target for expiries that have a margin: exactly those, in every database, hash fields too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.demo.servers import RunningServer
from engine.demo.wire import Wire, pack
from engine.errors import TargetLinkLost, TargetNotReady, TargetRejected
from engine.replay.margin import DAY_MS, MARGIN_MS, least_margined_ms
from engine.replay.margined_keys import FEW_FIELDS, SCAN_COUNT, MarginedKeys
from engine.replay.owed import Key
from engine.settings import TargetSettings
from tests.fix_servers import StartServer
from tests.replay.test_settlement_not_now import held_by_a_script

pytestmark = pytest.mark.live

SECOND_MS = 1000
DATABASES = (0, 3)


@pytest.fixture(params=["redis-6.2", "redis-8.2", "valkey-9.1"])
def target(request: pytest.FixtureRequest, start_server: StartServer) -> RunningServer:
    return start_server(request.param)


@pytest.fixture(params=["redis-8.2", "valkey-9.1"])
def target_with_fields(request: pytest.FixtureRequest, start_server: StartServer) -> RunningServer:
    return start_server(request.param)


def now_ms(server: RunningServer) -> int:
    with server.client() as client:
        seconds, microseconds = client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def found(
    server: RunningServer, least_ms: int, *, has_field_ttls: bool = False
) -> tuple[list[Key], list[Key]]:
    search = MarginedKeys(
        server.endpoint, TargetSettings(), least_ms=least_ms, has_field_ttls=has_field_ttls
    )
    keys: list[Key] = []
    hashes: list[Key] = []
    try:
        async for some_keys, some_hashes in search.batches():
            keys += some_keys
            hashes += some_hashes
    finally:
        await search.close()
    return keys, hashes


async def test_exactly_the_keys_at_or_behind_the_moment_are_found(target: RunningServer) -> None:
    least_ms = least_margined_ms(now_ms(target))
    expected = set()
    for db in DATABASES:
        with target.client(db) as client:
            client.set("stays", "1")
            client.set("redis-ferry:ours", "1", pxat=least_ms + DAY_MS)
            client.set("redis-ferry:checkpoint:{t}:0", "1", pxat=least_ms + DAY_MS)
            client.set("soon", "1", px=60 * SECOND_MS)
            client.set("just-before", "1", pxat=least_ms - 5 * SECOND_MS)
            client.set("just-behind", "1", pxat=least_ms + 5 * SECOND_MS)
            client.set(b"\x00\xff\n", "1", pxat=least_ms + MARGIN_MS)
            client.rpush("list", "1")
            client.pexpireat("list", least_ms + DAY_MS)
        expected |= {(db, name) for name in (b"just-behind", b"\x00\xff\n", b"list")}

    keys, hashes = await found(target, least_ms)

    assert set(keys) == expected
    assert len(keys) == len(expected)
    assert hashes == []


async def test_among_many_pages_none_is_missed(target: RunningServer) -> None:
    least_ms = least_margined_ms(now_ms(target))
    count = 3 * SCAN_COUNT
    with Wire(target.endpoint) as wire:
        for start in range(0, count, SCAN_COUNT):
            wire.send(
                b"".join(
                    pack(
                        (
                            b"SET",
                            b"k:%d" % n,
                            b"",
                            b"PXAT",
                            least_ms + (DAY_MS if n % 2 else -DAY_MS),
                        )
                    )
                    for n in range(start, start + SCAN_COUNT)
                )
            )
            assert set(wire.replies(SCAN_COUNT)) == {b"OK"}

    keys, _ = await found(target, least_ms)

    assert set(keys) == {(0, b"k:%d" % n) for n in range(1, count, 2)}


async def test_hashes_with_such_fields_are_found_large_ones_too(
    target_with_fields: RunningServer,
) -> None:
    target = target_with_fields
    least_ms = least_margined_ms(now_ms(target))
    with Wire(target.endpoint, db=3) as wire:
        for name in ("plain", "soon", "late", "large", "large-soon"):
            wire.ask("HSET", name, "a", 1, "b", 2)
        for name in ("large", "large-soon"):
            fields = [part for n in range(FEW_FIELDS + 500) for part in (f"f{n}", n)]
            wire.ask("HSET", name, *fields)
        wire.ask("HPEXPIREAT", "soon", least_ms - 5 * SECOND_MS, "FIELDS", 1, "a")
        wire.ask("HPEXPIREAT", "late", least_ms - 5 * SECOND_MS, "FIELDS", 1, "a")
        wire.ask("HPEXPIREAT", "late", least_ms + 5 * SECOND_MS, "FIELDS", 1, "b")
        wire.ask("HPEXPIREAT", "large", least_ms + 5 * SECOND_MS, "FIELDS", 1, f"f{FEW_FIELDS}")
        wire.ask("HPEXPIREAT", "large-soon", least_ms - SECOND_MS, "FIELDS", 1, "f1")
        wire.ask("SET", "string", "1")

    keys, hashes = await found(target, least_ms, has_field_ttls=True)

    assert keys == []
    assert sorted(hashes) == [(3, b"large"), (3, b"late")]


async def test_a_target_that_goes_away_is_a_lost_link(target: RunningServer) -> None:
    with target.client() as client:
        client.mset({f"k:{number}": "1" for number in range(5000)})
    search = MarginedKeys(target.endpoint, TargetSettings(), least_ms=0, has_field_ttls=False)
    pages = search.batches()
    await anext(pages)
    target.kill()
    with pytest.raises(TargetLinkLost, match="while expiries were looked for"):
        async for _ in pages:
            pass
    await search.close()


async def test_a_script_that_holds_the_target_is_waited_for(start_server: StartServer) -> None:
    target = start_server("redis-8.2", config={"busy-reply-threshold": 50})
    async with held_by_a_script(target):
        with pytest.raises(TargetNotReady, match="BUSY") as raised:
            await found(target, 0)
        assert raised.value.code == "BUSY"
    assert await found(target, 0) == ([], [])


@pytest.mark.parametrize("command", ["info", "scan", "time", "pttl"])
async def test_a_question_that_is_not_permitted_is_named_with_what_to_grant(
    command: str, start_server: StartServer
) -> None:
    target = start_server("redis-8.2")
    with target.client() as client:
        client.set("key", 1)
        client.execute_command(
            "ACL", "SETUSER", "ferry", "on", ">secret", "~*", "+@all", f"-{command}"
        )
    search = MarginedKeys(
        replace(target.endpoint, username="ferry", password="secret"),
        TargetSettings(),
        least_ms=0,
        has_field_ttls=False,
    )
    with pytest.raises(TargetRejected, match=f"refused {command.upper()}") as raised:
        async for _ in search.batches():
            pass
    assert f"+{command}" in raised.value.hint
    await search.close()
