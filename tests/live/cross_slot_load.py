"""Commands over several slots of every kind, on a standalone source: what one of them makes, others go on with."""

from __future__ import annotations

import random
import time
from typing import Any

import redis

from tests.live.cluster_load import ClusterLoad
from tests.servers.cluster import RunningCluster

NAMES = 14


class CrossSlotLoad(ClusterLoad):
    """Beside the plain writes, after each pipeline some of the commands here. used: how often, by name."""

    def __init__(self, side: Any, **options: Any) -> None:
        super().__init__(side, **options, is_wide=True)
        self.used: dict[str, int] = {}

    def has_used(self, commands: int, deadline_seconds: float = 60.0) -> None:
        """Wait for so many more of them."""
        wanted, deadline = sum(self.used.values()) + commands, time.monotonic() + deadline_seconds
        while sum(self.used.values()) < wanted:
            assert time.monotonic() < deadline, f"only {self.used} of {wanted} commands"
            self.has_written(1)

    def _wide(self, client: redis.Redis) -> None:
        with client.pipeline(transaction=self._rng.random() < 0.3) as pipe:
            for _ in range(self._rng.randrange(5, 25)):
                command = random_wide_command(self._rng)
                self.used[command[0]] = self.used.get(command[0], 0) + 1
                pipe.execute_command(*command)
            pipe.execute(raise_on_error=False)


def random_wide_command(rng: random.Random) -> tuple[Any, ...]:
    """Its keys are seldom in one slot. Each type has its own names, so that few commands fail at the source."""
    a, b, c = (rng.randrange(NAMES) for _ in range(3))
    m = rng.randrange(30)
    return rng.choice(
        (
            # plain ones, on the same keys
            ("INCR", f"w:n:{a}"),
            ("APPEND", f"w:s:{a}", "x"),
            ("RPUSH", f"w:l:{a}", m),
            ("LPOP", f"w:l:{a}"),
            ("SADD", f"w:u:{a}", m),
            ("SPOP", f"w:u:{a}"),
            ("ZINCRBY", f"w:z:{a}", 1, m),
            ("PFADD", f"w:p:{a}", m),
            ("GEOADD", f"w:g:{a}", 13 + m / 100, 38, m),
            ("PEXPIRE", f"w:n:{a}", 3_600_000 + m),
            ("DEL", f"w:n:{a}"),
            # exact by slot
            ("MSET", f"w:n:{a}", 1, f"w:n:{b}", 2, f"w:n:{c}", 3),
            ("MSETNX", f"w:n:{a}", 1, f"w:x:{b}:{m}", 2),
            ("DEL", f"w:u:{a}", f"w:n:{b}", f"w:l:{c}"),
            ("UNLINK", f"w:z:{a}", f"w:x:{b}:{m}"),
            ("SMOVE", f"w:u:{a}", f"w:u:{b}", m),
            # what only the source knows
            ("RENAME", f"w:n:{a}", f"w:n:{b}"),
            ("RENAME", f"w:l:{a}", f"w:l:{b}"),
            ("RENAMENX", f"w:s:{a}", f"w:s:{b}"),
            ("COPY", f"w:u:{a}", f"w:u:{b}", "REPLACE"),
            ("COPY", f"w:n:{a}", f"w:n:{b}"),
            ("RPOPLPUSH", f"w:l:{a}", f"w:l:{b}"),
            ("LMOVE", f"w:l:{a}", f"w:l:{b}", "LEFT", "RIGHT"),
            ("BLMOVE", f"w:l:{a}", f"w:l:{b}", "LEFT", "RIGHT", 0.001),
            ("BRPOPLPUSH", f"w:l:{a}", f"w:l:{b}", 1) if m == 0 else ("RPUSH", f"w:l:{c}", 1),
            ("LMPOP", 2, f"w:l:{a}", f"w:l:{b}", "LEFT"),
            ("SUNIONSTORE", f"w:u:{a}", f"w:u:{b}", f"w:u:{c}"),
            ("SINTERSTORE", f"w:u:{a}", f"w:u:{b}", f"w:u:{c}"),
            ("SDIFFSTORE", f"w:u:{a}", f"w:u:{b}", f"w:u:{c}"),
            ("ZUNIONSTORE", f"w:z:{a}", 2, f"w:z:{b}", f"w:u:{c}"),
            ("ZINTERSTORE", f"w:z:{a}", 2, f"w:z:{b}", f"w:z:{c}"),
            ("ZDIFFSTORE", f"w:z:{a}", 2, f"w:z:{b}", f"w:z:{c}"),
            ("ZRANGESTORE", f"w:z:{a}", f"w:z:{b}", 0, 9),
            ("BITOP", "XOR", f"w:b:{a}", f"w:s:{b}", f"w:b:{c}"),
            ("PFMERGE", f"w:p:{a}", f"w:p:{b}", f"w:p:{c}"),
            ("SORT", f"w:l:{a}", "STORE", f"w:l:{b}"),
            ("SORT", f"w:l:{a}", "BY", "w:n:*", "GET", "#", "STORE", f"w:l:{b}"),
            ("GEORADIUS", f"w:g:{a}", 13, 38, 30, "km", "STORE", f"w:g:{b}"),
            ("GEOSEARCHSTORE", f"w:g:{a}", f"w:g:{b}", "FROMLONLAT", 13, 38, "BYRADIUS", 30, "km"),
        )
    )


def marks(target: RunningCluster) -> list[bytes]:
    """Fields of the slots' checkpoints that name keys in doubt."""
    found = []
    for node in target.primaries():
        with node.server.client() as client:
            for key in client.scan_iter("redis-ferry:slot:*", count=5000):
                found += [it for it in client.hkeys(key) if it.startswith(b"d:")]
    return found
