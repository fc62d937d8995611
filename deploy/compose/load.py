"""Fills the source once, then keeps writing to it until it is stopped. Runs in the worker's image.

Database 0 alone, and commands of one key each: the target is a cluster. Most of them are not idempotent, so that one that was
lost or applied twice would show.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import redis

from engine.demo.dataset import fill
from engine.endpoint import Endpoint

ATTEMPTS, PAUSE_SECONDS = 60, 0.5
TICK_SECONDS = 0.02
NAMES = 1000


def main() -> int:
    """Wait for the source, fill it, write."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    host, _, port = os.environ["SOURCE"].rpartition(":")
    for attempt in range(ATTEMPTS):
        try:
            keys = int(os.environ["KEYS"])
            fill(Endpoint(host=host, port=int(port)), keys, seed=1, databases=((0, 100),))
            break
        except OSError:
            if attempt + 1 == ATTEMPTS or stop.wait(PAUSE_SECONDS):
                raise
    Path("/tmp/filled").touch()
    write(redis.Redis(host=host, port=int(port)), int(os.environ["WRITES_PER_SECOND"]), stop)
    return 0


def write(source: redis.Redis, rate: int, stop: threading.Event) -> None:
    """So many commands a second, a pipeline at a time, until `stop`."""
    rng = random.Random(2)
    began, sent = time.monotonic(), 0
    while not stop.wait(TICK_SECONDS):
        due = int((time.monotonic() - began) * rate) - sent
        pipe = source.pipeline(transaction=False)
        for _ in range(due):
            pipe.execute_command(*_command(rng))
        pipe.execute()
        sent += due


def _command(rng: random.Random) -> tuple[str | int, ...]:
    name, number = rng.randrange(NAMES), rng.randrange(100)
    return rng.choice(
        (
            ("INCR", f"load:number:{name}"),
            ("APPEND", f"load:text:{name % 50}", "x"),
            ("RPUSH", f"load:list:{name}", number),
            ("LPOP", f"load:list:{name}"),
            ("HINCRBY", f"load:hash:{name}", f"field:{number % 5}", number),
            ("ZINCRBY", f"load:zset:{name}", number, f"member:{number % 5}"),
            ("SADD", f"load:set:{name}", number),
            ("SET", f"load:expiring:{name}", number, "EX", 3600),
            ("XADD", f"load:stream:{name % 20}", "MAXLEN", "~", 1000, "*", "n", number),
            ("DEL", f"load:number:{name}"),
        )
    )


if __name__ == "__main__":
    sys.exit(main())
