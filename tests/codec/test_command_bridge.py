"""A bridged command does on a real server exactly what the command did that it stands for."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from engine.codec.bridge import ValueBridge
from engine.codec.command_bridge import bridge_command, names_to_look_at
from engine.codec.command_support import CannotBridge, CommandSupport
from engine.codec.foreign_stream import ForeignStreamTranscoder
from engine.codec.payload import payload_for
from engine.errors import UnsupportedByTarget
from tests.codec.bridge_targets import TARGETS
from tests.codec.interpreted_form import interpreted
from tests.codec.stream_blocks import RECEIVED_MS, make_plan, parse
from tests.fix_servers import StartServer

FAR = b"4102444800000"
KNOWN = frozenset(
    b"SET GET DEL EXPIREAT PEXPIREAT PEXPIRE EXPIRE PERSIST RPOPLPUSH LPOP RPOP ZPOPMIN ZPOPMAX HSET HDEL "
    b"XADD XDEL XACK XTRIM XGROUP XSETID RESTORE RPUSH BITOP GEOSEARCHSTORE SELECT PING MULTI EXEC".split()
)
FIELD_TTLS = frozenset(b"HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HPERSIST".split())


def support_of(level: tuple[int, int] = (6, 0), **changes: Any) -> CommandSupport:
    _, redis_types, valkey_types = TARGETS["redis-6.2"]
    facts: dict[str, Any] = {
        "commands": KNOWN,
        "level": level,
        "values": ValueBridge(redis_types, valkey_types, False),
        "rdb_version": 9,
    }
    return CommandSupport(**(facts | changes))


OLD = support_of()
WITH_FIELD_TTLS = support_of((7, 4), commands=KNOWN | FIELD_TTLS)
SETUP: list[list[Any]] = [
    ["SET", "s", "v"],
    ["SET", "t", "v", "PXAT", "4102444800000"],
    ["RPUSH", "l", "1", "2", "3"],
    ["ZADD", "z", "1", "a", "2", "b", "3", "c"],
    ["HSET", "h", "f", "1", "g", "2", "k", "3"],
    ["XADD", "x", "1-1", "f", "v"],
    ["XADD", "x", "2-1", "f", "v"],
    ["XADD", "x", "3-1", "f", "v"],
    ["XGROUP", "CREATE", "x", "g", "0"],
    ["XREADGROUP", "GROUP", "g", "c", "COUNT", "2", "STREAMS", "x", ">"],
    ["SET", "bits", "abc"],
]
# (the command, what the target understands)
EXACT = [
    (b"SET s w PXAT " + FAR, OLD),
    (b"SET s w XX EXAT 4102444800", OLD),
    (b"GETEX t PERSIST", OLD),
    (b"GETEX s PXAT " + FAR, OLD),
    (b"GETEX s EXAT 4102444800", OLD),
    (b"GETEX s", OLD),
    (b"GETDEL s", OLD),
    (b"LMOVE l m RIGHT LEFT", OLD),
    (b"LMPOP 1 l LEFT COUNT 2", OLD),
    (b"LMPOP 1 l RIGHT", OLD),
    (b"ZMPOP 1 z MIN COUNT 2", OLD),
    (b"ZMPOP 1 z MAX", OLD),
    (b"HGETDEL h FIELDS 2 f g", OLD),
    (b"HSETEX h FIELDS 2 f 7 n 8", OLD),
    (b"HSETEX h FXX PXAT " + FAR + b" FIELDS 2 f 7 g 8", WITH_FIELD_TTLS),
    (b"HSETEX h EXAT 4102444800 FIELDS 1 n 8", WITH_FIELD_TTLS),
    (b"HGETEX h PXAT " + FAR + b" FIELDS 1 f", WITH_FIELD_TTLS),
    (b"HGETEX h PERSIST FIELDS 1 f", WITH_FIELD_TTLS),
    (b"HGETEX h FIELDS 1 f", WITH_FIELD_TTLS),
    (b"XDELEX x KEEPREF IDS 2 1-1 2-1", OLD),
    (b"XDELEX x IDS 1 3-1", OLD),
    (b"XACKDEL x g KEEPREF IDS 2 1-1 2-1", OLD),
    (b"XADD x KEEPREF MAXLEN = 2 9-1 a b", OLD),
    (b"XTRIM x MAXLEN = 1 KEEPREF", OLD),
    (b"GEOSEARCHSTORE s missing FROMLONLAT 0 0 BYRADIUS 8 km ASC",
     support_of((6, 2), version=(6, 2, 5), source_version=(7, 0, 0))),
]  # fmt: skip


def _state(client: redis.Redis) -> dict[bytes, Any]:
    client.response_callbacks.clear()
    found = {}
    for key in client.execute_command("KEYS", "*"):
        kind = client.execute_command("TYPE", key)
        facts = [kind, client.execute_command("PEXPIRETIME", key)]
        if kind == b"hash":
            flat = client.execute_command("HGETALL", key)
            fields = flat[::2]
            times = client.execute_command("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
            facts.append(sorted(zip(fields, flat[1::2], times, strict=True)))
        elif kind == b"stream":
            facts.append(client.execute_command("XRANGE", key, "-", "+"))
            facts.append(client.execute_command("XPENDING", key, "g", "-", "+", "10", "c"))
        else:
            facts.append(client.execute_command("DUMP", key))
        found[key] = facts
    for facts in found.values():
        if facts[0] == b"stream":
            facts[-1] = [[it[0], it[1], it[3]] for it in facts[-1]]  # without the idle time
    return found


@pytest.mark.live
def test_bridged_commands_have_the_effect_of_the_original(start_server: StartServer) -> None:
    server = start_server("redis-8.2")
    for text, support in EXACT:
        words = text.split()
        bridged = bridge_command(words, support)
        assert bridged != [words], text
        with server.client(db=0) as one, server.client(db=1) as other:
            for client, commands in ((one, [words]), (other, bridged)):
                client.flushdb()
                for command in (*SETUP, *commands):
                    client.execute_command(*command)
            expected, found = _state(one), _state(other)
        assert expected == found, text


TABLE = [
    (b"SET s w IFEQ v PXAT " + FAR, support_of((7, 2)), [b"SET s w PXAT " + FAR]),
    (b"SET s w IFNE v", OLD, [b"SET s w"]),
    (b"DELEX s IFEQ v", OLD, [b"DEL s"]),
    (b"DELIFEQ s v", OLD, [b"DEL s"]),
    (b"MSETEX 2 a 1 b 2 PXAT " + FAR, support_of((7, 2)),
     [b"SET a 1 PXAT " + FAR, b"SET b 2 PXAT " + FAR]),
    (b"MSETEX 1 a 1 NX PXAT " + FAR, OLD, [b"SET a 1", b"PEXPIREAT a " + FAR]),
    (b"XGROUP SETID x g 3-1 ENTRIESREAD 3", OLD, [b"XGROUP SETID x g 3-1"]),
    (b"XGROUP CREATE x ENTRIESREAD 0 MKSTREAM ENTRIESREAD 3", OLD,
     [b"XGROUP CREATE x ENTRIESREAD 0 MKSTREAM"]),
    (b"XSETID x 3-1 ENTRIESADDED 3 MAXDELETEDID 1-1", OLD, [b"XSETID x 3-1"]),
    (b"XADD x IDMP p i 5-1 f v", OLD, [b"XADD x 5-1 f v"]),
    (b"XADD x IDMPAUTO p MAXLEN = 5 5-1 f v", OLD, [b"XADD x MAXLEN = 5 5-1 f v"]),
    (b"SPUBLISH c m", OLD, []),
    (b"XCFGSET x IDMP 5", OLD, []),
    (b"FUNCTION FLUSH", OLD, []),
    (b"FUNCTION DELETE lib", OLD, []),
    (b"HPERSIST h FIELDS 1 f", OLD, []),
    (b"HPEXPIREAT h 5 FIELDS 1 f", support_of(drops_field_ttls=True), []),
    (b"HSETEX h PXAT 5 FIELDS 1 f v", support_of(drops_field_ttls=True), [b"HSET h f v"]),
    (b"HGETEX h PX 5 FIELDS 1 f", support_of(drops_field_ttls=True), []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "support", "expected"), TABLE, ids=lambda it: it[:30] if isinstance(it, bytes) else ""
)
def test_what_a_server_here_cannot_show(
    text: bytes, support: CommandSupport, expected: list[bytes]
) -> None:
    assert [words.split() for words in expected] == bridge_command(text.split(), support)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"HPEXPIREAT h 5 FIELDS 1 f", "--field-ttls drop"),
        (b"HSETEX h PXAT 5 FIELDS 1 f v", "--field-ttls drop"),
        (b"FUNCTION LOAD x", "7.0"),
        (b"LMOVE a b LEFT LEFT", "RIGHT LEFT"),
        (b"LMPOP 2 a b LEFT", "which key"),
        (b"XDELEX x DELREF IDS 1 1-1", "DELREF"),
        (b"XACKDEL x g ACKED IDS 1 1-1", "ACKED"),
        (b"XADD x ACKED MAXLEN = 1 5-1 f v", "ACKED"),
        (b"XTRIM x MAXLEN = 1 DELREF", "DELREF"),
        (b"BITOP DIFF1 d a b", "DIFF1"),
        (b"VADD v VALUES 1 1 e", "does not know"),
        (b"COPY a b", "does not know"),
    ],
)
def test_what_has_no_equivalent_says_why(text: bytes, why: str) -> None:
    with pytest.raises(CannotBridge, match=why):
        bridge_command(text.split(), OLD)


def test_a_target_that_knows_a_command_gets_it_as_it_is() -> None:
    everything = (
        KNOWN | FIELD_TTLS | {text.split()[0] for text, _ in EXACT} | {b"XCFGSET", b"MSETEX"}
    )
    support = support_of((8, 6), commands=everything, takes_conditions=True)

    for text, _ in EXACT:
        assert bridge_command(text.split(), support) == [text.split()]
    assert names_to_look_at(support) == {b"RESTORE"}


# --- in the stream -----------------------------------------------------------------------------------------


def _encoded(*texts: bytes) -> bytes:
    return b"".join(
        b"*%d\r\n" % len(text.split())
        + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in text.split())
        for text in texts
    )


STREAM = (
    b"SELECT 3", b"SET a 1", b"SET b 2 PXAT " + FAR, b"MULTI", b"GETDEL a", b"INCR n", b"EXEC",
    b"XADD x MAXLEN = 5 5-1 f v", b"XGROUP SETID x g 3-1 ENTRIESREAD 3", b"VADD v VALUES 1 1 e",
)  # fmt: skip
KNOWS_INCR = support_of(commands=KNOWN | {b"INCR"})
FORMS = [
    pytest.param(ForeignStreamTranscoder, id="as-built"),
    pytest.param(interpreted("foreign_stream").ForeignStreamTranscoder, id="interpreted"),
]


def _transcoded(form: Any, data: bytes, *, chunk_bytes: int = 1 << 20, **plan: Any) -> Any:
    transcoder = form(make_plan(support=KNOWS_INCR, is_transactional=False, **plan))
    blocks = []
    for at in range(0, len(data), chunk_bytes):
        transcoder.feed(data[at : at + chunk_bytes], RECEIVED_MS, False)
        while (block := transcoder.next_block(True)) is not None:
            blocks.append(block)
    return transcoder, blocks


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk_bytes", [1, 50, 1 << 20])
def test_a_stream_reaches_an_old_target_in_its_words(form: Any, chunk_bytes: int) -> None:
    data = _encoded(*STREAM)

    transcoder, blocks = _transcoded(form, data, chunk_bytes=chunk_bytes, skips_refused=True)

    found = [b" ".join(it) for block in blocks for it in parse(block.data)]
    assert [it for it in found if not it.startswith(b"SELECT")] == [
        b"SET a 1", b"SET b 2", b"PEXPIREAT b " + FAR, b"MULTI", b"DEL a", b"INCR n", b"EXEC",
        b"XADD x MAXLEN = 5 5-1 f v", b"XGROUP SETID x g 3-1",
    ]  # fmt: skip
    assert sum(block.replies for block in blocks) == len(found)
    assert transcoder.offset == 1000 + len(data)
    assert transcoder.refused == [(3, b"v", "VADD", "the target does not know this command")]
    assert transcoder.bridged == 3


@pytest.mark.parametrize("form", FORMS)
def test_a_command_without_equivalent_stops_the_stream_by_name(form: Any) -> None:
    with pytest.raises(UnsupportedByTarget, match=r"VADD on key b'v' at offset \d+"):
        _transcoded(form, _encoded(*STREAM))


@pytest.mark.parametrize("form", FORMS)
def test_a_bridged_expiry_gets_its_margin_while_the_target_is_behind(form: Any) -> None:
    transcoder = form(make_plan(support=KNOWS_INCR, is_transactional=False))
    transcoder.margin_ms, transcoder.horizon_ms = 1000, 1 << 60
    transcoder.feed(_encoded(b"SET b 2 PXAT " + FAR), RECEIVED_MS, True)

    block = transcoder.next_block(True)

    assert parse(block.data)[-1] == [b"PEXPIREAT", b"b", b"%d" % (int(FAR) + 1000)]
    assert transcoder.late_keys == {(0, b"b")}


@pytest.mark.live
def test_payloads_of_a_newer_server_are_restored_by_an_older_one(start_server: StartServer) -> None:
    newer, older = start_server("redis-8.2"), start_server("redis-6.2")
    _, redis_types, valkey_types = TARGETS["redis-6.2"]
    values = ValueBridge(redis_types, valkey_types, False)
    with newer.client() as source, older.client() as target:
        for command in SETUP:
            source.execute_command(*command)
        for key in source.keys("*"):
            payload = source.dump(key)
            fit = payload_for(payload, values, rdb_version=9, takes_key_metadata=False)
            assert fit is not None
            target.restore(key, 0, fit)
        assert target.lrange("l", 0, -1) == source.lrange("l", 0, -1)
        assert target.hgetall("h") == source.hgetall("h")
        assert target.zrange("z", 0, -1, withscores=True) == source.zrange(
            "z", 0, -1, withscores=True
        )
        assert target.xrange("x") == source.xrange("x")
        assert target.xpending("x", "g") == source.xpending("x", "g")
