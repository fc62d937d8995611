"""One of the two servers of a comparison: its keys, and what they hold and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from engine.demo.value_forms import bulk, value_command
from engine.demo.wire import Reply, ReplyError, Wire, WireError, pack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.endpoint import Endpoint

SCAN_COUNT = 1000
NO_KEY = -2
NO_TTL = -1
# Written by the engine itself: its checkpoint.
OWN_PREFIX = b"redis-ferry:"
TIME = pack((b"TIME",))


class Expiry(NamedTuple):
    """When a key expires, in ms since the epoch of its server's clock: between the two numbers.

    Both are NO_KEY or NO_TTL if the key is not there or does not expire. Servers before 7.0 only
    say how long it still lives, so the moment is as exact as the time of the
    question is known.
    """

    earliest_ms: int
    latest_ms: int

    def gap_ms(self, other: Expiry) -> int:
        """Return by how much the two differ for certain."""
        return max(0, self.earliest_ms - other.latest_ms, other.earliest_ms - self.latest_ms)


class Side:
    """A server as a comparison sees it. send_… puts a question on the way, take_… reads its reply.

    So that both servers work at the same time, ask both before taking from one. Two connections:
    one for the names of the keys, which stay one page ahead, one for what they hold.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        """Connect.

        Raises:
            OSError: no connection. WireError: the server refused the login.
        """
        self._values = Wire(endpoint)
        try:
            self._names = Wire(endpoint)
            known = self._values.ask("COMMAND", "INFO", "PEXPIRETIME", "HPEXPIRETIME", "FUNCTION")
            version = self._values.version()
        except BaseException:
            self._values.close()
            raise
        self.has_expire_time, self.has_field_ttl, self.has_functions = (bool(it) for it in known)
        # 7.0 does not tell its replicas how many entries a group has read (t_stream.c, streamPropagateGroupID).
        self.tells_entries_read = version != (7, 0)
        self._ttl_command = b"*2\r\n" + bulk(b"PEXPIRETIME" if self.has_expire_time else b"PTTL")
        self._type_command = b"*2\r\n" + bulk(b"TYPE")
        self._value_commands: dict[bytes, tuple[bytes, bytes]] = {}
        self.now_ms = 0  # the server's clock at the last take_expiries

    def databases(self) -> set[int]:
        """Return the numbers of the databases that have keys."""
        return {int(name.removeprefix("db")) for name in self._names.facts("keyspace")}

    def select(self, db: int) -> None:
        """Go to a database."""
        for wire in (self._values, self._names):
            wire.ask("SELECT", db)

    def pages(self) -> Iterator[list[bytes]]:
        """Yield all keys of the selected database in pages, without our own and repeats."""
        seen: set[bytes] = set()  # SCAN repeats keys while a hash table changes its size
        wire = self._names
        cursor = b"0"
        wire.send(pack((b"SCAN", cursor, b"COUNT", SCAN_COUNT)))
        while True:
            (reply,) = wire.replies(1)
            cursor, names = checked(reply)
            if cursor != b"0":
                wire.send(pack((b"SCAN", cursor, b"COUNT", SCAN_COUNT)))
            page = [it for it in names if it not in seen and not it.startswith(OWN_PREFIX)]
            seen.update(page)
            if page:
                yield list(dict.fromkeys(page))
            if cursor == b"0":
                return

    def send_types(self, keys: Sequence[bytes]) -> None:
        """Ask for the type of each key."""
        command = self._type_command
        self._values.send(b"".join([command + b"$%d\r\n%b\r\n" % (len(it), it) for it in keys]))

    def take_types(self, count: int) -> list[bytes]:
        """Return a type name for each key, `none` for one that is not there."""
        return [checked(it) for it in self._values.replies(count)]

    def send_reads(self, keys: Sequence[bytes], kinds: Sequence[bytes]) -> None:
        """Ask for the expiry of each key, and for the value of each whose kind is not `none`."""
        names = [b"$%d\r\n%b\r\n" % (len(it), it) for it in keys]
        expiries = b"".join([self._ttl_command + it for it in names])
        # The expiries come first and between two looks at the clock, close to each other.
        values = b"".join(
            [
                before + name + after
                for name, kind in zip(names, kinds, strict=True)
                if kind != b"none"
                for before, after in (self._value_command(kind),)
            ]
        )
        self._values.send(TIME + expiries + TIME + values)

    def _value_command(self, kind: bytes) -> tuple[bytes, bytes]:
        command = self._value_commands.get(kind)
        if command is None:
            command = self._value_commands[kind] = value_command(kind)
        return command

    def take_expiries(self, count: int) -> list[Expiry]:
        """Return the expiry of each key."""
        before, *ttls, after = map(checked, self._values.replies(count + 2))
        self.now_ms = _milliseconds(after)
        if self.has_expire_time:
            return [Expiry(it, it) for it in ttls]
        first, last = _milliseconds(before), self.now_ms
        return [Expiry(it, it) if it < 0 else Expiry(it + first, it + last) for it in ttls]

    def take_values(self, count: int) -> list[Reply]:
        """Return the replies to the value commands, error replies among them."""
        return list(self._values.replies(count))

    def send_field_ttls(self, hashes: Sequence[tuple[bytes, Sequence[bytes]]]) -> None:
        """Ask for the expiry of the given fields of each hash."""
        self._values.send(
            b"".join(
                pack((b"HPEXPIRETIME", key, b"FIELDS", len(fields), *fields))
                for key, fields in hashes
            )
        )

    def take_field_ttls(self, count: int) -> list[list[int]]:
        """Return for each hash the ms since the epoch of each field, NO_TTL or NO_KEY."""
        return [checked(it) for it in self._values.replies(count)]

    def functions(self) -> dict[bytes, bytes]:
        """Return the code of each library of functions by its name."""
        libraries = self._values.ask("FUNCTION", "LIST", "WITHCODE")
        named = (dict(zip(it[::2], it[1::2], strict=True)) for it in libraries)
        return {it[b"library_name"]: it[b"library_code"] for it in named}

    def close(self) -> None:
        """Close both connections."""
        self._values.close()
        self._names.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def checked(reply: Reply) -> Reply:
    """Return a reply that is no error.

    Raises:
        WireError: it is one.
    """
    if isinstance(reply, ReplyError):
        raise WireError(str(reply))
    return reply


def _milliseconds(clock: list[bytes]) -> int:
    seconds, microseconds = clock
    return int(seconds) * 1000 + int(microseconds) // 1000
