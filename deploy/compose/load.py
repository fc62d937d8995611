"""Fills the source once, then keeps writing to it until it is stopped. Runs in the worker's image."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from engine.demo.dataset import fill
from engine.demo.writer import main as write
from engine.endpoint import Endpoint

ATTEMPTS, PAUSE_SECONDS = 60, 0.5


def main() -> int:
    """Wait for the source, fill it, write."""
    host, _, port = os.environ["SOURCE"].rpartition(":")
    source = Endpoint(host=host, port=int(port))
    for attempt in range(ATTEMPTS):
        try:
            fill(source, int(os.environ["KEYS"]), seed=1)
            break
        except OSError:
            if attempt + 1 == ATTEMPTS:
                raise
            time.sleep(PAUSE_SECONDS)
    Path("/tmp/filled").touch()
    return write(["--host", host, "--port", port, "--rate", os.environ["WRITES_PER_SECOND"]])


if __name__ == "__main__":
    sys.exit(main())
