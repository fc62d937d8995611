"""What an error reply of the target means: which command, which key, what then, or nothing at all."""

from __future__ import annotations

from typing import Any

import pytest

from engine.codec.block import Block
from engine.codec.command_text import encode
from engine.endpoint import Endpoint
from engine.errors import TargetAuthError, TargetRejected
from engine.target.replies import ReplyPolicy, auth_error, is_failure_of_the_source, rejected

STRICT = ReplyPolicy()
LENIENT = ReplyPolicy(skip_existing=True)
SNAPSHOT = Block(
    data=encode("SELECT", 1) + encode("restore", b"a\xff", 0, b"x") + encode("SET", "b", "1"),
    replies=3,
)
IN_STREAM = [
    ("MULTI",),
    ("INCR", "n"),
    ("EVAL", "return 1", "0"),
    ("HSET", "checkpoint"),
    ("EXEC",),
]
TRANSACTION = Block(
    data=b"".join(encode(*it) for it in IN_STREAM), replies=5, offset=500, is_transaction=True
)
AT_LEAST_ONCE = Block(data=encode("INCR", "n"), replies=1, offset=500)


@pytest.mark.parametrize(
    ("block", "reply", "element", "command", "key", "where", "outcome"),
    [
        (SNAPSHOT, 1, -1, "RESTORE", b"a\xff", "in the snapshot", ""),
        (SNAPSHOT, 2, -1, "SET", b"b", "in the snapshot", ""),
        (TRANSACTION, 1, -1, "INCR", b"n", "up to offset 500", "nothing of this block was applied"),
        (TRANSACTION, 4, 0, "INCR", b"n", "up to offset 500", "the rest of its block was applied"),
        (TRANSACTION, 4, 2, "HSET", b"checkpoint", "up to offset 500", "the rest of its block"),
        (TRANSACTION, 4, -1, "EXEC", b"", "up to offset 500", "nothing of this block was applied"),
        (AT_LEAST_ONCE, 0, -1, "INCR", b"n", "up to offset 500", ""),
    ],
    ids=["restore", "set", "not-queued", "first-in-exec", "last-in-exec", "exec", "no-transaction"],
)
def test_an_error_is_traced_to_its_command(
    block: Block, reply: int, element: int, command: str, key: bytes, where: str, outcome: str
) -> None:
    error = rejected(block, reply, element, "ERR something", STRICT)

    assert isinstance(error, TargetRejected)
    assert (error.command, error.key, error.reply) == (command, key, "ERR something")
    assert error.offset == block.offset
    assert where in error.message
    assert f"ERR something{'; ' if outcome else ''}{outcome}" in error.message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "maxmemory"),
        ("READONLY You can't write against a read only replica.", "primary"),
        ("MISCONF Redis is configured to save RDB snapshots", "disk"),
        ("BUSYKEY Target key name already exists.", "--on-conflict"),
        ("NOPERM this user has no permissions", "grant"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "--task-id"),
        ("ERR Bad data format", "older than the source"),
        ("ERR DUMP payload version or checksum are wrong", ""),
        ("WHATEVER", ""),
    ],
)
def test_an_error_comes_with_what_can_be_done(text: str, hint: str) -> None:
    error = rejected(SNAPSHOT, 1, -1, text, STRICT)

    assert error is not None
    assert hint in error.hint
    assert bool(hint) == bool(error.hint)


@pytest.mark.parametrize(
    "text",
    ["BUSYKEY Target key name already exists.", "ERR Library 'lib' already exists"],
    ids=["key", "function"],
)
def test_what_exists_already_is_no_error_when_it_shall_be_skipped(text: str) -> None:
    assert rejected(SNAPSHOT, 1, -1, text, LENIENT) is None
    assert rejected(SNAPSHOT, 1, -1, text, STRICT) is not None


def test_other_errors_are_errors_under_every_policy() -> None:
    assert rejected(SNAPSHOT, 1, -1, "OOM no", LENIENT) is not None


def test_a_long_key_is_shown_in_part_and_kept_whole() -> None:
    block = Block(data=encode("SET", b"k" * 5000, "v"), replies=1)

    error = rejected(block, 0, -1, "ERR no", STRICT)

    assert error is not None
    assert len(error.message) < 300
    assert error.key == b"k" * 5000


SCRIPT_FAILED = "WRONGTYPE Operation against a key script: b692, on @user_script:1."
OLD_SCRIPT_FAILED = "ERR Error running script (call to f_b692): @user_script:1: WRONGTYPE Operation"


@pytest.mark.parametrize(
    ("block", "element", "text", "expected"),
    [
        (TRANSACTION, 1, SCRIPT_FAILED, True),
        (TRANSACTION, 1, OLD_SCRIPT_FAILED, True),
        (TRANSACTION, 0, SCRIPT_FAILED, False),
        (TRANSACTION, 1, "ERR unknown command 'EVAL'", False),
        (TRANSACTION, 1, "OOM command not allowed script: b692, on @user_script:1.", False),
        (TRANSACTION, 1, "ERR Error running script (f_b): @user_script:1: -OOM command", False),
        (
            TRANSACTION,
            1,
            "ERR Unknown Redis command called from script: b, on @user_script:1.",
            False,
        ),
        (TRANSACTION, 1, "NOPERM no permissions script: b, on @user_script:1.", False),
        (SNAPSHOT, -1, SCRIPT_FAILED, False),
    ],
    ids=[
        "7.0",
        "6.2",
        "no-script",
        "no-eval",
        "oom",
        "oom-6.2",
        "no-command",
        "noperm",
        "snapshot",
    ],
)
def test_a_script_that_failed_at_the_source_too_is_no_error_of_ours(
    block: Block, element: int, text: str, expected: bool
) -> None:
    reply = 4 if block is TRANSACTION else 1

    assert is_failure_of_the_source(block, reply, element, text) is expected


@pytest.mark.parametrize(
    ("username", "text", "expected"),
    [
        (None, "NOAUTH Authentication required.", "asks for a password"),
        (None, "WRONGPASS invalid", "refused the default user: WRONGPASS"),
        ("ferry", "WRONGPASS invalid", "refused user 'ferry': WRONGPASS"),
    ],
)
def test_a_refused_log_in_names_the_user_and_never_the_password(
    username: str | None, text: str, expected: str
) -> None:
    endpoint = Endpoint(host="h", port=1, username=username, password="s3cret")

    error: Any = auth_error(endpoint, text)

    assert isinstance(error, TargetAuthError)
    assert "h:1" in error.message
    assert expected in error.message
    assert "s3cret" not in str(error)
