"""The fault proxy does what it is told, to the byte."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from tests.conditions import until
from tests.servers.cut_points import InRdb, MakeCutPoint, after_bytes, after_lines, behind
from tests.servers.fault_proxy import End, FaultProxy, ProxyThread, Way

MIB = 1024 * 1024
SHORT_SECONDS = 0.15
HANDSHAKE = b"+PONG\r\n+OK\r\n+OK\r\n+FULLRESYNC abc 7\r\n"


class Greeter:
    """A server that says `greeting`, then echoes. heard: all it got. ends: how its connections ended."""

    def __init__(self, greeting: bytes = b"") -> None:
        self.heard = b""
        self.ends: list[str] = []
        self._greeting = greeting
        self._open: set[asyncio.StreamWriter] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            writer.write(self._greeting)
            while data := await reader.read(65536):
                self.heard += data
                writer.write(data)
                await writer.drain()
            self.ends.append("FIN")
        except OSError:
            self.ends.append("RST")
        writer.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]
            for writer in self._open:
                writer.transport.abort()


@asynccontextmanager
async def proxied(greeting: bytes = b"") -> AsyncIterator[tuple[FaultProxy, Greeter]]:
    greeter = Greeter(greeting)
    async with greeter.serving() as port, FaultProxy(port) as proxy:
        yield proxy, greeter


async def dial(proxy: FaultProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def read_to_end(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """All that comes, and how it ends."""
    got = b""
    try:
        while data := await asyncio.wait_for(reader.read(65536), 5):
            got += data
    except ConnectionResetError:
        return got, "RST"
    return got, "FIN"


async def hears_nothing(reader: asyncio.StreamReader) -> bool:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), SHORT_SECONDS)
    return True


async def test_without_a_fault_bytes_and_ends_pass_both_ways() -> None:
    async with proxied(b"hello ") as (proxy, greeter):
        reader, writer = await dial(proxy)
        writer.write(b"there")
        writer.write_eof()
        assert await read_to_end(reader) == (b"hello there", "FIN")
        writer.close()
        await until(lambda: not proxy.connections, "the connection is gone")
    assert greeter.ends == ["FIN"]
    assert proxy.counters.accepted == 1
    assert proxy.counters.passed_bytes == {Way.TO_SERVER: 5, Way.TO_CLIENT: 11}
    assert proxy.counters.cuts == 0


@pytest.mark.parametrize("end", list(End))
async def test_cut_ends_both_sides_in_the_way_asked_for(end: End) -> None:
    async with proxied(b"hello") as (proxy, greeter):
        reader, writer = await dial(proxy)
        assert await reader.readexactly(5) == b"hello"
        assert proxy.cut(end) == 1
        assert await read_to_end(reader) == (b"", end.value)
        await until(lambda: greeter.ends, "the server sees it")
        writer.close()
    assert greeter.ends == [end.value]
    assert proxy.counters.cuts == 1


@pytest.mark.parametrize("end", list(End))
@pytest.mark.parametrize(
    ("point", "passed"),
    [
        (after_bytes(3), 3),
        (after_lines(2), 12),
        (behind(b"+OK\r\n", nth=2), 17),
        (behind(b"FULLRESYNC", plus=4), 32),
    ],
)
async def test_a_cut_lies_at_the_byte_named(point: MakeCutPoint, passed: int, end: End) -> None:
    async with proxied(HANDSHAKE) as (proxy, _):
        armed = proxy.cut_at(point, end=end)
        reader, writer = await dial(proxy)
        assert await read_to_end(reader) == (HANDSHAKE[:passed], end.value)
        writer.close()
        assert armed.fired == proxy.counters.cuts == 1

        reader, writer = await dial(proxy)  # once: the next one is whole
        assert await reader.readexactly(len(HANDSHAKE)) == HANDSHAKE
        writer.close()


async def test_a_cut_towards_the_server_and_only_for_some_connections() -> None:
    async with proxied() as (proxy, greeter):
        proxy.cut_at(after_bytes(6), way=Way.TO_SERVER, opened_with=b"data")
        other_reader, other = await dial(proxy)
        other.write(b"control")
        assert await other_reader.readexactly(7) == b"control"
        reader, writer = await dial(proxy)
        writer.write(b"data-and-more")
        _, how = await read_to_end(reader)
        assert how == "RST"
        await until(lambda: greeter.ends, "the server sees it")
        assert greeter.heard == b"controldata-a"
        assert len(proxy.connections) == 1
        for it in (other, writer):
            it.close()


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(("share", "plus"), [(0.0, 0), (0.5, 0), (1.0, -1), (1.0, 0)])
def test_a_place_in_the_rdb_is_found_in_pieces_of_any_size(
    share: float, plus: int, size: int
) -> None:
    rdb = b"\n$9\r\nREDIS" * 20
    head = HANDSHAKE + b"\n\n$200\r\n"
    wire = head + rdb + b"*1\r\n$4\r\nPING\r\n"
    point = InRdb(share, plus=plus)
    for at in range(0, len(wire), size):
        found = point.find(wire[at : at + size])
        if found is not None:
            assert at + found == len(head) + int(len(rdb) * share) + plus
            break
    else:
        pytest.fail("never found")


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_a_pattern_over_several_pieces_is_counted_once(size: int) -> None:
    wire = b"..MULTI.MULTI.MULTIMULTI.."
    point = behind(b"MULTI", nth=3, plus=2)()
    found = [
        at + index
        for at in range(0, len(wire), size)
        if (index := point.find(wire[at : at + size])) is not None
    ]
    assert found[0] == wire.index(b"MULTIMULTI") + 5 + 2


async def test_stall_holds_what_comes_and_restore_lets_it_go_on() -> None:
    async with proxied() as (proxy, greeter):
        reader, writer = await dial(proxy)
        proxy.stall(Way.TO_CLIENT)
        writer.write(b"abc")
        await until(lambda: greeter.heard == b"abc", "the other way is open")
        assert await hears_nothing(reader)
        proxy.stall()
        writer.write(b"def")
        assert await hears_nothing(reader)
        assert greeter.heard == b"abc"
        proxy.restore()
        assert await reader.readexactly(6) == b"abcdef"
        writer.close()


async def test_half_open_drops_one_way_without_a_sign_and_is_cut_by_restore() -> None:
    async with proxied(b"hello") as (proxy, greeter):
        reader, writer = await dial(proxy)
        assert await reader.readexactly(5) == b"hello"
        proxy.swallow(Way.TO_SERVER)
        writer.write(b"lost")
        writer.write_eof()
        await until(lambda: proxy.counters.swallowed_bytes == 4, "it is dropped")
        assert await hears_nothing(reader)
        assert greeter.ends == []
        proxy.restore()
        assert (await read_to_end(reader))[1] == "RST"
        await until(lambda: greeter.ends == ["RST"], "the server sees it")
        assert greeter.heard == b""
        writer.close()


def count_for_ever(listener: socket.socket, connections: int) -> None:
    """A server whose bytes tell their place."""
    for _ in range(connections):
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            for number in itertools.count():
                connection.sendall(number.to_bytes(8, "little"))


def read_all(connection: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(OSError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_nothing_passes_behind_bytes_that_were_swallowed() -> None:
    rounds = 100  # without the check some let something pass
    with socket.create_server(("127.0.0.1", 0)) as listener:
        counting = threading.Thread(target=count_for_ever, args=(listener, rounds), daemon=True)
        counting.start()
        with (
            ProxyThread(listener.getsockname()[1], receive_buffer_bytes=65536) as proxy,
            ThreadPoolExecutor(1) as pool,
        ):
            for _ in range(rounds):
                with socket.create_connection(("127.0.0.1", proxy.port)) as client:
                    assert client.recv(8)
                    reading = pool.submit(read_all, client)
                    proxy.do(lambda it: it.swallow(Way.TO_CLIENT))
                    time.sleep(0.003)  # so long it lasts
                    proxy.do(FaultProxy.restore)
                    got = reading.result()
                numbers = [
                    int.from_bytes(got[at : at + 8], "little") for at in range(0, len(got) - 7, 8)
                ]
                assert numbers == list(range(1, len(numbers) + 1))
            assert proxy.do(lambda it: it.counters.swallowed_bytes)
        counting.join()


async def test_deaf_accepts_and_never_answers_until_restored() -> None:
    async with proxied(b"hello") as (proxy, greeter):
        proxy.deafen()
        reader, writer = await dial(proxy)
        writer.write(b"anyone?")
        assert await hears_nothing(reader)
        assert greeter.heard == b""
        proxy.restore()
        assert (await read_to_end(reader))[1] == "RST"
        writer.close()
        reader, writer = await dial(proxy)
        assert await reader.readexactly(5) == b"hello"
        writer.close()


async def test_refuse_keeps_what_is_open_and_restore_listens_on_the_same_port() -> None:
    async with proxied(b"hello") as (proxy, _):
        reader, writer = await dial(proxy)
        assert await reader.readexactly(5) == b"hello"
        port = proxy.port
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await dial(proxy)
        writer.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        proxy.restore()
        assert proxy.port == port
        second_reader, second = await dial(proxy)
        assert await second_reader.readexactly(5) == b"hello"
        for it in (writer, second):
            it.close()


async def test_a_server_that_is_away_resets_the_client() -> None:
    async with proxied() as (proxy, _):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            proxy.server_address = unused.getsockname()
            reader, writer = await dial(proxy)
            assert await read_to_end(reader) == (b"", "RST")
            writer.close()
        assert proxy.counters.refused_by_server == 1
        assert proxy.counters.cuts == 0


async def test_delay_and_throttle_take_their_time() -> None:
    async with proxied() as (proxy, _):
        reader, writer = await dial(proxy)
        proxy.delay(0.2, Way.TO_CLIENT)
        began = time.monotonic()
        writer.write(b"x")
        await reader.readexactly(1)
        assert 0.2 <= time.monotonic() - began < 0.6
        proxy.restore()

        proxy.throttle(MIB, Way.TO_SERVER)
        began = time.monotonic()
        writer.write(bytes(MIB // 2))
        await reader.readexactly(MIB // 2)
        assert 0.4 < time.monotonic() - began < 1.0
        writer.close()


def test_a_proxy_in_a_thread_serves_blocking_tests_and_takes_faults() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        with ProxyThread(server.getsockname()[1]) as thread:
            with socket.create_connection(("127.0.0.1", thread.port), 5) as client:
                served, _ = server.accept()
                with served:
                    client.sendall(b"abc")
                    assert served.recv(3) == b"abc"
                    assert thread.do(lambda proxy: proxy.cut()) == 1
                    with pytest.raises(ConnectionResetError):
                        client.recv(1)
            thread.do(lambda proxy: proxy.refuse())
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", thread.port), 5)
    assert not [it for it in threading.enumerate() if it.name == "fault proxy"]


def test_two_hundred_megabytes_a_second_go_through() -> None:
    size = 200 * MIB
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        with (
            ProxyThread(server.getsockname()[1]) as thread,
            socket.create_connection(("127.0.0.1", thread.port), 5) as client,
        ):
            served, _ = server.accept()

            def send() -> None:
                piece = bytes(MIB)
                for _ in range(size // MIB):
                    served.sendall(piece)

            with served:
                sending = threading.Thread(target=send)
                began = time.monotonic()
                sending.start()
                left, buffer = size, bytearray(MIB)
                while left:
                    left -= client.recv_into(buffer)
                seconds = time.monotonic() - began
                sending.join()
    print(f"{size / seconds / 1e6:.0f} MB/s")
    assert size / seconds > 100e6  # alone it is 500 and more; this machine may be shared
