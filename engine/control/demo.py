"""`redis-ferry demo`: two real servers, data, live writes, a migration, a comparison of every key.

The migration is the product's own `sync` command in a child process; the comparison is a reader that shares
no code with the engine's codec.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from engine.control.choices import ProgressMode
from engine.control.progress import Reporter, make_reporter
from engine.demo.child import death_signal, module_command, module_environment
from engine.demo.compare import Comparison, compare
from engine.demo.dataset import fill
from engine.demo.lag_probe import LagProbe
from engine.demo.servers import RunningServer, ServerBinary, find_servers
from engine.errors import ConfigError, EngineError, install_hint
from engine.quantities import byte_count
from engine.supervision.status import TaskStatus

SOURCES = ("redis-6.2", "redis-7.0", "valkey-8.1")  # the first that is installed
TARGETS = ("valkey-9.1", "redis-8.2", "valkey-8.1")
STREAM_SECONDS = 6.0  # how long the stream is followed under load, once it has caught up
CATCH_UP_SECONDS = 60.0
EXPIRY_SECONDS = 10.0
TASK_ID = "demo"
EXIT_DIFFERENT = 4
STATUS_FIELDS = frozenset(field.name for field in fields(TaskStatus))


def run_demo(*, keys: int, rate: int, seed: int, keep: bool, progress: str) -> int:
    """Run the demo and print its report. Returns 0 if both sides hold the same, else 4.

    Raises:
        ConfigError: the demo's servers are not installed.
        EngineError: a server or the migration did not do its part.
    """
    started = time.monotonic()
    binaries = _binaries()
    with ExitStack() as stack:
        folder = stack.enter_context(_folder(keep=keep))
        source = stack.enter_context(_server(binaries[0], folder / "source", keep=keep))
        target = stack.enter_context(_server(binaries[1], folder / "target", keep=keep))
        _say(f"source  {source.binary.name} on 127.0.0.1:{source.port}")
        _say(f"target  {target.binary.name} on 127.0.0.1:{target.port}")
        began = time.monotonic()
        fill(source.endpoint, keys, seed)
        _say(f"filled  {keys:,} keys of all types in {time.monotonic() - began:.1f} s")
        writer = stack.enter_context(_child(_writer_command(source, rate, seed)))
        _say(
            f"writing {rate:,} commands a second to the source" if rate else "writing at full speed"
        )
        sync = stack.enter_context(_child(_sync_command(source, target, folder / "spool")))
        follower = Follower(sync, make_reporter(ProgressMode(progress)))
        follower.follow(follower.is_live)
        probe = LagProbe(source.endpoint, target.endpoint)
        stack.callback(probe.stop)
        probe.start()
        follower.follow(lambda status: follower.live_seconds(status) >= STREAM_SECONDS)
        written = _stop_writer(writer)
        probe.stop()
        goal = int(source.client().info("replication")["master_repl_offset"])
        caught_up_at = follower.follow(lambda status: status.applied_offset >= goal)
        follower.follow(lambda status: not status.expiries_owed, is_shown=False)
        follower.close()
        _say("comparing every key, value and TTL on both sides …")
        comparison = _compare(source, target, follower)
        follower.come_to_rest()
        _stop_sync(sync)
        assert follower.last is not None
        figures = DemoFigures(
            moments=follower.moments,
            last=follower.last,
            caught_up_at=caught_up_at,
            lag_p50_seconds=probe.quantile(0.5),
            lag_p99_seconds=probe.quantile(0.99),
            comparison=comparison,
            written=written,
            seconds=time.monotonic() - started,
        )
        _say("")
        for line in report_lines(figures):
            _say(line)
        if keep:
            _say("")
            for line in _kept_lines(source, target, folder):
                _say(line)
    return 0 if comparison.is_equal else EXIT_DIFFERENT


def _say(text: str) -> None:
    print(text, flush=True)


def _binaries() -> tuple[ServerBinary, ServerBinary]:
    found = find_servers()
    source = next((name for name in SOURCES if name in found), None)
    target = next((name for name in TARGETS if name in found and name != source), None)
    if source is None or target is None:
        raise ConfigError(
            f"the demo's servers are not installed: one of {', '.join(SOURCES)} and a newer one",
            hint=install_hint("demo"),
        )
    return found[source], found[target]


@contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    """Everything the demo leaves on this machine: the servers' files and the migration's spool."""
    folder = Path(tempfile.mkdtemp(prefix="redis-ferry-demo-"))
    try:
        yield folder
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _server(binary: ServerBinary, directory: Path, *, keep: bool) -> Iterator[RunningServer]:
    directory.mkdir()
    # The 1 MB that old servers come with would rightly be warned of.
    config = {"repl-backlog-size": "64mb"}
    server = RunningServer(binary, config=config, directory=directory, outlive_parent=keep)
    server.start()
    try:
        yield server
    except BaseException:
        server.stop()
        raise
    if not keep:
        server.stop()


@contextmanager
def _child(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A child process of our own package; it ends with this block, and with this process, whatever happens."""
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env=module_environment(os.environ),
        preexec_fn=death_signal(),  # noqa: PLW1509 - see there
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def _writer_command(source: RunningServer, rate: int, seed: int) -> list[str]:
    options = {"--port": source.port, "--rate": rate, "--seed": seed}
    words = [str(word) for option in options.items() for word in option]
    return module_command("engine.demo.writer", *words)


def _sync_command(source: RunningServer, target: RunningServer, spool_dir: Path) -> list[str]:
    return module_command(
        "engine", "sync", source.url, target.url, "--task-id", TASK_ID, "--spool-dir", str(spool_dir),
        "--progress", "json", "--log-level", "warning",
    )  # fmt: skip


def _compare(source: RunningServer, target: RunningServer, follower: Follower) -> Comparison:
    """Compare at rest. TTLs that came late get the time in which the migration puts them right."""
    deadline = time.monotonic() + EXPIRY_SECONDS
    while True:
        comparison = compare(source.endpoint, target.endpoint)
        others = [it for it in comparison.differences if it.kind not in {"ttl", "field-ttl"}]
        if comparison.is_equal or others or time.monotonic() > deadline:
            return comparison
        follower.wait_for_next()


def _kept_lines(source: RunningServer, target: RunningServer, folder: Path) -> list[str]:
    return [
        f"source left running: {source.url} (pid {source.pid}), files in {source.directory}",
        f"target left running: {target.url} (pid {target.pid}), files in {target.directory}",
        f"stop and remove them: kill {source.pid} {target.pid} && rm -rf {shlex.quote(str(folder))}",
    ]


def _stop_writer(writer: subprocess.Popen[str]) -> int:
    """Stop the writer; return how many commands it wrote."""
    writer.send_signal(signal.SIGTERM)
    output, _ = writer.communicate(timeout=30)
    report = json.loads(output.splitlines()[-1])
    if writer.returncode != 0:
        raise EngineError(f"the demo's writer failed: {report.get('failure', output)}")
    return int(report["commands"])


def _stop_sync(sync: subprocess.Popen[str]) -> None:
    sync.send_signal(signal.SIGTERM)
    sync.communicate(timeout=30)
    if sync.returncode != 130:
        raise EngineError(f"the migration ended with exit status {sync.returncode}")


@dataclass(slots=True)
class Moments:
    """Times (seconds since the epoch) and figures at the phases' borders. live_at: first time without lag."""

    snapshot_at: float = 0.0
    stream_at: float = 0.0
    live_at: float = 0.0
    snapshot_keys: int = 0


class Follower:
    """Reads the child's `--progress json` and shows it."""

    def __init__(self, sync: subprocess.Popen[str], reporter: Reporter) -> None:
        self._sync = sync
        self._reporter = reporter
        self.moments = Moments()
        self.last: TaskStatus | None = None

    def follow(self, is_enough: Callable[[TaskStatus], bool], *, is_shown: bool = True) -> float:
        """Show statuses until one is enough; return its time."""
        assert self._sync.stdout is not None
        deadline = time.monotonic() + STREAM_SECONDS + 10 * CATCH_UP_SECONDS
        for line in self._sync.stdout:
            status = TaskStatus(
                **{name: value for name, value in json.loads(line).items() if name in STATUS_FIELDS}
            )
            self._note(status)
            if is_shown:
                self._reporter.show(status)
            if is_enough(status):
                return status.ts
            if time.monotonic() > deadline:
                raise EngineError("the migration did not catch up in time", detail=str(status))
        raise EngineError(
            "the migration ended early",
            detail=(self.last.error or self.last.state) if self.last else "it showed nothing",
        )

    def wait_for_next(self) -> None:
        """Wait for a status that is made after now."""
        now = time.time()
        self.follow(lambda status: status.ts > now, is_shown=False)

    def come_to_rest(self) -> None:
        """Let the last status be one without lag: the source's own words (DEL of what expires) come at any time."""
        deadline = time.time() + EXPIRY_SECONDS
        self.follow(lambda status: status.lag_bytes == 0 or status.ts > deadline, is_shown=False)

    def is_live(self, status: TaskStatus) -> bool:
        """Whether what waited behind the snapshot is applied, or has had its time (a load that is too much)."""
        behind = status.ts - self.moments.stream_at if self.moments.stream_at else 0.0
        return self.moments.live_at > 0 or behind > CATCH_UP_SECONDS

    def live_seconds(self, status: TaskStatus) -> float:
        """How long the stream has been followed since `is_live`."""
        return status.ts - (self.moments.live_at or self.moments.stream_at)

    def close(self) -> None:
        """Leave the last picture standing."""
        if self.last is not None:
            self._reporter.close(self.last)

    def _note(self, status: TaskStatus) -> None:
        moments = self.moments
        if status.state == "snapshot" and not moments.snapshot_at:
            moments.snapshot_at = status.ts
        if status.state == "stream" and not moments.stream_at:
            moments.stream_at = status.ts
            moments.snapshot_keys = status.keys_applied
        if status.state == "stream" and not moments.live_at and status.lag_bytes == 0:
            moments.live_at = status.ts
        self.last = status


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFigures:
    """What a demo has measured. lag_*_seconds: of messages from source to target; None if there were none."""

    moments: Moments
    last: TaskStatus
    caught_up_at: float  # seconds since the epoch
    lag_p50_seconds: float | None
    lag_p99_seconds: float | None
    comparison: Comparison
    written: int
    seconds: float


def report_lines(figures: DemoFigures) -> list[str]:
    """The report, one figure a line; the differences at its end."""
    moments, last, comparison = figures.moments, figures.last, figures.comparison
    snapshot_seconds = max(moments.stream_at - moments.snapshot_at, 1e-3)
    rows = (
        ("keys", f"{moments.snapshot_keys:,} in the snapshot, {comparison.keys_target:,} compared"),
        ("bytes", f"{byte_count(last.bytes_applied)} applied"),
        ("snapshot", f"{snapshot_seconds:.1f} s, {moments.snapshot_keys / snapshot_seconds:,.0f} keys/s"),
        ("stream", f"{last.commands_applied:,} commands applied in {max(figures.caught_up_at - moments.stream_at, 0):.1f} s; "
                   f"clients wrote {figures.written:,} from before the snapshot on"),
        ("lag", f"{_lag(figures)}, {last.lag_bytes:,} bytes at the end"),
        ("differences", str(comparison.total_differences)),
        ("seconds", f"{figures.seconds:.1f} in all"),
    )  # fmt: skip
    lines = [f"{name:<12} {text}" for name, text in rows]
    return lines + [f"  {difference}" for difference in comparison.differences]


def _lag(figures: DemoFigures) -> str:
    if figures.lag_p50_seconds is None or figures.lag_p99_seconds is None:
        return "not measured"
    p50, p99 = figures.lag_p50_seconds * 1000, figures.lag_p99_seconds * 1000
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms from source to target under load"
