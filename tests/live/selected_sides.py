"""A load on both sides of a selection, and what the target must have of it, read from the source by itself.

Names begin with `app:` or `other:`. Every command is one that can be done for the `app:` keys alone. Not idempotent:
what is lost or done twice shows.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from redis import Redis
from redis.exceptions import ResponseError

from engine.demo.servers import RunningServer

KINDS = ("str", "num", "list", "set", "hash", "zset", "stream")
PER_KIND = 12
PAUSE_SECONDS = 0.002
OURS = b"redis-ferry:"
HARMLESS = ("no such key", "are the same")

State = dict[tuple[int, bytes], Any]


def state_of(server: RunningServer, dbs: range = range(16)) -> State:
    """Every key with its value and the moment it expires, ours left out."""
    found: State = {}
    for db in dbs:
        with server.client(db) as client:
            for key in client.scan_iter(count=1000):
                if not key.startswith(OURS) and (read := _value(client, key)) is not None:
                    found[db, key] = read
    return found


def _value(client: Redis, key: bytes) -> Any:
    kind = client.type(key)
    value: Any
    if kind == b"string":
        value = client.get(key)
    elif kind == b"list":
        value = client.lrange(key, 0, -1)
    elif kind == b"set":
        value = sorted(client.smembers(key))
    elif kind == b"hash":
        value = client.hgetall(key)
    elif kind == b"zset":
        value = client.zrange(key, 0, -1, withscores=True)
    elif kind == b"stream":
        value = client.xrange(key)
    else:
        return None  # it expired meanwhile
    return kind, value, client.execute_command("PEXPIRETIME", key)


class SelectedLoad:
    """`with` runs it. dbs: that it writes to; may_move: also from one into another. commands: so far."""

    def __init__(
        self,
        server: RunningServer,
        *,
        seed: int = 1,
        dbs: tuple[int, ...] = (0, 1, 2),
        selected: tuple[int, ...] = (0, 1),
        names: Callable[[int, bytes], bytes] = lambda _, name: name,
        may_move: bool = True,
    ) -> None:
        self.commands = 0
        self._server = server
        self._rng = random.Random(seed)
        self._dbs = dbs
        self._selected = selected
        self._names = names
        self._may_move = may_move
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="selected load")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Everything written has been answered on return."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def has_written(self, commands: int) -> None:
        """Wait for so many more than now."""
        wanted, deadline = self.commands + commands, time.monotonic() + 60
        while self.commands < wanted:
            assert self._failure is None, self._failure
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def _run(self) -> None:
        try:
            with self._server.client() as client:
                while not self._stop.is_set():
                    self._batch(client)
                    time.sleep(PAUSE_SECONDS)
        except BaseException as error:
            self._failure = error
            raise

    def _batch(self, client: Redis) -> None:
        rng = self._rng
        is_transaction = rng.random() < 0.3
        pipe = client.pipeline(transaction=is_transaction)
        count = rng.randrange(1, 12)
        db = rng.choice(self._dbs)
        pipe.execute_command("SELECT", db)
        for _ in range(count):
            pipe.execute_command(*self._command(db))
            if rng.random() < 0.1:
                db = rng.choice(self._dbs)
                pipe.execute_command("SELECT", db)
        for answer in pipe.execute(raise_on_error=False):
            # Not replicated either.
            if isinstance(answer, ResponseError) and not any(it in str(answer) for it in HARMLESS):
                raise answer
        self.commands += count

    def _key(self, db: int, kind: str, side: str = "") -> bytes:
        side = side or self._rng.choice(("app", "other"))
        name = f"{side}:{kind}:{self._rng.randrange(PER_KIND)}".encode()
        return self._names(db, name)

    def _command(self, db: int) -> tuple[Any, ...]:
        rng = self._rng
        kind = rng.choice(KINDS)
        key, value = self._key(db, kind), rng.randbytes(rng.randrange(1, 40))
        # From what is left out nothing may come over.
        pairs = [("app", "app"), ("app", "other"), ("other", "other")]
        first, second = rng.choice(pairs)
        name = self._key
        choices: dict[str, list[tuple[Any, ...]]] = {
            "str": [
                ("SET", key, value),
                ("APPEND", key, value),
                ("SET", key, value, "PX", rng.randrange(200, 1500)),
                ("PEXPIRE", key, rng.randrange(300, 1500)),
                ("PERSIST", key),
                ("PEXPIRE", key, 3_600_000),
                ("SET", key, value, "EX", 7200),
                ("MSET", key, value, name(db, kind), b"m", name(db, kind), value),
                ("DEL", key, name(db, kind), name(db, kind)),
                ("RENAME", name(db, kind, first), name(db, kind, second)),
                ("COPY", name(db, kind, first), name(db, kind, second), "REPLACE"),
                ("SETEX", key, 1, value),
            ],
            "num": [("INCR", key), ("INCRBY", key, 7), ("UNLINK", key, name(db, kind))],
            "list": [
                ("RPUSH", key, value, b"x"),
                ("LPOP", key),
                ("RPOPLPUSH", name(db, kind, first), name(db, kind, second)),
                ("LMOVE", name(db, kind, first), name(db, kind, second), "LEFT", "RIGHT"),
            ],
            "set": [
                ("SADD", key, value[:1], b"m"),
                ("SMOVE", name(db, kind), name(db, kind), b"m"),
                ("SUNIONSTORE", name(db, kind, "app"), name(db, kind, "app"), name(db, kind, "app")),
                ("SDIFFSTORE", name(db, kind, "other"), name(db, kind), name(db, kind)),
                ("SPOP", key),
            ],
            "hash": [("HINCRBY", key, b"f", 1), ("HSET", key, value[:2], value), ("HDEL", key, b"f")],
            "zset": [
                ("ZINCRBY", key, 1, value[:1]),
                ("ZUNIONSTORE", name(db, kind, "app"), 2, name(db, kind, "app"), name(db, kind, "app")),
                ("ZPOPMIN", key),
            ],
            "stream": [("XADD", key, "MAXLEN", "~", 50, "*", b"f", value), ("XTRIM", key, "MAXLEN", 5)],
        }  # fmt: skip
        if self._may_move and rng.random() < 0.03:
            others = [it for it in self._dbs if it != db and (db in self._selected or it not in self._selected)]  # fmt: skip
            if others:
                return "MOVE", key, rng.choice(others)
        if rng.random() < 0.005:
            return ("FLUSHDB",) if db not in self._selected else ("PUBLISH", b"c", value)
        return rng.choice(choices[kind])
