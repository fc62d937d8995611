"""Taking a line over on real servers: who has it, what the guard turns away, what a missing write leaves behind."""

from __future__ import annotations

import asyncio

import pytest

from engine.checkpoint.checkpoint import (
    CLAIM_SERIAL,
    GUARD_REPLIES,
    WRITE_REPLIES,
    checkpoint_key,
    guard,
    guarded_write,
    stream_fields,
    token,
)
from engine.checkpoint.claim import LineClaim
from engine.codec.command_text import encode
from engine.demo.servers import RunningServer
from engine.demo.wire import Reply, Wire
from engine.errors import TargetNotReady, TargetRefused
from engine.position import Position
from engine.settings import TargetSettings
from tests.conditions import until
from tests.fix_servers import StartServer

pytestmark = pytest.mark.live

KEY = checkpoint_key("t1", "0")
PREFIX = "redis-ferry:t1:0:"
REPLID = "ab" * 20
TAKERS = 8
INCREMENTS = b"counter"


@pytest.fixture(params=["redis-6.2", "redis-8.2", "valkey-9.1"])
def target(request: pytest.FixtureRequest, start_server: StartServer) -> RunningServer:
    return start_server(request.param)


def claim_on(target: RunningServer) -> LineClaim:
    return LineClaim(target.endpoint, TargetSettings(), KEY, connection_prefix=PREFIX)


def write(epoch: int, serial: int, *, before: int | None = None) -> bytes:
    """A block of the stream: it counts, and moves the checkpoint to offset 100 · serial."""
    fields = stream_fields(Position(REPLID, 100 * serial), 0, epoch, ledger="", margin_since_ms=0)
    return guarded_write(
        KEY,
        before=token(epoch, serial - 1 if before is None else before),
        after=token(epoch, serial),
        fields=fields,
        commands=[encode("INCR", INCREMENTS)],
    )


def send(target: RunningServer, *writes: bytes) -> list[Reply]:
    """The EXEC of each, all sent at once."""
    replies_each = WRITE_REPLIES + 1
    with Wire(target.endpoint) as wire:
        wire.send(b"".join(writes))
        return list(wire.replies(replies_each * len(writes)))[replies_each - 1 :: replies_each]


def counted(target: RunningServer) -> int:
    with target.client() as client:
        return int(client.get(INCREMENTS) or 0)


def tokens(target: RunningServer) -> dict[bytes, bytes]:
    with target.client() as client:
        return {
            name: value for name, value in client.hgetall(KEY).items() if name.startswith(b"at:")
        }


async def test_the_first_claim_makes_a_checkpoint_that_can_be_withdrawn(
    target: RunningServer,
) -> None:
    claim = claim_on(target)
    assert await claim.peek() is None

    taken = await claim.take(0)

    assert (taken.epoch, taken.was_there) == (1, False)
    assert taken.checkpoint is not None
    assert taken.checkpoint.position is None
    await claim.check(1)
    await claim.withdraw()
    with target.client() as client:
        assert client.dbsize() == 0


async def test_a_later_claim_finds_the_position_and_leaves_one_token(
    target: RunningServer,
) -> None:
    first = await claim_on(target).take(0)
    send(target, write(first.epoch, 1), write(first.epoch, 2))

    second = await claim_on(target).take(0)

    assert (second.epoch, second.was_there) == (2, True)
    assert second.checkpoint is not None
    assert second.checkpoint.position == Position(REPLID, 200)
    assert not second.checkpoint.has_hole
    assert tokens(target) == {token(2, CLAIM_SERIAL): b"1"}


async def test_of_many_at_once_each_has_its_own_epoch_and_the_highest_has_the_line(
    target: RunningServer,
) -> None:
    claims = [claim_on(target) for _ in range(TAKERS)]

    taken = await asyncio.gather(*(it.take(0) for it in claims))

    assert sorted(it.epoch for it in taken) == list(range(1, TAKERS + 1))
    assert tokens(target) == {token(TAKERS, CLAIM_SERIAL): b"1"}
    for claim, mine in zip(claims, taken, strict=True):
        if mine.epoch == TAKERS:
            await claim.check(mine.epoch)
            continue
        with pytest.raises(TargetRefused, match="another redis-ferry has taken over"):
            await claim.check(mine.epoch)
        with pytest.raises(TargetRefused, match="another redis-ferry has taken over"):
            await claim.take(mine.epoch)
        assert send(target, write(mine.epoch, 1)) == [None]
    assert counted(target) == 0
    assert send(target, write(TAKERS, 1)) != [None]


async def test_a_write_behind_a_refused_one_is_not_applied(target: RunningServer) -> None:
    epoch = (await claim_on(target).take(0)).epoch

    # The second never arrives; those behind it are on their way already.
    first, third, fourth = send(target, write(epoch, 1), write(epoch, 3), write(epoch, 4))

    assert first is not None
    assert third is None
    assert fourth is None
    assert counted(target) == 1
    found = await claim_on(target).peek()
    assert found is not None
    assert found.position == Position(REPLID, 100)
    assert not found.has_hole

    # Who takes over finds the place behind the first, and goes on from there.
    again = await claim_on(target).take(epoch)
    assert again.checkpoint is not None
    assert again.checkpoint.position == Position(REPLID, 100)
    assert not again.checkpoint.has_hole
    assert send(target, write(again.epoch, 1)) != [None]
    assert counted(target) == 2


async def test_a_write_of_a_process_that_was_replaced_changes_nothing(
    target: RunningServer,
) -> None:
    old = (await claim_on(target).take(0)).epoch
    send(target, write(old, 1))
    new = (await claim_on(target).take(0)).epoch

    assert send(target, write(old, 2), write(old, 3)) == [None, None]

    assert send(target, write(new, 1)) != [None]
    assert counted(target) == 2
    found = await claim_on(target).peek()
    assert found is not None
    assert (found.epoch, found.has_hole) == (new, False)


async def test_a_hole_behind_a_guard_that_was_refused_itself_is_seen_and_stays_seen(
    target: RunningServer,
) -> None:
    epoch = (await claim_on(target).take(0)).epoch
    send(target, write(epoch, 1))
    unguarded = write(epoch, 3).removeprefix(guard(KEY, token(epoch, 2)))
    with Wire(target.endpoint) as wire:
        wire.send(unguarded)
        assert list(wire.replies(WRITE_REPLIES + 1 - GUARD_REPLIES))[-1] is not None

    found = await claim_on(target).peek()

    assert found is not None
    assert found.has_hole
    for _ in range(2):  # a process that takes over and dies must not hide it from the next one
        taken = await claim_on(target).take(0)
        assert taken.checkpoint is not None
        assert taken.checkpoint.has_hole


@pytest.mark.parametrize("fill", ["string", "hash"])
async def test_a_key_that_is_not_ours_is_left_as_it_is(fill: str, target: RunningServer) -> None:
    with target.client() as client:
        if fill == "string":
            client.set(KEY, "theirs")
        else:
            client.hset(KEY, "theirs", "1")
        before = client.dump(KEY)

        for ask in (claim_on(target).peek(), claim_on(target).take(0)):
            with pytest.raises(TargetRefused, match="checkpoint") as caught:
                await ask
            assert "--task-id" in caught.value.hint

        assert client.dump(KEY) == before


async def test_older_connections_of_the_line_are_closed_and_no_others(
    target: RunningServer,
) -> None:
    ours, others_line, other_task = (target.client() for _ in range(3))
    with ours, others_line, other_task:
        for client, name in (
            (ours, PREFIX + "1"),
            (others_line, "redis-ferry:t1:1:1"),
            (other_task, "redis-ferry:t11:0:1"),
        ):
            client.client_setname(name)

        await claim_on(target).take(0)

        with target.client() as client:
            await until(
                lambda: PREFIX + "1" not in {it["name"] for it in client.client_list()},
                "the older connection is gone",
            )
        names = {others_line.client_getname(), other_task.client_getname()}
        assert {str(it) for it in names} >= {"redis-ferry:t1:1:1", "redis-ferry:t11:0:1"}


async def test_a_target_without_memory_is_not_ready_and_says_so(target: RunningServer) -> None:
    with target.client() as client:
        client.config_set("maxmemory", 1024)
        with pytest.raises(TargetNotReady, match="OOM") as caught:
            await claim_on(target).take(0)
        assert caught.value.code == "OOM"
        assert "maxmemory" in caught.value.hint
        client.config_set("maxmemory", 0)
    assert (await claim_on(target).take(0)).epoch == 1
