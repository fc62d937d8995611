"""The five data sets of `full_sync` and `codec`: the same bytes for the same scale."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.options import Scale
from benchmarks.sender import send_blocks
from engine.demo.servers import RunningServer

SEED = 20_240_229
BLOCK_BYTES = 128 * 1024
KIB = 1024

Commands = Iterator[bytes]


@dataclass(frozen=True, slots=True)
class DataSet:
    """keys: at full scale. commands: makes `count` keys, one RESP command each."""

    name: str
    title: str
    keys: int
    commands: Callable[[int], Commands]

    def fill(self, server: RunningServer, scale: Scale) -> int:
        """Write the data set into an empty server; return the number of keys."""
        count = scale.of(self.keys)
        send_blocks((server.host, server.port), in_blocks(self.commands(count)))
        return count


def in_blocks(commands: Commands) -> Iterator[tuple[bytes, int]]:
    """Group commands into blocks of about BLOCK_BYTES, with the number of replies."""
    block: list[bytes] = []
    size = 0
    for command in commands:
        block.append(command)
        size += len(command)
        if size >= BLOCK_BYTES:
            yield b"".join(block), len(block)
            block, size = [], 0
    if block:
        yield b"".join(block), len(block)


def resp(*arguments: bytes) -> bytes:
    """Encode one command."""
    parts = [b"*%d\r\n" % len(arguments)]
    parts += [b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in arguments]
    return b"".join(parts)


def _small_strings(count: int) -> Commands:
    rng = random.Random(SEED)
    for number in range(count):
        key = b"string:%08d" % number
        yield b"*3\r\n$3\r\nSET\r\n$15\r\n%b\r\n$64\r\n%b\r\n" % (key, rng.randbytes(64))


def _hashes(prefix: bytes, fields: int, value_bytes: int) -> Callable[[int], Commands]:
    def commands(count: int) -> Commands:
        rng = random.Random(SEED)
        head = b"*%d\r\n$4\r\nHSET\r\n" % (2 + 2 * fields)
        piece = b"$9\r\nfield%04d\r\n$%d\r\n%b\r\n"
        for number in range(count):
            key = b"%b:%07d" % (prefix, number)
            values = rng.randbytes(fields * value_bytes)
            pairs = [
                piece % (i, value_bytes, values[i * value_bytes : (i + 1) * value_bytes])
                for i in range(fields)
            ]
            yield b"%b$%d\r\n%b\r\n%b" % (head, len(key), key, b"".join(pairs))

    return commands


def _sorted_sets(count: int) -> Commands:
    """Four of five have 100 members (a listpack), the fifth has 200 (a skip list)."""
    rng = random.Random(SEED)
    for number in range(count):
        members = 200 if number % 5 == 4 else 100
        key = b"zset:%07d" % number
        parts = [b"*%d\r\n$4\r\nZADD\r\n$12\r\n%b\r\n" % (2 + 2 * members, key)]
        for member in range(members):
            score = b"%.4f" % (rng.random() * 1e6)
            parts.append(b"$%d\r\n%b\r\n$13\r\nmember:%06d\r\n" % (len(score), score, member))
        yield b"".join(parts)


def _large_strings(count: int) -> Commands:
    rng = random.Random(SEED)
    for number in range(count):
        yield resp(b"SET", b"large:%06d" % number, rng.randbytes(256 * KIB))


DATA_SETS = (
    DataSet("small_strings", "strings, 64 B", 1_000_000, _small_strings),
    DataSet("small_hashes", "hashes, 10 fields", 200_000, _hashes(b"hash", 10, 12)),
    DataSet("big_hashes", "hashes, 1,000 fields", 2_000, _hashes(b"big", 1_000, 24)),
    DataSet("sorted_sets", "sorted sets, 100–200", 25_000, _sorted_sets),
    DataSet("large_strings", "strings, 256 KiB", 2_000, _large_strings),
)


def chosen(names: tuple[str, ...]) -> list[DataSet]:
    """The data sets of these names, all of them for none."""
    return [data_set for data_set in DATA_SETS if not names or data_set.name in names]
