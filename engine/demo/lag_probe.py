"""How long a write takes from the source to the target, seen from outside: with a stopwatch of its own.

A message published on the source goes through the replication stream like a write, and a subscriber of the
target gets it without having to poll.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from engine.demo.wire import Wire, WireError

if TYPE_CHECKING:
    from engine.endpoint import Endpoint

CHANNEL = "redis-ferry-demo:lag"
PAUSE_SECONDS = 0.02
ARRIVAL_TIMEOUT_SECONDS = 30.0


class LagProbe:
    """Measures from `start` to `stop`, in a thread of its own.

    seconds: from the sending of each message to its arrival, in order. failure: what ended the probe early.
    """

    def __init__(self, source: Endpoint, target: Endpoint) -> None:
        self.seconds: list[float] = []
        self.failure: OSError | WireError | None = None
        self._ends = source, target
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag-probe", daemon=True)

    def start(self) -> None:
        """Begin to measure."""
        self._thread.start()

    def stop(self) -> None:
        """End, behind the message that is on its way; nothing if it has not begun."""
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def quantile(self, share: float) -> float | None:
        """Seconds within which `share` (0–1) of the messages came; None if there were none."""
        if not self.seconds:
            return None
        ordered = sorted(self.seconds)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    def _run(self) -> None:
        source, target = self._ends
        try:
            with (
                Wire(source) as here,
                Wire(target, timeout_seconds=ARRIVAL_TIMEOUT_SECONDS) as there,
            ):
                there.ask("SUBSCRIBE", CHANNEL)
                while not self._is_over.wait(PAUSE_SECONDS):
                    began = time.monotonic()
                    here.ask("PUBLISH", CHANNEL, "x")
                    next(there.replies(1))
                    self.seconds.append(time.monotonic() - began)
        except (OSError, WireError) as error:
            self.failure = error
