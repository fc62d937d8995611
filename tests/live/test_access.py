"""Ways in: ACL users, unix sockets. And the bandwidth limit, which is the way through."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest

from engine.demo.servers import RunningServer
from engine.endpoint import Endpoint
from engine.settings import Method
from engine.supervision.states import TaskState
from tests.fix_servers import StartServer
from tests.live.running_task import make_settings, migrate, running
from tests.live.sides import CONFIG, compared, filled, offset_of, replica_of

pytestmark = pytest.mark.live

MIB = 1024 * 1024
# As the hints of the errors say.
SOURCE_PERMISSIONS = ["+ping", "+replconf", "+psync", "+sync", "+info"]
TARGET_PERMISSIONS = ["+@write", "+@read", "+@transaction", "+@connection", "+info", "+time"]
PASSWORD = "p@ss:wörd/%"


def with_user(server: RunningServer, permissions: list[str]) -> Endpoint:
    with server.client() as client:
        client.acl_setuser(
            "ferry", enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], commands=permissions
        )
        client.acl_setuser("default", enabled=False)
    return replace(server.endpoint, username="ferry", password=PASSWORD)


@pytest.mark.parametrize(
    ("source_name", "target_name"), [("redis-6.2", "redis-8.2"), ("valkey-8.1", "valkey-9.1")]
)
async def test_users_with_the_permissions_of_the_hints_are_enough(
    source_name: str, target_name: str, start_server: StartServer
) -> None:
    source = start_server(source_name, config=CONFIG)
    target = start_server(target_name, config=CONFIG)
    await filled(source, 1000, seed=2)
    with source.client() as admin, target.client() as other_admin:
        admin.ping(), other_admin.ping()  # logged in before nobody can any more
        ends = with_user(source, SOURCE_PERMISSIONS), with_user(target, TARGET_PERMISSIONS)
        async with running(make_settings(*ends)) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
            admin.execute_command("SET", "late", "1")
            offset = int(admin.info("replication")["master_repl_offset"])
            await run.reaches_offset(offset)
        admin.acl_setuser("default", enabled=True)
        other_admin.acl_setuser("default", enabled=True)

    assert (await compared(source, target)).is_equal


async def test_unix_sockets_do_on_both_sides(start_server: StartServer) -> None:
    source, target = start_server("redis-6.2"), start_server("redis-8.2")
    await filled(source, 500, seed=2)
    ends = [Endpoint(unix_path=it.unix_path) for it in (source, target)]

    async with running(make_settings(*ends)) as run:
        await run.reaches_offset(offset_of(source))
        await run.reaches(lambda: replica_of(source).get("state") == "online", "online")

    assert (await compared(source, target)).is_equal


@pytest.mark.parametrize("mib_per_second", [1, 5])
async def test_the_bandwidth_limit_is_the_mean_rate(
    mib_per_second: int, start_server: StartServer
) -> None:
    source, target = start_server("redis-6.2"), start_server("redis-8.2")
    with source.client() as client:
        for number in range(300 * mib_per_second):
            client.set(f"k{number}", random.randbytes(10_000))  # nothing to compress
    settings = make_settings(
        source.endpoint,
        target.endpoint,
        method=Method.FULL,
        bandwidth_limit_bytes_per_second=mib_per_second * MIB,
    )

    began = time.monotonic()
    task = await migrate(settings)
    seconds = time.monotonic() - began

    expected = task.status().bytes_applied / (mib_per_second * MIB)
    assert 2.5 < expected < 3.5
    # The first 128 KiB block goes out before there is any debt; connecting takes a moment.
    assert expected - 0.2 <= seconds <= expected * 1.1 + 0.5
    assert task.status().throttled_seconds == pytest.approx(expected, rel=0.1, abs=0.2)


async def test_the_limit_of_a_running_task_may_be_lifted(start_server: StartServer) -> None:
    source, target = start_server("redis-6.2"), start_server("redis-8.2")
    await filled(source, 20_000, seed=2)
    settings = make_settings(
        source.endpoint, target.endpoint, bandwidth_limit_bytes_per_second=64 * 1024
    )

    async with running(settings) as run:
        await run.reaches(lambda: run.task.state is TaskState.SNAPSHOT, "the snapshot phase")
        await run.reaches(lambda: run.task.status().bytes_applied > 0, "the first bytes")
        run.task.set_bandwidth_limit(None)
        await run.reaches(
            lambda: run.task.state is TaskState.STREAM, "the stream", deadline_seconds=15
        )
