"""A long migration under load with a fault every few seconds: `python -m tests.faults.soak --minutes 30 --seed 7`.

In the first half of the time the worker is killed too; in the second one run of it goes through everything else, and
its memory and file handles must stay flat. Exit status 1 on any difference, growth, or end that nobody asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.demo.servers import RunningServer, find_servers
from tests.faults.arena import AOF, SERVER, Arena, arena
from tests.faults.load import FaultLoad
from tests.faults.soak_faults import KILLS, WEIGHTS, Fault

RATE = 1000
GAP_SECONDS = (1.0, 5.0)
SAMPLE_SECONDS = 0.5
LINE_SECONDS = 60.0
SETTLE_SECONDS = 180.0
MIB = 1024 * 1024
# A quarter's median against another's: what one block more or less in flight may make.
RSS_SLACK_BYTES = 24 * MIB
# After a full resync the lists of keys brought before are kept for a while, two files for each of five databases.
FILES_SLACK = 16


@dataclass(slots=True)
class Sample:
    """One look at the worker. run: its number."""

    run: int
    rss_bytes: int
    open_files: int


@dataclass(slots=True)
class Findings:
    """What the soak found. failures: empty if all is well."""

    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    highest: Counter[str] = field(default_factory=Counter)
    commands: int = 0
    worker_runs: int = 0
    rss_first_bytes: int = 0
    rss_last_bytes: int = 0
    rss_max_bytes: int = 0
    files_first: int = 0
    files_last: int = 0
    failures: list[str] = field(default_factory=list)

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def growth(samples: Sequence[Sample], findings: Findings) -> None:
    """Compare the second quarter and the last of the last run of the worker; note what has grown.

    In its first minutes a worker's buffers and lists fill up to their bounds.
    """
    if not samples:
        findings.failures.append("the worker was never seen")
        return
    last_run = [it for it in samples if it.run == samples[-1].run]
    part = max(1, len(last_run) // 4)
    first, last = last_run[part : 2 * part] or last_run, last_run[-part:]
    findings.rss_max_bytes = max(it.rss_bytes for it in samples)
    findings.rss_first_bytes = int(statistics.median(it.rss_bytes for it in first))
    findings.rss_last_bytes = int(statistics.median(it.rss_bytes for it in last))
    findings.files_first = int(statistics.median(it.open_files for it in first))
    findings.files_last = int(statistics.median(it.open_files for it in last))
    if findings.rss_last_bytes > findings.rss_first_bytes + RSS_SLACK_BYTES:
        findings.failures.append("memory grows")
    if findings.files_last > findings.files_first + FILES_SLACK:
        findings.failures.append("file handles grow")


class Soak:
    """One soak in an arena. out: where the lines go."""

    def __init__(self, it: Arena, *, seconds: float, seed: int, out: Any = sys.stdout) -> None:
        self._it = it
        self._seconds = seconds
        self._rng = random.Random(seed)
        self._seed = seed
        self._out = out
        self._samples: list[Sample] = []
        self._ended = threading.Event()
        self.findings = Findings()

    def run(self) -> Findings:
        """Everything: load, faults, quiet, comparison."""
        it, findings = self._it, self.findings
        began = time.monotonic()
        it.worker.start()
        it.follows()
        sampler = threading.Thread(target=self._sample, name="soak sampler")
        sampler.start()
        try:
            with FaultLoad(it.source.endpoint, rate=RATE, seed=self._seed) as load:
                self._break_things(load, began)
                findings.commands = load.commands
            self._settle()
        except AssertionError as error:
            findings.failures.append(str(error).splitlines()[0])
            self._say(str(error))
        finally:
            self._ended.set()
            sampler.join()
        growth(self._samples, findings)
        findings.totals = it.worker.totals
        findings.highest = it.worker.highest
        findings.worker_runs = it.worker.runs
        findings.seconds = round(time.monotonic() - began, 1)
        return findings

    def log_tail(self, lines: int = 40) -> str:
        """The end of what the worker has written to stderr."""
        return "\n".join(self._it.worker.messages().splitlines()[-lines:])

    def _break_things(self, load: FaultLoad, began: float) -> None:
        next_line = began + LINE_SECONDS
        while (now := time.monotonic()) < began + self._seconds:
            if now >= next_line:
                next_line += LINE_SECONDS
                self._say(self._line(now - began, load))
            fault = self._choose(is_first_half=now < began + self._seconds / 2)
            self.findings.faults[fault.__name__] += 1
            fault(self._it, self._rng)
            self._restart_if_it_ended(fault)
            time.sleep(self._rng.uniform(*GAP_SECONDS))  # the pace of the faults

    def _choose(self, *, is_first_half: bool) -> Fault:
        weights = WEIGHTS | KILLS if is_first_half else WEIGHTS
        return self._rng.choices(list(weights), list(weights.values()))[0]

    def _restart_if_it_ended(self, fault: Fault) -> None:
        worker = self._it.worker
        if worker.is_running:
            return
        exit_status = worker.wait_for_end()
        self.findings.failures.append(
            f"the worker ended with {exit_status} after {fault.__name__}: {worker.status.get('error')}"
        )
        self._say(self.findings.failures[-1])
        worker.start()

    def _settle(self) -> None:
        it = self._it
        it.catches_up(deadline_seconds=SETTLE_SECONDS)
        it.ends_equal()

    def _line(self, seconds: float, load: FaultLoad) -> str:
        worker = self._it.worker
        last = self._samples[-1] if self._samples else Sample(0, 0, 0)
        figures = {
            "minute": round(seconds / 60, 1),
            "rss_mib": round(last.rss_bytes / MIB, 1),
            "files": last.open_files,
            "lag_bytes": worker.status.get("lag_bytes"),
            "lag_seconds": worker.status.get("lag_seconds"),
            "runs": worker.runs,
            "commands": load.commands,
            "faults": self.findings.faults.total(),
            **worker.totals,
        }
        return json.dumps(figures)

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)

    def _sample(self) -> None:
        worker = self._it.worker
        while not self._ended.wait(SAMPLE_SECONDS):
            # It may be killed between two looks.
            with contextlib.suppress(OSError, AssertionError, IndexError):
                self._samples.append(Sample(worker.runs, worker.rss_bytes, worker.open_files))


@contextlib.contextmanager
def soaking(folder: Path, *, server: str, seconds: float, seed: int) -> Iterator[Soak]:
    """Servers of its own and a soak between them."""
    with contextlib.ExitStack() as stack:

        def start(name: str, *, config: Any = None, port: int | None = None) -> RunningServer:
            return stack.enter_context(
                RunningServer(find_servers()[name], config=config, port=port)
            )

        it = stack.enter_context(
            arena(start, folder, server=server, source_config=AOF, target_config=AOF, seed=seed)
        )
        yield Soak(it, seconds=seconds, seed=seed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak and report; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--server", default=SERVER, help=f"one of {', '.join(find_servers())}")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}, server {options.server}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="redis-ferry-soak-") as folder,
        soaking(
            Path(folder), server=options.server, seconds=options.minutes * 60, seed=options.seed
        ) as soak,
    ):
        findings = soak.run()
        if findings.failures:
            print(soak.log_tail())
    print(json.dumps(findings.as_object(), indent=2))
    print("; ".join(findings.failures) or "no difference, nothing grew")
    return 1 if findings.failures else 0


if __name__ == "__main__":
    sys.exit(main())
