"""Random values of every core type, each as the commands that make it. Deterministic by seed.

Sizes are on both sides of the servers' limits for compact encodings (6.2: 512 entries or 64 bytes
for a hash, 128 for a sorted set, 512 integers for a set), so that a dump has them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from engine.demo.wire import Argument

Command = tuple["Argument", ...]
HUGE_ELEMENTS = 20_000
DAY_MS = 86_400_000
_NOISE_BYTES = 1 << 20
_WORDS = (
    b"order shipped paid customer basket refund street city invoice session token cart "
).split()


class Values:
    """Makes commands for keys; one `random.Random` drives it all."""

    def __init__(self, rng: random.Random, *, field_ttls: bool = False) -> None:
        self._rng = rng
        self._random = rng.random
        self._field_ttls = field_ttls
        self._noise = rng.randbytes(_NOISE_BYTES)
        self._text = b" ".join(rng.choices(_WORDS, k=_NOISE_BYTES // 7))

    def _below(self, limit: int) -> int:
        # rng.randrange costs four times as much, and there are some ten calls a key.
        return int(self._random() * limit)

    def binary(self, size: int) -> bytes:
        """Return `size` bytes that do not compress, for sizes up to half a MiB."""
        at = self._below(_NOISE_BYTES // 2)
        return self._noise[at : at + size]

    def text(self, size: int) -> bytes:
        """Return `size` bytes that compress well, for sizes up to half a MiB."""
        at = self._below(_NOISE_BYTES // 2)
        return self._text[at : at + size]

    def _words(self, count: int, size: int) -> list[bytes]:
        """Return `count` different short byte strings of `size` bytes and a number."""
        at = self._below(_NOISE_BYTES // 2)
        noise = self._noise
        return [b"%d:%b" % (i, noise[at + i * 3 : at + i * 3 + size]) for i in range(count)]

    def string_tiny(self, key: bytes) -> list[Command]:
        """Return a SET of 0 to 20 bytes."""
        return [(b"SET", key, self.text(self._below(21)))]

    def string_text(self, key: bytes) -> list[Command]:
        """Return a SET of up to 400 bytes of text."""
        return [(b"SET", key, self.text(20 + self._below(380)))]

    def string_large(self, key: bytes) -> list[Command]:
        """Return a SET of 1 to 60 KiB: text, or bytes that LZF leaves alone."""
        make = self.text if self._random() < 0.5 else self.binary
        return [(b"SET", key, make(1024 + self._below(59 * 1024)))]

    def string_binary(self, key: bytes) -> list[Command]:
        """Return a SET of up to 120 bytes of any value."""
        return [(b"SET", key, self.binary(self._below(120)))]

    def string_number(self, key: bytes) -> list[Command]:
        """Return a SET of an integer of 8, 16, 32 or 64 bits, or of what only looks like one."""
        bits = (7, 15, 31, 63, 70)[self._below(5)]
        number = b"%d" % (self._below(1 << bits) - (1 << (bits - 1)))
        kind = self._below(12)
        if kind == 0:
            number = b"0" + number
        elif kind == 1:
            number += b".5"
        return [(b"SET", key, number)]

    def bitmap(self, key: bytes) -> list[Command]:
        """Return some SETBITs within 4 KiB and a BITFIELD."""
        bits = [(b"SETBIT", key, self._below(32768), 1) for _ in range(1 + self._below(6))]
        return [*bits, (b"BITFIELD", key, b"INCRBY", b"u16", b"#3", self._below(60000))]

    def hyperloglog(self, key: bytes) -> list[Command]:
        """Return a PFADD of a few elements (sparse) or of 3,000 (dense), and a PFCOUNT to cache."""
        count = 3000 if self._random() < 0.03 else 1 + self._below(40)
        return [(b"PFADD", key, *self._words(count, 4)), (b"PFCOUNT", key)]

    def list_small(self, key: bytes) -> list[Command]:
        """Return an RPUSH of up to 20 elements, numbers among them."""
        count = 1 + self._below(20)
        elements: list[Argument] = [self._below(1 << (8 * (i % 7))) for i in range(count // 3)]
        return [(b"RPUSH", key, *elements, *self._words(count - len(elements), 12))]

    def list_big(self, key: bytes) -> list[Command]:
        """Return pushes on both ends that need several quicklist nodes, one element over 8 KiB."""
        return [
            (b"RPUSH", key, *self._words(200 + self._below(400), 40)),
            (b"LPUSH", key, self.text(100), self.binary(9000), 17, -5, b""),
        ]

    def set_integers(self, key: bytes) -> list[Command]:
        """Return an SADD of integers of one width: an intset."""
        limit = 1 << (14, 30, 60)[self._below(3)]
        count = 1 + self._below(30)
        return [(b"SADD", key, *[self._below(limit) - limit // 2 for _ in range(count)])]

    def set_small(self, key: bytes) -> list[Command]:
        """Return an SADD of up to 20 strings."""
        return [(b"SADD", key, *self._words(1 + self._below(20), 10))]

    def set_big(self, key: bytes) -> list[Command]:
        """Return SADDs that outgrow the intset or the listpack."""
        if self._random() < 0.5:
            return [(b"SADD", key, *range(600 + self._below(300)))]
        return [(b"SADD", key, *self._words(200 + self._below(600), 8), 12345)]

    def hash_small(self, key: bytes) -> list[Command]:
        """Return an HSET like an object's: names, numbers, text; one field may have a TTL."""
        pairs: list[Argument] = [b"id", self._below(1 << 40), b"name", self.text(self._below(40))]
        for word in self._words(self._below(10), 6):
            pairs += (word, self.binary(self._below(24)))
        made: list[Command] = [(b"HSET", key, *pairs)]
        if self._field_ttls:
            ttl_ms = 3_600_000 + self._below(DAY_MS)
            made.append((b"HPEXPIRE", key, ttl_ms, b"FIELDS", 1, b"name"))
        return made

    def hash_big(self, key: bytes) -> list[Command]:
        """Return an HSET that needs a hash table: too many fields, or a value over 64 bytes."""
        if self._random() < 0.5:
            return [(b"HSET", key, b"short", 1, b"long", self.text(65 + self._below(300)))]
        fields = self._words(520 + self._below(300), 8)
        return [(b"HSET", key, *[part for field in fields for part in (field, field[:6])])]

    def zset_small(self, key: bytes) -> list[Command]:
        """Return a ZADD of up to 20 members with whole, fractional, huge and infinite scores."""
        return [(b"ZADD", key, *self._scored(1 + self._below(20)))]

    def zset_big(self, key: bytes) -> list[Command]:
        """Return a ZADD that needs a skip list."""
        return [(b"ZADD", key, *self._scored(140 + self._below(400)))]

    def _scored(self, count: int) -> Iterator[Argument]:
        for i, word in enumerate(self._words(count, 9)):
            kind = self._below(20)
            if kind == 0:
                yield (b"inf", b"-inf", b"-0.0", b"1e300", b"5e-324")[i % 5]
            elif kind < 10:
                yield self._below(100_000) - 50_000
            else:
                yield repr(self._random() * 1000).encode()
            yield word

    def geo(self, key: bytes) -> list[Command]:
        """Return a GEOADD of some places."""
        places: list[Argument] = []
        for word in self._words(1 + self._below(8), 6):
            places += (
                repr(self._random() * 360 - 180).encode(),
                repr(self._random() * 170 - 85).encode(),
                word,
            )
        return [(b"GEOADD", key, *places)]

    def stream_plain(self, key: bytes) -> list[Command]:
        """Return XADDs, with the fields of the entry before or with others, and an XDEL of some."""
        base = 1_700_000_000_000 + self._below(1 << 30)
        made: list[Command] = []
        for i in range(2 + self._below(12)):
            fields: Command = (b"user", self._below(1 << 20), b"text", self.text(self._below(50)))
            if i % 4 == 3:
                fields = (b"other%d" % i, self.binary(8))
            made.append((b"XADD", key, b"%d-%d" % (base + i // 2, i), *fields))
        if self._random() < 0.3:
            made.append((b"XDEL", key, b"%d-1" % base))
        return made

    def stream_groups(self, key: bytes) -> list[Command]:
        """Return a stream with two groups, consumers, pending, acknowledged and deleted entries."""
        made = self.stream_plain(key)
        first = made[0][2]
        made += [
            (b"XGROUP", b"CREATE", key, b"billing", b"0"),
            (b"XGROUP", b"CREATE", key, b"mail", first),
            (b"XREADGROUP", b"GROUP", b"billing", b"alice", b"COUNT", 3, b"STREAMS", key, b">"),
            (b"XREADGROUP", b"GROUP", b"billing", b"bob", b"COUNT", 2, b"STREAMS", key, b">"),
            (b"XREADGROUP", b"GROUP", b"mail", b"\x00carol", b"STREAMS", key, b">"),
            (b"XACK", key, b"billing", first),
        ]
        if self._random() < 0.3:
            # A pending entry that is not in the stream any more.
            made.append((b"XDEL", key, made[1][2]))
        return made

    def stream_empty(self, key: bytes) -> list[Command]:
        """Return a stream with a group and no entry, which never had one or lost it."""
        made: list[Command] = [(b"XGROUP", b"CREATE", key, b"g", b"$", b"MKSTREAM")]
        if self._random() < 0.5:
            made += [(b"XADD", key, b"7-7", b"a", b"b"), (b"XTRIM", key, b"MAXLEN", 0)]
        return made

    def stream_big(self, key: bytes) -> list[Command]:
        """Return a stream of several listpacks (100 entries each), the first of them cut into."""
        entries = [(b"XADD", key, b"%d-1" % (i + 1), b"n", i, b"v", b"x") for i in range(350)]
        return [
            *entries,
            (b"XTRIM", key, b"MAXLEN", 300),
            (b"XGROUP", b"CREATE", key, b"g", b"0"),
            (b"XREADGROUP", b"GROUP", b"g", b"c", b"COUNT", 150, b"STREAMS", key, b">"),
        ]

    def huge(self, key: bytes) -> list[Command]:
        """Return a list, set, hash or sorted set of HUGE_ELEMENTS elements."""
        words = self._words(HUGE_ELEMENTS, 12)
        kind = self._below(4)
        if kind == 0:
            return [(b"RPUSH", key, *words)]
        if kind == 1:
            return [(b"SADD", key, *words)]
        if kind == 2:
            return [(b"HSET", key, *[part for it in words for part in (it, it[2:])])]
        return [(b"ZADD", key, *[part for i, it in enumerate(words) for part in (i * 0.25, it)])]


# How often each kind comes, of 10,000 keys.
WEIGHTS: dict[Callable[[Values, bytes], list[Command]], int] = {
    Values.string_tiny: 1600,
    Values.string_text: 2300,
    Values.string_number: 1200,
    Values.string_binary: 500,
    Values.string_large: 20,
    Values.bitmap: 80,
    Values.hyperloglog: 100,
    Values.list_small: 900,
    Values.list_big: 8,
    Values.set_integers: 350,
    Values.set_small: 450,
    Values.set_big: 8,
    Values.hash_small: 1400,
    Values.hash_big: 20,
    Values.zset_small: 650,
    Values.zset_big: 8,
    Values.geo: 106,
    Values.stream_plain: 150,
    Values.stream_groups: 130,
    Values.stream_empty: 18,
    Values.stream_big: 2,
}
