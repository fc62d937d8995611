"""Messages: those of a server reach the target, those of a cluster stay in the cluster (pubsub.c, publishCommand)."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from engine.demo.servers import RunningServer
from engine.endpoint import parse_endpoint
from engine.supervision.states import TaskState
from tests.conditions import holds
from tests.fix_servers import BINARIES, SERVER_NAMES, StartServer
from tests.live.running_task import make_settings, running
from tests.live.sides import offset_of
from tests.live.test_cluster_source import catches_up
from tests.servers.cluster import PATIENT, RunningCluster

pytestmark = pytest.mark.live
CHANNEL = "news"


def publish(server: RunningServer, text: str) -> None:
    with server.client() as client:
        client.publish(CHANNEL, text)
        if server.binary.version_numbers >= (7, 0, 0):
            # Of a cluster the others refuse it: MOVED.
            with contextlib.suppress(Exception):
                client.execute_command("SPUBLISH", CHANNEL, f"{text}, sharded")


@pytest.mark.parametrize(
    ("is_cluster", "name"), [(False, SERVER_NAMES[-1]), *((True, it) for it in SERVER_NAMES)]
)
async def test_messages_of(is_cluster: bool, name: str, start_server: StartServer) -> None:
    target = start_server(name)
    has_shards = BINARIES[name].version_numbers >= (7, 0, 0)
    with contextlib.ExitStack() as stack:
        source: RunningServer | RunningCluster = (
            stack.enter_context(RunningCluster(BINARIES[name], replicas=0, config=PATIENT))
            if is_cluster
            else start_server(name)
        )
        pubsub = stack.enter_context(target.client()).pubsub()
        pubsub.subscribe(CHANNEL)
        if has_shards:
            pubsub.ssubscribe(CHANNEL)
        settings = make_settings(parse_endpoint(source.url, role="source"), target.endpoint)
        async with running(settings) as run:
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream")
            if isinstance(source, RunningCluster):
                for number, node in enumerate(source.primaries()):
                    publish(node.server, f"of node {number}")
                    with node.server.client() as client:
                        # What was published before would have come before it.
                        client.execute_command("FLUSHALL")
                await catches_up(run, source)
            else:
                publish(source, "of the server")
                await run.reaches_offset(await asyncio.to_thread(offset_of, source))
        publish(target, "the last")
        heard: list[str] = []

        def has_all() -> bool:
            message = pubsub.get_message(ignore_subscribe_messages=True, timeout=0.1)
            if message is not None:
                heard.append(message["data"].decode())
            return "the last" + ", sharded" * has_shards in heard

        holds(has_all, "the last message has come")
        sent = [] if is_cluster else ["of the server"]
        kinds = ["", ", sharded"] if has_shards else [""]
        assert heard == [it + kind for it in (*sent, "the last") for kind in kinds]
