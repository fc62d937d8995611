"""A worker that stood still while another took its task over must not write any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.arena import MIB, Arena, arena, ballast, url_of
from tests.faults.load import FaultLoad
from tests.faults.worker import Worker
from tests.fix_servers import StartServer
from tests.servers.fault_proxy import Way

pytestmark = [pytest.mark.live, pytest.mark.faults]

RATE = 1000
FAILED = 4


def second_worker(it: Arena, folder: Path) -> Worker:
    return Worker(url_of(it.source, it.source_proxy), url_of(it.target, it.target_proxy), folder)


def in_the_snapshot(it: Arena) -> None:
    it.target_proxy.do(lambda proxy: proxy.throttle(300 * 1024, Way.TO_SERVER))
    it.worker.start()
    it.worker.wait_for(lambda now: now["phase"] == "snapshot" and now["keys_applied"], "keys")


def in_the_stream(it: Arena) -> None:
    it.worker.start()
    it.follows()


def with_much_on_the_way(it: Arena) -> None:
    """Its last blocks lie in the sockets and in the proxy when it is stopped."""
    it.worker.start()
    it.follows()
    it.target_proxy.do(lambda proxy: proxy.throttle(MIB, Way.TO_SERVER))
    ballast(it.source, 4 * MIB)
    it.worker.wait_for(lambda now: now["lag_bytes"] > MIB, "a lag")


@pytest.mark.parametrize(
    ("moment", "folder"),
    [
        # What the first one's snapshot has brought stands in a list in the folder.
        (in_the_snapshot, "same"),
        (in_the_stream, "same"),
        (in_the_stream, "other"),
        (with_much_on_the_way, "other"),
    ],
)
def test_a_paused_worker_is_taken_over_and_ends(
    moment: object, folder: str, start_server: StartServer, tmp_path: Path
) -> None:
    assert callable(moment)
    other = tmp_path / "other"
    other.mkdir()
    with (
        arena(start_server, tmp_path) as it,
        second_worker(it, tmp_path if folder == "same" else other) as second,
    ):
        first = it.worker
        with FaultLoad(it.source.endpoint, rate=RATE, seed=5) as load:
            moment(it)
            first.pause()
            load.has_written(300)
            it.target_proxy.do(lambda proxy: proxy.throttle(0))
            second.start()
            second.wait_for(lambda now: now["state"] == "stream", "the second follows")
            load.has_written(300)
            first.resume()
            assert first.wait_for_end() == FAILED
            # What it does first when it wakes up tells it: a block, or a new file of its list of keys.
            assert any(it in first.status["error"] for it in ("taken over", "another process"))
            load.has_written(300)
        it.worker = second
        it.ends_equal()
        assert second.status["full_resyncs"] == (moment is in_the_snapshot)
