"""A target that is another one, a password that has changed, a source that has moved on too far."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.demo.servers import RunningServer
from tests.faults.arena import Arena, arena, ballast, holds
from tests.faults.load import FaultLoad
from tests.fix_servers import StartServer
from tests.live.world import SIDES
from tests.servers.fault_proxy import FaultProxy, Way

pytestmark = [pytest.mark.live, pytest.mark.faults]

RATE = 1000
FAILED = 4
FOREIGN = b"not-ours"
MIB = 1024 * 1024


def flushed(it: Arena) -> None:
    """The worker stands still, so that it meets the empty target when it comes back."""
    it.worker.pause()
    it.target_proxy.do(lambda proxy: proxy.cut())
    with it.target.client() as client:
        client.flushall()
    it.worker.resume()


def flushed_under_a_live_connection(it: Arena) -> None:
    with it.target.client() as client:
        client.flushall()


def new_process(it: Arena) -> None:
    """It keeps nothing on disk."""
    it.target.kill()
    it.target.start()


@pytest.mark.parametrize("replace", [flushed, flushed_under_a_live_connection, new_process])
def test_a_target_that_became_empty_is_filled_anew(
    replace: object, start_server: StartServer, tmp_path: Path
) -> None:
    assert callable(replace)
    with arena(start_server, tmp_path) as it:
        with FaultLoad(it.source.endpoint, rate=RATE, seed=4) as load:
            it.worker.start()
            it.follows()
            load.has_written(500)
            replace(it)
            it.worker.wait_for(lambda now: now["full_resyncs"] == 2, "a second full resync")
            load.has_written(500)
        it.ends_equal()
        assert it.worker.runs == 1
        assert "checkpoint" in it.worker.messages()


def test_a_target_that_became_empty_between_two_runs_is_filled_anew(
    start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path) as it:
        with FaultLoad(it.source.endpoint, rate=RATE, seed=4) as load:
            it.worker.start()
            it.follows()
            load.has_written(300)
            it.worker.kill()
            with it.target.client() as client:
                client.flushall()
            it.worker.start()
            it.follows()
            load.has_written(300)
        it.ends_equal()
        assert it.worker.status["full_resyncs"] == 1


def rotate_password(server: RunningServer, password: str) -> None:
    with server.client() as client:
        client.config_set("requirepass", password)
    server.config["requirepass"] = password


@pytest.mark.parametrize("side", SIDES)
def test_a_rotated_password_ends_the_task_and_the_new_one_continues_it(
    side: str, start_server: StartServer, tmp_path: Path
) -> None:
    password_file = tmp_path / "new"
    password_file.write_text("after")
    password_file.chmod(0o600)
    config: dict[str, str | int] = {"requirepass": "before"}
    with arena(start_server, tmp_path, source_config=config, target_config=config) as it:
        server, proxy = (
            (it.source, it.source_proxy) if side == "source" else (it.target, it.target_proxy)
        )
        with FaultLoad(it.source.endpoint, rate=RATE, seed=4) as load:
            it.worker.start()
            it.follows()
            load.has_written(300)
            # Until then keys are looked for on the target, over a connection that may be made only now.
            it.worker.wait_for(lambda now: not now["expiries_owed"], "all expiries are true")
            rotate_password(server, "after")
            it.worker.wait_for(lambda now: now["lag_bytes"] == 0, "the open connections stay")
            proxy.do(lambda proxy: proxy.cut())
            assert it.worker.wait_for_end() == FAILED
            message = it.worker.status["error"]
            assert f"the {side}" in message
            assert "check user and password" in message
            assert "before" not in it.worker.messages()
            load.has_written(300)
            it.worker.start(f"--{side}-password-file={password_file}")
            it.follows()
            load.has_written(300)
        it.ends_equal()
        assert (it.worker.status["full_resyncs"], it.worker.status["partial_resyncs"]) == (0, 1)


def test_a_backlog_too_small_leads_to_a_full_resync_that_deletes_what_was_deleted(
    start_server: StartServer, tmp_path: Path
) -> None:
    small: dict[str, str | int] = {"repl-backlog-size": "64kb"}
    with arena(start_server, tmp_path, source_config=small) as it:
        with it.source.client() as client, it.target.client() as target:
            client.mset({f"goes:{number}": number for number in range(50)})
            target.set(FOREIGN, "stays")
            with FaultLoad(it.source.endpoint, rate=RATE, seed=4) as load:
                it.worker.start()
                it.follows()
                load.has_written(300)
                it.source_proxy.do(FaultProxy.refuse)
                it.source_proxy.do(lambda proxy: proxy.cut())
                ballast(it.source, MIB)
                client.delete(*(f"goes:{number}" for number in range(50)))
                it.source_proxy.do(FaultProxy.restore)
                it.worker.wait_for(lambda now: now["full_resyncs"] == 2, "a second full resync")
                it.follows()
                load.has_written(300)
            it.catches_up()
            assert target.get(FOREIGN) == b"stays"
            target.delete(FOREIGN)
        it.ends_equal()
        assert it.worker.totals["leftovers_removed"] >= 50
        (warning,) = [
            line
            for line in it.worker.messages().splitlines()
            if "psync.full_resync" in line and "warn" in line
        ]
        assert "asked=" in warning
        assert "source_has=" in warning


def test_keys_of_a_snapshot_that_was_cut_do_not_outlive_the_source(
    start_server: StartServer, tmp_path: Path
) -> None:
    with arena(start_server, tmp_path) as it:
        with it.source.client() as client, it.target.client() as target:
            target.set(FOREIGN, "stays")
            target.set("both", "theirs")
            client.set("both", "ours")
            it.target_proxy.do(lambda proxy: proxy.throttle(200 * 1024, Way.TO_SERVER))
            it.worker.start()
            it.worker.wait_for(lambda now: now["keys_applied"] > 100, "a part of the snapshot")
            it.worker.kill()
            it.target_proxy.do(FaultProxy.restore)
            brought = [key for key in target.scan_iter(count=1000) if client.exists(key)]
            assert len(brought) > 50
            client.delete(*brought)
            it.worker.start()
            it.catches_up()
            holds(lambda: target.get(FOREIGN) == b"stays", "the foreign key")
            target.delete(FOREIGN)
        it.ends_equal()
        assert it.worker.status["leftovers_removed"] > 50
