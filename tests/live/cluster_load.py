"""Writes that are not idempotent, on a cluster or a server: each lost, doubled or reordered one shows in the end."""

from __future__ import annotations

import random
import threading
import time
from typing import Any, Self

import redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisError

from engine.demo.servers import RunningServer
from tests.fix_servers import HASH_FIELD_TTL
from tests.servers.cluster import RunningCluster

KEYS = 400
GROUPS_SHARE = 0.1


class ClusterLoad:
    """One thread of small pipelines. commands: answered. interruptions: pipelines that failed.

    is_wide: also commands and transactions over several slots, for a source that is no cluster. has_groups: also groups that
    read from streams, of which no notification tells.
    """

    def __init__(
        self,
        side: RunningServer | RunningCluster,
        *,
        rate: int = 2000,
        seed: int = 1,
        is_wide: bool = False,
        has_groups: bool = True,
    ) -> None:
        self._side = side
        self._rate = rate
        self._rng = random.Random(seed)
        self._is_wide = is_wide
        self._has_groups = has_groups
        server = side if isinstance(side, RunningServer) else side.nodes[0].server
        # A cluster's client asks about commands that the server does not know, each time.
        since = HASH_FIELD_TTL[server.binary.product]
        self._has_field_ttls = server.binary.version_numbers >= since
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._guard, name="cluster load")
        self._failure: BaseException | None = None
        self.commands = 0
        self.interruptions = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive() or self._thread.ident is not None:
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def has_written(self, commands: int, deadline_seconds: float = 60.0) -> None:
        wanted, deadline = self.commands + commands, time.monotonic() + deadline_seconds
        while self.commands < wanted:
            assert self._failure is None, self._failure
            assert time.monotonic() < deadline, f"only {self.commands} of {wanted} commands"
            time.sleep(0.005)

    def _guard(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._run()
                except (RedisError, OSError):
                    self.interruptions += 1
                    self._stop.wait(0.05)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            self._failure = error

    def _client(self) -> Any:
        if isinstance(self._side, RunningServer):
            return self._side.client()
        ports = [it.server.port for it in self._side.running]
        return RedisCluster(host="127.0.0.1", port=ports[0], protocol=2, socket_timeout=2)

    def _run(self) -> None:
        client = self._client()
        try:
            began, sent = time.monotonic(), 0
            while not self._stop.is_set():
                due = int((time.monotonic() - began) * self._rate) - sent
                if due < 20:
                    time.sleep(0.005)
                    continue
                batch = [self._command() for _ in range(min(due, 100))]
                pipe = (
                    client.pipeline(transaction=False)
                    if isinstance(client, redis.Redis)
                    else client.pipeline()
                )
                for command in batch:
                    pipe.execute_command(*command)
                pipe.execute(raise_on_error=False)
                sent += len(batch)
                self.commands += len(batch)
                if self._is_wide:
                    self._wide(client)
        finally:
            client.close()

    def _command(self) -> tuple[Any, ...]:
        rng = self._rng
        n = rng.randrange(KEYS)
        if self._has_groups and rng.random() < GROUPS_SHARE:
            return rng.choice(
                (
                    ("XGROUP", "CREATE", f"x:{n % 20}", "g", "0", "MKSTREAM"),
                    ("XREADGROUP", "GROUP", "g", f"c{n % 3}", "COUNT", 2, "STREAMS", f"x:{n % 20}", ">"),
                )
            )  # fmt: skip
        return rng.choice(
            (
                ("INCR", f"n:{n}"),
                ("APPEND", f"s:{n % 40}", "x"),
                ("RPUSH", f"l:{n}", rng.randrange(1000)),
                ("LPOP", f"l:{n}"),
                ("HINCRBY", f"h:{n}", f"f{rng.randrange(5)}", 1),
                ("ZINCRBY", f"z:{n}", 1, f"m{rng.randrange(5)}"),
                ("SADD", f"set:{n}", rng.randrange(100)),
                ("SPOP", f"set:{n}"),
                ("XADD", f"x:{n % 20}", "*", "f", rng.randrange(1000)),
                ("HPEXPIRE", f"h:{n}", 3_600_000 + n, "FIELDS", 1, f"f{rng.randrange(5)}")
                if self._has_field_ttls
                else ("PERSIST", f"e:{n}"),
                ("SETEX", f"e:{n}", 3600, rng.randrange(1000)),
                ("DEL", f"d:{n}"),
                ("INCR", f"d:{n}"),
                ("RENAME", f"{{t{n % 9}}}a", f"{{t{n % 9}}}b"),
                ("INCR", f"{{t{n % 9}}}a"),
            )
        )

    def _wide(self, client: Any) -> None:
        rng = self._rng
        a, b, c = (f"w:{rng.randrange(12)}" for _ in range(3))
        with client.pipeline(transaction=True) as pipe:
            pipe.incr(f"n:{a}")
            pipe.incr(f"n:{b}")
            pipe.execute()
        client.mset({f"m:{a}": 1, f"m:{b}": 2})
        client.delete(f"m:{c}", f"n:{c}")
        client.sadd(f"u:{a}", rng.randrange(20))
        client.execute_command(
            *rng.choice(
                (
                    ("SUNIONSTORE", f"u:{b}", f"u:{a}", f"u:{c}"),
                    ("SMOVE", f"u:{a}", f"u:{b}", rng.randrange(20)),
                    ("COPY", f"u:{a}", f"u:{c}", "REPLACE"),
                )
            )
        )
