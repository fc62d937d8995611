"""Feeding the stream transcoder, and reading its blocks as a target would."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.codec.block import Block
from engine.codec.command_text import encode
from engine.codec.plan import StreamPlan
from engine.codec.stream import StreamTranscoder

CHECKPOINT = b"redis-ferry:checkpoint:{t}:0"
REPLID = "8f2c" * 10
START = 1000
RECEIVED_MS = 1_795_000_000_000

Command = list[bytes]
DATABASE_COMMANDS = {b"SELECT", b"MULTI", b"EXEC"}


def make_plan(**changes: Any) -> StreamPlan:
    fields: dict[str, Any] = {
        "checkpoint_key": CHECKPOINT,
        "replid": REPLID,
        "offset": START,
        "epoch": 3,
    }
    return StreamPlan(**(fields | changes))


def transcode(
    chunks: Iterable[bytes],
    plan: StreamPlan | None = None,
    *,
    flush: Iterable[bool] = (),
    received_ms: int = RECEIVED_MS,
    cuts: Iterable[int] = (),
) -> tuple[StreamTranscoder, list[Block]]:
    """Feed `chunks`; after each, flush or not as `flush` says (in turn), in the end always."""
    transcoder = StreamTranscoder(plan or make_plan())
    transcoder.cut_at(cuts)
    blocks: list[Block] = []
    for chunk, is_flush in zip(
        chunks, itertools.chain(flush, itertools.repeat(False)), strict=False
    ):
        transcoder.feed(chunk, received_ms, False)
        while (block := transcoder.next_block(is_flush)) is not None:
            blocks.append(block)
    while (block := transcoder.next_block(True)) is not None:
        blocks.append(block)
    return transcoder, blocks


def wire(*commands: Sequence[bytes | str | int]) -> bytes:
    return b"".join(encode(*command) for command in commands)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` in pieces, cut at `places` (taken modulo its length)."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def parse(data: bytes) -> list[Command]:
    """RESP arrays of bulk strings, strictly; by another reader than the engine's."""
    commands: list[Command] = []
    at = 0
    while at < len(data):
        end = data.index(b"\r\n", at)
        assert data[at : at + 1] == b"*", data[at : at + 20]
        arguments = int(data[at + 1 : end])
        at = end + 2
        command = []
        for _ in range(arguments):
            end = data.index(b"\r\n", at)
            assert data[at : at + 1] == b"$", data[at : at + 20]
            size = int(data[at + 1 : end])
            assert data[end + 2 + size : end + 4 + size] == b"\r\n"
            command.append(data[end + 2 : end + 2 + size])
            at = end + 4 + size
        commands.append(command)
    return commands


def serial_of(token: bytes) -> int:
    """The number in a token; its epoch must be the plan's."""
    prefix, epoch, serial = token.split(b":")
    assert (prefix, epoch) == (b"at", b"3")
    return int(serial)


@dataclass(frozen=True)
class Applied:
    """What a block did at the target: commands with the database each ran in, and the checkpoint."""

    commands: list[tuple[int, Command]]
    checkpoint: dict[bytes, bytes]


def apply(block: Block, checkpoint_key: bytes = CHECKPOINT) -> Applied:
    """Read a block as a target does that has database 0 selected before it, and must have it after."""
    commands = parse(block.data)
    assert len(commands) == block.replies, "each command gets one reply, in MULTI or not"
    if block.is_transaction:
        assert block.guard_replies == 2
        before = commands[1][2]
        assert commands[:3] == [
            [b"WATCH", checkpoint_key],
            [b"HSETNX", checkpoint_key, before, b"0"],
            [b"MULTI"],
        ]
        assert commands[-1] == [b"EXEC"]
        assert commands[-2][:2] == [b"HSET", checkpoint_key]
        assert commands[-3] == [b"HDEL", checkpoint_key, before]
        inner, checkpoint = commands[3:-3], commands[-2][2:]
        assert checkpoint[-1] == b"1"
        assert serial_of(checkpoint[-2]) == serial_of(before) + 1
        assert not {b"MULTI", b"EXEC"} & {command[0].upper() for command in inner}
    else:
        inner, checkpoint = commands, []
    db = 0
    done: list[tuple[int, Command]] = []
    for command in inner:
        if command[0].upper() == b"SELECT":
            db = int(command[1])
        else:
            done.append((db, command))
    assert db == 0, "the next block counts on database 0"
    return Applied(done, dict(zip(checkpoint[::2], checkpoint[1::2], strict=True)))


def apply_all(
    blocks: Iterable[Block], checkpoint_key: bytes = CHECKPOINT
) -> list[tuple[int, Command]]:
    return [command for block in blocks for command in apply(block, checkpoint_key).commands]
