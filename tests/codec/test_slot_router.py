"""Commands by slot: the same keys and slots as a real node tells, nothing lost, nothing reordered within a slot."""

from __future__ import annotations

from array import array

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from engine.codec.command_keys import keys_of
from engine.codec.command_table import COMMANDS, KEYLESS
from engine.codec.command_text import commands_in, encode
from engine.codec.slot_router import HELD_QUEUE, SlotBatch, SlotRouter
from engine.codec.slots import SLOTS, key_slot, slot_tags
from tests.fix_servers import SERVER_NAMES, StartServer
from tests.servers.provider import provider

SUFFIX = b":t1:0"
# 7.0 answers GETKEYS only about commands of two words and more.
TOO_FEW_TO_ASK = "for 'command|getkeys'"
NO_KEYS = "The command has no key arguments"  # server.c, getKeysSubcommandImpl
# Sent to a slot by an argument that servers call no key (CMD_KEY_NOT_KEY): a shard's channel, a cursor.
BY_NO_KEY = {"SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE", "CLUSTERSCAN"}
NOT_FOR_A_NODE = ([b"MULTI"], [b"EXEC"], [b"SELECT", b"0"])  # the router keeps these to itself
WORDS = [b"a", b"{t}b", b"k{", b"x{}y", b"1", b"2", b"0", b"\xff\x00", b"STREAMS", b"long" * 9]


def router(*, is_transaction: bool = True, shards: int = 1) -> SlotRouter:
    made = SlotRouter(SUFFIX, is_transaction)
    numbers = [made.add_queue() for _ in range(shards)]
    made.place(array("i", [numbers[slot % shards] for slot in range(SLOTS)]))
    return made


def batch_of(commands: list[bytes], offset: int = 100, **options: bool) -> SlotBatch:
    made = router(**options)
    made.add(b"".join(commands), None)
    assert not made.run(offset), made.event
    return made.take_batch(1, offset, None, -1)


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
    assert batch.total_replies == sum(batch.replies)


@given(st.lists(st.tuples(st.binary(max_size=12), st.integers(0, 9)), max_size=60))
def test_order_within_a_slot_is_that_of_the_stream(writes: list[tuple[bytes, int]]) -> None:
    batch = batch_of([encode("APPEND", key, n) for key, n in writes], is_transaction=False)
    expected: dict[int, list[list[bytes]]] = {}
    for key, n in writes:
        expected.setdefault(key_slot(key), []).append([b"APPEND", key, b"%d" % n])
    assert groups(batch) == expected
    assert sum(batch.replies) == len(writes)


def test_many_commands_wait_in_one_queue() -> None:
    made = router()
    keys = [b"key:%d" % (n * n % 700) for n in range(20_000)]
    made.add(b"".join(encode("APPEND", key, n) for n, key in enumerate(keys)), None)
    assert not made.run(9)
    expected: dict[int, list[bytes]] = {}
    for n, key in enumerate(keys):
        expected.setdefault(key_slot(key), []).append(b"%d" % n)
    found = groups(made.take_batch(1, 9, None, -1))
    assert {slot: [it[2] for it in some[1:-2]] for slot, some in found.items()} == expected
    assert not made.has_any(1)


class Way:
    """Batches of several shards, while slots change hands and wait: what each slot got, in order."""

    def __init__(self, shards: int) -> None:
        self.router = router(is_transaction=False, shards=shards)
        self.shards = shards
        self.got: dict[int, list[bytes]] = {}

    def take(self, number: int) -> None:
        batch = self.router.take_batch(number, 1, None, -1)
        for n, slot in enumerate(batch.slots):
            assert self.router.home_of(slot) == number
            for command in commands_in(batch.group_data(n)):
                self.got.setdefault(slot, []).append(command[2])


@given(
    st.lists(
        st.tuples(st.sampled_from(["write", "move", "hold", "take", "compact", "settle"]), st.integers(0, 7)),
        max_size=80,
    ),
    st.integers(1, 4),
)  # fmt: skip
def test_slots_that_change_hands_lose_and_reorder_nothing(
    steps: list[tuple[str, int]], shards: int
) -> None:
    way = Way(shards)
    made = way.router
    expected: dict[int, list[bytes]] = {}
    for number, (step, choice) in enumerate(steps):
        key = b"key%d" % choice
        slot, shard = key_slot(key), 1 + choice % shards
        if step == "write":
            made.add(encode("APPEND", key, number), None)
            assert not made.run(number)
            expected.setdefault(slot, []).append(b"%d" % number)
        elif step == "move":
            made.move(slot, shard)
        elif step == "hold":
            made.move(slot, HELD_QUEUE)
        elif step == "take":
            way.take(shard)
        elif step == "compact":
            made.compact(HELD_QUEUE)
        elif step == "settle":
            made.settle(array("i", [shard]) * SLOTS, bytes(1 + shards))
    waiting = {slot: made.slot_data(slot) for slot in expected if made.home_of(slot) == HELD_QUEUE}
    for slot, data in waiting.items():
        rest = [it[2] for it in commands_in(data)]
        assert way.got.get(slot, []) + rest == expected[slot]
    made.place(array("i", [1]) * SLOTS)
    way.take(1)
    assert way.got == expected


def test_slots_of_a_batch_on_its_way_stay_for_now() -> None:
    made = router(shards=2)
    made.place(array("i", [1]) * SLOTS)
    assert not made.settle(array("i", [2]) * SLOTS, bytes([0, 1, 0]))
    assert made.home_of(5) == 1
    made.move(7, HELD_QUEUE)
    assert made.settle(array("i", [2]) * SLOTS, bytes(3))
    assert made.home_of(5) == 2
    assert made.home_of(7) == HELD_QUEUE


def test_checkpoints_that_are_behind_are_written_as_well() -> None:
    made = router()
    made.put(3, encode("INCR", "x"))
    assert list(made.take_batch(1, 50, None, -1).slots) == [3]
    made.put(4, encode("INCR", "x"))
    batch = made.take_batch(1, 60, None, 50)
    assert len(batch.slots) == SLOTS - 1  # slot 3 is at 50 already
    assert groups(batch)[9] == [[b"HSET", made.checkpoint_key(9), b"o", b"60"]]


def test_what_the_target_has_is_left_out() -> None:
    made = router()
    made.skip = array("q", [50 if slot == key_slot(b"a") else 0 for slot in range(SLOTS)])
    for offset, key in ((40, "a"), (45, "b"), (50, "a"), (60, "a")):
        made.add(encode("INCR", key), None)
        assert not made.run(offset)
    found = groups(made.take_batch(1, 60, None, -1))
    assert [it[1:2] for it in found[key_slot(b"a")][1:-2]] == [[b"a"]]
    assert len(found[key_slot(b"b")]) == 4
    assert made.skipped == 2


def test_every_slot_gets_its_fields_where_asked() -> None:
    made = router()
    made.add(encode("INCR", "a"), None)
    assert not made.run(7)
    batch = made.take_batch(1, 7, (b"$1\r\np\r\n$6\r\nstream\r\n", 2), -1)
    assert list(batch.slots) == list(range(SLOTS))
    found = groups(batch)
    assert found[0] == [[b"HSET", made.checkpoint_key(0), b"o", b"7", b"m", b"0", b"p", b"stream"]]
    assert found[key_slot(b"a")][-2] == [
        b"HSET",
        made.checkpoint_key(key_slot(b"a")),
        b"o",
        b"7",
        b"m",
        b"0",
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
    made.add(encode("INCR", "c") + encode(*command) + encode("INCR", "d"), None)
    assert made.run(9)
    assert made.event == [str(it).encode() for it in command]
    assert not made.run(9)
    assert len(groups(made.take_batch(1, 9, None, -1))) == 2


def test_a_transaction_over_slots_is_split_and_counted() -> None:
    made = router()
    made.add(encode("MULTI") + encode("INCR", "a") + encode("INCR", "a") + encode("EXEC"), None)
    made.add(encode("MULTI") + encode("INCR", "a") + encode("INCR", "b") + encode("EXEC"), None)
    assert not made.run(9)
    assert made.split_transactions == 1
    assert len(groups(made.take_batch(1, 9, None, -1))) == 2


@st.composite
def command_of(draw: st.DrawFn, name: str) -> list[bytes]:
    """Arguments that often make sense for the specifications of `name`."""
    words = [it.encode() for it in name.split("|")]
    text = st.one_of(st.sampled_from(WORDS), st.binary(max_size=12))
    arguments = words + draw(st.lists(text, min_size=1, max_size=15))
    for begin, (kind, first, second, _), _ in COMMANDS.get(name, ()):
        if isinstance(begin, tuple):
            at = max(len(words), min(abs(begin[1]), len(arguments) - 2))
            if at < len(arguments) and draw(st.integers(0, 4)):
                arguments[at] = begin[0].encode()
                del arguments[at + 3 :]
        elif kind == "keynum" and begin + first < len(arguments):
            left = len(arguments) - begin - second
            arguments[begin + first] = b"%d" % draw(st.integers(0, max(left, 1)))
    return arguments


class Node:
    """A real cluster node that is asked; the answers count which commands were checked."""

    def __init__(self, client: redis.Redis) -> None:
        client.response_callbacks.clear()
        self._client = client
        self.arities: dict[str, int] = {}
        for entry in client.execute_command("COMMAND"):
            for it in (entry, *(entry[9] if len(entry) > 9 else ())):
                self.arities[bytes(it[0]).decode().upper()] = it[1]
        self.checked: set[str] = set()
        self.keyless: set[str] = set()
        self.not_asked: set[str] = set()
        self.router = router(is_transaction=False)

    def knows(self, name: str) -> bool:
        return name in self.arities or name.split("|", maxsplit=1)[0] in self.arities

    def fits(self, name: str, command: list[bytes]) -> list[bytes]:
        """As many arguments as the node wants, at least."""
        arity = self.arities.get(name, -2)
        command = command[:arity] if arity > 0 else command
        return command + WORDS[: max(0, abs(arity) - len(command))]

    def keys_of(self, command: list[bytes]) -> list[bytes] | None:
        """None: not a command that the server could run."""
        try:
            return [
                bytes(it) for it in self._client.execute_command("COMMAND", "GETKEYS", *command)
            ]
        except ResponseError as error:
            if TOO_FEW_TO_ASK in str(error):
                self.not_asked.add(command[0].decode().upper())
            return [] if NO_KEYS in str(error) else None

    def slots_of(self, keys: list[bytes]) -> list[int]:
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.execute_command("CLUSTER", "KEYSLOT", key)
        return pipe.execute()


def agrees(node: Node, name: str, command: list[bytes]) -> None:
    """Keys and slots of one command are those that the node tells."""
    if not node.knows(name) or name == "MIGRATE":
        return  # MIGRATE is replicated as DEL; where its KEYS may stand only its own code knows
    command = node.fits(name, command)
    if name.startswith("GEORADIUS") and command[5:6] in ([b"STORE"], [b"STOREDIST"]):
        return  # the place of the unit: servers of different versions see different keys
    if name == "XREADGROUP" and b"STREAMS" in command[1:4]:
        return  # none that a server would run: 6.2 looks for the word here as well
    told = node.keys_of(command)
    if told is None:
        return
    found = keys_of(command)
    if not told and (found is None or name in BY_NO_KEY):
        return  # a subcommand that there is not: the target is asked
    assert found is not None, command
    keys = [command[it.index] for it in found]
    assert sorted(keys) == sorted(told), command
    if not told:
        # Nobody's slot: an event, or not for a cluster's node.
        node.keyless.add(name)
        node.router.add(encode(*command), None)
        words = [command[0].upper(), *command[1:2]] if name == "SELECT" else [command[0].upper()]
        if node.router.run(1):
            assert node.router.event == command
        else:
            assert words in NOT_FOR_A_NODE, command
        assert not node.router.has_any(1), command
        return
    slots = node.slots_of(told)
    assert [key_slot(key) for key in told] == slots, command
    node.checked.add(name)
    made = node.router
    made.add(encode(*command), None)
    if made.run(1):
        # Not one slot by the table of the hot path: what becomes of it is decided by the keys above.
        assert made.event == command
    else:
        batch = made.take_batch(1, 1, None, -1)
        assert list(batch.slots) == sorted(set(slots)), command
        assert groups(batch) == {slots[0]: [command]}


@pytest.mark.live
@pytest.mark.parametrize("examples", [6, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SERVER_NAMES)
def test_keys_and_slots_are_those_that_a_real_node_tells(
    name: str, examples: int, start_server: StartServer
) -> None:
    server = start_server(name, config={"cluster-enabled": "yes"}, port=provider().cluster_port())
    with server.client() as client:
        node = Node(client)

        containers = {it.split("|")[0] for it in (*COMMANDS, *KEYLESS) if "|" in it}
        without = {it for it in KEYLESS - containers if it in node.arities}
        for command_name in sorted({*COMMANDS, *without}):
            most = examples // 3 if command_name in without else examples

            @settings(max_examples=most, deadline=None, derandomize=True)
            @given(st.just(command_name), command_of(command_name))
            def check(its_name: str, command: list[bytes]) -> None:
                agrees(node, its_name, command)

            check()
    possible = {it for it in COMMANDS if node.knows(it) and it != "MIGRATE"}
    assert len(node.checked) > 0.9 * len(possible), possible - node.checked
    without -= node.not_asked
    assert len(without) > 40
    assert without <= node.keyless, without - node.keyless
