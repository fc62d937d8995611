"""Commands that the table does not know: the target tells where their keys stand, once."""

from __future__ import annotations

import pytest

from engine.codec import command_keys
from engine.errors import TargetNotReady
from engine.replay.told_keys import ToldKeys, shape_of
from engine.settings import TargetSettings
from tests.fix_servers import SERVER_NAMES, StartServer

FORGOTTEN = ("LPUSH", "MSET", "ZUNIONSTORE", "SORT", "PING")


def words(text: str) -> list[bytes]:
    return text.encode().split()


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has lost some commands: for it they are a module's."""
    known = {name: it for name, it in command_keys.COMMANDS.items() if name not in FORGOTTEN}
    monkeypatch.setattr(command_keys, "COMMANDS", known)
    monkeypatch.setattr(command_keys, "KEYLESS", command_keys.KEYLESS - set(FORGOTTEN))


@pytest.mark.live
@pytest.mark.parametrize("name", [SERVER_NAMES[0], SERVER_NAMES[-1]])
async def test_asked_once_for_a_name_or_a_shape(
    name: str, forgetful: None, start_server: StartServer
) -> None:
    told = ToldKeys(TargetSettings())
    endpoint = start_server(name).endpoint

    async def keys(text: str) -> list[bytes]:
        arguments = words(text)
        return [arguments[it.index] for it in await told.keys_of(arguments, endpoint)]

    assert await keys("SET a 1") == [b"a"]
    assert told.questions == 0
    assert await keys("LPUSH a b c d") == [b"a"]
    assert await keys("lpush x y") == [b"x"]
    assert await keys("MSET a 1 b 2") == [b"a", b"b"]
    assert told.questions == 2  # COMMAND INFO of each
    assert await keys("ZUNIONSTORE key:d 2 key:a key:b WEIGHTS 1 2") == [
        b"key:d",
        b"key:a",
        b"key:b",
    ]
    assert told.questions == 4  # and COMMAND GETKEYS, for its keys depend on the arguments
    assert await keys("ZUNIONSTORE k:1 2 k:2 k:3 WEIGHTS 1 2") == [b"k:1", b"k:2", b"k:3"]
    assert told.questions == 4
    assert await keys("ZUNIONSTORE k:1 1 k:2 WEIGHTS 1") == [b"k:1", b"k:2"]
    assert told.questions == 5
    assert await keys("ZUNIONSTORE d 7 a b") == []  # no such command
    assert await keys("PING") == []
    assert await keys("NOSUCH a") == []


@pytest.mark.live
async def test_a_key_that_stands_twice_is_not_remembered(
    forgetful: None, start_server: StartServer
) -> None:
    told = ToldKeys(TargetSettings())
    endpoint = start_server(SERVER_NAMES[-1]).endpoint
    arguments = words("ZUNIONSTORE k:1 1 k:2 WEIGHTS k:1")
    assert {arguments[it.index] for it in await told.keys_of(arguments, endpoint)} == {
        b"k:1",
        b"k:2",
    }
    asked = told.questions
    await told.keys_of(words("ZUNIONSTORE k:3 1 k:4 WEIGHTS k:5"), endpoint)
    assert told.questions == asked + 1


async def test_a_target_that_does_not_answer(forgetful: None, start_server: StartServer) -> None:
    server = start_server(SERVER_NAMES[-1])
    server.kill()
    told = ToldKeys(TargetSettings(connect_timeout_seconds=2))
    with pytest.raises(TargetNotReady, match="cannot be asked for the keys of b'LPUSH'"):
        await told.keys_of(words("LPUSH a b"), server.endpoint)


def test_a_shape_keeps_what_places_depend_on() -> None:
    one = shape_of(words("J.SET key:1 2 {x} value limit 99999"))
    assert one == (b"J.SET", b"*", b"2", b"*", b"VALUE", b"LIMIT", b"*")
    assert one != shape_of(words("J.SET key:1 3 {x} value limit 99999"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("M.ADD k:1 WITH_KEY k:2", "M.ADD k:1 NO-KEY k:2"),
        ("M.ADD k:1 with_key k:2", "M.ADD k:1 no_key k:2"),
        ("M.ADD k:1 KEYS1 k:2", "M.ADD k:1 KEYS2 k:2"),
        ("M.ADD k:1 v:1 k:2", "M.PUT k:1 v:1 k:2"),
    ],
)
def test_options_of_any_form_and_names_make_another_shape(one: str, other: str) -> None:
    assert shape_of(words(one)) != shape_of(words(other))


def test_counts_make_another_shape_however_many_and_names_and_values_do_not() -> None:
    rest = [b"k:%d" % n for n in range(6000)]
    assert shape_of([b"M.ADD", b"5000", *rest]) != shape_of([b"M.ADD", b"5001", *rest])
    many = [f"M.ADD user{n} order_{n} 1{n:04} a:b" for n in range(50)]
    assert len({shape_of(words(it)) for it in many}) == 1
