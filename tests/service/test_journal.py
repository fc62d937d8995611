"""Log rows: made of log events, brought to a store that may be away, shown to those who listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import text

from engine.observability.logs import configure_logs
from engine.service import write_behind
from engine.service.database import open_database, sqlite_url
from engine.service.journal import MESSAGE_LIMIT, SUBSCRIBER_EVENTS, Journal, row_of
from engine.service.record import LogLevel
from engine.service.refusals import StoreFailed
from engine.service.store import Store
from tests.conditions import until
from tests.service.test_store import record


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    found = Store(await open_database(sqlite_url(tmp_path), state_dir=tmp_path))
    await found.insert_task(record(), None)
    yield found
    await found.close()


async def messages(store: Store) -> list[str]:
    return [it.message for it in (await store.logs("t1", level=None, offset=0, limit=1000))[1]]


def test_a_row_is_made_of_an_events_name_and_facts() -> None:
    event = {
        "event": "psync.full_resync", "level": "warning", "ts": "now", "logger": "engine.line",
        "task": "t1", "position": "abc:5", "keys": 3, "share": 0.25, "none": None, "what": {"a": 1},
    }  # fmt: skip

    row = row_of("t1", event)

    assert (row.task_id, row.level, row.code) == ("t1", LogLevel.WARN, "psync.full_resync")
    assert row.keywords == ("position=abc:5", "keys=3", "share=0.25", 'what={"a": 1}')
    assert row.message == 'psync.full_resync position=abc:5 keys=3 share=0.25 what={"a": 1}'


def test_a_row_holds_nothing_that_a_database_cannot() -> None:
    row = row_of("t1", {"event": "e", "level": "x", "key": "a\x00b\ud800", "long": "y" * 5000})

    assert "\x00" not in row.message
    row.message.encode()
    assert len(row.message) == MESSAGE_LIMIT
    assert row.level is LogLevel.INFO


async def test_rows_are_kept_while_the_store_is_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_behind, "RETRY_SECONDS", 0.02)
    journal = Journal(store)
    writing = asyncio.create_task(journal.write())
    async with store._engine.begin() as connection:
        await connection.execute(text("ALTER TABLE task_logs RENAME TO hidden"))
    for number in range(3):
        journal.take({"event": f"e{number}", "level": "info", "task": "t1"})
    await asyncio.sleep(0)  # the events come through the loop
    with pytest.raises(StoreFailed):
        await journal.flush()
    async with store._engine.begin() as connection:
        await connection.execute(text("ALTER TABLE hidden RENAME TO task_logs"))

    async def are_there() -> bool:
        return await messages(store) == ["e2", "e1", "e0"]

    await until(are_there, "all rows, in order, once", running=writing)
    writing.cancel()
    await asyncio.wait({writing})


async def test_a_slow_listener_loses_the_oldest_and_holds_nobody_up(store: Store) -> None:
    journal = Journal(store)
    with journal.listening("t1") as one, journal.listening("t1") as other:
        for number in range(SUBSCRIBER_EVENTS + 10):
            journal.publish("t1", "n", {"number": number})
            journal.publish("t2", "n", {"number": -1})
        first = await one.take()
        journal.close_listeners("t1")
        rest = [await other.take() for _ in range(SUBSCRIBER_EVENTS)]

        assert first == ("n", {"number": 10})
        assert rest[-1] == ("n", {"number": SUBSCRIBER_EVENTS + 9})
        assert await other.take() is None
    journal.publish("t1", "n", {})
    assert journal._subscriptions == {}


async def test_events_are_taken_whatever_is_printed(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[Any] = []
    configure_logs(level="error", json_lines=False, tap=lambda event: taken.append(dict(event)))
    try:
        log = structlog.get_logger("engine.test")
        log.debug("not.taken", task="t1")
        log.info("taken", task="t1", source_password="s3cret", url="redis://u:s3cret@h")
        log.error("printed", task="t1")
    finally:
        structlog.reset_defaults()

    assert [it["event"] for it in taken] == ["taken", "printed"]
    assert "s3cret" not in str(taken)
    printed = capsys.readouterr().err
    assert "printed" in printed
    assert "taken" not in printed
