"""Keyspace notifications of all nodes: which keys have changed (notify.c, notifyKeyspaceEvent)."""

from __future__ import annotations

import asyncio
from typing import Any

import hiredis

from engine.background import end_tasks
from engine.codec.command_text import encode
from engine.endpoint import Endpoint
from engine.errors import EngineError, SourceLinkLost
from engine.readers.changed_keys import ChangedKeys
from engine.readers.source_connection import SourceConnection
from engine.stats import ReaderStats

PATTERN = "__keyevent@*__:*"
# What must be on: E for the events by name, A for all of its classes, or each of them.
CLASSES = "g$lshzxet"
NEEDED = "EA"  # what is to be set
PING_SECONDS = 1.0
SILENCE_SECONDS = 15.0
KNOWN_CHANNELS = 4096
# Of keys that are only looked for, or that another event tells of as well.
_IDLE = frozenset({b"keymiss", b"new", b"type_changed", b"overwritten"})


def covers_all(flags: str) -> bool:
    """Whether this value of notify-keyspace-events tells of every change of a key."""
    return "E" in flags and ("A" in flags or all(it in flags for it in CLASSES))


class Notifications:
    """Adds every key that a node tells of to `changed`. lost: done when a node may have told of more than was heard.

    What a node sends while nobody is connected is gone: then all keys have to be read again.
    """

    def __init__(self, changed: ChangedKeys, stats: ReaderStats) -> None:
        self._changed = changed
        self._stats = stats
        self._connections: list[SourceConnection] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._pongs: dict[bytes, int] = {}
        self._tokens = 0
        self._channels: dict[bytes, int] = {}
        self.arrived = asyncio.Event()
        self.lost: asyncio.Future[EngineError] = asyncio.get_running_loop().create_future()

    async def open(self, endpoints: list[Endpoint], *, timeout_seconds: float) -> None:
        """Subscribe at every node; from the return on nothing is missed until `lost`.

        Raises:
            SourceError.
        """
        for endpoint in endpoints:
            connection = await SourceConnection.open(
                endpoint, timeout_seconds=timeout_seconds, silence_seconds=SILENCE_SECONDS
            )
            self._connections.append(connection)
            (answer,) = await connection.ask(("PSUBSCRIBE", PATTERN))
            connection.check("PSUBSCRIBE", answer)
        self._tasks = [
            asyncio.create_task(self._listen(it), name="notifications") for it in self._connections
        ]
        self._tasks.append(asyncio.create_task(self._ping(), name="notifications-ping"))

    async def barrier(self) -> None:
        """Return when everything that the nodes had told of before the call has been noted.

        Raises:
            EngineError: the one in `lost`.
        """
        token = self._send_ping()
        while self._pongs.get(token):
            self.arrived.clear()
            arriving = asyncio.create_task(self.arrived.wait(), name="barrier")
            either: set[asyncio.Future[Any]] = {arriving, self.lost}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            await end_tasks(arriving)
            if self.lost.done():
                raise self.lost.result()

    async def close(self) -> None:
        """End everything."""
        await end_tasks(*self._tasks)
        for connection in self._connections:
            connection.close()
        if not self.lost.done():
            self.lost.cancel()

    def _send_ping(self) -> bytes:
        self._tokens += 1
        token = b"%d" % self._tokens
        self._pongs = {token: len(self._connections)} | {
            it: n for it, n in self._pongs.items() if n
        }
        for connection in self._connections:
            connection.send(encode("PING", token))
        return token

    async def _ping(self) -> None:
        """A sign of life that a node must answer; a subscriber hears nothing from a quiet source."""
        while True:
            await asyncio.sleep(PING_SECONDS)
            self._send_ping()

    async def _listen(self, connection: SourceConnection) -> None:
        try:
            while True:
                message = await connection.next_message()
                if message is None:
                    self._changed.note_waiting()
                    self.arrived.set()
                elif isinstance(message, hiredis.ReplyError):
                    self._lose(connection.refusal("PSUBSCRIBE", str(message)))
                    return
                elif message[0] == b"pmessage":
                    self._note(message[2], message[3])
                elif message[0] == b"pong":
                    token = message[1]
                    if token in self._pongs:
                        self._pongs[token] -= 1
                    self.arrived.set()
        except EngineError as error:
            self._lose(error)

    def _lose(self, error: EngineError) -> None:
        if not self.lost.done():
            self.lost.set_result(
                SourceLinkLost(f"notifications of changed keys were missed: {error.message}")
            )
        self.arrived.set()

    def _note(self, channel: bytes, name: bytes) -> None:
        db = self._channels.get(channel)
        if db is None:
            head, _, event = channel.partition(b"__:")
            number = head.removeprefix(b"__keyevent@")
            db = int(number) if number.isdigit() and event not in _IDLE else -1
            if len(self._channels) < KNOWN_CHANNELS:
                self._channels[channel] = db
        if db >= 0:
            self._stats.notifications += 1
            self._changed.add(db, name)
