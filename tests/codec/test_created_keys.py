"""Which keys a command may create: by examples, by what servers say of their commands, and by what they do."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import redis

from engine.codec.stream import StreamTranscoder
from tests.codec.interpreted_form import interpreted_imports
from tests.codec.recorded_keys import Recorded, record
from tests.codec.stream_blocks import START, make_plan, wire
from tests.fix_servers import BINARIES

PAIRS_OF_MANY = list(itertools.chain.from_iterable((f"k{n}", n) for n in range(5000)))

EXAMPLES: list[tuple[str, list[Any], dict[int, list[str]]]] = [
    ("set", ["SET", "k", "v"], {0: ["k"]}),
    ("any-case", ["sEt", "k", "v"], {0: ["k"]}),
    ("empty-name", ["SET", "", "v"], {0: [""]}),
    ("relative-time", ["SETEX", "k", 10, "v"], {0: ["k"]}),
    ("unknown-command", ["MODULE.NEW", "k", "v"], {0: ["k"]}),
    ("long-unknown-command", ["X" * 300, "k", "v"], {0: ["k"]}),
    ("no-argument", ["SOMETHING"], {}),
    ("del", ["DEL", "k", "l"], {}),
    ("unlink", ["UNLINK", "k"], {}),
    ("ping", ["PING"], {}),
    ("publish", ["PUBLISH", "channel", "text"], {}),
    ("rename", ["RENAME", "a", "b"], {0: ["b"]}),
    ("renamenx", ["RENAMENX", "a", "b"], {0: ["b"]}),
    ("smove", ["SMOVE", "a", "b", "m"], {0: ["b"]}),
    ("lmove", ["LMOVE", "a", "b", "LEFT", "RIGHT"], {0: ["b"]}),
    ("rpoplpush", ["RPOPLPUSH", "a", "b"], {0: ["b"]}),
    ("bitop", ["BITOP", "AND", "d", "a", "b"], {0: ["d"]}),
    ("xgroup", ["XGROUP", "CREATE", "k", "g", "$", "MKSTREAM"], {0: ["k"]}),
    ("copy", ["COPY", "a", "b"], {0: ["b"]}),
    ("copy-replace", ["COPY", "a", "b", "REPLACE"], {0: ["b"]}),
    ("copy-db", ["COPY", "a", "b", "db", 3], {3: ["b"]}),
    ("copy-replace-db", ["COPY", "a", "b", "REPLACE", "DB", 3], {3: ["b"]}),
    ("copy-of-key-db", ["COPY", "DB", "b"], {0: ["b"]}),
    ("move", ["MOVE", "a", 4], {4: ["a"]}),
    ("mset", ["MSET", "a", 1, "b", 2], {0: ["a", "b"]}),
    ("mset-many", ["MSET", *PAIRS_OF_MANY], {0: PAIRS_OF_MANY[::2]}),
    ("msetnx-many", ["MSETNX", *PAIRS_OF_MANY], {0: PAIRS_OF_MANY[::2]}),
    ("msetex", ["MSETEX", 2, "a", 1, "b", 2, "EX", 9], {0: ["a", "b"]}),
    ("json.mset", ["JSON.MSET", "a", "$", 1, "b", "$", 2], {0: ["a", "b"]}),
    ("eval", ["EVAL", "return 1", 2, "a", "b", "x"], {0: ["a", "b"]}),
    (
        "eval-many",
        ["EVAL", "return 1", 50, *(f"k{n}" for n in range(60))],
        {0: [f"k{n}" for n in range(50)]},
    ),
    ("eval-none", ["EVAL", "return 1", 0, "a"], {}),
    ("eval-too-many", ["EVAL", "return 1", 999, "a"], {0: ["a"]}),
    ("eval-no-number", ["EVAL", "return 1", "x", "a"], {}),
    ("fcall", ["FCALL", "f", 1, "a", "x"], {0: ["a"]}),
    ("sort", ["SORT", "l", "STORE", "d"], {0: ["d"]}),
    (
        "sort-far",
        ["SORT", "l", "BY", "w*", *["GET", "g*"] * 10, "ALPHA", "store", "d"],
        {0: ["d"]},
    ),
    ("sort-of-key-store", ["SORT", "STORE", "ALPHA"], {}),
    ("sort-without-key", ["SORT", "l", "STORE"], {}),
    ("georadius", ["GEORADIUS", "g", 1, 1, 1, "m", "STOREDIST", "d"], {0: ["d"]}),
    ("georadius-both", ["GEORADIUS", "g", 1, 1, 1, "m", "STORE", "d", "STOREDIST", "e"],
     {0: ["d", "e"]}),
    ("zunionstore", ["ZUNIONSTORE", "d", 2, "a", "b"], {0: ["d"]}),
    ("pfmerge", ["PFMERGE", "d", "a", "b"], {0: ["d"]}),
    ("restore", ["RESTORE", "k", 0, "payload"], {0: ["k"]}),
]  # fmt: skip
BY_NAME = pytest.mark.parametrize(
    ("command", "expected"), [it[1:] for it in EXAMPLES], ids=[it[0] for it in EXAMPLES]
)


def encoded(expected: dict[int, list[str]]) -> dict[int, list[bytes]]:
    return {db: [name.encode() for name in names] for db, names in expected.items()}


@BY_NAME
def test_the_keys_of_a_command_are_recorded_and_no_others(
    command: list[Any], expected: dict[int, list[str]]
) -> None:
    assert record(command).is_exactly(encoded(expected))


@BY_NAME
def test_chunks_of_a_few_bytes_change_nothing(
    command: list[Any], expected: dict[int, list[str]]
) -> None:
    if len(command) < 100:
        assert record(("SET", "0", ""), command, chunk_bytes=3).is_exactly(
            encoded({**expected, 0: ["0", *expected.get(0, [])]})
        )


def test_the_interpreted_form_records_the_same() -> None:
    commands = [it[1] for it in EXAMPLES]
    data = wire(*commands, ("SELECT", 5), ("SET", "x", 1), ("SWAPDB", 5, 6), ("FLUSHALL",))
    with interpreted_imports():
        from engine.codec import key_recorder, key_set, stream

        plain = Recorded(key_set.KeySet, key_recorder.KeyRecorder)
        transcoder = stream.StreamTranscoder(make_plan())
    transcoder.recorder = plain.recorder
    transcoder.feed(data, 0, False)
    while transcoder.next_block(True) is not None:
        pass
    compiled = record(*commands, ("SELECT", 5), ("SET", "x", 1), ("SWAPDB", 5, 6), ("FLUSHALL",))

    assert plain.counts() == compiled.counts()
    assert plain.events == compiled.events
    assert plain.has(b"x", 5)
    assert all(plain.has(b"k%d" % n) for n in range(5000))


def test_names_go_to_the_database_that_is_selected() -> None:
    recorded = record(
        ("SET", "a", 1), ("SELECT", 2), ("SET", "b", 1), ("MOVE", "m", 7), ("SET", "c", 1),
        ("MULTI",), ("SELECT", 0), ("SET", "d", 1), ("EXEC",), db=3,
    )  # fmt: skip

    assert recorded.is_exactly({3: [b"a"], 2: [b"b", b"c"], 7: [b"m"], 0: [b"d"]})


def test_swapdb_and_flushes_are_told_in_order_with_the_offset_behind_them() -> None:
    commands = [
        ("SET", "a", 1),
        ("SWAPDB", 0, 3),
        ("SET", "b", 1),
        ("FLUSHDB",),
        ("FLUSHALL", "ASYNC"),
    ]
    ends = [START + len(wire(*commands[: n + 1])) for n in range(len(commands))]

    recorded = record(*commands)

    assert recorded.events == [
        ("swap", 0, 3, ends[1], {0: 1}),
        ("flush", 0, ends[3], {0: 2}),
        ("flush", None, ends[4], {0: 2}),
    ]


def test_swapdb_of_a_database_with_itself_is_nothing() -> None:
    assert record(("SWAPDB", 1, 1)).events == []


def test_inline_commands_and_keep_alives_are_taken() -> None:
    recorded = Recorded()
    transcoder = StreamTranscoder(make_plan())
    transcoder.recorder = recorded.recorder
    transcoder.feed(b"\nPING\r\nselect 4\r\n" + wire(("SET", "a", 1)), 0, False)
    transcoder.next_block(True)

    assert recorded.is_exactly({4: [b"a"]})


def test_a_block_leaves_only_when_its_names_are_recorded() -> None:
    recorded = Recorded()
    transcoder = StreamTranscoder(make_plan(block_bytes=1000))
    transcoder.recorder = recorded.recorder
    transcoder.feed(wire(*(("SET", f"k{n}", "v" * 20) for n in range(2000))), 0, False)
    sent = 0
    while (block := transcoder.next_block(True)) is not None:
        sent += block.commands
        assert all(recorded.has(b"k%d" % n) for n in range(sent))

    assert sent == 2000


# ---- what servers say

CREATING = ({b"RW", b"INSERT"}, {b"RW", b"UPDATE"}, {b"OW"})
# They are said to update, and do so only to what is there: test_commands_without_a_rule proves it.
CHANGE_ONLY = {
    "expire": ["EXPIRE", "k", 100], "pexpire": ["PEXPIRE", "k", 100],
    "expireat": ["EXPIREAT", "k", 4_000_000_000], "pexpireat": ["PEXPIREAT", "k", 4_000_000_000_000],
    "persist": ["PERSIST", "k"],
    "xack": ["XACK", "k", "g", "1-1"],
    "xackdel": ["XACKDEL", "k", "g", "IDS", 1, "1-1"],
    "spop": ["SPOP", "k"],
    "migrate": None,
}  # fmt: skip


# Examples for these need more than the specification tells; DONE_BY_SERVERS and EXAMPLES have some.
NOT_READ = {"xreadgroup"}


def as_map(flat: list[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def examples_of(name: str, arity: int, specs: list[dict[bytes, Any]]) -> list[list[Any]]:
    """Commands of one, and where there may be several, of three keys, made from the key specifications."""
    made = []
    for keys in (1, 3):
        arguments: dict[int, Any] = {}
        end = abs(arity) - len(name.split("|")) + 1
        for number, spec in enumerate(specs):
            search, find = as_map(spec[b"begin_search"]), as_map(spec[b"find_keys"])
            if search[b"type"] not in (b"index", b"keyword") or find[b"type"] == b"unknown":
                continue
            details, where = as_map(search[b"spec"]), as_map(find[b"spec"])
            at = details.get(b"index")
            if at is None:
                at = max(end, 4)
                arguments[at] = details[b"keyword"]
                at += 1
            else:
                at -= len(name.split("|")) - 1
            if find[b"type"] == b"keynum":
                arguments[at + where[b"keynumidx"]] = keys
                at, step, count = at + where[b"firstkey"], where[b"keystep"], keys
            else:
                step = where[b"keystep"]
                count = 1 + where[b"lastkey"] // step if where[b"lastkey"] >= 0 else keys
            for key in range(count):
                arguments[at + key * step] = f"key{number}.{key}"
            end = max(end, at + count * step)
        words = [arguments.get(at, "1") for at in range(1, end)]
        made.append([*name.upper().split("|"), *words])
    return made


def creating(client: redis.Redis, command: list[Any]) -> set[bytes] | None:
    """The keys that the server says are written and may be made; None if it cannot read the command."""
    try:
        answer = client.execute_command("COMMAND", "GETKEYSANDFLAGS", *command)
    except redis.ResponseError as error:
        return set() if "no key arguments" in str(error) else None
    return {
        key
        for key, flags in answer
        if any(it <= {flag.upper() for flag in flags} for it in CREATING)
    }


SINCE_7 = [name for name, it in BINARIES.items() if it.version_numbers >= (7, 0, 0)]


@pytest.mark.live
@pytest.mark.parametrize("server_name", SINCE_7)
def test_every_key_that_a_server_calls_written_is_recorded(start_server, server_name: str) -> None:
    server = start_server(server_name)
    checked, missed, unread = 0, [], set()
    with server.client() as client:
        for name in ("COMMAND", "COMMAND GETKEYSANDFLAGS"):
            client.set_response_callback(name, lambda answer, **_: answer)
        listed = client.execute_command("COMMAND")
        listed += [sub for command in listed for sub in command[9]]
        for name_bytes, arity, flags, *_, specs, _subcommands in listed:
            name = name_bytes.decode().lower()
            if b"write" not in flags or not specs or name in CHANGE_ONLY:
                continue
            for command in examples_of(name, arity, [as_map(it) for it in specs]):
                keys = creating(client, command)
                if keys is None:
                    unread.add(name)
                    continue
                checked += len(keys)
                recorded = record(command)
                missed += [(command, key) for key in keys if not recorded.has_anywhere(key)]

    assert missed == []
    assert unread <= NOT_READ
    assert checked >= 120


# ---- what servers do

DONE_BY_SERVERS: list[tuple[list[list[Any]], list[Any]]] = [
    ([["SET", "a", 1]], ["RENAME", "a", "b"]),
    ([["SET", "a", 1]], ["COPY", "a", "b", "DB", 2]),
    ([["SET", "a", 1]], ["COPY", "a", "b", "REPLACE", "DB", 2]),
    ([["SET", "a", 1]], ["MOVE", "a", 2]),
    ([["RPUSH", "a", 2, 1]], ["SORT", "a", "STORE", "b"]),
    ([["RPUSH", "a", 2, 1]], ["SORT", "a", *["GET", "#"] * 8, "STORE", "b"]),
    ([["RPUSH", "a", 1]], ["RPOPLPUSH", "a", "b"]),
    ([["RPUSH", "a", 1]], ["BRPOPLPUSH", "a", "b", 1]),
    ([["RPUSH", "a", 1]], ["LMOVE", "a", "b", "LEFT", "LEFT"]),
    ([["RPUSH", "a", 1]], ["BLMOVE", "a", "b", "LEFT", "LEFT", 1]),
    ([["SADD", "a", 1]], ["SMOVE", "a", "b", 1]),
    ([["SET", "a", "x"]], ["BITOP", "NOT", "b", "a"]),
    ([], ["MSET", *PAIRS_OF_MANY]),
    ([], ["MSETNX", *PAIRS_OF_MANY]),
    ([], ["XGROUP", "CREATE", "b", "g", "$", "MKSTREAM"]),
    ([], ["XADD", "b", "1-1", "f", "v"]),
    ([["GEOADD", "a", 1, 1, "m"]], ["GEORADIUS", "a", 1, 1, 9, "km", "STORE", "b"]),
    ([["GEOADD", "a", 1, 1, "m"]], ["GEORADIUSBYMEMBER", "a", "m", 9, "km", "STOREDIST", "b"]),
    ([["GEOADD", "a", 1, 1, "m"]], ["GEOSEARCHSTORE", "b", "a", "FROMMEMBER", "m", "BYRADIUS", 9, "km"]),
    ([["ZADD", "a", 1, "m"]], ["ZUNIONSTORE", "b", 1, "a"]),
    ([["ZADD", "a", 1, "m"]], ["ZINTERSTORE", "b", 1, "a"]),
    ([["ZADD", "a", 1, "m"]], ["ZDIFFSTORE", "b", 1, "a"]),
    ([["ZADD", "a", 1, "m"]], ["ZRANGESTORE", "b", "a", 0, -1]),
    ([["SADD", "a", 1]], ["SUNIONSTORE", "b", "a"]),
    ([["SADD", "a", 1]], ["SINTERSTORE", "b", "a"]),
    ([["SADD", "a", 1]], ["SDIFFSTORE", "b", "a", "c"]),
    ([["PFADD", "a", 1]], ["PFMERGE", "b", "a"]),
    ([], ["PFADD", "b"]),
    ([], ["SETRANGE", "b", 3, "x"]),
    ([], ["SETBIT", "b", 3, 1]),
    ([], ["BITFIELD", "b", "SET", "u8", 0, 255]),
    ([], ["HINCRBYFLOAT", "b", "f", 1]),
    ([], ["ZINCRBY", "b", 1, "m"]),
    ([], ["EVAL", "for i, k in ipairs(KEYS) do redis.call('SET', k, 1) end", 30,
          *(f"s{n}" for n in range(30))]),
]  # fmt: skip


def all_keys(server: Any) -> set[tuple[int, bytes]]:
    found = set()
    for db in range(4):
        with server.client(db) as client:
            found |= {(db, key) for key in client.scan_iter()}
    return found


@pytest.mark.live
@pytest.mark.parametrize("server_name", list(BINARIES))
def test_every_key_that_a_command_makes_on_a_server_is_recorded(
    start_server, server_name: str
) -> None:
    server = start_server(server_name)
    with server.client() as client:
        for before, command in DONE_BY_SERVERS:
            client.flushall()
            for it in before:
                client.execute_command(*it)
            there = all_keys(server)
            client.execute_command(*command)
            new = all_keys(server) - there
            recorded = record(command)

            assert new, command
            assert all(recorded.has(key, db) for db, key in new), command


# Every command that nothing is recorded for, where nothing is there.
ON_NOTHING: list[list[Any]] = [
    *[it for it in CHANGE_ONLY.values() if it],
    ["DEL", "k"], ["UNLINK", "k"], ["DELEX", "k"], ["DELIFEQ", "k", "v"], ["GETDEL", "k"], ["TOUCH", "k"],
    ["LPOP", "k"], ["RPOP", "k"], ["LTRIM", "k", 0, 1], ["LREM", "k", 0, "v"],
    ["LMPOP", 1, "k", "LEFT"], ["BLPOP", "k", 0.01], ["BRPOP", "k", 0.01],
    ["BLMPOP", 0.01, 1, "k", "LEFT"], ["SREM", "k", "m"], ["HDEL", "k", "f"],
    ["HGETDEL", "k", "FIELDS", 1, "f"], ["ZREM", "k", "m"], ["ZPOPMIN", "k"], ["ZPOPMAX", "k"],
    ["ZMPOP", 1, "k", "MIN"], ["BZPOPMIN", "k", 0.01], ["BZPOPMAX", "k", 0.01],
    ["BZMPOP", 0.01, 1, "k", "MIN"], ["ZREMRANGEBYRANK", "k", 0, 1],
    ["ZREMRANGEBYSCORE", "k", 0, 1], ["ZREMRANGEBYLEX", "k", "-", "+"], ["XDEL", "k", "1-1"],
    ["XDELEX", "k", "IDS", 1, "1-1"], ["XTRIM", "k", "MAXLEN", 1], ["XREAD", "STREAMS", "k", "0"],
]  # fmt: skip


@pytest.mark.live
@pytest.mark.parametrize("server_name", list(BINARIES))
def test_commands_that_nothing_is_recorded_for_make_nothing(start_server, server_name: str) -> None:
    server = start_server(server_name)
    refusals: list[tuple[list[Any], str]] = []
    with server.client() as client:
        for command in ON_NOTHING:
            assert record(command).counts() == {}, command
            try:
                client.execute_command(*command)
            except redis.ResponseError as error:
                refusals.append((command, str(error)))
            assert client.dbsize() == 0, command

    assert all("unknown command" in text for _, text in refusals)  # an older server
    assert len(ON_NOTHING) - len(refusals) >= 20
