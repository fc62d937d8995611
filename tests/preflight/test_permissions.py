"""The permissions' table: the same as in OPERATIONS.md, and what replies to probes mean."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from engine.preflight.asking import Refusal
from engine.preflight.permissions import (
    SOURCE_PROBES,
    SOURCE_RULES,
    TARGET_PROBES,
    TARGET_RULES,
    Answer,
    Probe,
    Way,
    denial,
    denials,
    read_answer,
    read_dryrun,
)
from tests.live.test_acl import documented

OPERATIONS = Path(__file__).parents[2] / "OPERATIONS.md"


@pytest.mark.parametrize(("side", "rules"), [("source", SOURCE_RULES), ("target", TARGET_RULES)])
def test_operations_tells_to_grant_what_the_table_says(side: str, rules: tuple[str, ...]) -> None:
    assert documented(side)[:2] == ["on", ">password"]
    assert tuple(documented(side)[2:]) == rules


def test_every_line_of_the_report_is_explained_in_operations() -> None:
    from tests.preflight.test_judge import CASES

    text = OPERATIONS.read_text()
    table = text[text.index("## The pre-flight report") : text.index("## Run and watch")]
    explained = set(
        re.findall(r"`([a-z-]+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE)))
    )

    assert {case.values[0] for case in CASES} == explained


@pytest.mark.parametrize(
    ("probes", "rules"), [(SOURCE_PROBES, SOURCE_RULES), (TARGET_PROBES, TARGET_RULES)]
)
def test_every_probe_belongs_to_a_rule_and_every_rule_has_a_probe(
    probes: tuple[Probe, ...], rules: tuple[str, ...]
) -> None:
    granted = {rule for rule in rules if rule.startswith("+")}

    assert {probe.rule for probe in probes} == granted
    assert all(probe.is_required or probe.means for probe in probes)


def test_nothing_that_could_do_harm_is_ever_sent() -> None:
    dangerous = {"FLUSHALL", "FLUSHDB", "SWAPDB", "PSYNC"}

    for probe in (*SOURCE_PROBES, *TARGET_PROBES):
        assert (probe.command[0] in dangerous) == (probe.way is Way.DRYRUN)
    keys = {it.command[1] for it in TARGET_PROBES if it.rule == "+@write" and it.way is Way.QUEUE}
    assert keys == {"redis-ferry:probe:permission"}


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (b"QUEUED", Answer.ALLOWED),
        (b"PONG", Answer.ALLOWED),
        (-2, Answer.ALLOWED),
        (Refusal("NOPERM this user has no permissions to run the 'set' command"), Answer.DENIED),
        (Refusal("unknown command 'SPUBLISH', with args"), Answer.ABSENT),
        (Refusal("EXEC without MULTI"), Answer.ALLOWED),
        (Refusal("Command not allowed inside a transaction"), Answer.UNKNOWN),
        (Refusal("BUSY Redis is busy running a script"), Answer.UNKNOWN),
        (Refusal("OOM command not allowed when used memory > 'maxmemory'."), Answer.ALLOWED),
    ],
)
def test_replies_to_probes(reply: Any, answer: Answer) -> None:
    assert read_answer(reply) is answer


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (b"OK", Answer.ALLOWED),
        (b"User u has no permissions to run the 'psync' command", Answer.DENIED),
        (Refusal("Command 'nix' not found"), Answer.ABSENT),
        (Refusal("User 'x' not found"), Answer.UNKNOWN),
        (
            Refusal("NOPERM User u has no permissions to run the 'acl|dryrun' command"),
            Answer.UNKNOWN,
        ),
        (Refusal("Unknown subcommand or wrong number of arguments for 'DRYRUN'"), Answer.UNKNOWN),
    ],
)
def test_replies_of_dryrun(reply: Any, answer: Answer) -> None:
    assert read_dryrun(reply)[0] is answer


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("NOPERM No permissions to access a key", "~*"),
        (
            "NOPERM this user has no permissions to access one of the channels used as arguments",
            "&*",
        ),
        ("User v has no permissions to access the 'a' key", "~*"),
        ("NOPERM User v has no permissions to run the 'set' command", "+@write"),
    ],
)
def test_what_lacks_is_a_command_or_keys_or_channels(text: str, rule: str) -> None:
    probe = next(it for it in TARGET_PROBES if it.name == "SET")

    assert denial(probe, text).rule == rule


def test_only_what_was_denied_lacks() -> None:
    ping, replconf, psync, *_ = SOURCE_PROBES
    answers = {
        ping: (Answer.ALLOWED, ""),
        replconf: (Answer.UNKNOWN, ""),
        psync: (Answer.DENIED, ""),
    }

    (found,) = denials(answers)
    assert (found.rule, found.command, found.is_required) == ("+psync", "PSYNC", True)
