"""Sends encoded commands as fast as one server takes them, and counts the replies.

This is the upper bound that no migration tool can pass: no source, no parsing, only the target. Python runs
once a block.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Iterable

from engine.codec.replies import ReplySkimmer

INFLIGHT_BYTES = 4 * 1024 * 1024
RECEIVE_BYTES = 256 * 1024
TIMEOUT_MS = 60_000


class RefusedError(Exception):
    """The server answered a command with an error."""


def send_blocks(
    address: tuple[str, int],
    blocks: Iterable[tuple[bytes, int]],
    *,
    inflight_bytes: int = INFLIGHT_BYTES,
) -> float:
    """Send (commands, replies they get) in order, at most `inflight_bytes` ahead of the replies.

    Returns the seconds until the last reply.

    Raises:
        RefusedError: at the first error reply. OSError, TimeoutError: the connection.
    """
    skimmer = ReplySkimmer()
    pending = iter(blocks)
    unanswered: deque[tuple[int, int]] = deque()  # bytes, replies still due
    inflight = 0
    view = memoryview(b"")
    is_at_end = False
    with socket.create_connection(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        started = time.monotonic()
        while not is_at_end or unanswered:
            if not view and not is_at_end and inflight < inflight_bytes:
                block = next(pending, None)
                is_at_end = block is None
                if block is not None:
                    view = memoryview(block[0])
                    unanswered.append((len(block[0]), block[1]))
                    inflight += len(block[0])
                elif not unanswered:
                    break  # a block larger than the window was the last, and is answered already
            poll.modify(connection, select.POLLIN | (select.POLLOUT if view else 0))
            wait_ms = 0 if not is_at_end and not view and inflight < inflight_bytes else TIMEOUT_MS
            ready = poll.poll(wait_ms)
            if not ready and wait_ms:
                raise TimeoutError("the server stopped answering")
            for _, events in ready:
                if events & select.POLLOUT and view:
                    view = view[connection.send(view) :]
                if events & ~select.POLLOUT:
                    inflight -= _take_replies(connection, skimmer, unanswered)
        return time.monotonic() - started


def _take_replies(
    connection: socket.socket, skimmer: ReplySkimmer, unanswered: deque[tuple[int, int]]
) -> int:
    """Read once; return the bytes of the blocks that are answered now."""
    received = connection.recv(RECEIVE_BYTES)
    if not received:
        raise ConnectionError("the server closed the connection")
    completed = skimmer.feed(received)
    errors = skimmer.take_errors()
    if errors:
        raise RefusedError(errors[0][2])
    answered = 0
    while unanswered and completed >= 0:
        size, due = unanswered[0]
        if completed < due:
            unanswered[0] = (size, due - completed)
            break
        completed -= due
        answered += size
        unanswered.popleft()
    return answered
