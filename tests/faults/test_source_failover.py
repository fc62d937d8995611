"""The source's history goes on under another id (PSYNC2): a promoted replica, a restart with its dump."""

from __future__ import annotations

import asyncio

import pytest

from engine.checkpoint.checkpoint import checkpoint_key
from tests.fix_servers import StartServer
from tests.live.proxied_world import proxied_world, under_load
from tests.live.sides import offset_of
from tests.live.world import SOURCE_CONFIG, World, is_back, make_world, running

pytestmark = [pytest.mark.live, pytest.mark.faults]


@pytest.mark.parametrize("server", ["redis-6.2", "redis-8.2", "valkey-9.1"])
async def test_a_promoted_replica_continues_the_stream(
    server: str, start_server: StartServer
) -> None:
    async with proxied_world(
        start_server, pair=(server, "valkey-9.1" if server[0] == "v" else "redis-8.2")
    ) as it:
        primary = it.world.source
        replica = start_server(server, config=SOURCE_CONFIG)
        with replica.client() as client:
            client.execute_command("REPLICAOF", primary.host, primary.port)
            async with under_load(it) as (run, load):
                await run.reaches(
                    lambda: client.info("replication").get("master_link_status") == "up",
                    "the replica follows",
                )
                await load.has_written(400)
                await load.stop()
                offset = offset_of(primary)
                await run.reaches(
                    lambda: client.info("replication")["master_repl_offset"] == offset,
                    "the replica has everything",
                )
                await run.reaches_offset(offset)
                old_id = client.info("replication")["master_replid"]
                # First the end of the primary: a PING of it that only the worker gets would be more than the replica has.
                await asyncio.to_thread(primary.kill)
                client.execute_command("REPLICAOF", "NO", "ONE")
                it.source.server_address = (replica.host, replica.port)
                await is_back(run)
                client.incr("after the failover")
                after = World(replica, it.world.target, it.world.settings)
                await after.is_caught_up(run)
                status = run.task.status()
                new_id = client.info("replication")["master_replid"]
        assert new_id != old_id
        assert await after.is_equal_and_clean()
        assert (status.full_resyncs, status.partial_resyncs) == (1, 1)
        with it.world.target.client() as target:
            key = checkpoint_key(it.world.settings.task_id, "0")
            assert target.hget(key, "replid").decode() == new_id


async def test_a_source_restarted_with_its_dump_continues_the_stream(
    start_server: StartServer,
) -> None:
    world = await make_world(start_server, source_config={"save": ("3600", "1")})
    async with running(world.settings) as run:
        with world.source.client() as client:
            client.incr("before")
            await run.reaches_offset(offset_of(world.source))
            client.save()
            # Nothing behind the dump, so that the offset in it is the one that the target has.
            await run.reaches_offset(offset_of(world.source))
            client.shutdown(save=True)
        await asyncio.to_thread(world.source.kill)
        await asyncio.to_thread(world.source.start)
        await is_back(run)
        with world.source.client() as client:
            client.incr("after")
        await world.is_caught_up(run)
        status = run.task.status()
    assert await world.is_equal_and_clean()
    assert (status.full_resyncs, status.partial_resyncs) == (1, 1)
