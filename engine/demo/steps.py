"""The steps of the mixed write load: each appends one or more commands to a Mix.

A name has one type in all databases, so no step can meet a WRONGTYPE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.demo.mix import Mix

BLOCKING_DB = 1
BLOCKING_LISTS = (b"w:block:a", b"w:block:b", b"w:block:c")
BLOCKING_ZSETS = (b"w:block:y", b"w:block:z")
# What a step can meet in a data set that changes below it. Anything else is a failure.
TOLERATED = (
    "ERR no such key",
    "BUSYGROUP",
    "NOGROUP",
    "ERR The XGROUP subcommand requires the key to exist",
)

SCRIPT = b"""
redis.call('SET', KEYS[1], ARGV[1])
redis.call('INCR', KEYS[2])
redis.call('RPUSH', KEYS[3], ARGV[1])
redis.call('LTRIM', KEYS[3], -50, -1)
return redis.call('SPOP', KEYS[4])
"""
SCRIPT_OVER_DATABASES = b"""
redis.call('APPEND', KEYS[1], ARGV[1])
redis.call('SELECT', ARGV[2])
redis.call('INCRBY', KEYS[2], 3)
"""
LIBRARY = b"""#!lua name=ferry_demo
redis.register_function('ferry_bump', function(keys, args)
  redis.call('INCRBY', keys[1], args[1])
  return redis.call('HINCRBY', keys[2], 'bumps', args[1])
end)
-- load %d
"""


def select(mix: Mix) -> None:
    """Change the database."""
    mix.select(mix.other_db())


def strings(mix: Mix) -> None:
    """SET, APPEND and the like."""
    key = mix.key("str")
    kind = mix.below(10)
    if kind < 4:
        mix.put(b"SET", key, mix.value(300))
    elif kind < 6:
        mix.put(b"APPEND", key, mix.value(12))
    elif kind == 6:
        mix.put(b"SETRANGE", key, mix.below(400), mix.value())
    elif kind == 7:
        mix.put(b"SETEX", key, 3600 + mix.below(9999), mix.value())
    elif kind == 8:
        mix.put(b"GETSET", key, mix.value())
    else:
        mix.put(b"MSET", key, mix.value(), mix.key("str"), mix.value())


def numbers(mix: Mix) -> None:
    """Count."""
    key = mix.key("num")
    kind = mix.below(4)
    if kind == 0:
        mix.put(b"INCRBYFLOAT", b"w:float:" + key, b"0.25")
    elif kind == 1:
        mix.put(b"DECRBY", key, mix.below(1000))
    else:
        mix.put(b"INCR", key)


def expiries(mix: Mix) -> None:
    """Long TTLs, set and taken away."""
    key = mix.key(("str", "hash", "list", "zset")[mix.below(4)])
    kind = mix.below(3)
    if kind == 0:
        mix.put(b"PERSIST", key)
    elif kind == 1:
        mix.put(b"PEXPIRE", key, 3_600_000 + mix.below(1 << 30))
    else:
        mix.put(b"EXPIRE", key, 3600 + mix.below(100_000))


def short_lives(mix: Mix) -> None:
    """Keys that expire while the load runs."""
    key = mix.key("px")
    ms = 200 + mix.below(2800)
    kind = mix.below(4)
    if kind == 0:
        # Whether it counts on or begins anew depends on the moment: the source decides.
        mix.put(b"INCR", key)
        mix.put(b"PEXPIRE", key, ms)
    elif kind == 1:
        key = mix.key("pxh")
        mix.put(b"HINCRBY", key, b"n", 1)
        mix.put(b"PEXPIRE", key, ms)
    else:
        mix.put(b"SET", key, mix.below(1000), b"PX", ms)


def hashes(mix: Mix) -> None:
    """Fields."""
    key = mix.key("hash")
    kind = mix.below(6)
    if kind == 0:
        mix.put(b"HDEL", key, b"f%d" % mix.below(20), b"f%d" % mix.below(20))
    elif kind < 3:
        mix.put(b"HINCRBY", key, b"n%d" % mix.below(5), mix.below(100))
    else:
        fields = (b"f%d" % mix.below(20), mix.value(), b"f%d" % mix.below(200))
        mix.put(b"HSET", key, *fields, mix.value(100))


def lists(mix: Mix) -> None:
    """Pushes, pops and trims."""
    key = mix.key("list")
    kind = mix.below(8)
    if kind < 3:
        mix.put(b"RPUSH", key, mix.value(), mix.below(1 << 30))
    elif kind == 3:
        mix.put(b"LPUSH", key, mix.value())
    elif kind == 4:
        mix.put(b"LPOP", key)
    elif kind == 5:
        mix.put(b"LTRIM", key, -40, -1)
    elif kind == 6:
        mix.put(b"RPOPLPUSH", key, mix.key("list"))
    else:
        mix.put(b"LREM", key, 1, mix.below(10))


def sets(mix: Mix) -> None:
    """Members, some taken at random."""
    key = mix.key("set")
    kind = mix.below(7)
    if kind < 3:
        mix.put(b"SADD", key, mix.below(1000), mix.below(1000))
    elif kind == 3:
        mix.put(b"SADD", key, mix.value(20))
    elif kind == 4:
        mix.put(b"SREM", key, mix.below(1000))
    elif kind == 5:
        mix.put(b"SMOVE", key, mix.key("set"), mix.below(1000))
    else:
        # Random: replicas are told what was taken.
        mix.put(b"SPOP", key, 1 + mix.below(3))


def zsets(mix: Mix) -> None:
    """Scores."""
    key = mix.key("zset")
    kind = mix.below(7)
    if kind < 3:
        score = repr(mix.random() * 100).encode()
        mix.put(b"ZADD", key, score, b"m%d" % mix.below(200), mix.below(9), mix.value(9))
    elif kind == 3:
        mix.put(b"ZINCRBY", key, b"1.5", b"m%d" % mix.below(200))
    elif kind == 4:
        mix.put(b"ZREM", key, b"m%d" % mix.below(200))
    elif kind == 5:
        mix.put(b"ZPOPMIN", key, 2)
    else:
        mix.put(b"ZREMRANGEBYRANK", key, 0, -150)


def stream_entries(mix: Mix) -> None:
    """Entries with ids that the server gives."""
    key = mix.key("stream")
    kind = mix.below(8)
    if kind == 0:
        mix.put(b"XDEL", key, mix.entry_id(key))
    elif kind == 1:
        mix.put(b"XTRIM", key, b"MAXLEN", 40)
    elif kind == 2:
        mix.put(b"XTRIM", key, b"MAXLEN", b"~", 40)
    else:
        mix.added.append((len(mix.commands), mix.db, key))
        mix.put(b"XADD", key, b"*", b"n", mix.below(1000), b"v", mix.value(30))


def stream_groups(mix: Mix) -> None:
    """Groups, deliveries and acknowledgements."""
    key = mix.key("stream")
    group = b"g%d" % mix.below(2)
    consumer = b"c%d" % mix.below(3)
    kind = mix.below(16)
    if kind < 2:
        mix.put(b"XGROUP", b"CREATE", key, group, b"0", b"MKSTREAM")
    elif kind < 8:
        read = (b"XREADGROUP", b"GROUP", group, consumer, b"COUNT", 3)
        no_ack = (b"NOACK",) if kind == 7 else ()
        mix.put(*read, *no_ack, b"STREAMS", key, b">")
    elif kind < 11:
        mix.put(b"XACK", key, group, mix.entry_id(key), mix.entry_id(key))
    elif kind < 13 and mix.has_claims:
        mix.put(b"XCLAIM", key, group, consumer, 0, mix.entry_id(key), b"RETRYCOUNT", 5)
    elif kind <= 13:
        mix.put(b"XGROUP", b"SETID", key, group, mix.entry_id(key))
    elif kind == 14:
        mix.put(b"XGROUP", b"DELCONSUMER", key, group, consumer)
    else:
        mix.put(b"XGROUP", b"DESTROY", key, group)


def other_types(mix: Mix) -> None:
    """HyperLogLog, geo, bits."""
    kind = mix.below(5)
    if kind == 0:
        mix.put(b"PFADD", mix.key("hll"), mix.value(8), mix.value(8))
    elif kind == 1:
        mix.put(b"PFMERGE", mix.key("hll"), mix.key("hll"), mix.key("hll"))
    elif kind == 2:
        place = (b"%.6f" % (mix.random() * 360 - 180), b"%.6f" % (mix.random() * 160 - 80))
        mix.put(b"GEOADD", mix.key("geo"), *place, b"p%d" % mix.below(50))
    elif kind == 3:
        mix.put(b"SETBIT", mix.key("bits"), mix.below(5000), mix.below(2))
    else:
        change = (b"INCRBY", b"u8", b"#%d" % mix.below(50), 1 + mix.below(50))
        mix.put(b"BITFIELD", mix.key("bits"), *change, b"OVERFLOW", b"SAT", *change)


def keys(mix: Mix) -> None:
    """Whole keys: renamed, moved, deleted."""
    kind = ("str", "list", "set", "hash", "zset", "stream", "geo")[mix.below(7)]
    key = mix.key(kind)
    action = mix.below(6)
    if action == 0:
        mix.put(b"RENAME", key, mix.key(kind))
    elif action == 1:
        mix.put(b"RENAMENX", key, mix.key(kind))
    elif action == 2:
        mix.put(b"MOVE", key, mix.other_db())
    elif action == 3:
        mix.put(b"UNLINK", key, mix.key(kind))
    else:
        mix.put(b"DEL", key)


def stores(mix: Mix) -> None:
    """Results stored under another name."""
    kind = mix.below(3)
    if kind == 0:
        mix.put(b"SUNIONSTORE", mix.key("set"), mix.key("set"), mix.key("set"))
    elif kind == 1:
        mix.put(b"ZUNIONSTORE", mix.key("zset"), 2, mix.key("zset"), mix.key("zset"))
    else:
        by = (b"BY", b"nosort") if mix.below(2) else (b"ALPHA", b"LIMIT", 0, 20)
        mix.put(b"SORT", mix.key("list"), *by, b"STORE", mix.key("list"))


def transaction(mix: Mix) -> None:
    """Three writes in MULTI."""
    mix.put(b"MULTI")
    mix.put(b"INCR", mix.key("num"))
    mix.put(b"APPEND", mix.key("str"), mix.value(8))
    mix.put(b"RPUSH", mix.key("list"), mix.value(20))
    mix.put(b"EXEC")


def transaction_over_databases(mix: Mix) -> None:
    """Writes in MULTI to three databases."""
    mix.put(b"MULTI")
    mix.put(b"INCR", mix.key("num"))
    mix.select(mix.other_db())
    mix.put(b"INCR", mix.key("num"))
    mix.put(b"SADD", mix.key("set"), mix.value(10))
    mix.select(mix.other_db())
    mix.put(b"APPEND", mix.key("str"), mix.value(8))
    mix.put(b"EXEC")


def scripts(mix: Mix) -> None:
    """EVAL with several writes, also to two databases."""
    value = mix.value(20)
    if mix.below(3) == 0:
        keys = (mix.key("str"), mix.key("num"))
        mix.put(b"EVAL", SCRIPT_OVER_DATABASES, 2, *keys, value, mix.other_db())
    else:
        keys = (mix.key("str"), mix.key("num"))
        more = (mix.key("list"), mix.key("set"))
        mix.put(b"EVAL", SCRIPT, 4, *keys, *more, value)


def publish(mix: Mix) -> None:
    """Not a write, yet it is in the stream to replicas."""
    mix.put(b"PUBLISH", b"w:news", mix.value())


def feed(mix: Mix) -> None:
    """Give the blocking pops something."""
    mix.select(BLOCKING_DB)
    if mix.below(3):
        name = BLOCKING_LISTS[mix.below(3)]
        mix.put(b"RPUSH", name, mix.value(), mix.value())
        mix.put(b"LTRIM", name, -500, -1)
    else:
        mix.put(b"ZADD", BLOCKING_ZSETS[mix.below(2)], mix.below(99), mix.value(9))


def copies(mix: Mix) -> None:
    """Copy to another database."""
    kind = ("str", "list", "hash", "zset", "stream")[mix.below(5)]
    # Within one kind and to another name: the server refuses to copy a key onto itself.
    names = mix.names[kind]
    at = mix.below(len(names) - 1)
    mix.put(b"COPY", names[at], names[at + 1], b"DB", mix.other_db(), b"REPLACE")


def moves(mix: Mix) -> None:
    """What 6.2 brought."""
    kind = mix.below(5)
    if kind == 0:
        mix.put(b"LMOVE", mix.key("list"), mix.key("list"), b"LEFT", b"RIGHT")
    elif kind == 1:
        mix.put(b"GETDEL", mix.key("str"))
    elif kind == 2:
        mix.put(b"GETEX", mix.key("str"), b"EX", 7200 + mix.below(1000))
    elif kind == 3:
        mix.put(b"ZRANGESTORE", mix.key("zset"), mix.key("zset"), 0, 20)
    elif mix.has_claims:
        key = mix.key("stream")
        mix.put(b"XAUTOCLAIM", key, b"g0", b"c2", 0, b"0-0", b"COUNT", 5)


def functions(mix: Mix) -> None:
    """Call a function, and load its library now and then."""
    # Before each call: the caller may have begun on an empty server.
    if mix.below(50) == 0 or mix.loads == 0:
        mix.loads += 1
        mix.put(b"FUNCTION", b"LOAD", b"REPLACE", LIBRARY % mix.loads)
    mix.put(b"FCALL", b"ferry_bump", 2, mix.key("num"), mix.key("hash"), 7)


def field_ttls(mix: Mix) -> None:
    """A TTL on a field."""
    ms = 3_600_000 + mix.below(1 << 30)
    field = b"f%d" % mix.below(20)
    mix.put(b"HPEXPIRE", mix.key("hash"), ms, b"FIELDS", 1, field)


def whole_databases(mix: Mix) -> None:
    """Empty or swap whole databases."""
    if mix.below(2):
        mix.put(b"FLUSHDB")
    else:
        mix.put(b"SWAPDB", 2, 5)


# The steps and how often each comes, of some 1000.
ALWAYS: dict[Callable[[Mix], None], int] = {
    select: 30,
    strings: 180,
    numbers: 100,
    expiries: 40,
    short_lives: 40,
    hashes: 110,
    lists: 110,
    sets: 80,
    zsets: 80,
    stream_entries: 60,
    stream_groups: 50,
    other_types: 50,
    keys: 20,
    stores: 10,
    transaction: 15,
    transaction_over_databases: 8,
    scripts: 15,
    publish: 5,
    feed: 15,
}
SINCE_6_2: dict[Callable[[Mix], None], int] = {copies: 10, moves: 30}
FUNCTIONS: dict[Callable[[Mix], None], int] = {functions: 10}
FIELD_TTLS: dict[Callable[[Mix], None], int] = {field_ttls: 15}
WHOLE_DATABASES: dict[Callable[[Mix], None], int] = {whole_databases: 1}
