"""One connection through the fault proxy, and what can happen to it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tests.servers.cut_points import CutPoint, MakeCutPoint

if TYPE_CHECKING:
    from tests.servers.fault_proxy import FaultProxy

PIECE_BYTES = 256 * 1024
THROTTLE_TICK_SECONDS = 0.02
FLUSH_TIMEOUT_SECONDS = 1.0
FLUSH_POLL_SECONDS = 0.0005
FIRST_BYTES = 64
RESET_LINGER = struct.pack("ii", 1, 0)  # on, for 0 s: close() sends RST


class Way(StrEnum):
    """A direction."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


class End(StrEnum):
    """How a connection is cut."""

    RESET = "RST"
    CLOSE = "FIN"


@dataclass(slots=True)
class Condition:
    """What one direction suffers. All off: bytes pass as fast as they come.

    is_stalled: nothing is read any more, so the sender's buffers fill. swallows: everything is read and
    dropped, a FIN too: half-open. delay_seconds: each piece waits so long (at most one piece is on its
    way, as with a window of PIECE_BYTES). bytes_per_second: 0 for no limit.
    """

    is_stalled: bool = False
    swallows: bool = False
    delay_seconds: float = 0.0
    bytes_per_second: int = 0


@dataclass(slots=True)
class ArmedCut:
    """A cut that waits for its byte. fired: how often it has cut; it does so `times` times.

    opened_with: only connections whose client begins with these bytes.
    """

    point: MakeCutPoint
    way: Way
    end: End
    opened_with: bytes
    times: int
    fired: int = 0


@dataclass(slots=True)
class Damage:
    """Bytes that become others of the same length. done: how often."""

    pattern: bytes
    becomes: bytes
    times: int
    done: int = 0


@dataclass(slots=True)
class Gate:
    """Where pieces to the server with these bytes in them wait. reached: set when one has come; opened: lets all pass."""

    pattern: bytes
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Counters:
    """What the proxy has seen and done. cuts: those it was told to make, now or at a byte."""

    accepted: int = 0
    refused_by_server: int = 0
    cuts: int = 0
    passed_bytes: dict[Way, int] = field(default_factory=lambda: dict.fromkeys(Way, 0))
    swallowed_bytes: int = 0


class Connection:
    """One accepted connection with its counterpart. Made by the proxy."""

    def __init__(self, proxy: FaultProxy, client: socket.socket) -> None:
        self.first_bytes = b""
        self.passed_bytes = dict.fromkeys(Way, 0)
        self.conditions = {way: proxy.copy_of(way) for way in Way}
        self._proxy = proxy
        self._client = client
        self._points: list[tuple[ArmedCut, CutPoint]] = []
        self._changed = asyncio.Event()
        self._ending: End | None = None
        self._ended = asyncio.Event()
        self._ways_open = len(Way)
        for armed in proxy.armed:
            self.watch(armed)

    def watch(self, armed: ArmedCut) -> None:
        """Look for the place of `armed` in what passes from now on."""
        self._points.append((armed, armed.point()))

    def cut(self, end: End = End.RESET) -> None:
        """End both sides at once; what has not passed yet is lost."""
        if self._ending is None:
            self._ending = end
            self._ended.set()

    def change(self, ways: tuple[Way, ...], **changes: Any) -> None:
        """Set fields of the Condition of some directions."""
        for way in ways:
            for name, value in changes.items():
                setattr(self.conditions[way], name, value)
        self._changed.set()
        self._changed = asyncio.Event()

    async def serve(self) -> None:
        """Pass bytes until a side ends or a cut; returns when both sockets are closed."""
        server: socket.socket | None = None
        pumps: set[asyncio.Task[None]] = set()
        try:
            if not self._proxy.is_deaf:
                server = await self._connect()
            if server is not None:
                pumps = {
                    asyncio.create_task(self._pump(Way.TO_SERVER, self._client, server)),
                    asyncio.create_task(self._pump(Way.TO_CLIENT, server, self._client)),
                }
            await self._ended.wait()
        finally:
            # The sockets are closed only when no task uses them: a number that is free is taken again at once.
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            for side in (self._client, server):
                if side is not None:
                    self._close(side)

    async def _connect(self) -> socket.socket | None:
        server = socket.socket()
        try:
            self._proxy.prepare(server)
            await asyncio.get_running_loop().sock_connect(server, self._proxy.server_address)
        except OSError:
            server.close()
            self._proxy.counters.refused_by_server += 1
            self.cut()
            return None
        except BaseException:
            server.close()
            raise
        return server

    def _close(self, side: socket.socket) -> None:
        if self._ending is End.RESET:
            with contextlib.suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_LINGER)
        side.close()

    async def _pump(self, way: Way, incoming: socket.socket, outgoing: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        view = memoryview(bytearray(PIECE_BYTES))
        due = 0.0  # when the throttle lets the next piece pass
        has_hole = False
        try:
            while True:
                await self._may_pass(way)
                rate = self.conditions[way].bytes_per_second
                size = max(1, min(PIECE_BYTES, int(rate * THROTTLE_TICK_SECONDS)))
                count = await loop.sock_recv_into(incoming, view[: size if rate else PIECE_BYTES])
                now = time.monotonic()
                rate = self.conditions[way].bytes_per_second  # may have come while it waited
                if rate:
                    due = max(due, now - THROTTLE_TICK_SECONDS) + count / rate
                wait = max(due - now if rate else 0.0, self.conditions[way].delay_seconds)
                await asyncio.sleep(
                    wait
                )  # 0 lets the other tasks run: a full socket never suspends
                await self._may_pass(way)
                # Bytes behind a hole must never pass: no TCP connection does that, and `restore` cuts it only soon.
                has_hole = has_hole or self.conditions[way].swallows
                if has_hole:
                    self._proxy.counters.swallowed_bytes += count
                    if not count:
                        await self._ended.wait()
                    continue
                if not count:
                    outgoing.shutdown(socket.SHUT_WR)
                    return
                await self._pass(way, view[:count], outgoing)
                if self._ending is not None:
                    return
        except OSError:  # a side was reset: so is the other
            self.cut()
        finally:
            self._ways_open -= 1
            if not self._ways_open:
                self._ended.set()

    async def _may_pass(self, way: Way) -> None:
        while self.conditions[way].is_stalled:
            await self._changed.wait()

    async def _pass(self, way: Way, piece: memoryview, outgoing: socket.socket) -> None:
        if way is Way.TO_SERVER and len(self.first_bytes) < FIRST_BYTES:
            self.first_bytes += bytes(piece[:FIRST_BYTES])
        if way is Way.TO_CLIENT and self._proxy.damages:
            piece = self._damaged(piece)
        gate = self._proxy.gate
        if way is Way.TO_SERVER and gate is not None and gate.pattern in bytes(piece):
            gate.reached.set()
            await gate.opened.wait()
        firing, size = self._firing(way, piece)
        await asyncio.get_running_loop().sock_sendall(outgoing, piece[:size])
        self.passed_bytes[way] += size
        self._proxy.counters.passed_bytes[way] += size
        if firing is not None:
            firing.fired += 1
            self._proxy.counters.cuts += 1
            await _flushed(outgoing)
            self.cut(firing.end)

    def _damaged(self, piece: memoryview) -> memoryview:
        data = bytes(piece)
        for damage in self._proxy.damages:
            if damage.done < damage.times and damage.pattern in data:
                damage.done += 1
                data = data.replace(damage.pattern, damage.becomes, 1)
        return memoryview(data)

    def _firing(self, way: Way, piece: memoryview) -> tuple[ArmedCut | None, int]:
        """The cut that comes first in `piece`, and how much of it passes."""
        first: ArmedCut | None = None
        size = len(piece)
        for armed, point in self._points:
            if armed.way is not way or armed.fired >= armed.times:
                continue
            if not self.first_bytes.startswith(armed.opened_with):
                continue
            at = point.find(piece)
            if at is not None and at <= size:
                first, size = armed, at
        return first, size


async def _flushed(outgoing: socket.socket) -> None:
    """Wait until the other side's system has everything: a reset throws away what is still here."""
    deadline = time.monotonic() + FLUSH_TIMEOUT_SECONDS
    unsent = bytearray(4)
    while time.monotonic() < deadline:
        fcntl.ioctl(outgoing.fileno(), termios.TIOCOUTQ, unsent)
        if not any(unsent):
            return
        await asyncio.sleep(FLUSH_POLL_SECONDS)
