"""Makes one cluster of the nodes that the command line names, and waits until it serves. Runs in the worker's image."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable

import redis

SLOTS = 16384
DEADLINE_SECONDS, PAUSE_SECONDS = 60, 0.2


def main() -> int:
    """Give each node its share of the slots, unless it has one, and make them known to each other."""
    names = sys.argv[1:]
    nodes = [_connected(name) for name in names]
    for number, node in enumerate(nodes):
        if not int(_info(node)["cluster_slots_assigned"]):
            first, last = (SLOTS * at // len(nodes) for at in (number, number + 1))
            node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
    for name in names[1:]:
        host, _, port = name.rpartition(":")
        # Nodes know each other by address, not by name.
        nodes[0].execute_command("CLUSTER", "MEET", socket.gethostbyname(host), port)
    _wait(lambda: all(_serves(node, len(nodes)) for node in nodes), "the cluster serves")
    return 0


def _connected(name: str) -> redis.Redis:
    host, _, port = name.rpartition(":")
    node = redis.Redis(host=host, port=int(port), socket_timeout=5)
    _wait(lambda: _answers(node), f"{name} answers")
    return node


def _answers(node: redis.Redis) -> bool:
    try:
        return bool(node.ping())
    except redis.RedisError:
        return False


def _info(node: redis.Redis) -> dict[str, str]:
    return dict(node.cluster("info"))


def _serves(node: redis.Redis, count: int) -> bool:
    info = _info(node)
    return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == count


def _wait(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_true():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {DEADLINE_SECONDS} s: {what}")
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
