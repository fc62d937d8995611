"""Giving expiries their true times leaves alone what the target has of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.replay.margin import DAY_MS
from engine.settings import ConflictPolicy, SpoolSettings
from tests.fix_servers import StartServer
from tests.live.running_task import make_settings, running
from tests.live.sides import offset_of
from tests.live.world import SOURCE_CONFIG

pytestmark = pytest.mark.live

NAME = "redis-8.2"
FAR_MS = 60 * DAY_MS
MINUTE_MS = 60_000


@pytest.mark.parametrize("has_list", [True, False])
async def test_a_key_of_the_target_that_expires_late_stays(
    has_list: bool, start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server(NAME, config=SOURCE_CONFIG), start_server(NAME)
    with source.client() as here, target.client() as there:
        here.set("timed", "1", px=10 * MINUTE_MS)
        there.set("foreign", "1", px=FAR_MS)
        there.hset("foreign:h", "a", "1")
        there.hpexpire("foreign:h", FAR_MS, "a")
        settings = make_settings(
            source.endpoint,
            target.endpoint,
            spool=SpoolSettings(directory=tmp_path / "t1" if has_list else None),
        )
        async with running(settings) as run:
            await run.reaches_offset(offset_of(source))
        assert abs(here.pexpiretime("timed") - there.pexpiretime("timed")) == 0
        assert there.pttl("foreign") > FAR_MS - MINUTE_MS
        assert there.hpttl("foreign:h", "a")[0] > FAR_MS - MINUTE_MS


async def test_a_hash_that_was_kept_keeps_its_value(
    start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server(NAME, config=SOURCE_CONFIG), start_server(NAME)
    with source.client() as here, target.client() as there:
        for client, value in ((here, "theirs"), (there, "mine")):
            client.hset("both", mapping={"a": value, "b": value})
            client.hpexpire("both", FAR_MS if value == "mine" else 10 * MINUTE_MS, "a")
        here.hset("only-there", "a", "1")
        here.hpexpire("only-there", 10 * MINUTE_MS, "a")
        settings = make_settings(
            source.endpoint,
            target.endpoint,
            on_conflict=ConflictPolicy.SKIP,
            spool=SpoolSettings(directory=tmp_path / "t1"),
        )
        async with running(settings) as run:
            await run.reaches_offset(offset_of(source))
            assert run.task.status().keys_skipped == 1
        assert there.hgetall("both") == {b"a": b"mine", b"b": b"mine"}
        assert there.hpttl("both", "a")[0] > FAR_MS - MINUTE_MS
        assert there.hpexpiretime("only-there", "a") == here.hpexpiretime("only-there", "a")
