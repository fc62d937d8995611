"""Commands by slot: the same keys and slots as a real node tells, nothing lost, nothing reordered within a slot."""

from __future__ import annotations

import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from engine.codec.command_keys import keys_of
from engine.codec.command_table import COMMANDS
from engine.codec.command_text import commands_in, encode
from engine.codec.slot_router import SlotBatch, SlotRouter, split
from engine.codec.slots import SLOTS, key_slot, slot_tags
from tests.fix_servers import SERVER_NAMES, StartServer

SUFFIX = b":t1:0"
WORDS = [b"a", b"{t}b", b"k{", b"x{}y", b"1", b"2", b"0", b"\xff\x00", b"STREAMS", b"long" * 9]


def router(*, is_transaction: bool = True) -> SlotRouter:
    return SlotRouter(SUFFIX, is_transaction)


def batch_of(commands: list[bytes], offset: int = 100, **options: bool) -> SlotBatch:
    made = router(**options)
    made.add(b"".join(commands))
    assert not made.run(offset), made.event
    return made.take_batch(offset, None)


def groups(batch: SlotBatch) -> dict[int, list[list[bytes]]]:
    return {slot: list(commands_in(batch.group_data(n))) for n, slot in enumerate(batch.slots)}


def test_tags_have_their_slots() -> None:
    tags = slot_tags()
    assert [key_slot(tags[4 * n : 4 * n + 4]) for n in range(SLOTS)] == list(range(SLOTS))
    assert key_slot(b"redis-ferry:slot:{%b}:t1:0" % tags[4 * 77 : 4 * 77 + 4]) == 77


def test_a_group_is_a_transaction_with_its_checkpoint() -> None:
    batch = batch_of([encode("SET", "a", 1), encode("INCR", "b"), encode("APPEND", "a", 2)])
    found = groups(batch)
    slot = key_slot(b"a")
    checkpoint = router().checkpoint_key(slot)
    assert key_slot(checkpoint) == slot
    assert found[slot] == [
        [b"MULTI"],
        [b"SET", b"a", b"1"],
        [b"APPEND", b"a", b"2"],
        [b"HSET", checkpoint, b"o", b"100"],
        [b"EXEC"],
    ]
    assert list(batch.replies) == [5 if it == slot else 4 for it in batch.slots]
    assert batch.commands == 3


@given(st.lists(st.tuples(st.binary(max_size=12), st.integers(0, 9)), max_size=60))
def test_order_within_a_slot_is_that_of_the_stream(writes: list[tuple[bytes, int]]) -> None:
    batch = batch_of([encode("APPEND", key, n) for key, n in writes], is_transaction=False)
    expected: dict[int, list[list[bytes]]] = {}
    for key, n in writes:
        expected.setdefault(key_slot(key), []).append([b"APPEND", key, b"%d" % n])
    assert groups(batch) == expected
    assert sum(batch.replies) == len(writes)


@given(st.lists(st.binary(max_size=8), max_size=40), st.integers(1, 5), st.integers(0, 999))
def test_split_gives_every_group_to_the_shard_of_its_slot(
    keys: list[bytes], shards: int, seed: int
) -> None:
    rng = random.Random(seed)
    batch = batch_of([encode("INCR", key) for key in keys])
    table = array("i", [rng.randrange(shards) for _ in range(SLOTS)])
    for group in range(len(batch.slots)):
        batch.applied[group] = rng.random() < 0.2
    parts = split(batch, table)
    seen = []
    for shard, (data, replies, runs) in parts.items():
        numbers = [n for first, last in runs for n in range(first, last)]
        assert all(table[batch.slots[n]] == shard for n in numbers)
        assert data == b"".join(batch.group_data(n) for n in numbers)
        assert replies == sum(batch.replies[n] for n in numbers)
        seen += numbers
    assert sorted(seen) == [n for n in range(len(batch.slots)) if not batch.applied[n]]


def test_what_the_target_has_is_left_out() -> None:
    made = router()
    made.skip = array("q", [50 if slot == key_slot(b"a") else 0 for slot in range(SLOTS)])
    for offset, key in ((40, "a"), (45, "b"), (50, "a"), (60, "a")):
        made.add(encode("INCR", key))
        assert not made.run(offset)
    found = groups(made.take_batch(60, None))
    assert [it[1:2] for it in found[key_slot(b"a")][1:-2]] == [[b"a"]]
    assert len(found[key_slot(b"b")]) == 4
    assert made.skipped == 2


def test_every_slot_gets_its_fields_where_asked() -> None:
    made = router()
    made.add(encode("INCR", "a"))
    assert not made.run(7)
    batch = made.take_batch(7, (b"$1\r\np\r\n$6\r\nstream\r\n", 2))
    assert list(batch.slots) == list(range(SLOTS))
    found = groups(batch)
    assert found[0] == [[b"HSET", made.checkpoint_key(0), b"p", b"stream"]]
    assert found[key_slot(b"a")][-2] == [
        b"HSET",
        made.checkpoint_key(key_slot(b"a")),
        b"p",
        b"stream",
    ]


@pytest.mark.parametrize(
    "command",
    [
        ("RENAME", "a", "b"),
        ("MSET", "a", 1, "b", 2),
        ("FLUSHALL",),
        ("NOSUCH", "a"),
        ("EVAL", "x", 1, "a"),
    ],
)
def test_what_one_slot_cannot_take_is_an_event(command: tuple[str | int, ...]) -> None:
    made = router()
    made.add(encode("INCR", "c") + encode(*command) + encode("INCR", "d"))
    assert made.run(9)
    assert made.event == [str(it).encode() for it in command]
    assert not made.run(9)
    assert made.take_batch(9, None).commands == 2


def test_a_transaction_over_slots_is_split_and_counted() -> None:
    made = router()
    made.add(encode("MULTI") + encode("INCR", "a") + encode("INCR", "a") + encode("EXEC"))
    made.add(encode("MULTI") + encode("INCR", "a") + encode("INCR", "b") + encode("EXEC"))
    assert not made.run(9)
    assert made.split_transactions == 1
    assert len(groups(made.take_batch(9, None))) == 2


def random_command(name: str, rng: random.Random) -> list[bytes]:
    """Arguments that often make sense for the specifications of `name`."""
    words = [it.encode() for it in name.split("|")]
    arguments = words + [rng.choice(WORDS) for _ in range(rng.randrange(1, 16))]
    for begin, (kind, first, second, _), _ in COMMANDS[name]:
        if isinstance(begin, tuple):
            at = max(len(words), min(abs(begin[1]), len(arguments) - 2))
            if rng.random() < 0.8 and at < len(arguments):
                arguments[at] = begin[0].encode()
                del arguments[at + 3 :]
        elif kind == "keynum" and begin + first < len(arguments):
            left = len(arguments) - begin - second
            arguments[begin + first] = b"%d" % rng.randrange(1, max(left, 1) + 1)
    return arguments


@pytest.mark.live
@pytest.mark.parametrize("name", SERVER_NAMES)
def test_the_keys_are_those_that_a_real_server_tells(name: str, start_server: StartServer) -> None:
    server = start_server(name)
    rng = random.Random(5)
    with server.client() as client:
        client.response_callbacks.clear()
        known = {bytes(it[0]).decode().upper() for it in client.execute_command("COMMAND")}
        checked = set()
        for command_name in COMMANDS:
            if command_name.split("|")[0] not in known or not COMMANDS[command_name]:
                continue
            for _ in range(15):
                command = random_command(command_name, rng)
                try:
                    told = client.execute_command("COMMAND", "GETKEYS", *command)
                except ResponseError:
                    continue  # not a command that the server could run
                found = keys_of(command)
                assert found is not None
                if command_name == "GEORADIUS" and command[5:6] in ([b"STORE"], [b"STOREDIST"]):
                    continue  # the place of the unit: servers of different versions see different keys
                ours = [command[it.index] for it in found]
                assert sorted(ours) == sorted(map(bytes, told)), command
                checked.add(command_name)
    missing = {it for it in COMMANDS if it.split("|")[0] in known and COMMANDS[it]} - checked
    assert len(checked) > 110, missing
