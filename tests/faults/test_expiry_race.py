"""TTLs that are renewed on the source while the target is far behind: no key may be lost on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.demo.servers import RunningServer
from engine.demo.wire import Wire
from tests.faults.arena import MIB, Arena, arena, ballast
from tests.fix_servers import StartServer
from tests.servers.fault_proxy import FaultProxy, Way

pytestmark = [pytest.mark.live, pytest.mark.faults]

KEYS = 40
TTL_MS = 1200
PAUSE_SECONDS = 0.2
LASTING_MS = 500_000
GONE = 10


def names(kind: str) -> list[str]:
    return [f"{kind}:{number}" for number in range(KEYS)]


def create(server: RunningServer) -> None:
    """Written once. A key that is lost on the target later stays lost, whatever its TTL becomes."""
    with Wire(server.endpoint) as wire:
        for key in names("renewed"):
            wire.ask("SET", key, "first", "PX", TTL_MS)
        for key in names("fields"):
            wire.ask("HSET", key, "a", 1, "b", 2)
            wire.ask("HPEXPIRE", key, TTL_MS, "FIELDS", 1, "a")
        for number in range(GONE):
            wire.ask("SET", f"goes:{number}", "soon", "PX", TTL_MS)


def renew(wire: Wire, ms: int) -> None:
    for key in names("renewed"):
        assert wire.ask("PEXPIRE", key, ms) == 1
    for key in names("fields"):
        assert wire.ask("HPEXPIRE", key, ms, "FIELDS", 1, "a") == [1]


@contextmanager
def renewing(server: RunningServer) -> Iterator[None]:
    """From a thread, well before anything runs out; at the end all get a long life."""
    stop = threading.Event()

    def run() -> None:
        with Wire(server.endpoint) as wire:
            while not stop.wait(PAUSE_SECONDS):
                renew(wire, TTL_MS)
            renew(wire, LASTING_MS)

    thread = threading.Thread(target=run, name="renewing")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def lasts(it: Arena) -> None:
    """Much longer than the TTLs: the time is the fault here."""
    time.sleep(2.5 * TTL_MS / 1000)
    assert it.worker.is_running


def has_no_margins(it: Arena) -> None:
    """Caught up, with the true times on the target: what comes now gets its true time at once."""
    it.follows()
    it.catches_up()
    it.worker.wait_for(lambda now: not now["expiries_owed"], "all expiries are the source's")


def all_are_there(it: Arena) -> bool:
    with it.target.client() as client:
        assert client.exists(*names("renewed")) == KEYS
        assert all(client.hexists(key, "a") for key in names("fields"))
        assert client.exists(*(f"goes:{number}" for number in range(GONE))) == 0
    return True


def test_a_key_renewed_during_a_slow_snapshot_is_not_lost(
    start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path) as it:
        ballast(it.source, 3 * MIB)
        create(it.source)
        with renewing(it.source):
            it.target_proxy.do(lambda proxy: proxy.throttle(400 * 1024, Way.TO_SERVER))
            it.worker.start()
            it.worker.wait_for(lambda now: now["phase"] == "snapshot", "the snapshot")
            lasts(it)
            it.target_proxy.do(FaultProxy.restore)
            it.follows()
        has_no_margins(it)
        assert all_are_there(it)
        it.ends_equal()


def test_a_key_renewed_while_the_stream_is_far_behind_is_not_lost(
    start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path) as it:
        it.worker.start()
        has_no_margins(it)
        create(it.source)
        with renewing(it.source):
            has_no_margins(it)
            it.target_proxy.do(lambda proxy: proxy.throttle(MIB, Way.TO_SERVER))
            ballast(it.source, 5 * MIB)
            lasts(it)
            it.target_proxy.do(FaultProxy.restore)
        has_no_margins(it)
        assert all_are_there(it)
        it.ends_equal()


def test_a_key_renewed_while_the_worker_is_dead_is_not_lost(
    start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path) as it:
        it.worker.start()
        has_no_margins(it)
        create(it.source)
        with renewing(it.source):
            has_no_margins(it)
            it.worker.kill()
            time.sleep(2.5 * TTL_MS / 1000)
            it.worker.start()
            it.follows()
        has_no_margins(it)
        assert all_are_there(it)
        it.ends_equal()


def test_a_key_renewed_while_the_worker_stands_still_is_not_lost(
    start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path) as it:
        it.worker.start()
        has_no_margins(it)
        create(it.source)
        with renewing(it.source):
            has_no_margins(it)
            it.worker.pause()
            time.sleep(2.5 * TTL_MS / 1000)
            it.worker.resume()
            it.worker.wait_for(
                lambda now: now["keys_fetched_again"] >= 2 * KEYS, "it knows that it stood still"
            )
            has_no_margins(it)
        has_no_margins(it)
        assert all_are_there(it)
        it.ends_equal()


@pytest.mark.parametrize("what", ["network", "target"])
def test_a_renewal_that_reaches_the_target_too_late_is_made_good(
    what: str, start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path) as it:
        it.worker.start()
        has_no_margins(it)
        create(it.source)
        has_no_margins(it)
        if what == "network":
            it.target_proxy.do(lambda proxy: proxy.stall(Way.TO_SERVER))
        else:
            it.target.pause()
        with Wire(it.source.endpoint) as wire:
            renew(wire, LASTING_MS)  # at once, and never again
        lasts(it)
        if what == "network":
            it.target_proxy.do(FaultProxy.restore)
        else:
            it.target.unpause()
        it.worker.wait_for(
            lambda now: now["keys_fetched_again"] >= 2 * KEYS, "what was late is seen"
        )
        has_no_margins(it)
        assert all_are_there(it)
        it.ends_equal()
