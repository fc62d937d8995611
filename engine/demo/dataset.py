"""A realistic mixed data set: every core type and encoding, several databases, TTLs."""

from __future__ import annotations

import random
from itertools import islice
from typing import TYPE_CHECKING

from engine.demo.values import WEIGHTS, Values
from engine.demo.wire import ReplyError, Wire, WireError, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from engine.demo.values import Command
    from engine.endpoint import Endpoint

# database and its share of the keys, in percent
DATABASES = ((0, 60), (1, 15), (2, 12), (5, 8), (9, 5))
TTL_SHARE = 0.2
SHORTEST_TTL_SECONDS = 180.0
DAY_SECONDS = 86_400.0
HUGE_KEY_EVERY = 75_000
BATCH_KEYS = 500


def fill(
    endpoint: Endpoint,
    keys: int,
    seed: int,
    *,
    shortest_ttl_seconds: float = SHORTEST_TTL_SECONDS,
    databases: Sequence[tuple[int, int]] = DATABASES,
    field_ttls: bool = False,
) -> int:
    """Write `keys` new keys and return how many there are of them: `keys`.

    Works for Redis 5.0 and later. The same seed gives the same keys, values and relative TTLs. What
    the server has under other names stays. About TTL_SHARE of the keys expire, none before
    `shortest_ttl_seconds`, most within days. `databases` gives the number and the share of each.
    `field_ttls` puts TTLs on fields of the small hashes (Redis 7.4, Valkey 9.0 and later).

    Raises:
        OSError: no connection, or it broke. WireError: the server refused a command.
    """
    rng = random.Random(seed)
    values = Values(rng, field_ttls=field_ttls)
    written = 0
    with Wire(endpoint) as wire:
        expected = 0  # replies of the batch before: the server works on one while we build the next
        for number, db, count in _batches(keys, databases):
            packed, commands = _batch(rng, values, number, count, shortest_ttl_seconds)
            wire.send(pack((b"SELECT", db)) + packed)
            _check(wire, expected)
            expected = commands + 1
            written += count
        _check(wire, expected)
    return written


def _batches(keys: int, databases: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Yield (number of the first key, database, count of keys) so that the shares come out."""
    total = sum(share for _, share in databases)
    start, done_share = 0, 0
    for db, share in databases:
        done_share += share
        end = keys * done_share // total
        for number in range(start, end, BATCH_KEYS):
            yield number, db, min(BATCH_KEYS, end - number)
        start = end


def _batch(
    rng: random.Random, values: Values, number: int, count: int, shortest_ttl_seconds: float
) -> tuple[bytes, int]:
    """Return the packed commands for keys `number` onwards, and how many commands they are."""
    commands: list[Command] = []
    for at, make in enumerate(_makers(rng, number, count), number):
        key = _key(at)
        commands += make(values, key)
        if rng.random() < TTL_SHARE:
            commands.append((b"PEXPIRE", key, _ttl_ms(rng, shortest_ttl_seconds)))
    return b"".join(map(pack, commands)), len(commands)


def _makers(
    rng: random.Random, number: int, count: int
) -> list[Callable[[Values, bytes], list[Command]]]:
    makers = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)
    if number == 0:
        # One of each to begin with, so that the smallest data set has them all.
        each = list(islice(WEIGHTS, count))
        makers[: len(each)] = each
    for at in range(count):
        if (number + at) % HUGE_KEY_EVERY == HUGE_KEY_EVERY - 1:
            makers[at] = Values.huge
    return makers


# Names of keys, each with the key's number in it, and how often each comes.
_KEY_STYLES: tuple[tuple[bytes, int], ...] = (
    (b"user:%d:profile", 20),
    (b"{shop}:order:%d", 8),
    (b"cache:/api/v2/items?page=%d&sort=asc", 4),
    (b"%d", 3),
    (b"-%d", 1),
    ("ключ:été:日本:%d".encode(), 1),
    (b"long:%d:" + b"x" * 600, 1),
    (b"\x00\r\n\xff%d\x80", 2),
)
_KEY_CYCLE = [style for style, times in _KEY_STYLES for _ in range(times)]
_EMPTY_KEY_NUMBER = 21


def _key(number: int) -> bytes:
    """Return a name that no other number gives; among them the empty one, which is allowed."""
    if number == _EMPTY_KEY_NUMBER:
        return b""
    return _KEY_CYCLE[number % len(_KEY_CYCLE)] % number


def _ttl_ms(rng: random.Random, shortest_seconds: float) -> int:
    kind = rng.random()
    if kind < 0.2:  # minutes
        seconds = shortest_seconds * (1 + 5 * rng.random())
    elif kind < 0.7:  # hours
        seconds = shortest_seconds + DAY_SECONDS * rng.random()
    else:
        seconds = shortest_seconds + 30 * DAY_SECONDS * rng.random()
    return int(seconds * 1000)


def _check(wire: Wire, count: int) -> None:
    for reply in wire.replies(count):
        if isinstance(reply, ReplyError):
            raise WireError(str(reply))
