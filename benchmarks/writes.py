"""The writer of `stream`, a process of its own: `python -m benchmarks.writes PORT …`.

It prepares everything, prints `ready`, waits for a line on stdin, writes, and prints a JSON object with what
it did. Times are CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks.data_sets import in_blocks, resp
from benchmarks.sender import send_blocks
from engine.cluster.topology import SLOTS
from engine.codec.replies import ReplySkimmer
from engine.codec.slots import slot_tags

SEED = 20_240_301
KEYS = 100_000
LISTS = 2_000
SPREAD_KEYS = 10  # of each slot
INFLIGHT_BYTES = 1024 * 1024
TICK_SECONDS = 0.001
CHANNEL = b"benchmark:clock"
MARKER = b"benchmark:marker"
COUNTER = b"benchmark:counter"
LAST_MESSAGE = b"end"


def _set(rng: random.Random, number: int) -> bytes:
    value = b"%032x" % rng.getrandbits(128)
    return b"*3\r\n$3\r\nSET\r\n$10\r\nstr:%06d\r\n$32\r\n%b\r\n" % (number % KEYS, value)


def _incr(_rng: random.Random, number: int) -> bytes:
    return b"*2\r\n$4\r\nINCR\r\n$10\r\ncnt:%06d\r\n" % (number % KEYS)


def _hset(rng: random.Random, number: int) -> bytes:
    value = b"%016x" % rng.getrandbits(64)
    form = b"*4\r\n$4\r\nHSET\r\n$10\r\nhsh:%06d\r\n$3\r\nf%02d\r\n$16\r\n%b\r\n"
    return form % (number % KEYS, number % 10, value)


def _lpush(rng: random.Random, number: int) -> bytes:
    form = b"*3\r\n$5\r\nLPUSH\r\n$10\r\nlst:%06d\r\n$16\r\n%016x\r\n"
    return form % (number % LISTS, rng.getrandbits(64))


def _sadd(_rng: random.Random, number: int) -> bytes:
    form = b"*3\r\n$4\r\nSADD\r\n$10\r\nset:%06d\r\n$10\r\n%010d\r\n"
    return form % (number % LISTS, number)


def _zadd(_rng: random.Random, number: int) -> bytes:
    form = b"*4\r\n$4\r\nZADD\r\n$10\r\nzst:%06d\r\n$6\r\n%06d\r\n$4\r\nm%03d\r\n"
    return form % (number % LISTS, number % 1_000_000, number % 100)


def _pexpireat(_rng: random.Random, number: int) -> bytes:
    form = b"*3\r\n$9\r\nPEXPIREAT\r\n$10\r\nstr:%06d\r\n$13\r\n4102444800000\r\n"
    return form % (number % KEYS)


# Shares of a hundred.
_MIX: tuple[tuple[int, Callable[[random.Random, int], bytes]], ...] = (
    (40, _set),
    (20, _incr),
    (15, _hset),
    (10, _lpush),
    (7, _sadd),
    (5, _zadd),
    (3, _pexpireat),
)


def mixed_writes(count: int) -> Iterator[bytes]:
    """`count` commands that each change something and that are not idempotent throughout."""
    rng = random.Random(SEED)
    makers = [make for share, make in _MIX for _ in range(share)]
    for _ in range(count):
        number = rng.getrandbits(24)
        yield makers[rng.randrange(100)](rng, number)


def spread_writes(count: int) -> Iterator[bytes]:
    """`count` commands, one for each slot of a cluster in turn, of a size that makes a batch full before it meets a slot again.

    So each command is a transaction of its own (engine/replay/shard_lanes.py, GATHER_BYTES).
    """
    rng = random.Random(SEED)
    tags = slot_tags()
    form = b"*3\r\n$3\r\nSET\r\n$10\r\n{%b}:%03d\r\n$640\r\n%0640x\r\n"
    for number in range(count):
        turn, slot = divmod(number, SLOTS)
        yield form % (tags[4 * slot : 4 * slot + 4], turn % SPREAD_KEYS, rng.getrandbits(2560))


def _pipelined(
    port: int, count: int, marker: bytes, writes: Callable[[int], Iterator[bytes]]
) -> dict[str, float]:
    """As fast as the server takes them, then the marker."""
    blocks = list(in_blocks(writes(count)))
    last = [(resp(b"INCRBY", COUNTER, b"%d" % count) + resp(b"SET", MARKER, marker), 2)]
    _wait_for_go()
    started = time.monotonic()
    send_blocks(("127.0.0.1", port), [*blocks, *last], inflight_bytes=INFLIGHT_BYTES)
    return {
        "started": started,
        "ended": time.monotonic(),
        "bytes": sum(len(commands) for commands, _ in blocks),
    }


def _paced(port: int, commands_per_second: int, seconds: float) -> dict[str, float]:
    """So many writes a tick, and behind them a message with the moment of its sending."""
    a_tick = round(commands_per_second * TICK_SECONDS)
    ticks = round(seconds / TICK_SECONDS)
    commands = mixed_writes(a_tick * ticks)
    batches = [b"".join(next(commands) for _ in range(a_tick)) for _ in range(ticks)]
    skimmer = ReplySkimmer()
    due = late = 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _wait_for_go()
        started = time.monotonic()
        for number, batch in enumerate(batches):
            moment = started + number * TICK_SECONDS
            pause = moment - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            late += pause < -TICK_SECONDS
            now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            connection.sendall(batch + resp(b"PUBLISH", CHANNEL, b"%d" % now_ns))
            due += a_tick + 1
            due -= _take_replies(connection, skimmer, socket.MSG_DONTWAIT)
        ended = time.monotonic()
        while due > 0:
            due -= _take_replies(connection, skimmer, 0)
        connection.sendall(resp(b"PUBLISH", CHANNEL, LAST_MESSAGE))
        connection.recv(64)
    return {"started": started, "ended": ended, "writes": a_tick * ticks, "late_ticks": late}


def _take_replies(connection: socket.socket, skimmer: ReplySkimmer, flags: int) -> int:
    try:
        received = connection.recv(65536, flags)
    except BlockingIOError:
        return 0
    if not received:
        raise ConnectionError("the server closed the connection")
    completed = int(skimmer.feed(received))
    for _, _, text in skimmer.take_errors():
        raise RuntimeError(text)
    return completed


def _wait_for_go() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


def main() -> None:
    """Write, and print what was written."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, help="pipelined: how many commands")
    parser.add_argument("--marker", default="", help="pipelined: value of the last key")
    parser.add_argument("--spread", action="store_true", help="pipelined: every slot in turn")
    parser.add_argument("--rate", type=int, help="paced: commands a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="paced: how long")
    given = parser.parse_args()
    if given.rate:
        figures = _paced(given.port, given.rate, given.seconds)
    else:
        writes = spread_writes if given.spread else mixed_writes
        figures = _pipelined(given.port, given.count, given.marker.encode(), writes)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
