"""A TCP proxy on loopback that breaks connections on demand, between the worker and a server.

Everything happens when it is told to or at a byte that is named: nothing is random here. It works on plain
sockets, so that it holds no more bytes than one piece in each direction and knows exactly what has passed.
In the test's own event loop: `async with FaultProxy(port) as proxy`. In a thread with a loop of its own, for
tests that block: `with ProxyThread(port) as proxy`.
"""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
from collections.abc import Callable
from typing import Any, Self

from tests.servers.cut_points import MakeCutPoint
from tests.servers.proxied_connection import (
    ArmedCut,
    Condition,
    Connection,
    Counters,
    Damage,
    End,
    Gate,
    Way,
)

__all__ = ["ArmedCut", "Damage", "End", "FaultProxy", "ProxyThread", "Way"]

THREAD_TIMEOUT_SECONDS = 10.0


class FaultProxy:
    """Listens on a free port of 127.0.0.1 and passes everything on to `server_port`.

    port: where it listens; it stays the same through `refuse` and `restore`. connections: those open now.
    The faults act on all connections, those to come too; a single one has `cut` and `change`.
    receive_buffer_bytes: of the sockets to clients and servers, so that a throttled way holds little;
    None for the system's own.
    """

    def __init__(self, server_port: int, *, receive_buffer_bytes: int | None = None) -> None:
        self.server_address = ("127.0.0.1", server_port)
        self.port = 0
        self.counters = Counters()
        self.armed: list[ArmedCut] = []
        self.damages: list[Damage] = []
        self.connections: list[Connection] = []
        self.gate: Gate | None = None
        self.is_deaf = False
        self._conditions = {way: Condition() for way in Way}
        self._receive_buffer_bytes = receive_buffer_bytes
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        for connection in self.connections:
            connection.cut()
        if self._serving:
            await asyncio.wait(set(self._serving))

    # ---- faults

    def cut(self, end: End = End.RESET, *, opened_with: bytes = b"") -> int:
        """Cut every open connection, or those whose client began with `opened_with`; how many."""
        chosen = [it for it in self.connections if it.first_bytes.startswith(opened_with)]
        for connection in chosen:
            connection.cut(end)
        self.counters.cuts += len(chosen)
        return len(chosen)

    def cut_at(
        self,
        point: MakeCutPoint,
        *,
        way: Way = Way.TO_CLIENT,
        end: End = End.RESET,
        opened_with: bytes = b"",
        times: int = 1,
    ) -> ArmedCut:
        """Cut each connection, up to `times` of them, when `point` has passed in direction `way`."""
        armed = ArmedCut(point, way, end, opened_with, times)
        self.armed.append(armed)
        for connection in self.connections:
            connection.watch(armed)
        return armed

    def stall(self, *ways: Way) -> None:
        """Read nothing and pass nothing on (of `ways`; both if none is named)."""
        self._change(ways, is_stalled=True)

    def swallow(self, *ways: Way) -> None:
        """Half-open: read and drop, tell nobody. Only `cut` helps such a connection afterwards."""
        self._change(ways, swallows=True)

    def damage(self, pattern: bytes, becomes: bytes, *, times: int = 1) -> Damage:
        """Change `pattern` on its way to a client, where it lies in one piece; so many times."""
        assert len(pattern) == len(becomes)
        self.damages.append(Damage(pattern, becomes, times))
        return self.damages[-1]

    def hold_before(self, pattern: bytes) -> Gate:
        """Let what a client sends wait from the piece on that holds `pattern`, until the gate is opened."""
        self.gate = Gate(pattern)
        return self.gate

    def delay(self, seconds: float, *ways: Way) -> None:
        """Let each piece wait."""
        self._change(ways, delay_seconds=seconds)

    def throttle(self, bytes_per_second: int, *ways: Way) -> None:
        """Limit each connection's direction; 0 for no limit."""
        self._change(ways, bytes_per_second=bytes_per_second)

    def deafen(self) -> None:
        """Accept what comes from now on, answer nothing and call no server."""
        self.is_deaf = True

    async def refuse(self) -> None:
        """Close the listener: who connects is refused by the system. Open connections stay."""
        if self._accepting is not None and self._listener is not None:
            self._accepting.cancel()
            await asyncio.wait({self._accepting})
            self._listener.close()
            self._accepting = self._listener = None

    def restore(self) -> None:
        """No more faults, no armed cuts; connections that lost bytes or called no server are cut."""
        if self._listener is None:
            self._listen()
        for connection in self.connections:
            if self.is_deaf or any(it.swallows for it in connection.conditions.values()):
                connection.cut()
        self.is_deaf = False
        self.armed.clear()
        self.damages.clear()
        self._change((), is_stalled=False, swallows=False, delay_seconds=0.0, bytes_per_second=0)

    # ---- the work

    def prepare(self, side: socket.socket) -> None:
        """Set the options of a socket to a client or a server."""
        side.setblocking(False)
        side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._receive_buffer_bytes is not None:
            side.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer_bytes)

    def copy_of(self, way: Way) -> Condition:
        """The condition that a new connection begins with."""
        now = self._conditions[way]
        return Condition(now.is_stalled, now.swallows, now.delay_seconds, now.bytes_per_second)

    def _change(self, ways: tuple[Way, ...], **changes: Any) -> None:
        ways = ways or tuple(Way)
        for way in ways:
            for name, value in changes.items():
                setattr(self._conditions[way], name, value)
        for connection in self.connections:
            connection.change(ways, **changes)

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._receive_buffer_bytes is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer_bytes)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._accepting = asyncio.create_task(self._accept(listener), name="fault proxy")

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            self.prepare(client)
            self.counters.accepted += 1
            connection = Connection(self, client)
            self.connections.append(connection)
            task = asyncio.create_task(self._serve(connection), name="fault proxy connection")
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.serve()
        finally:
            self.connections.remove(connection)


class ProxyThread:
    """A FaultProxy with a thread and an event loop of its own, for `with`."""

    def __init__(self, server_port: int, *, receive_buffer_bytes: int | None = None) -> None:
        self._proxy = FaultProxy(server_port, receive_buffer_bytes=receive_buffer_bytes)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy")

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._proxy.port

    def do(self, action: Callable[[FaultProxy], Any]) -> Any:
        """Call `action` with the proxy in its loop, wait, and return what it returns."""

        async def act() -> Any:
            done = action(self._proxy)
            return await done if inspect.isawaitable(done) else done

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(THREAD_TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        self._thread.start()
        self.do(lambda proxy: proxy.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.do(lambda proxy: proxy.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
