"""rdbtools' own classes, driven by our parser: what rdbtools gives, and what it cannot read."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine.errors import CorruptRdb
from engine.inspection.rdbtools_bridge import FORMATS, drive, make_callback
from tests.corpus_files import OpenDump, corrupt_dumps, open_dumps

YEAR_10000 = b"253402300799"


async def _whole(file: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(file), 1000):
        yield file[at : at + 1000]


def _ours(file: bytes, output: str) -> bytes:
    out = io.BytesIO()
    asyncio.run(drive(_whole(file), make_callback(output, out)))
    return out.getvalue()


def _theirs(file: bytes, output: str) -> bytes:
    from rdbtools import RdbParser

    out = io.BytesIO()
    RdbParser(make_callback(output, out)).parse_fd(io.BytesIO(file))
    return out.getvalue()


def _readable() -> list[OpenDump]:
    """KeyDB's AUX records between an expiry and its key make rdbtools lose the expiry."""
    found = []
    for dump in open_dumps("default", "bigenc", "nocomp", "lru", "lfu"):
        rdb = dump.expected["rdb"]
        if rdb["magic"] == "REDIS" and 8 <= rdb["version"] <= 9 and "keydb" not in dump.server:
            found.append(dump)
    return found


@pytest.mark.parametrize("output", ["json", "diff", "protocol"])
@pytest.mark.parametrize("dump", [pytest.param(it, id=it.id) for it in _readable()])
def test_output_equals_that_of_rdbtools_where_it_can_read_the_dump(
    dump: OpenDump, output: str
) -> None:
    ours, theirs = _ours(dump.rdb, output), _theirs(dump.rdb, output)

    pairs = zip(ours.split(b"\n"), theirs.split(b"\n"), strict=True)
    # Beyond the year 9999 rdbtools makes a date of its own.
    assert [it for it in pairs if it[0] != it[1] and not it[0].startswith(YEAR_10000)] == []


@pytest.mark.parametrize("output", FORMATS)
@pytest.mark.parametrize(
    "server", ["redis-8.6.3", "redis-7.4.1", "valkey-9.1.2", "redis-stack-7.4.1", "keydb-6.3.4"]
)
def test_todays_dumps_are_read_as_well(server: str, output: str) -> None:
    dump = next(it for it in open_dumps("default", "modules") if it.server == server)

    found = _ours(dump.rdb, output)

    names = [it["key"] for entries in dump.expected["dbs"].values() for it in entries]
    if output == "json":
        databases: list[dict[str, Any]] = json.loads(found)
        opaque = sum(
            it["type"] in {"stream", "module", "keydb-cron"}
            for entries in dump.expected["dbs"].values()
            for it in entries
        )
        assert sum(map(len, databases)) >= len(names) - opaque
    elif output == "memory":
        assert found.count(b"\n") >= 1 + len(names)  # rdbtools writes line ends in keys as they are
    else:
        assert len(found) > 10 * len(names)


def test_a_broken_dump_ends_with_its_place_and_key() -> None:
    logging.disable(logging.NOTSET)
    named = 0
    for dump in corrupt_dumps("error"):
        with pytest.raises(CorruptRdb) as caught:
            _ours(dump.rdb, "json")
        named += "key b'" in str(caught.value)

    assert named > 20
