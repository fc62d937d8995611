"""The reader of the paced part of `stream`, a process of its own: `python -m benchmarks.subscriber PORT`.

It subscribes to the writer's channel, prints `ready`, and after the writer's last message a JSON object:
microseconds from the sending of each message to its arrival here, in order of arrival.
"""

from __future__ import annotations

import json
import socket
import sys
import time

import hiredis

from benchmarks.data_sets import resp
from benchmarks.writes import CHANNEL, LAST_MESSAGE

TIMEOUT_SECONDS = 120.0


def main() -> None:
    """Measure until the last message."""
    latencies: list[float] = []
    reader = hiredis.Reader()
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.sendall(resp(b"SUBSCRIBE", CHANNEL))
        is_over = False
        while not is_over:
            received = connection.recv(65536)
            if not received:
                raise ConnectionError("the server closed the connection")
            now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            reader.feed(received)
            while (message := reader.gets()) is not False:
                if message[0] == b"subscribe":
                    sys.stdout.write("ready\n")
                    sys.stdout.flush()
                elif message[2] == LAST_MESSAGE:
                    is_over = True
                else:
                    latencies.append((now_ns - int(message[2])) / 1000)
    sys.stdout.write(json.dumps({"latencies_us": latencies}) + "\n")


if __name__ == "__main__":
    main()
