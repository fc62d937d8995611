"""The replica's side of the handshake as tables: reply lines in, commands and a verdict out."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import (
    EngineError,
    SourceAuthError,
    SourceNotReady,
    SourceProtocolError,
    SourceRefused,
)
from engine.position import Position
from engine.source.handshake import FullResync, Handshake, PartialResync
from tests.codec.stream_blocks import parse

REPLID = "8f2c" * 10
OTHER_REPLID = "0123456789" * 4
FULL = f"+FULLRESYNC {REPLID} 1000"
AT_1000 = Position(REPLID, 1000)
PASSWORD = "s3cret"
ADDRESS_OF_SOURCE = "old.example:6379"

PING = "PING"
PORT = "REPLCONF listening-port 12345"
ADDRESS = "REPLCONF ip-address 10.0.0.7"
CAPA = "REPLCONF capa eof capa psync2"
VERSION = "REPLCONF version 9.0.0"
PSYNC = "PSYNC ? -1"
OK, NO = "+OK", "-ERR Unrecognized REPLCONF option: x"
UNKNOWN = "-ERR unknown command 'REPLCONF'"


def start(**changes: Any) -> Handshake:
    fields: dict[str, Any] = {
        "address": ADDRESS_OF_SOURCE,
        "username": None,
        "password": None,
        "listening_port": 12345,
        "ip_address": "10.0.0.7",
        "resume_from": None,
    }
    return Handshake(**(fields | changes))


def play(handshake: Handshake, replies: list[str]) -> list[str]:
    """Give `replies`; return everything sent, until there is a verdict."""
    sent = handshake.start()
    for reply in replies:
        answer = handshake.receive_line(reply.encode())
        if answer is None:
            assert handshake.verdict is not None
            break
        sent += answer
    return [b" ".join(command).decode() for command in parse(sent)]


ALL = [PING, PORT, ADDRESS, CAPA, VERSION, PSYNC]
SCRIPTS = {
    "valkey-9": (["+PONG", OK, OK, OK, OK, FULL], ALL, FullResync(AT_1000)),
    "redis-7-knows-no-version": (["+PONG", OK, OK, OK, NO, FULL], ALL, FullResync(AT_1000)),
    "redis-3.0-knows-the-port-only": (["+PONG", OK, NO, NO, NO, FULL], ALL, FullResync(AT_1000)),
    "redis-2.6-has-no-psync": (
        ["+PONG", OK, NO, NO, NO, "-ERR unknown command 'PSYNC'"],
        [*ALL, "SYNC"],
        FullResync(Position("", 0)),
    ),
    "redis-2.4-has-no-replconf": (
        ["+PONG", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, "-ERR unknown command 'PSYNC'"],
        [*ALL, "SYNC"],
        FullResync(Position("", 0)),
    ),
    "redis-7-wording-of-unknown": (
        [
            "+PONG",
            OK,
            OK,
            OK,
            NO,
            "-ERR unknown command 'PSYNC', with args beginning with: '?' '-1'",
        ],
        [*ALL, "SYNC"],
        FullResync(Position("", 0)),
    ),
    "newlines-before-any-reply": (
        ["", "+PONG", "", "", OK, OK, OK, OK, "", "", "", FULL],
        ALL,
        FullResync(AT_1000),
    ),
    "offset-minus-one": (
        ["+PONG", OK, OK, OK, OK, f"+FULLRESYNC {REPLID} -1"],
        ALL,
        FullResync(Position(REPLID, -1)),
    ),
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_a_source_of_any_age_is_asked_for_a_full_resync(script: Any) -> None:
    replies, commands, verdict = script
    handshake = start()

    assert play(handshake, replies) == commands
    assert handshake.verdict == verdict


@pytest.mark.parametrize(
    ("reply", "replid"),
    [
        ("+CONTINUE", REPLID),
        (f"+CONTINUE {REPLID}", REPLID),
        (f"+CONTINUE {OTHER_REPLID}", OTHER_REPLID),
    ],
    ids=["2.8", "same-history", "after-a-failover"],
)
def test_a_partial_resync_asks_for_the_next_byte(reply: str, replid: str) -> None:
    handshake = start(resume_from=AT_1000)

    commands = play(handshake, ["+PONG", OK, OK, OK, OK, reply])

    assert commands[-1] == f"PSYNC {REPLID} 1001"
    assert handshake.verdict == PartialResync(replid)


def test_a_full_resync_may_be_the_answer_to_a_partial_one() -> None:
    handshake = start(resume_from=Position(OTHER_REPLID, 5))

    play(handshake, ["+PONG", OK, OK, OK, OK, FULL])

    assert handshake.verdict == FullResync(AT_1000)


@pytest.mark.parametrize(
    ("username", "expected"), [(None, f"AUTH {PASSWORD}"), ("ferry", f"AUTH ferry {PASSWORD}")]
)
def test_a_password_is_the_first_thing_sent(username: str | None, expected: str) -> None:
    handshake = start(username=username, password=PASSWORD)

    assert play(handshake, [OK, "+PONG", OK, OK, OK, OK, FULL]) == [expected, *ALL]


def test_an_empty_password_is_sent_too() -> None:
    assert play(start(username="u", password=""), [])[0] == "AUTH u "


def test_without_an_address_of_ours_none_is_told() -> None:
    handshake = start(ip_address=None)

    assert play(handshake, ["+PONG", OK, OK, OK, FULL]) == [PING, PORT, CAPA, VERSION, PSYNC]


NOPERM_TEXT = "-NOPERM User u has no permissions to run the 'psync' command"
ERRORS: dict[str, tuple[list[str], type[EngineError], str]] = {
    "password-missing": (
        ["-NOAUTH Authentication required."],
        SourceAuthError,
        "asks for a password",
    ),
    "password-missing-2.4": (
        ["-ERR operation not permitted"],
        SourceAuthError,
        "asks for a password",
    ),
    "no-permission": (["+PONG", OK, OK, OK, OK, NOPERM_TEXT], SourceAuthError, "permit PSYNC"),
    "no-permission-for-replconf": (
        ["+PONG", "-NOPERM this user has no permissions to run the 'replconf' command"],
        SourceAuthError,
        "permit PORT",
    ),
    "loading": (["-LOADING Redis is loading the dataset in memory"], SourceNotReady, "LOADING"),
    "no-master-link": (
        ["+PONG", OK, OK, OK, OK, "-NOMASTERLINK Can't SYNC while not connected with my master"],
        SourceNotReady,
        "NOMASTERLINK",
    ),
    "master-down": (["-MASTERDOWN Link with MASTER is down"], SourceNotReady, "MASTERDOWN"),
    "busy": (["-BUSY Redis is busy running a script"], SourceNotReady, "BUSY"),
    "psync-refused": (["+PONG", OK, OK, OK, OK, "-ERR no"], SourceRefused, "refused PSYNC: ERR no"),
    "ping-refused": (["-DENIED Redis is running in protected mode"], SourceRefused, "refused PING"),
    "another-protocol": (["HTTP/1.1 400 Bad Request"], SourceProtocolError, "answered PING"),
    "continue-without-being-asked": (
        ["+PONG", OK, OK, OK, OK, "+CONTINUE"],
        SourceProtocolError,
        "answered PSYNC",
    ),
    "full-resync-without-offset": (
        ["+PONG", OK, OK, OK, OK, f"+FULLRESYNC {REPLID}"],
        SourceProtocolError,
        "answered PSYNC",
    ),
    "full-resync-with-a-word-for-offset": (
        ["+PONG", OK, OK, OK, OK, f"+FULLRESYNC {REPLID} many"],
        SourceProtocolError,
        "answered PSYNC",
    ),
}


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS.keys())
def test_what_ends_a_handshake_says_whose_fault_it_is(case: Any) -> None:
    replies, kind, text = case

    with pytest.raises(kind, match=text) as caught:
        play(start(), replies)

    assert type(caught.value) is kind
    assert ADDRESS_OF_SOURCE in caught.value.message


@pytest.mark.parametrize("code", ["LOADING", "NOMASTERLINK", "MASTERDOWN", "BUSY"])
def test_a_source_that_is_not_ready_comes_with_what_can_be_done(code: str) -> None:
    with pytest.raises(SourceNotReady) as caught:
        play(start(), [f"-{code} not now"])

    assert caught.value.hint
    assert ("primary" in caught.value.hint) == (code in {"NOMASTERLINK", "MASTERDOWN"})


@pytest.mark.parametrize(
    "reply",
    [
        "-WRONGPASS invalid username-password pair or user is disabled.",
        "-ERR invalid password",
    ],
)
@pytest.mark.parametrize("username", [None, "ferry"])
def test_refused_credentials_are_named_without_the_password(
    reply: str, username: str | None
) -> None:
    handshake = start(username=username, password=PASSWORD)

    with pytest.raises(SourceAuthError) as caught:
        play(handshake, [reply])

    assert (username or "the default user") in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [
        "-ERR Client sent AUTH, but no password is set",
        "-ERR AUTH <password> called without any password configured for the default user. "
        "Are you sure your configuration is correct?",
    ],
    ids=["before-6.0", "since"],
)
def test_a_password_for_a_source_without_one_is_to_be_left_out(reply: str) -> None:
    with pytest.raises(SourceAuthError, match="has no password") as caught:
        play(start(password=PASSWORD), [reply])

    assert ADDRESS_OF_SOURCE in caught.value.message
    assert "leave the password out" in caught.value.hint
    assert PASSWORD not in str(caught.value)


def test_an_answer_as_long_as_a_page_is_shown_in_part() -> None:
    with pytest.raises(SourceProtocolError) as caught:
        play(start(), ["<html>" * 1000])

    assert len(str(caught.value)) < 300


def test_the_step_waited_for_has_a_name() -> None:
    handshake = start()
    names = []
    handshake.start()
    for reply in ("+PONG", OK, OK, OK, OK):
        names.append(handshake.step)
        handshake.receive_line(reply.encode())

    assert [*names, handshake.step] == ["PING", "PORT", "ADDRESS", "CAPA", "VERSION", "PSYNC"]
