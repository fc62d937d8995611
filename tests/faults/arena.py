"""Two servers with a fault proxy before each, a worker process between them, a load: where faults are tried."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.demo.compare import compare
from engine.demo.dataset import fill
from engine.demo.servers import RunningServer
from engine.demo.wire import Wire, pack
from tests.conditions import holds
from tests.faults.worker import Worker
from tests.fix_servers import StartServer
from tests.live.sides import CONFIG, digest_of, keys_of_ours, offset_of
from tests.live.world import links_of
from tests.servers.fault_proxy import ProxyThread

MIB = 1024 * 1024
SERVER = "redis-8.2"
AOF: dict[str, str | int] = {"appendonly": "yes", "appendfsync": "always"}
SOURCE_CONFIG: dict[str, str | int] = {
    **CONFIG,
    "repl-backlog-size": "32mb",
    "repl-ping-replica-period": 1,
}
SOON_MS = 5_000  # longer than the load lets its short-lived keys live
PROXY_BUFFER_BYTES = 64 * 1024
POLL_SECONDS = 0.02
SMALLEST_SEGMENT_BYTES = 256 * 1024
DEADLINE_SECONDS = 60.0


def write_at_rate(
    server: RunningServer, *, bytes_per_second: int, seconds: float, on_tick: Callable[[], None]
) -> None:
    """Write values of 64 KiB over a few names; `on_tick` is called some ten times a second."""
    value_bytes = 64 * 1024
    noise = os.urandom(2 * value_bytes)
    began, sent, ticks = time.monotonic(), 0, 0
    with Wire(server.endpoint, db=4) as wire:
        while (now := time.monotonic() - began) < seconds:
            due = int(now * bytes_per_second / value_bytes) - sent
            batch = b"".join(
                pack((b"SET", b"burst:%d" % (n % 64), noise[n % value_bytes :][:value_bytes]))
                for n in range(sent, sent + due)
            )
            wire.send(batch)
            list(wire.replies(due))
            sent += due
            if now * 10 > ticks:
                ticks += 1
                on_tick()
            time.sleep(0.005)  # the pace of the writing


class Arena:
    """A source, a target and a worker that reaches both through proxies. Use `arena`."""

    def __init__(
        self,
        source: RunningServer,
        target: RunningServer,
        source_proxy: ProxyThread,
        target_proxy: ProxyThread,
        worker: Worker,
    ) -> None:
        self.source = source
        self.target = target
        self.source_proxy = source_proxy
        self.target_proxy = target_proxy
        self.worker = worker

    def follows(self, **options: Any) -> None:
        """Wait for the stream phase."""
        self.worker.wait_for(lambda it: it["state"] == "stream", "the stream phase", **options)

    def catches_up(self, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """The target has everything that the source has now."""
        self.worker.applies(offset_of(self.source), deadline_seconds=deadline_seconds)

    def differences(self) -> str:
        """What differs between the sides; empty when they are equal."""
        found = compare(self.source.endpoint, self.target.endpoint)
        return "" if found.is_equal else str(found)

    def ends_equal(self) -> None:
        """Without a load: catch up, stop the worker, compare, by digest too where that is possible.

        Nothing of ours may be left but what belongs to a task that can be resumed.
        """
        self.catches_up()
        self.worker.wait_for(lambda it: not it["expiries_owed"], "all expiries are the source's")
        assert self.worker.stop() == 130
        holds(lambda: not links_of(self.target), "our connections are gone from the target")
        holds(lambda: not self._expires_soon(), "the short-lived keys are gone")
        assert self.differences() == ""
        if self.source.binary == self.target.binary:
            self._forget()
            holds(lambda: digest_of(self.source) == digest_of(self.target), "equal digests")

    def _forget(self) -> None:
        for db, key in keys_of_ours(self.target):
            with self.target.client(db) as client:
                client.delete(key)

    def _expires_soon(self) -> list[bytes]:
        """Keys that will be gone within SOON_MS, on either side. To look is to let them go."""
        found: list[bytes] = []
        for server in (self.source, self.target):
            with server.client() as client:
                dbs = [int(name[2:]) for name in client.info("keyspace")]
            for db in dbs:
                with server.client(db) as client:
                    keys = list(client.scan_iter(count=2000))
                    with client.pipeline(transaction=False) as pipe:
                        for key in keys:
                            pipe.pttl(key)
                        left = pipe.execute()
                found += [
                    key for key, ms in zip(keys, left, strict=True) if ms == -2 or 0 <= ms < SOON_MS
                ]
        return found


def url_of(server: RunningServer, proxy: ProxyThread) -> str:
    """The server's URL through its proxy."""
    return server.url.replace(f":{server.port}", f":{proxy.port}")


@contextmanager
def arena(
    start_server: StartServer,
    folder: Path,
    *options: str,
    server: str = SERVER,
    source_config: dict[str, str | int] | None = None,
    target_config: dict[str, str | int] | None = None,
    keys: int = 2000,
    seed: int = 1,
    wrapper: Sequence[str] = (),
) -> Iterator[Arena]:
    """A source with `keys` keys of all types and an empty target; `options` are the worker's."""
    source = start_server(server, config=SOURCE_CONFIG | (source_config or {}))
    target = start_server(server, config=CONFIG | (target_config or {}))
    fill(source.endpoint, keys, seed)
    with (
        ProxyThread(source.port, receive_buffer_bytes=PROXY_BUFFER_BYTES) as source_proxy,
        ProxyThread(target.port, receive_buffer_bytes=PROXY_BUFFER_BYTES) as target_proxy,
        Worker(
            url_of(source, source_proxy),
            url_of(target, target_proxy),
            folder,
            *options,
            wrapper=wrapper,
        ) as worker,
    ):
        yield Arena(source, target, source_proxy, target_proxy, worker)


def ballast(server: RunningServer, size_bytes: int, *, value_bytes: int = 64 * 1024) -> None:
    """Write so many bytes that cannot be compressed: appended twice, then begun anew, so it must be in order."""
    with server.client(db=4) as client:
        for number in range(size_bytes // value_bytes):
            name, value = f"ballast:{number % 4}", os.urandom(value_bytes)
            if number // 4 % 3:
                client.append(name, value)
            else:
                client.set(name, value)


def spool_files(worker: Worker) -> list[Path]:
    """The files that hold stream or snapshot, largest first: whatever the spool calls them, they are not small."""
    found = []
    for it in worker.spool_dir.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # released meanwhile
            if it.is_file() and it.stat().st_size >= SMALLEST_SEGMENT_BYTES:
                found.append(it)
    return sorted(found, key=lambda it: it.stat().st_size, reverse=True)
