"""Compares the data of two servers key by key, with commands only: no part of it is our codec.

Every key of every database, in both directions: type, value, TTL. What differs at the first look is
looked at again before it is reported, so a comparison at a quiet moment is exact.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from engine.demo.side import NO_KEY, NO_TTL, Expiry, Side, checked
from engine.demo.value_forms import group_difference, value_difference
from engine.demo.wire import Reply, ReplyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.endpoint import Endpoint

Kind = Literal["missing", "extra", "type", "value", "group", "ttl", "field-ttl", "function"]

REPORTED_DIFFERENCES = 100
RECHECK_KEYS = 1000
PTTL_TOLERANCE_MS = 50
NEAR_EXPIRY_MS = 1500
EXPIRY_MARGIN_MS = 50


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which a key differs. missing: not in the target; extra: not in the source.

    db is -1 for a function library, whose name is then in `key`.
    """

    db: int
    key: bytes
    kind: Kind
    detail: str

    def __str__(self) -> str:
        return f"db{self.db} {self.key!r} {self.kind}: {self.detail}"


@dataclass(slots=True)
class Comparison:
    """What compare() found. differences: the first REPORTED_DIFFERENCES of total_differences."""

    keys_source: int = 0
    keys_target: int = 0
    differences: list[Difference] = field(default_factory=list)
    total_differences: int = 0

    @property
    def is_equal(self) -> bool:
        """Whether both sides hold the same."""
        return self.total_differences == 0

    def __str__(self) -> str:
        head = (
            f"{self.keys_source} keys in the source, {self.keys_target} in the target, "
            f"{self.total_differences} differences"
        )
        return "\n".join([head, *map(str, self.differences)])


def compare(
    source: Endpoint, target: Endpoint, *, ttl_tolerance_ms: int | None = None
) -> Comparison:
    """Compare two servers (Redis 6.0 and later, Valkey).

    Keys under `redis-ferry:` are ignored. ttl_tolerance_ms: by how much expiries may differ; by
    default 0 if both servers tell them (7.0 and later), else 50, then by the servers' own clocks.
    Holds the names of all keys of one database of both sides in memory.

    Raises:
        OSError: no connection, or it broke. WireError: a server refused a command.
    """
    with Side(source) as one, Side(target) as other:
        return _Comparing(one, other, ttl_tolerance_ms).run()


@dataclass(slots=True)
class _Look:
    """What one look at a key found. ends_in_ms: until no side has it; None if it stays."""

    key: bytes
    differences: list[tuple[Kind, str]]
    ends_in_ms: int | None = None


class _Comparing:
    def __init__(self, source: Side, target: Side, ttl_tolerance_ms: int | None) -> None:
        self._source = source
        self._target = target
        if ttl_tolerance_ms is None:
            is_exact = source.has_expire_time and target.has_expire_time
            ttl_tolerance_ms = 0 if is_exact else PTTL_TOLERANCE_MS
        self._tolerance_ms = ttl_tolerance_ms
        self._found = Comparison()

    def run(self) -> Comparison:
        suspects: dict[int, list[bytes]] = {}
        for db in sorted(self._source.databases() | self._target.databases()):
            self._select(db)
            suspects[db] = [it.key for it in self._first_looks()]
        expiring: dict[int, list[bytes]] = {}
        wait_ms = 0
        for db, look in self._second_looks(suspects):
            if look.ends_in_ms is not None and look.ends_in_ms < NEAR_EXPIRY_MS:
                expiring.setdefault(db, []).append(look.key)
                wait_ms = max(wait_ms, look.ends_in_ms)
            else:
                self._report(db, look)
        if expiring:
            # A wait for a moment in time, not for a process: afterwards neither side may have it.
            time.sleep((wait_ms + EXPIRY_MARGIN_MS) / 1000)
            for db, look in self._second_looks(expiring):
                self._report(db, look)
        self._compare_functions()
        return self._found

    def _select(self, db: int) -> None:
        self._source.select(db)
        self._target.select(db)

    def _report(self, db: int, look: _Look) -> None:
        for kind, detail in look.differences:
            self._add(Difference(db, look.key, kind, detail))

    def _add(self, difference: Difference) -> None:
        self._found.total_differences += 1
        if len(self._found.differences) < REPORTED_DIFFERENCES:
            self._found.differences.append(difference)

    def _first_looks(self) -> Iterator[_Look]:
        seen: set[bytes] = set()
        for page in self._source.pages():
            self._found.keys_source += len(page)
            seen.update(page)
            yield from self._look(page)
        for page in self._target.pages():
            self._found.keys_target += len(page)
            extra = [key for key in page if key not in seen]
            if extra:
                yield from self._look(extra)

    def _second_looks(self, suspects: dict[int, list[bytes]]) -> Iterator[tuple[int, _Look]]:
        for db, keys in suspects.items():
            if keys:
                self._select(db)
            for start in range(0, len(keys), RECHECK_KEYS):
                for look in self._look(keys[start : start + RECHECK_KEYS]):
                    yield db, look

    def _look(self, keys: Sequence[bytes]) -> list[_Look]:
        """Look at keys of the selected database; return those that differ."""
        source, target = self._source, self._target
        source.send_types(keys)
        kinds = source.take_types(len(keys))
        source.send_reads(keys, kinds)
        target.send_reads(keys, kinds)
        expiries = source.take_expiries(len(keys)), target.take_expiries(len(keys))
        with_value = len(keys) - kinds.count(b"none")
        values = iter(source.take_values(with_value)), iter(target.take_values(with_value))
        looks: list[_Look] = []
        hashes: list[tuple[bytes, Sequence[bytes]]] = []
        for key, kind, ours, theirs in zip(keys, kinds, *expiries, strict=True):
            pair = (None, None) if kind == b"none" else (next(values[0]), next(values[1]))
            if NO_KEY in (ours.latest_ms, theirs.latest_ms):
                differences = self._presence(kind, ours, theirs)
            else:
                differences = self._value_differences(key, kind, *pair)
                differences += self._expiry_difference(ours, theirs)
            if differences:
                looks.append(_Look(key, differences, self._ends_in_ms(ours, theirs)))
            elif kind == b"hash" and pair[0]:
                hashes.append((key, pair[0][::2]))
        return looks + self._field_ttl_looks(hashes)

    def _ends_in_ms(self, ours: Expiry, theirs: Expiry) -> int | None:
        if NO_TTL in (ours.latest_ms, theirs.latest_ms):
            return None
        return max(ours.latest_ms - self._source.now_ms, theirs.latest_ms - self._target.now_ms, 0)

    def _presence(self, kind: bytes, ours: Expiry, theirs: Expiry) -> list[tuple[Kind, str]]:
        if ours.latest_ms == theirs.latest_ms:
            return []  # expired or deleted since SCAN, on both sides
        if theirs.latest_ms == NO_KEY:
            return [("missing", f"a {kind.decode()} in the source")]
        return [("extra", "not in the source")]

    def _value_differences(
        self, key: bytes, kind: bytes, ours: Reply, theirs: Reply
    ) -> list[tuple[Kind, str]]:
        if kind == b"none":
            return [("value", "came into being while it was looked at")]  # the second look tells
        if ours == theirs and not isinstance(ours, ReplyError):
            return []
        for reply in (ours, theirs):
            if isinstance(reply, ReplyError) and str(reply).startswith("WRONGTYPE"):
                self._target.send_types([key])
                other = self._target.take_types(1)[0].decode()
                return [("type", f"{kind.decode()} in the source, {other} in the target")]
            if reply is None or (isinstance(reply, ReplyError) and "no such key" in str(reply)):
                return [("value", "went away while it was looked at")]
        difference = value_difference(kind, checked(ours), checked(theirs))
        if difference:
            return [("value", difference)]
        if kind == b"stream":
            with_entries_read = self._source.tells_entries_read
            difference = group_difference(ours, theirs, with_entries_read=with_entries_read)
        return [("group", difference)] if difference else []

    def _expiry_difference(self, ours: Expiry, theirs: Expiry) -> list[tuple[Kind, str]]:
        if ours == theirs:
            return []
        if ours.latest_ms < 0 or theirs.latest_ms < 0:
            having, side = (ours, "source") if ours.latest_ms >= 0 else (theirs, "target")
            return [("ttl", f"expires only in the {side}, at {having.latest_ms} ms")]
        gap_ms = ours.gap_ms(theirs)
        if gap_ms <= self._tolerance_ms:
            return []
        later = "later" if theirs.earliest_ms > ours.latest_ms else "earlier"
        return [("ttl", f"expires {gap_ms} ms {later} in the target, source {ours.latest_ms} ms")]

    def _field_ttl_looks(self, hashes: Sequence[tuple[bytes, Sequence[bytes]]]) -> list[_Look]:
        if not (self._source.has_field_ttl and self._target.has_field_ttl and hashes):
            return []
        self._source.send_field_ttls(hashes)
        self._target.send_field_ttls(hashes)
        looks: list[_Look] = []
        both = self._source.take_field_ttls(len(hashes)), self._target.take_field_ttls(len(hashes))
        for (key, fields), ours, theirs in zip(hashes, *both, strict=True):
            if ours == theirs:
                continue
            for name, our_ms, their_ms in zip(fields, ours, theirs, strict=True):
                is_near = (
                    min(our_ms, their_ms) >= 0 and abs(our_ms - their_ms) <= self._tolerance_ms
                )
                if our_ms != their_ms and not is_near:
                    detail = f"field {name!r} expires at {our_ms} ms, target {their_ms} ms"
                    looks.append(_Look(key, [("field-ttl", detail)]))
                    break
        return looks

    def _compare_functions(self) -> None:
        if not (self._source.has_functions and self._target.has_functions):
            return
        ours, theirs = self._source.functions(), self._target.functions()
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                where = (
                    "missing" if name not in theirs else "extra" if name not in ours else "other"
                )
                self._add(Difference(-1, name, "function", f"{where} in the target"))
