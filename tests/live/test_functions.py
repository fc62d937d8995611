"""Libraries of functions in the stream to a server that has such a library already, or no longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import TargetRejected
from engine.settings import ConflictPolicy, DeliveryMode, SpoolSettings
from engine.supervision.states import TaskState
from tests.fix_servers import StartServer
from tests.live.running_task import Run, make_settings, running
from tests.live.sides import CONFIG, offset_of

pytestmark = pytest.mark.live
NAME = "redis-8.2"
CODE = "#!lua name={name}\nredis.register_function('{name}_f', function() return {number} end)"


def code(name: str, number: int) -> str:
    return CODE.format(name=name, number=number)


def codes_of(server) -> set[str]:
    with server.client() as client:
        listed = client.execute_command("FUNCTION", "LIST", "WITHCODE")
    return {dict(zip(it[::2], it[1::2], strict=True))[b"library_code"].decode() for it in listed}


@pytest.mark.parametrize("delivery", list(DeliveryMode))
async def test_what_the_source_loads_is_what_the_target_has(
    delivery: DeliveryMode, start_server: StartServer, tmp_path: Path
) -> None:
    """As on a replica: a library that is there, as after a repetition, gives way; one that is gone already is no trouble."""
    source, target = start_server(NAME, config=CONFIG), start_server(NAME, config=CONFIG)
    settings = make_settings(
        source.endpoint,
        target.endpoint,
        delivery=delivery,
        spool=SpoolSettings(directory=tmp_path),
    )
    with source.client() as client, target.client() as theirs:
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            for name in ("loaded", "restored", "same"):
                theirs.function_load(code(name, 1))
            client.function_load(code("restored", 2))
            dump = client.execute_command("FUNCTION", "DUMP")
            client.execute_command("FUNCTION", "DELETE", "restored")
            client.execute_command("FUNCTION", "RESTORE", dump)
            client.function_load(code("loaded", 2))
            client.function_load(code("same", 1))
            client.function_load(code("gone", 1))
            client.set("behind", "them")
            await run.reaches_offset(offset_of(source))
            assert codes_of(target) == codes_of(source)
            theirs.function_delete("gone")
            client.execute_command("FUNCTION", "DELETE", "gone")
            client.set("behind", "it")
            await run.reaches_offset(offset_of(source))
            assert codes_of(target) == codes_of(source)
            assert theirs.get("behind") == b"it"


@pytest.mark.parametrize("policy", [ConflictPolicy.SKIP, ConflictPolicy.FAIL])
async def test_a_library_of_the_targets_own_is_kept_or_stops_the_task(
    policy: ConflictPolicy, start_server: StartServer, tmp_path: Path
) -> None:
    source, target = start_server(NAME, config=CONFIG), start_server(NAME, config=CONFIG)
    with target.client() as theirs:
        theirs.function_load(code("lib", 1))
    run = Run(
        make_settings(
            source.endpoint,
            target.endpoint,
            on_conflict=policy,
            spool=SpoolSettings(directory=tmp_path),
        )
    )
    await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
    with source.client() as client:
        client.function_load(code("lib", 2))
    if policy is ConflictPolicy.FAIL:
        with pytest.raises(TargetRejected, match="already exists"):
            await run.future
    else:
        await run.reaches_offset(offset_of(source))
        await run.stop()
    assert codes_of(target) == {code("lib", 1)}
