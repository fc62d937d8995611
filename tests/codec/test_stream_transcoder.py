"""The stream transcoder: what is copied, what is rewritten, and that each block's offset is true."""

from __future__ import annotations

import pytest

from engine.codec.stream import StreamTranscoder
from engine.errors import StreamOutOfStep
from tests.codec.stream_blocks import (
    CHECKPOINT,
    RECEIVED_MS,
    REPLID,
    START,
    apply,
    apply_all,
    make_plan,
    parse,
    transcode,
    wire,
)

AT_LEAST_ONCE = make_plan(is_transactional=False)
BOTH_PLANS = pytest.mark.parametrize(
    "plan", [make_plan(), AT_LEAST_ONCE], ids=["checkpoint", "at-least-once"]
)


def test_a_block_is_one_transaction_with_select_commands_and_checkpoint() -> None:
    stream = wire(("SELECT", 5), ("SET", "a", "1"), ("RPUSH", "l", "x", "y"))

    _, (block,) = transcode([stream])

    end = START + len(stream)
    assert parse(block.data) == [
        [b"WATCH", CHECKPOINT],
        [b"HSETNX", CHECKPOINT, b"at:3:0", b"0"],
        [b"MULTI"],
        [b"SELECT", b"5"],
        [b"SET", b"a", b"1"],
        [b"RPUSH", b"l", b"x", b"y"],
        [b"SELECT", b"0"],
        [b"HDEL", CHECKPOINT, b"at:3:0"],
        [
            b"HSET",
            CHECKPOINT,
            *b"format 1 phase stream epoch 3 replid".split(),
            REPLID.encode(),
            b"offset",
            b"%d" % end,
            *b"db 5 ledger".split(),
            b"",
            *b"margin_since 0 at:3:1 1".split(),
        ],
        [b"EXEC"],
    ]
    assert (block.replies, block.commands, block.offset, block.db) == (10, 2, end, 5)
    assert block.is_transaction


def test_without_a_checkpoint_key_a_block_has_no_transaction_of_ours() -> None:
    stream = wire(("SELECT", 5), ("SET", "a", "1"), ("MULTI",), ("INCR", "n"), ("EXEC",))

    _, (block,) = transcode([stream], AT_LEAST_ONCE)

    assert parse(block.data) == [
        [b"SELECT", b"5"],
        [b"SET", b"a", b"1"],
        [b"MULTI"],
        [b"INCR", b"n"],
        [b"EXEC"],
        [b"SELECT", b"0"],
    ]
    assert block.replies == 6
    assert not block.is_transaction


@BOTH_PLANS
def test_ordinary_commands_are_copied_byte_for_byte(plan) -> None:
    odd = b"*3\r\n$003\r\nsEt\r\n$0\r\n\r\n$4\r\n\r\n\x00\xff\r\n"  # as no client would write it

    _, (block,) = transcode([odd], plan)

    assert odd in block.data


@BOTH_PLANS
@pytest.mark.parametrize(
    "silent",
    [b"\n", b"\n\n\n", wire(("PING",)), wire(("REPLCONF", "GETACK", "*")), b"PING\r\n"],
    ids=["newline", "newlines", "ping", "getack", "inline-ping"],
)
def test_signs_of_life_move_only_the_offset(plan, silent: bytes) -> None:
    transcoder, blocks = transcode([silent], plan)

    assert blocks == []
    assert transcoder.offset == START + len(silent)
    assert not transcoder.has_open_block


def test_the_offset_behind_a_getack_is_noted() -> None:
    asked = wire(("INCR", "a"), ("replconf", "getack", "*"))

    transcoder, _ = transcode([asked + wire(("INCR", "a"))])

    assert transcoder.getack_offset == START + len(asked)


def test_pings_are_counted_and_leave_no_trace_between_commands() -> None:
    stream = wire(("INCR", "a"), ("PING",)) + b"\n" + wire(("ping",), ("INCR", "b"))

    transcoder, blocks = transcode([stream])

    assert apply_all(blocks) == [(0, [b"INCR", b"a"]), (0, [b"INCR", b"b"])]
    assert transcoder.pings == 2
    assert blocks[-1].offset == START + len(stream)


def test_the_selected_database_is_kept_over_blocks() -> None:
    transcoder = StreamTranscoder(make_plan())
    seen = []
    for commands in (
        [("SELECT", 9), ("INCR", "a")],
        [("INCR", "b")],
        [("SELECT", 0), ("INCR", "c")],
    ):
        transcoder.feed(wire(*commands), RECEIVED_MS, False)
        block = transcoder.next_block(True)
        seen.append((block.db, *apply(block).commands))

    assert seen == [(9, (9, [b"INCR", b"a"])), (9, (9, [b"INCR", b"b"])), (0, (0, [b"INCR", b"c"]))]


def test_the_stream_starts_in_the_plans_database() -> None:
    _, blocks = transcode([wire(("INCR", "a"))], make_plan(db=7))

    assert apply_all(blocks) == [(7, [b"INCR", b"a"])]
    assert apply(blocks[0]).checkpoint[b"db"] == b"7"


def test_a_select_as_2_6_writes_it_is_understood() -> None:
    stream = b"select 12\r\n" + wire(("INCR", "a")) + b"SELECT 0\r\nPING\r\n" + wire(("INCR", "b"))

    for chunks in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        transcoder, blocks = transcode(chunks)
        assert apply_all(blocks) == [(12, [b"INCR", b"a"]), (0, [b"INCR", b"b"])]
        assert transcoder.offset == START + len(stream)


def test_a_transaction_of_the_source_becomes_part_of_ours() -> None:
    stream = wire(("MULTI",), ("INCR", "a"), ("SELECT", 3), ("INCR", "b"), ("EXEC",), ("INCR", "c"))

    _, blocks = transcode([stream])

    assert apply_all(blocks) == [(0, [b"INCR", b"a"]), (3, [b"INCR", b"b"]), (3, [b"INCR", b"c"])]


@BOTH_PLANS
def test_no_block_ends_inside_a_transaction_of_the_source(plan) -> None:
    commands = [("SET", f"k{i}", "v" * 100) for i in range(2000)]
    stream = wire(("MULTI",), *commands, ("EXEC",), ("INCR", "after"))

    for size in (1000, 65536):
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        transcoder, blocks = transcode(chunks, plan, flush=[True] * len(chunks))
        assert len(blocks[0].data) > 4 * plan.block_bytes / 3
        assert blocks[0].commands >= 2000
        assert not transcoder.in_transaction


def test_an_open_transaction_is_held_until_its_exec_comes() -> None:
    transcoder = StreamTranscoder(make_plan())
    transcoder.feed(wire(("MULTI",), ("INCR", "a")), RECEIVED_MS, False)

    assert transcoder.next_block(True) is None
    assert transcoder.in_transaction

    transcoder.feed(wire(("EXEC",)), RECEIVED_MS, False)
    assert apply(transcoder.next_block(True)).commands == [(0, [b"INCR", b"a"])]


def test_messages_are_passed_on_but_not_those_of_sentinels() -> None:
    stream = wire(
        ("PUBLISH", "news", "1"),
        ("PUBLISH", "__sentinel__:hello", "10.0.0.1,26379"),
        ("SPUBLISH", "s", "2"),
    )

    transcoder, blocks = transcode([stream])

    assert apply_all(blocks) == [(0, [b"PUBLISH", b"news", b"1"]), (0, [b"SPUBLISH", b"s", b"2"])]
    assert transcoder.messages_dropped == 1


@pytest.mark.parametrize(("first", "second"), [("0", "4"), ("4", "0")])
def test_swapping_database_0_removes_the_checkpoint_that_went_with_it(
    first: str, second: str
) -> None:
    stream = wire(("SELECT", 2), ("SWAPDB", first, second), ("INCR", "a"))

    _, blocks = transcode([stream])

    assert apply_all(blocks) == [
        (2, [b"SWAPDB", first.encode(), second.encode()]),
        (4, [b"DEL", CHECKPOINT]),
        (2, [b"INCR", b"a"]),
    ]


def test_other_swaps_are_copied() -> None:
    stream = wire(("SWAPDB", 3, 4), ("SWAPDB", 0, 0))

    _, blocks = transcode([stream])

    assert apply_all(blocks) == [(0, [b"SWAPDB", b"3", b"4"]), (0, [b"SWAPDB", b"0", b"0"])]


def test_flushes_are_passed_on_and_counted() -> None:
    transcoder, blocks = transcode([wire(("FLUSHALL",), ("flushdb", "ASYNC"))])

    assert apply_all(blocks) == [(0, [b"FLUSHALL"]), (0, [b"flushdb", b"ASYNC"])]
    assert transcoder.flushes == 2
    assert blocks[0].commands == 2


PAYLOAD = b"\x00\x01a\x09\x00" + bytes(8)
AT = RECEIVED_MS + 250  # the plan's clock offset


@pytest.mark.parametrize(
    ("given_command", "expected"),
    [
        (["SETEX", "k", 10, "v"], ["SET", "k", "v", "PXAT", AT + 10_000]),
        (["psetex", "k", 10, "v"], ["SET", "k", "v", "PXAT", AT + 10]),
        (["EXPIRE", "k", 3], ["PEXPIREAT", "k", AT + 3000]),
        (["PEXPIRE", "k", 3], ["PEXPIREAT", "k", AT + 3]),
        (["EXPIRE", "k", -(1 << 50)], ["PEXPIREAT", "k", 1]),
        (["SET", "k", "v", "EX", 7], ["SET", "k", "v", "PXAT", AT + 7000]),
        (["SET", "k", "v", "px", 7], ["SET", "k", "v", "PXAT", AT + 7]),
        (["SET", "k", "v", "NX", "Px", 7, "GET"], ["SET", "k", "v", "NX", "PXAT", AT + 7, "GET"]),
        (["SET", "EX", "PX", "XX", "EX", 1], ["SET", "EX", "PX", "XX", "PXAT", AT + 1000]),
        (["GETEX", "k", "EX", 5], ["GETEX", "k", "PXAT", AT + 5000]),
        (["GETEX", "k", "PX", 5], ["GETEX", "k", "PXAT", AT + 5]),
        (["RESTORE", "k", 99, PAYLOAD], ["RESTORE", "k", AT + 99, PAYLOAD, "ABSTTL"]),
        (
            ["RESTORE", "k", 99, PAYLOAD, "REPLACE", "FREQ", 5],
            ["RESTORE", "k", AT + 99, PAYLOAD, "REPLACE", "FREQ", 5, "ABSTTL"],
        ),
    ],
    ids=lambda it: " ".join(str(word)[:8] for word in it),
)
def test_relative_times_become_absolute_by_the_moment_of_receipt(given_command, expected) -> None:
    transcoder, blocks = transcode([wire(given_command)], make_plan(clock_offset_ms=250))

    assert wire(*(command for _, command in apply_all(blocks))) == wire(expected)
    assert transcoder.rewritten == 1
    assert blocks[0].commands == 1
    assert blocks[0].offset == START + len(wire(given_command))


NOT_RELATIVE = [
    ["SET", "k", "v"],
    ["SET", "EX", "PX"],
    ["SET", "k", "EX"],
    ["SET", "k", "v", "NX"],
    ["SET", "k", "v", "KEEPTTL"],
    ["SET", "k", "v", "PXAT", 1795000000000],
    ["SET", "k", "v", "EX", "soon"],
    ["GETEX", "k", "PERSIST"],
    ["SETEX", "k", 1],
    ["EXPIREAT", "k", 1795000000],
    ["PEXPIREAT", "k", 1795000000000],
    ["EXPIRE", "k", 10, "NX"],
    ["HPEXPIREAT", "k", 1, "FIELDS", 1, "f"],
    ["RESTORE", "k", 0, PAYLOAD, "REPLACE"],
    ["RESTORE", "k", 1795000000000, PAYLOAD, "REPLACE", "absttl"],
]


@pytest.mark.parametrize("command", NOT_RELATIVE, ids=lambda it: " ".join(str(w)[:8] for w in it))
def test_commands_without_a_relative_time_stay_as_they_are(command) -> None:
    transcoder, blocks = transcode([wire(command)])

    assert wire(*(it for _, it in apply_all(blocks))) == wire(command)
    assert transcoder.rewritten == 0


def test_relative_times_stay_when_the_target_knows_no_absolute_ones() -> None:
    commands = [["SETEX", "k", 1, "v"], ["EXPIRE", "k", 1], ["SET", "k", "v", "EX", 1]]
    commands += [["GETEX", "k", "PX", 1], ["PSETEX", "k", 1, "v"], ["RESTORE", "k", 9, PAYLOAD]]

    _, blocks = transcode([wire(*commands)], make_plan(absolute_expiry=False))

    assert wire(*(command for _, command in apply_all(blocks))) == wire(*commands)


def test_blocks_end_at_the_first_command_past_their_size() -> None:
    stream = wire(*(("SET", f"key:{i}", "x" * 50) for i in range(5000)))
    plan = make_plan(block_bytes=4096)

    _, blocks = transcode([stream], plan)

    longest = len(wire(("SET", "key:9999", "x" * 50)))
    frame = len(wire(("MULTI",), ("EXEC",))) + 500  # and the checkpoint with its guard
    assert all(4096 <= len(it.data) <= 4096 + longest + frame for it in blocks[:-1])
    assert sum(it.commands for it in blocks) == 5000


def test_a_value_longer_than_a_block_is_one_block() -> None:
    stream = wire(("SET", "big", b"v" * 300_000), ("INCR", "a"))
    chunks = [stream[at : at + 1448] for at in range(0, len(stream), 1448)]

    _, blocks = transcode(chunks, make_plan(block_bytes=1024))

    assert [it.commands for it in blocks] == [1, 1]
    assert apply_all(blocks)[0][1][2] == b"v" * 300_000


GOOD = wire(("SELECT", 1), ("SET", "a", "1"))


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        (b"SET a 1\r\n", 0),
        (b"select x\r\n", 0),
        (b"PING 1\r\n", 0),
        (b"select 1" + b" " * 100, 0),
        (b"-ERR no\r\n", 0),
        (b"*0\r\n", 0),
        (b"*-1\r\n", 0),
        (b"*x\r\n", 0),
        (b"*1 \r\n", 0),
        (b"*1\n$4\r\n", 0),
        (b"*99999999999\r\n", 0),
        (b"*1\r\n:4\r\n", 4),
        (b"*1\r\n$-1\r\n", 4),
        (b"*1\r\n$9999999999999\r\n", 4),
        (b"*1\r\n$1234567890123456789\r\n", 4),
        (b"*1\r\n$4\r\nPINGxx", 4),
        (b"*2\r\n$4\r\nINCR\r\n$1\r\nab\r\n", 14),
    ],
    ids=repr,
)
def test_bytes_that_are_no_commands_are_an_error_with_their_offset(bad: bytes, where: int) -> None:
    transcoder = StreamTranscoder(make_plan())
    transcoder.feed(GOOD + bad, RECEIVED_MS, False)

    with pytest.raises(StreamOutOfStep, match=f"offset {START + len(GOOD) + where}:"):
        transcoder.next_block(True)


@pytest.mark.parametrize("text", ["", "x", "-1", "4294967296", "99999999999999999999"])
def test_a_select_without_a_database_number_is_an_error(text: str) -> None:
    with pytest.raises(StreamOutOfStep, match="SELECT without a database number"):
        transcode([wire(("SELECT", text))])


@pytest.mark.parametrize("replaces", [True, False])
def test_a_library_replaces_one_that_is_there(replaces: bool) -> None:
    sent = [
        [b"FUNCTION", b"LOAD", b"code"],
        [b"function", b"load", b"replace", b"code"],
        [b"FUNCTION", b"RESTORE", b"payload"],
        [b"FUNCTION", b"RESTORE", b"payload", b"append"],
        [b"FUNCTION", b"RESTORE", b"payload", b"FLUSH"],
        [b"FUNCTION", b"DELETE", b"lib"],
    ]

    _, blocks = transcode([wire(*sent)], make_plan(replaces_libraries=replaces))

    expected = list(sent)
    if replaces:
        expected[0] = [b"FUNCTION", b"LOAD", b"REPLACE", b"code"]
        expected[2] = expected[3] = [b"FUNCTION", b"RESTORE", b"payload", b"REPLACE"]
    (block,) = blocks
    assert [command for _, command in apply(block).commands] == expected
    assert block.commands == len(sent)
