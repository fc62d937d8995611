"""The worker's disk fails: the spool is gone, torn, spoilt or full."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.faults.arena import MIB, Arena, arena, ballast, holds, spool_files
from tests.faults.worker import Worker
from tests.fix_servers import StartServer
from tests.servers.fault_proxy import FaultProxy, Way

pytestmark = [pytest.mark.live, pytest.mark.faults]

SMALL_SPOOL = "--spool-memory-mb=8"
BURST_BYTES = 20 * MIB
LARGE_BACKLOG: dict[str, str | int] = {"repl-backlog-size": "64mb"}
SMALL_BACKLOG: dict[str, str | int] = {"repl-backlog-size": "1mb"}
TMPFS = 'mount -t tmpfs -o size=12m none "$0" && exec "$@"'


def killed_with_a_spool(it: Arena) -> None:
    """A worker that dies while most of a burst lies on its disk. The target is fast again afterwards."""
    it.worker.start()
    it.follows()
    it.catches_up()
    it.target_proxy.do(lambda proxy: proxy.throttle(MIB, Way.TO_SERVER))
    ballast(it.source, BURST_BYTES)
    it.worker.wait_for(
        lambda now: now["read_offset"] >= now["source_offset"] > BURST_BYTES, "all is received"
    )
    assert spool_files(it.worker)
    it.worker.kill()
    it.target_proxy.do(FaultProxy.restore)


def untouched(worker: Worker) -> None:
    """Nothing happens to it."""


def deleted(worker: Worker) -> None:
    shutil.rmtree(worker.spool_dir)


def truncated(worker: Worker) -> None:
    largest = spool_files(worker)[0]
    os.truncate(largest, largest.stat().st_size // 2)


def spoilt(worker: Worker) -> None:
    largest = spool_files(worker)[0]
    with largest.open("r+b") as file:
        file.seek(largest.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0x40]))


@pytest.mark.parametrize("harm", [untouched, deleted, truncated, spoilt])
def test_a_harmed_spool_is_made_up_for_by_the_backlog(
    harm: object, start_server: StartServer, tmp_path: Path
) -> None:
    assert callable(harm)
    with arena(start_server, tmp_path, SMALL_SPOOL, source_config=LARGE_BACKLOG) as it:
        killed_with_a_spool(it)
        harm(it.worker)
        it.worker.start()
        it.catches_up()
        assert (it.worker.totals["full_resyncs"], it.worker.status["full_resyncs"]) == (1, 0)
        holds(lambda: not spool_files(it.worker), "the spool's files are gone")
        it.ends_equal()


@pytest.mark.parametrize("harm", [deleted, truncated, spoilt])
def test_a_harmed_spool_and_a_backlog_too_small_lead_to_a_full_resync(
    harm: object, start_server: StartServer, tmp_path: Path
) -> None:
    assert callable(harm)
    with arena(start_server, tmp_path, SMALL_SPOOL, source_config=SMALL_BACKLOG) as it:
        killed_with_a_spool(it)
        harm(it.worker)
        it.worker.start()
        it.catches_up()
        assert it.worker.status["full_resyncs"] == 1
        assert it.worker.messages().count("psync.full_resync") == 2
        it.ends_equal()


def test_a_spool_makes_up_for_a_backlog_that_is_too_small(
    start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path, SMALL_SPOOL, source_config=SMALL_BACKLOG) as it:
        killed_with_a_spool(it)
        it.worker.start()
        it.catches_up()
        assert (it.worker.status["full_resyncs"], it.worker.status["partial_resyncs"]) == (0, 1)
        assert it.worker.status["spool_recovered_bytes"] > BURST_BYTES // 2
        it.ends_equal()


@pytest.mark.slow
def test_a_spool_of_a_hundred_megabytes_is_applied_within_three_seconds_of_the_start(
    start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path, source_config=SMALL_BACKLOG) as it:
        it.worker.start()
        it.follows()
        it.target_proxy.do(lambda proxy: proxy.throttle(MIB, Way.TO_SERVER))
        ballast(it.source, 110 * MIB)
        it.worker.wait_for(lambda now: now["spool_disk_bytes"] > 60 * MIB, "much on disk")
        it.worker.wait_for(lambda now: now["read_offset"] >= now["source_offset"], "all received")
        it.worker.kill()
        it.target_proxy.do(FaultProxy.restore)
        it.worker.start()
        it.worker.wait_for(
            lambda now: now["commands_applied"], "it applies again", deadline_seconds=3.0
        )
        it.catches_up()
        it.ends_equal()


@cache
def _why_no_tmpfs() -> str:
    trial = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", TMPFS, "/mnt", "true"],
        check=False,
        capture_output=True,
        text=True,
    )
    return "" if trial.returncode == 0 else f"no tmpfs here: {trial.stderr.strip()[:200]}"


def test_a_full_disk_holds_the_source_back_and_loses_nothing(
    start_server: StartServer, tmp_path: Path
) -> None:
    if why := _why_no_tmpfs():
        pytest.skip(why)
    spool = tmp_path / "spool"
    spool.mkdir()
    wrapper = ("unshare", "-Urm", "sh", "-c", TMPFS, str(spool))
    with arena(
        start_server, tmp_path, SMALL_SPOOL, source_config=LARGE_BACKLOG, wrapper=wrapper
    ) as it:
        it.worker.start()
        it.follows()
        it.catches_up()
        it.target_proxy.do(lambda proxy: proxy.throttle(MIB, Way.TO_SERVER))
        ballast(it.source, 40 * MIB)
        holds(lambda: "spool" in it.worker.messages().lower(), "it says that the disk is full")
        it.target_proxy.do(FaultProxy.restore)
        it.catches_up()
        assert it.worker.runs == 1
        assert it.worker.status["full_resyncs"] == 1
        it.ends_equal()


def test_without_a_disk_the_source_is_held_back(start_server: StartServer, tmp_path: Path) -> None:
    with arena(
        start_server, tmp_path, SMALL_SPOOL, "--spool-disk-gb=0", source_config=LARGE_BACKLOG
    ) as it:
        it.worker.start()
        it.follows()
        it.target_proxy.do(lambda proxy: proxy.throttle(MIB, Way.TO_SERVER))
        ballast(it.source, 30 * MIB)
        # The rest waits in the source's own buffer and in the sockets.
        seen = it.worker.wait_for(lambda now: now["spool_bytes"] >= 7 * MIB, "a full spool")
        assert seen["spool_bytes"] < 12 * MIB
        it.target_proxy.do(FaultProxy.restore)
        it.catches_up()
        assert it.worker.highest["spool_disk_bytes"] == 0
        assert not spool_files(it.worker)
        it.ends_equal()
