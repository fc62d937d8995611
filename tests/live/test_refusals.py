"""What cannot be migrated is refused with the right error, before anything is written where that is so."""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from engine.demo.servers import RunningServer
from engine.endpoint import Endpoint
from engine.errors import (
    EngineError,
    SourceAuthError,
    SourceRefused,
    SourceUnreachable,
    TargetAuthError,
    TargetNotReady,
    TargetRefused,
    TargetRejected,
    TargetUnreachable,
)
from engine.settings import ConflictPolicy, Method, ResumeMode
from engine.supervision.states import TaskState
from engine.supervision.task import Task
from tests.fix_servers import StartServer
from tests.live.running_task import make_settings, migrate, running
from tests.live.sides import CONFIG, filled, keys_of_ours, offset_of

pytestmark = pytest.mark.live

NOBODY = Endpoint(host="127.0.0.1", port=1)


@pytest.fixture
def source(start_server: StartServer) -> RunningServer:
    return start_server("redis-6.2", config=CONFIG)


@pytest.fixture
def target(start_server: StartServer) -> RunningServer:
    return start_server("redis-8.2", config=CONFIG)


async def refusal(source: Endpoint, target: Endpoint, **changes: Any) -> EngineError:
    """The error of a run that wrote nothing."""
    async with running(make_settings(source, target, **changes)) as run:
        with pytest.raises(EngineError) as caught:
            await run.future
    assert run.task.state is TaskState.FAILED
    assert not run.task.wrote_to_target
    assert str(caught.value) == run.task.status().error
    assert "s3cret" not in str(caught.value)
    return caught.value


async def test_an_unreachable_server_is_named(source: RunningServer, target: RunningServer) -> None:
    no_source = await refusal(NOBODY, target.endpoint)
    no_target = await refusal(source.endpoint, NOBODY)

    assert (type(no_source), type(no_target)) == (SourceUnreachable, TargetUnreachable)
    assert "127.0.0.1:1" in no_source.message
    assert "127.0.0.1:1" in no_target.message


@pytest.mark.parametrize(
    ("username", "password"),
    [(None, None), (None, "wrong"), ("nobody", "s3cret"), ("weak", "s3cret")],
    ids=["none", "wrong", "unknown-user", "without-permissions"],
)
async def test_wrong_credentials_are_refused_on_either_side(
    username: str | None, password: str | None, start_server: StartServer
) -> None:
    closed = start_server("redis-8.2", config={"requirepass": "right-s3cret"})
    with closed.client() as client:
        client.acl_setuser("weak", enabled=True, passwords=["+s3cret"], commands=["+ping"])
    endpoint = replace(closed.endpoint, username=username, password=password)
    open_server = start_server("redis-6.2")

    at_source = await refusal(endpoint, open_server.endpoint)
    at_target = await refusal(open_server.endpoint, endpoint)

    assert (type(at_source), type(at_target)) == (SourceAuthError, TargetAuthError)
    for error in (at_source, at_target):
        assert endpoint.address in error.message


@pytest.mark.parametrize("name", ["redis-6.2", "redis-8.2", "valkey-9.1"])
async def test_a_password_for_a_server_without_one_is_to_be_left_out(
    name: str, start_server: StartServer
) -> None:
    plain, other = start_server(name), start_server("redis-8.2")
    endpoint = replace(plain.endpoint, password="s3cret")

    for error in (
        await refusal(endpoint, other.endpoint),
        await refusal(other.endpoint, endpoint),
    ):
        assert isinstance(error, SourceAuthError | TargetAuthError)
        assert plain.endpoint.address in error.message
        assert "leave the password out" in error.hint


@pytest.mark.parametrize("missing", ["psync", "replconf"])
async def test_a_source_user_without_a_permission_is_told_which(
    missing: str, source: RunningServer, target: RunningServer
) -> None:
    with source.client() as client:
        client.acl_setuser(
            "u", enabled=True, nopass=True, keys=["*"], commands=["+@all", f"-{missing}"]
        )
    endpoint = replace(source.endpoint, username="u", password="any")

    error = await refusal(endpoint, target.endpoint)

    assert type(error) is SourceAuthError
    assert missing in str(error).lower()


async def test_a_target_user_without_restore_is_told_so(
    source: RunningServer, target: RunningServer
) -> None:
    with target.client() as client:
        client.acl_setuser(
            "u", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-restore"]
        )
    endpoint = replace(target.endpoint, username="u", password="any")

    error = await refusal(source.endpoint, endpoint)

    assert type(error) is TargetAuthError
    assert "restore" in str(error).lower()


async def test_a_target_that_is_a_replica_is_refused(
    source: RunningServer, target: RunningServer, start_server: StartServer
) -> None:
    primary = start_server("redis-8.2")
    with target.client() as client:
        client.replicaof("127.0.0.1", primary.port)

    error = await refusal(source.endpoint, target.endpoint)

    assert type(error) is TargetNotReady
    assert f"127.0.0.1:{primary.port}" in error.message


async def test_a_cluster_whose_slots_nobody_serves_is_refused_on_either_side(
    source: RunningServer, start_server: StartServer
) -> None:
    # The bus is at port + 10000 otherwise, which not every free port allows.
    with socket.create_server(("127.0.0.1", 0)) as free:
        bus_port = free.getsockname()[1]
    node = start_server("redis-8.2", config={"cluster-enabled": "yes", "cluster-port": bus_port})

    at_target = await refusal(source.endpoint, node.endpoint)
    at_source = await refusal(node.endpoint, source.endpoint)

    assert (type(at_source), type(at_target)) == (SourceRefused, TargetNotReady)
    assert "served by nobody" in at_source.message
    assert "served by nobody" in at_target.message


async def test_a_key_that_the_target_has_no_memory_for_is_named(
    source: RunningServer, target: RunningServer
) -> None:
    with source.client() as client, target.client() as other:
        for key in ("fat:1", "fat:2"):
            client.rpush(key, *(random.randbytes(1000) for _ in range(15_000)))
        used = other.info("memory")["used_memory"]
        other.config_set("maxmemory", used + 4 * 1024 * 1024)

    with pytest.raises(TargetNotReady) as caught:
        await migrate(
            make_settings(source.endpoint, target.endpoint, resume_mode=ResumeMode.MANUAL)
        )

    # The first one to find the memory full.
    assert re.search(r"OOM .* \(RESTORE on key b'fat:[12]'\)", caught.value.message)
    assert caught.value.code == "OOM"
    assert "maxmemory" in caught.value.hint


async def test_a_write_of_the_stream_that_the_target_refuses_is_named(
    source: RunningServer, target: RunningServer
) -> None:
    settings = make_settings(source.endpoint, target.endpoint, resume_mode=ResumeMode.MANUAL)
    async with running(settings) as run:
        await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
        with source.client() as client, target.client() as other:
            other.config_set("maxmemory", 1)
            client.set("poisoned", "1")
        offset = offset_of(source)
        with pytest.raises(TargetNotReady, match=r"OOM .*maxmemory"):
            await run.future

    with target.client() as other:
        assert not other.exists("poisoned")
        assert int(other.hget(keys_of_ours(target)[0][1], "offset")) < offset


@pytest.mark.parametrize("policy", list(ConflictPolicy))
async def test_keys_that_the_target_has_already_are_treated_by_the_conflict_policy(
    policy: ConflictPolicy, source: RunningServer, target: RunningServer
) -> None:
    await filled(source, 200, seed=1)
    with source.client() as client, target.client() as other:
        client.set("both", "source")
        client.rpush("both-list", "source")
        other.set("both", "target")
        other.rpush("both-list", "target")
        other.set("only-target", "1")
    settings = make_settings(
        source.endpoint, target.endpoint, on_conflict=policy, method=Method.FULL
    )

    task, error = await outcome(settings)

    with target.client() as other:
        found = (other.get("both"), other.lrange("both-list", 0, -1), other.get("only-target"))
        kept = b"source" if policy is ConflictPolicy.REPLACE else b"target"
        assert found == (kept, [kept], b"1")
        if policy is ConflictPolicy.FAIL:
            assert isinstance(error, TargetRejected)
            assert error.key in {b"both", b"both-list"}
            return
        assert error is None
        assert task.status().keys_skipped == (2 if policy is ConflictPolicy.SKIP else 0)
        assert task.status().keys_applied == (200 if policy is ConflictPolicy.SKIP else 202)


async def outcome(settings: Any) -> tuple[Task, EngineError | None]:
    async with running(settings) as run:
        try:
            await run.future
        except EngineError as error:
            return run.task, error
        return run.task, None


@pytest.mark.parametrize(
    "fields",
    [{"format": "2"}, {"format": "1", "phase": "stream"}, {"other": "1"}],
    ids=["newer-format", "incomplete", "something-else"],
)
async def test_a_checkpoint_that_cannot_be_read_is_not_overwritten(
    fields: Mapping[str, str], source: RunningServer, target: RunningServer
) -> None:
    key = b"redis-ferry:checkpoint:{t1}:0"
    with target.client() as other:
        other.hset(key, mapping=dict(fields))

        error = await refusal(source.endpoint, target.endpoint)

        assert type(error) is TargetRefused
        assert other.hgetall(key) == {k.encode(): v.encode() for k, v in fields.items()}
