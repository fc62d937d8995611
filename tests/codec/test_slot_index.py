"""What a block says of its commands' places and slots is what the router finds when it reads them itself."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec import slot_router, stream
from engine.codec.block import Block
from engine.codec.command_keys import routing_rules
from engine.codec.command_text import commands_in, encode
from engine.codec.slots import SLOTS, key_slot
from tests.codec.interpreted_form import interpreted
from tests.codec.stream_blocks import RECEIVED_MS, cut, make_plan

FORMS: dict[str, tuple[Any, Any]] = {
    "as it runs": (stream, slot_router),
    "interpreted": (interpreted("stream"), interpreted("slot_router")),
}
SHARDS = 3
MARGIN_MS = 1_000_000_000
# Their arguments are no keys, and they change what comes behind them.
ELSEWHERE = {
    b"CLUSTER",
    b"REPLCONF",
    b"MULTI",
    b"EXEC",
    b"SELECT",
    b"SWAPDB",
    b"FLUSHALL",
    b"FLUSHDB",
}

keys = st.sampled_from(
    [b"a", b"{a}b", b"c", b"{}", b"x{", b"key:1", b"a longer key with {c} in it"]
)
values = st.binary(max_size=20) | st.sampled_from([b"*1\r\n$4\r\nPING\r\n", b"\r\n"])
of_one_key = st.tuples(
    st.sampled_from([b"SET", b"set", b"APPEND", b"LPUSH", b"SADD"]), keys, values
).map(list)
rest = (
    st.tuples(st.sampled_from([b"DEL", b"UNLINK", b"PFMERGE", b"RENAME"]), keys, keys).map(list)
    | st.tuples(st.just(b"MSET"), keys, values, keys, values).map(list)
    | keys.map(lambda key: [b"SET", key, b"v", b"PX", b"5000"])
    | keys.map(lambda key: [b"PEXPIREAT", key, b"%d" % (RECEIVED_MS + 5000)])
    | keys.map(lambda key: [b"EVAL", b"return 1", b"1", key])
    | st.sampled_from([[b"PING"], [b"SELECT", b"0"], [b"PUBLISH", b"c", b"m"], [b"NOSUCH", b"a"], [b"INCR"]])
)  # fmt: skip
commands = of_one_key | of_one_key | rest
units = st.lists(
    commands.map(lambda it: [it])
    | st.lists(commands, min_size=1, max_size=4).map(lambda it: [[b"MULTI"], *it, [b"EXEC"]]),
    max_size=25,
)


def blocks_of(form: Any, chunks: Sequence[bytes], *, tells_slots: bool, is_behind: bool) -> list[Block]:  # fmt: skip
    plan = make_plan(is_transactional=False, tells_slots=tells_slots, block_bytes=150)
    transcoder = form.StreamTranscoder(plan)
    if is_behind:
        transcoder.margin_ms, transcoder.horizon_ms = MARGIN_MS, RECEIVED_MS + MARGIN_MS
    found = []
    for n, chunk in enumerate(chunks):
        transcoder.feed(chunk, RECEIVED_MS, False)
        while (block := transcoder.next_block(n % 3 == 0)) is not None:
            found.append(block)
    while (block := transcoder.next_block(True)) is not None:
        found.append(block)
    return found


def routed(form: Any, blocks: Sequence[Block], tainted: int | None, skipped: int | None) -> Any:
    """What becomes of the blocks: each slot's commands, and the commands that are events, with their block."""
    router = form.SlotRouter(b":t1:0", False)
    numbers = [router.add_queue() for _ in range(SHARDS)]
    router.place(array("i", [numbers[slot % SHARDS] for slot in range(SLOTS)]))
    if tainted is not None:
        router.tainted = bytearray(SLOTS)
        router.tainted[tainted] = 1
    if skipped is not None:
        offsets = sorted(it.offset for it in blocks)
        half = offsets[len(offsets) // 2] if offsets else 0
        router.skip = array("q", [half if slot == skipped else 0 for slot in range(SLOTS)])
    events, groups = [], {}
    for block in blocks:
        router.add(block.data, block.index)
        while router.run(block.offset):
            events.append((block.offset, router.event))
    for number in numbers:
        batch = router.take_batch(number, 1, None, -1)
        assert batch.total_replies == sum(batch.replies)
        for n, slot in enumerate(batch.slots):
            groups[slot] = list(commands_in(batch.group_data(n)))
            assert batch.replies[n] == len(groups[slot])
    return groups, events, router.skipped, router.split_transactions


@pytest.mark.parametrize("name", FORMS)
@given(
    units=units,
    places=st.lists(st.integers(0, 1 << 16), max_size=20),
    is_behind=st.booleans(),
    tainted=st.none() | keys.map(key_slot),
    skipped=st.none() | keys.map(key_slot),
)
def test_an_indexed_block_goes_where_it_goes_when_it_is_read(
    name: str,
    units: list[list[list[bytes]]],
    places: list[int],
    is_behind: bool,
    tainted: int | None,
    skipped: int | None,
) -> None:
    transcoding, routing = FORMS[name]
    wire = b"".join(encode(*command) for unit in units for command in unit)
    chunks = cut(wire, places)
    plain = blocks_of(transcoding, chunks, tells_slots=False, is_behind=is_behind)
    told = blocks_of(transcoding, chunks, tells_slots=True, is_behind=is_behind)
    assert [it.data for it in told] == [it.data for it in plain]
    assert all(it.index is None for it in plain)
    assert routed(routing, told, tainted, skipped) == routed(routing, plain, tainted, skipped)


@pytest.mark.parametrize("name", FORMS)
def test_every_name_finds_its_rule(name: str) -> None:
    """And what only looks like one: names of up to eight bytes are compared at once (slot_rules.py, rule_before_key)."""
    transcoding, routing = FORMS[name]
    known = [it.encode() for it in routing_rules()]
    names = [
        form
        for it in known
        for form in (
            it,
            it.lower(),
            it[:-1],
            it + b"X",
            it + b" ",
            it + b"\0",
            it[1:],
            it.swapcase(),
        )
        if form and form.upper() not in ELSEWHERE
    ]
    for at in range(0, len(names), 50):
        wire = b"".join(encode(it, b"a", b"1", b"c") for it in names[at : at + 50])
        plain = blocks_of(transcoding, [wire], tells_slots=False, is_behind=False)
        told = blocks_of(transcoding, [wire], tells_slots=True, is_behind=False)
        assert [it.data for it in told] == [it.data for it in plain]
        assert routed(routing, told, None, None) == routed(routing, plain, None, None)


def test_an_entry_is_a_command_and_the_rest_is_left_to_the_router() -> None:
    first, second, third = encode("SET", "a", 1), encode("DEL", "a", "b"), encode("INCR", "c")
    (block,) = blocks_of(
        stream, [first * 2 + second * 2 + third], tells_slots=True, is_behind=False
    )
    assert block.index is not None
    ends = [len(first), 2 * len(first), 2 * len(first + second), len(block.data)]
    slots = [key_slot(b"a"), key_slot(b"a"), -1, key_slot(b"c")]
    assert [(it >> 44) - 1 for it in block.index] == slots
    assert [it & ((1 << 44) - 1) for it in block.index] == ends
