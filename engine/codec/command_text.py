"""RESP commands as Python lists: for handshakes, our own few commands and error reports. Not the hot path."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice


def encode(*arguments: bytes | str | int) -> bytes:
    """One command as a RESP array of bulk strings; str is sent as UTF-8, int as decimal text."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        text = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join(parts)


def commands_in(data: bytes) -> Iterator[list[bytes]]:
    """The arguments of each command in a block's data."""
    at = 0
    while at < len(data):
        line_end = data.index(b"\r\n", at)
        arguments = int(data[at + 1 : line_end])
        at = line_end + 2
        found = []
        for _ in range(arguments):
            line_end = data.index(b"\r\n", at)
            length = int(data[at + 1 : line_end])
            found.append(data[line_end + 2 : line_end + 2 + length])
            at = line_end + 2 + length + 2
        yield found


def command_at(data: bytes, index: int) -> list[bytes]:
    """Arguments of command number `index` in a block's data; empty if the block has fewer commands."""
    return next(islice(commands_in(data), index, None), [])
