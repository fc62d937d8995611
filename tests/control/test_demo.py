"""The demo on real servers: what it shows, what it needs, what it leaves."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.control import demo
from engine.control.demo import DemoFigures, Follower, Moments, report_lines, run_demo
from engine.control.progress import Silent, status_object
from engine.demo.child import module_command, module_environment
from engine.demo.compare import Comparison
from tests.conditions import until
from tests.control.scripted_task import make_status
from tests.fix_servers import SERVER_NAMES

pytestmark = pytest.mark.skipif(
    not (set(demo.SOURCES) & set(SERVER_NAMES) and set(demo.TARGETS) & set(SERVER_NAMES)),
    reason="the demo's servers are not on this machine",
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the demo makes its own; the rest of the environment tries to lead it astray."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(demo, "STREAM_SECONDS", 1.0)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("REDIS_FERRY_METHOD", "full")
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").write_text("raise SystemExit('the wrong package')")
    monkeypatch.chdir(tmp_path)
    return folder


def test_it_ends_with_a_report_and_leaves_nothing(
    temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_demo(keys=2000, rate=500, seed=1, keep=False, progress="none") == 0

    text = capsys.readouterr().out
    lag = re.search(
        r"^lag +p50 ([\d.]+) ms, p99 ([\d.]+) ms .*, 0 bytes at the end$", text, re.MULTILINE
    )
    assert lag is not None, text
    assert 0 < float(lag[1]) <= float(lag[2]) < 1000
    assert re.search(r"^differences +0$", text, re.MULTILINE)
    assert list(temporary.iterdir()) == []
    assert not (temporary.parent / "state").exists()


def has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose name leaves room for a socket's: otherwise the task puts its own elsewhere."""
    with tempfile.TemporaryDirectory(prefix="ferry-", dir="/tmp") as folder:
        yield Path(folder)


async def test_what_is_kept_goes_with_the_command_that_is_printed(short_path: Path) -> None:
    tmp_path = short_path
    ended = subprocess.run(
        module_command("engine", "demo", "--keys", "500", "--keep", "--progress", "none"),
        env=module_environment(os.environ) | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    command = re.search(r"^stop and remove them: (.*)$", ended.stdout, re.MULTILINE)
    assert command is not None, ended.stdout
    words = shlex.split(command[1])
    servers = [psutil.Process(int(it)) for it in words[1:3]]
    (folder,) = tmp_path.iterdir()
    assert words == ["kill", *(str(it.pid) for it in servers), "&&", "rm", "-rf", str(folder)]
    for name in ("source", "target"):
        assert f"files in {folder / name}" in ended.stdout
        assert (folder / name / "server.log").exists()

    subprocess.run(command[1], shell=True, check=True)

    await until(lambda: all(map(has_ended, servers)), "the servers have ended")
    assert list(tmp_path.iterdir()) == []


async def test_nothing_outlives_a_demo_that_was_killed(tmp_path: Path) -> None:
    environment = module_environment(os.environ) | {"TMPDIR": str(tmp_path)}
    command = module_command("engine", "demo", "--keys", "500", "--progress", "plain")
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stderr is not None
        assert any(" stream " in line for line in parent.stderr)
        children = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()

        assert len(children) == 4  # two servers, the writer, the migration
        await until(lambda: all(map(has_ended, children)), "the children have ended")


def figures(**changes: object) -> DemoFigures:
    given: dict[str, object] = {
        "moments": Moments(snapshot_at=10.0, stream_at=12.0, live_at=13.0, snapshot_keys=1000),
        "last": make_status(lag_bytes=0),
        "caught_up_at": 20.0,
        "lag_p50_seconds": 0.0004,
        "lag_p99_seconds": 0.0021,
        "comparison": Comparison(keys_source=1, keys_target=1),
        "written": 5,
        "seconds": 30.0,
    }
    return DemoFigures(**(given | changes))  # type: ignore[arg-type]


def lag_of(made: DemoFigures) -> str:
    (line,) = [it for it in report_lines(made) if it.startswith("lag ")]
    return line


def test_the_report_shows_the_lag_there_was_at_the_end() -> None:
    assert "p50 0.4 ms, p99 2.1 ms" in lag_of(figures())
    assert lag_of(figures()).endswith(" 0 bytes at the end")
    assert lag_of(figures(last=make_status(lag_bytes=1700))).endswith(" 1,700 bytes at the end")
    assert "not measured" in lag_of(figures(lag_p50_seconds=None, lag_p99_seconds=None))


def test_what_a_source_says_of_itself_is_not_left_as_lag_in_the_last_status(tmp_path: Path) -> None:
    """An expired key's DEL may be on its way at any moment, after the load's end too."""
    said = tmp_path / "statuses"
    lags = (0, 50, 50, 0, 50)
    said.write_text(
        "".join(json.dumps(status_object(make_status(lag_bytes=it))) + "\n" for it in lags)
    )
    with subprocess.Popen(["cat", str(said)], stdout=subprocess.PIPE, text=True) as sync:
        follower = Follower(sync, Silent())
        follower.follow(lambda status: status.lag_bytes > 0)

        follower.come_to_rest()

        assert follower.last is not None
        assert follower.last.lag_bytes == 0
