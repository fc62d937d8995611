"""A Sentinel trio on either side: found by its name, followed through a failover."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from engine.endpoint import Endpoint, parse_endpoint
from engine.errors import ConfigError, SourceAuthError
from engine.settings import TargetSettings
from engine.supervision.states import TaskState
from tests.fix_servers import BINARIES, StartServer
from tests.live.cluster_load import ClusterLoad
from tests.live.cluster_sides import differences
from tests.live.running_task import Run, make_settings, running
from tests.live.sides import keys_of_ours, offset_of
from tests.servers.cluster import cut_off, holds
from tests.servers.sentinels import SentinelTrio

pytestmark = [pytest.mark.live, pytest.mark.faults]
NAMES = [it for it in ("redis-6.2", "valkey-9.1") if it in BINARIES]
CONFIG = {"repl-backlog-size": "16mb"}


def endpoint_of(trio: SentinelTrio, password: str | None = None) -> Endpoint:
    endpoint = parse_endpoint(trio.url, role="source")
    assert endpoint.sentinel is not None
    return replace(endpoint, sentinel=replace(endpoint.sentinel, password=password))


def is_even(trio: SentinelTrio) -> bool:
    """The replica has all that the primary has."""
    return len({offset_of(it) for it in trio.servers}) == 1


@pytest.mark.parametrize("name", NAMES)
async def test_the_source_fails_over(name: str, start_server: StartServer) -> None:
    target = start_server("redis-8.2" if name != "valkey-9.1" else name)
    with SentinelTrio(
        BINARIES[name], config=CONFIG, password="watch", server_password="data"
    ) as trio:
        with ClusterLoad(trio.primary) as load:
            load.has_written(1000)
        settings = make_settings(endpoint_of(trio, "watch"), target.endpoint)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(holds, lambda: is_even(trio), "the replica has everything")
            _, primary = await asyncio.to_thread(trio.fails_over)
            with ClusterLoad(primary, seed=2) as load:
                await asyncio.to_thread(load.has_written, 1000)
            await run.reaches_offset(offset_of(primary))
            status = run.task.status()
            assert (status.full_resyncs, status.partial_resyncs) == (1, 1)
            assert await asyncio.to_thread(differences, primary, target) == []


async def test_the_target_fails_over_without_its_last_writes(start_server: StartServer) -> None:
    name = "redis-8.2"
    source = start_server(name, config=CONFIG | {"repl-diskless-sync-delay": 0})
    with SentinelTrio(BINARIES[name]) as trio, ClusterLoad(source) as load:
        load.has_written(1000)
        settings = make_settings(
            source.endpoint, replace(endpoint_of(trio), address_map=(("localhost", "127.0.0.1"),))
        )
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            await asyncio.to_thread(load.has_written, 1000)
            old = trio.primary
            with old.client() as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "replica")
                client.config_set("repl-timeout", 1)
            _, new = await asyncio.to_thread(trio.fails_over)
            await asyncio.to_thread(load.has_written, 1000)
            await asyncio.to_thread(load.stop)
            await run.reaches_offset(offset_of(source))
            status = run.task.status()
            assert status.target_reconnects >= 1
            assert status.full_resyncs == 1
            assert await asyncio.to_thread(differences, source, new) == []
            assert len(keys_of_ours(new)) == 1


async def test_a_target_that_hangs_is_left_although_nothing_is_sent(
    start_server: StartServer,
) -> None:
    """The Sentinels know when it has been replaced; the promoted one lacks what was confirmed."""
    name = "redis-8.2"
    source = start_server(name, config=CONFIG)
    with SentinelTrio(BINARIES[name]) as trio, source.client() as client:
        client.set("first", 1)
        patient = TargetSettings(connect_timeout_seconds=5, reply_timeout_seconds=100)
        settings = make_settings(source.endpoint, endpoint_of(trio), target_link=patient)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            client.incr("first")  # what follows the snapshot's own checkpoint
            await run.reaches_offset(offset_of(source))
            await asyncio.to_thread(holds, lambda: is_even(trio), "the replica has everything")
            old, new = trio.servers
            assert trio.primary is old
            with cut_off(new, old):
                client.incr("lacking")
                await run.reaches_offset(offset_of(source))
                old.pause()
            try:
                await run.reaches(
                    lambda: run.task.status().target_reconnects > 0,
                    "it is noticed",
                    deadline_seconds=30,
                )
                await run.reaches_offset(offset_of(source))
                assert trio.primary is new
                assert await asyncio.to_thread(differences, source, new) == []
            finally:
                old.unpause()
            assert run.task.status().full_resyncs == 1


async def test_wrong_names_and_logins_say_so(start_server: StartServer) -> None:
    target = start_server("redis-8.2")
    with SentinelTrio(BINARIES["redis-8.2"], password="watch") as trio:
        run = Run(make_settings(endpoint_of(trio, "wrong"), target.endpoint))
        with pytest.raises(SourceAuthError, match="--source-sentinel-password-file"):
            await run.future
        endpoint = endpoint_of(trio, "watch")
        assert endpoint.sentinel is not None
        unknown = replace(endpoint, sentinel=replace(endpoint.sentinel, primary_name="other"))
        run = Run(make_settings(unknown, target.endpoint))
        with pytest.raises(ConfigError, match="knows no primary called 'other'"):
            await run.future
        assert "watch" not in str(run.task.status())
