"""A load in which each command counts, and which goes on when the source was away.

It is the demo's mixed workload (INCR, APPEND, RPUSH, LPOP, SETRANGE, HINCRBY, ZINCRBY, SADD, SPOP, RENAME, COPY,
XADD *, transactions and scripts over several databases, keys that expire) with two things added: counters whose TTL
is renewed long before it runs out, and a new connection whenever the old one breaks. What was sent and not answered then
is the source's affair: the target is compared with the source, not with the load.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Self

from engine.demo.wire import Wire, WireError
from engine.demo.writer import Workload
from engine.endpoint import Endpoint

KEYS_OF_A_KIND = 60
RENEWED_KEYS = 20
RENEWED_DATABASES = (0, 2)
RENEWED_TTL_MS = (
    60_000  # longer than any fault here lasts; tests/faults/test_expiry_race.py has short ones
)
LASTING_MS = 3_600_000  # given at the end, so that they are there to be compared
RENEWAL_PAUSE_SECONDS = 0.1
RETRY_SECONDS = 0.05
AWAY = ("LOADING", "MISCONF", "ERR server is shutting down", "SHUTTINGDOWN")


class FaultLoad:
    """Two threads of writes on one server. `with` runs it; `stop` returns when all is answered.

    rate: commands a second of the mixed part. commands: of that part so far. interruptions: how often
    the server went away. renewals: of the TTLs of `renew:*`, keys that never expire as long as it runs.
    """

    def __init__(self, endpoint: Endpoint, *, rate: int, seed: int = 1) -> None:
        self.interruptions = 0
        self.renewals = 0
        self._endpoint = endpoint
        self._rate = rate
        self._seed = seed
        self._stop = threading.Event()
        self._before = 0
        self._workload: Workload | None = None
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._guard, args=(run,), name="fault load")
            for run in (self._mix, self._renew)
        ]

    @property
    def commands(self) -> int:
        """Answered commands of the mixed part."""
        return self._before + (self._workload.report.commands if self._workload else 0)

    def start(self) -> Self:
        """Begin to write."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """End; raises what a thread failed with."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise self._failure

    def has_written(self, commands: int, *, deadline_seconds: float = 60.0) -> None:
        """Wait for so many commands more than now."""
        wanted = self.commands + commands
        deadline = time.monotonic() + deadline_seconds
        while self.commands < wanted:
            assert self._failure is None, self._failure
            assert time.monotonic() < deadline, f"not within {deadline_seconds:g} s: {commands}"
            time.sleep(0.005)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _guard(self, run: object) -> None:
        assert callable(run)
        try:
            while not self._stop.is_set():
                try:
                    run()
                except (OSError, WireError) as error:
                    # A server that is going, away, or not back yet; any other refusal is a mistake of this file.
                    if isinstance(error, WireError) and not str(error).startswith(AWAY):
                        raise
                    self.interruptions += 1
                    self._stop.wait(RETRY_SECONDS)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            self._failure = error

    def _mix(self) -> None:
        self._seed += 1
        self._workload = Workload(
            self._endpoint, rate=self._rate, seed=self._seed, keys=KEYS_OF_A_KIND
        )
        try:
            self._workload.run(self._stop)
        finally:
            self._before, self._workload = self.commands, None

    def _renew(self) -> None:
        rng = random.Random(self._seed)
        with Wire(self._endpoint) as wire:
            is_last = False
            while not is_last:
                is_last = self._stop.wait(RENEWAL_PAUSE_SECONDS)
                for db in RENEWED_DATABASES:
                    wire.ask("SELECT", db)
                    for number in range(RENEWED_KEYS):
                        wire.ask("INCR", f"renew:{number}")
                        wire.ask("HINCRBY", f"renew:h:{number}", "n", rng.randrange(9))
                        for key in (f"renew:{number}", f"renew:h:{number}"):
                            wire.ask("PEXPIRE", key, LASTING_MS if is_last else RENEWED_TTL_MS)
                self.renewals += 1
