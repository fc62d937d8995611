"""Bytes change on their way: what was received is dropped, and the source asked again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.arena import MIB, arena, holds, spool_files
from tests.faults.load import FaultLoad
from tests.faults.test_lost_spool import SMALL_SPOOL, spoilt
from tests.fix_servers import StartServer
from tests.servers.fault_proxy import FaultProxy, Way

pytestmark = [pytest.mark.live, pytest.mark.faults]


def test_a_stream_that_is_out_of_step_is_received_again_from_the_checkpoint(
    start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path) as it:
        it.worker.start()
        it.follows()
        with FaultLoad(it.source.endpoint, rate=1000) as load:
            load.has_written(200)
            it.source_proxy.do(lambda proxy: proxy.damage(b"$4\r\nINCR", b"#4\r\nINCR"))
            it.worker.wait_for(lambda now: now["retries"].get("StreamOutOfStep"), "it is noticed")
            load.has_written(500)
        it.catches_up()
        now = it.worker.status
        assert (now["full_resyncs"], now["partial_resyncs"], it.worker.runs) == (1, 1, 1)
        assert now["retries"] == {"StreamOutOfStep": 1}
        it.ends_equal()


def test_what_comes_damaged_twice_ends_the_run_and_the_next_one_goes_on(
    start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path) as it:
        it.worker.start()
        it.follows()
        it.source_proxy.do(lambda proxy: proxy.damage(b"$5\r\nevil:", b"#5\r\nevil:", times=99))
        with it.source.client() as client:
            client.append("before", "x")
            client.append("evil:", "x")
        assert it.worker.wait_for_end() == 4
        assert "out of step" in it.worker.status["error"]
        it.source_proxy.do(FaultProxy.restore)
        it.worker.start()
        it.catches_up()
        assert it.worker.totals["full_resyncs"] == 1
        it.ends_equal()


def test_a_snapshot_whose_spool_file_is_spoilt_is_taken_anew(
    start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path, SMALL_SPOOL) as it:
        with it.source.client(db=5) as client:
            for number in range(24):
                client.set(f"other:{number}", os.urandom(MIB))
        it.target_proxy.do(lambda proxy: proxy.throttle(MIB // 2, Way.TO_SERVER))
        it.worker.start()
        holds(
            lambda: any(file.stat().st_size > 2 * MIB for file in spool_files(it.worker)),
            "the snapshot is on disk",
        )
        spoilt(it.worker)
        it.target_proxy.do(FaultProxy.restore)
        it.follows()
        it.catches_up()
        now = it.worker.status
        assert (now["full_resyncs"], now["retries"]) == (2, {"SpoolDamaged": 1})
        it.ends_equal()
