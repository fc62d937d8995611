"""Sources of every version, up and down and across the families: what arrives, what is told.

The sources are the recorded ones of tests/corpus/streams: a snapshot with every type of their version, then some 2,500
commands. The table in VERSIONS.md comes from

    pytest -n 0 -m slow tests/live/test_version_pairs.py --basetemp FOLDER      # FOLDER/…/pairs.md
"""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from engine.demo.servers import RunningServer
from engine.errors import UnsupportedByTarget
from engine.replay.refused_keys import REPORT_NAME
from engine.settings import FieldTtlPolicy, SpoolSettings, UnsupportedPolicy
from engine.supervision.status import TaskStatus
from tests.corpus_files import RecordedStream, streams
from tests.fix_servers import HASH_FIELD_TTL, SERVER_NAMES, StartServer
from tests.live.recorded_state import State, described, differences, read_state
from tests.live.running_task import make_settings, migrate, running
from tests.live.test_recorded_streams import REFUSED, UNTOLD
from tests.servers.scripted_source import ScriptedSource

pytestmark = pytest.mark.live

DOCUMENT = Path(__file__).parents[2] / "VERSIONS.md"
MOMENTS_SINCE = (7, 0, 0)
EVERYDAY = ["redis-5.0.14", "redis-7.2.6", "redis-8.6.3", "valkey-9.1.2", "keydb-6.2.2"]
# Differences of a source's own replica as well, and sources that stop everywhere: see test_recorded_streams.
SOURCES = [it for it in streams() if it.server not in REFUSED]
# 6.2.2 of KeyDB does as Redis 6.2.6 here, and its number does not say so.
UNTOLD_OF_OLD = {"keydb-6.2.2"}


def has_field_ttls(server: RunningServer) -> bool:
    return server.binary.version_numbers >= HASH_FIELD_TTL[server.binary.product]


def expected_on(source: ScriptedSource, target: RunningServer) -> State:
    state = described(source.expected["dbs"])
    if not has_field_ttls(target):
        for entry in state.values():
            if entry["type"] == "hash":
                entry["value"] = [[name, value, None] for name, value, _ in entry["value"]]
    return state


def state_of(server: RunningServer) -> State:
    return read_state(
        server.client,
        field_ttls=has_field_ttls(server),
        moments=server.binary.version_numbers >= MOMENTS_SINCE,
    )


async def played(
    recording: RecordedStream, target: RunningServer, folder: Path
) -> tuple[list[str], TaskStatus, list[dict[str, Any]]]:
    """What differs in the end, the task's last status, and its report of what it refused."""
    source = ScriptedSource(recording, seed=1)
    policies = {
        "on_unsupported": UnsupportedPolicy.SKIP,
        "field_ttls": FieldTtlPolicy.DROP,
        "spool": SpoolSettings(directory=folder),
    }
    async with source.playing():
        settings = make_settings(source.endpoint, target.endpoint, **policies)
        async with running(settings) as run:
            await run.reaches_offset(source.offset_at_end)
            await run.stop()
    found = await asyncio.to_thread(state_of, target)
    untold = UNTOLD.get(recording.server, set())
    report = folder / REPORT_NAME
    lines = report.read_text().splitlines() if report.exists() else []
    return (
        differences(expected_on(source, target), found, but=untold),
        run.task.status(),
        [json.loads(line) for line in lines],
    )


def check(
    recording: RecordedStream, status: TaskStatus, refused: list[dict[str, Any]], target: str
) -> None:
    assert (status.full_resyncs, status.errors) == (1, 0)
    assert status.refused == len(refused)
    # Functions are the one thing of these sources that an old target has in no form.
    assert {it["what"] for it in refused} <= {"function library", "FUNCTION"}
    if target == "redis-6.2" and recording.server in EVERYDAY[1:4]:
        assert status.bridged > 50


def test_the_document_has_a_row_for_every_recorded_source() -> None:
    text = DOCUMENT.read_text()

    assert [it.server for it in SOURCES if f"| {it.server} |" not in text] == []


@pytest.mark.parametrize("target_name", SERVER_NAMES)
@pytest.mark.parametrize("server", EVERYDAY)
async def test_any_source_reaches_any_target(
    server: str, target_name: str, start_server: StartServer, tmp_path: Path
) -> None:
    recording = RecordedStream(server)

    differing, status, refused = await played(recording, start_server(target_name), tmp_path)

    assert told_apart(differing, server, target_name) == []
    check(recording, status, refused, target_name)


@pytest.mark.slow
async def test_the_whole_table_of_pairs(start_server: StartServer, tmp_path: Path) -> None:
    rows = [
        "| source | " + " | ".join(SERVER_NAMES) + " |",
        "| --- |" + " --- |" * len(SERVER_NAMES),
    ]
    wrong = []
    for recording in SOURCES:
        cells = []
        for name in SERVER_NAMES:
            target = start_server(name)
            folder = tmp_path / f"{recording.server}-{name}"
            differing, status, refused = await played(recording, target, folder)
            target.stop()
            differing = told_apart(differing, recording.server, name)
            wrong += [f"{recording.server} to {name}: {line}" for line in differing]
            check(recording, status, refused, name)
            cells.append(_cell(status))
        rows.append(f"| {recording.server} | " + " | ".join(cells) + " |")
    (tmp_path / "pairs.md").write_text("\n".join(rows) + "\n")

    assert wrong == []
    documented = _cells(DOCUMENT.read_text().splitlines())
    found = _cells(rows)
    assert len(found) == len(SOURCES) * len(SERVER_NAMES)
    assert [it for it in found.items() if documented.get(it[0]) != it[1]] == []


def _cells(lines: list[str]) -> dict[tuple[str, str], str]:
    """Of the table, by source and target: the document may have targets that are not here."""
    rows = [[it.strip() for it in line.strip("|").split("|")] for line in lines]
    start = next(i for i, row in enumerate(rows) if row[0] == "source")
    body = rows[start + 2 :]
    return {
        (row[0], target): cell
        for row in body[: next((i for i, it in enumerate(body) if len(it) == 1), len(body))]
        for target, cell in zip(rows[start][1:], row[1:], strict=True)
    }


def told_apart(differing: list[str], server: str, target_name: str) -> list[str]:
    """Without the sorted sets that a stored search in a missing key leaves on Redis 6.2.5."""
    if server in UNTOLD_OF_OLD and target_name == "redis-6.2":
        return [line for line in differing if " b'z:" not in line]
    return differing


def _cell(status: TaskStatus) -> str:
    return "equal but functions" if status.refused else "equal"


async def test_field_ttls_stop_the_migration_unless_told_otherwise(
    start_server: StartServer,
) -> None:
    source = ScriptedSource(RecordedStream("redis-7.4.1"), seed=1)
    target = start_server("valkey-8.1")

    async with source.playing():
        with pytest.raises(UnsupportedByTarget, match="--field-ttls drop") as caught:
            await migrate(make_settings(source.endpoint, target.endpoint))

    assert "field TTLs" in str(caught.value)


async def test_hashes_left_out_are_counted_and_listed_and_nothing_else_is_missing(
    start_server: StartServer, tmp_path: Path
) -> None:
    source = ScriptedSource(RecordedStream("redis-7.4.1"), seed=1)
    target = start_server("valkey-8.1")
    policies = {
        "on_unsupported": UnsupportedPolicy.SKIP,
        "spool": SpoolSettings(directory=tmp_path),
    }

    async with source.playing():
        settings = make_settings(source.endpoint, target.endpoint, **policies)
        async with running(settings) as run:
            await run.reaches_offset(source.offset_at_end)
            await run.stop()

    report = [json.loads(line) for line in (tmp_path / REPORT_NAME).read_text().splitlines()]
    assert run.task.status().refused == len(report) > 0
    assert all("field TTLs" in line["why"] for line in report)
    named = {line["key"] for line in report}
    expected, found = described(source.expected["dbs"]), state_of(target)
    missing = {base64.b64decode(key) for _, key in expected.keys() - found.keys()}
    assert {key.decode("utf-8", "backslashreplace") for key in missing} <= named
