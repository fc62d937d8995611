"""The permissions a migration needs, in one table, and what shows whether they are there. Pure.

SOURCE_RULES and TARGET_RULES are what OPERATIONS.md tells the operator to grant (a test compares them). Each probe
is a command that a user without the permission cannot even queue; run by mistake it would do no harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from engine.preflight.asking import Refusal

SOURCE_RULES = (
    "resetkeys", "~*", "resetchannels", "-@all",
    "+ping", "+replconf", "+psync", "+info", "+time", "+select", "+multi", "+exec", "+pttl",
    "+pexpiretime", "+dump", "+config|get",
)  # fmt: skip
TARGET_RULES = (
    "resetkeys", "~*", "&*", "-@all", "+@write", "+@connection", "+@transaction", "+@scripting",
    "+info", "+time", "+dump", "+hgetall", "+pfcount", "+publish", "+spublish", "+scan", "+pttl", "+hlen", "+hkeys",
    "+hscan", "+hpexpiretime", "+config|get",
)  # fmt: skip

PROBE_KEY = "redis-ferry:probe:permission"
_NO_LAG = "the migration runs, but does not know its lag in bytes"
_NO_LATE_TTL = "TTLs that arrive late cannot be put right"
_NO_EXACT_TTL = (
    "TTLs that stand with a margin cannot be put right: the migration stops when it has caught up"
)
_STREAM = "such a command in the source's stream would stop the migration"


class Way(Enum):
    """How a probe may be asked where ACL DRYRUN is not to be had."""

    ASK = "ask"  # harmless as it is
    QUEUE = "queue"  # behind MULTI, and EXEC never comes
    DRYRUN = "dryrun"  # not at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """rule: what the user lacks if `command` is denied. means: what follows from that.

    is_required: without it the migration cannot even begin.
    """

    command: tuple[str, ...]
    rule: str
    way: Way = Way.QUEUE
    is_required: bool = False
    means: str = ""

    @property
    def name(self) -> str:
        """The command's name, for people: `CLIENT SETNAME`."""
        words = 2 if self.command[0] in {"CLIENT", "CONFIG", "FUNCTION"} else 1
        return " ".join(self.command[:words])


SOURCE_PROBES = (
    Probe(command=("PING",), rule="+ping", way=Way.ASK, is_required=True),
    Probe(command=("REPLCONF", "capa", "psync2"), rule="+replconf", way=Way.ASK, is_required=True),
    Probe(command=("PSYNC", "?", "-1"), rule="+psync", way=Way.DRYRUN, is_required=True),
    Probe(command=("INFO", "server"), rule="+info", way=Way.ASK, means=_NO_LAG),
    Probe(command=("TIME",), rule="+time", way=Way.ASK, means="the clock difference stays unknown"),
    Probe(command=("SELECT", "0"), rule="+select", way=Way.ASK, means=_NO_LATE_TTL),
    Probe(command=("PTTL", PROBE_KEY), rule="+pttl", way=Way.ASK, means=_NO_LATE_TTL),
    Probe(command=("PEXPIRETIME", PROBE_KEY), rule="+pexpiretime", way=Way.ASK, means=_NO_LATE_TTL),
    Probe(command=("DUMP", PROBE_KEY), rule="+dump", way=Way.ASK, means=_NO_LATE_TTL),
    Probe(
        command=("CONFIG", "GET", "repl-timeout"),
        rule="+config|get",
        way=Way.ASK,
        means="its repl-timeout is not known, a silent link is given up after 60 s",
    ),
    Probe(command=("EXEC",), rule="+exec", way=Way.ASK, means=_NO_LATE_TTL),
    Probe(command=("MULTI",), rule="+multi", way=Way.ASK, means=_NO_LATE_TTL),  # the last: it lasts
)

# What the scan reader needs instead (engine/readers/scan_source.py).
SCAN_RULES = (
    "resetkeys", "~*", "resetchannels", "&__keyevent@*__:*", "-@all",
    "+ping", "+info", "+time", "+select", "+scan", "+dump", "+pttl", "+pexpiretime", "+exists", "+psubscribe",
    "+config|get", "+function|dump",
)  # fmt: skip
SCAN_PROBES = (
    Probe(command=("PING",), rule="+ping", way=Way.ASK, is_required=True),
    Probe(command=("INFO", "server"), rule="+info", way=Way.ASK, is_required=True),
    Probe(command=("TIME",), rule="+time", way=Way.ASK, is_required=True),
    Probe(command=("SELECT", "0"), rule="+select", way=Way.ASK, is_required=True),
    Probe(command=("SCAN", "0", "COUNT", "1"), rule="+scan", way=Way.ASK, is_required=True),
    Probe(command=("DUMP", PROBE_KEY), rule="+dump", way=Way.ASK, is_required=True),
    Probe(command=("PTTL", PROBE_KEY), rule="+pttl", way=Way.ASK, is_required=True),
    Probe(
        command=("PEXPIRETIME", PROBE_KEY), rule="+pexpiretime", way=Way.ASK, is_required=True
    ),
    Probe(command=("EXISTS", PROBE_KEY), rule="+exists", way=Way.ASK, is_required=True),
    Probe(
        command=("CONFIG", "GET", "notify-keyspace-events"), rule="+config|get", way=Way.ASK,
        means="whether keyspace notifications are on is not known, so all keys are read again and again "
        "(--scan-changes notifications takes them for on)",
    ),
    Probe(
        command=("FUNCTION", "DUMP"), rule="+function|dump", way=Way.ASK,
        means="function libraries are not brought",
    ),
    # The last: a connection that has subscribed answers little else.
    Probe(
        command=("PSUBSCRIBE", "__keyevent@*__:*"), rule="+psubscribe", way=Way.ASK, is_required=True
    ),
)  # fmt: skip

_CHANNEL = "redis-ferry:probe"
TARGET_PROBES = (
    Probe(command=("MULTI",), rule="+@transaction", way=Way.ASK, is_required=True),
    Probe(command=("INFO", "server"), rule="+info", is_required=True),
    Probe(command=("TIME",), rule="+time", is_required=True),
    Probe(command=("DUMP", PROBE_KEY), rule="+dump", is_required=True),
    Probe(command=("HGETALL", PROBE_KEY), rule="+hgetall", is_required=True),
    Probe(command=("SET", PROBE_KEY, "x", "PX", "1"), rule="+@write", is_required=True),
    Probe(command=("RESTORE", PROBE_KEY, "1", "x"), rule="+@write", is_required=True),
    Probe(command=("DEL", PROBE_KEY), rule="+@write", is_required=True),
    Probe(command=("HSET", PROBE_KEY, "f", "v"), rule="+@write", is_required=True),
    Probe(command=("SELECT", "0"), rule="+@connection", is_required=True),
    Probe(command=("CLIENT", "SETNAME", "x"), rule="+@connection", is_required=True),
    Probe(
        command=("CLIENT", "LIST"), rule="+@connection",
        means="an older connection of this task could still write",
    ),
    *(
        Probe(command=command, rule="+@write", means=_STREAM)
        for command in (
            ("RPUSH", PROBE_KEY, "x"), ("SADD", PROBE_KEY, "x"), ("ZADD", PROBE_KEY, "1", "x"),
            ("INCR", PROBE_KEY), ("APPEND", PROBE_KEY, "x"), ("XADD", PROBE_KEY, "*", "f", "v"),
            ("PEXPIREAT", PROBE_KEY, "1"), ("RENAME", PROBE_KEY, PROBE_KEY),
            ("PFADD", PROBE_KEY, "x"), ("SETRANGE", PROBE_KEY, "0", "x"),
        )
    ),
    *(
        Probe(command=command, rule="+@write", way=Way.DRYRUN, means=_STREAM)
        for command in (("FLUSHDB",), ("FLUSHALL",), ("SWAPDB", "0", "1"))
    ),
    Probe(command=("EVAL", "return 1", "0"), rule="+@scripting", means=_STREAM),
    Probe(command=("PFCOUNT", PROBE_KEY), rule="+pfcount", means=_STREAM),
    Probe(command=("PUBLISH", _CHANNEL, "x"), rule="+publish", means=_STREAM),
    Probe(command=("SPUBLISH", _CHANNEL, "x"), rule="+spublish", means=_STREAM),
    *(
        Probe(command=command, rule=f"+{command[0].lower()}", means=_NO_EXACT_TTL)
        for command in (
            ("SCAN", "0", "COUNT", "1"), ("PTTL", PROBE_KEY), ("HLEN", PROBE_KEY), ("HKEYS", PROBE_KEY),
            ("HSCAN", PROBE_KEY, "0"), ("HPEXPIRETIME", PROBE_KEY, "FIELDS", "1", "f"),
        )
    ),
    Probe(
        command=("CONFIG", "GET", "proto-max-bulk-len"), rule="+config|get",
        means="its limits are not known, the servers' defaults count (512 MiB for a value)",
    ),
)  # fmt: skip


class Answer(Enum):
    """What a probe showed."""

    ALLOWED = "allowed"
    DENIED = "denied"
    ABSENT = "absent"  # the server does not know the command
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """rule: what to grant. command: what was denied."""

    rule: str
    command: str
    is_required: bool = False
    means: str = ""


def read_answer(reply: Any) -> Answer:
    """What the reply to a probe that was sent, queued or tried with ACL DRYRUN says."""
    if isinstance(reply, Refusal):
        if reply.is_permission:
            return Answer.DENIED
        text = reply.lower()
        if "unknown command" in text:
            return Answer.ABSENT
        # PSYNC behind MULTI; or a server that is busy with something else and says so before it looks.
        is_no_answer = "transaction" in text or text.startswith(("loading", "busy", "noauth"))
        return Answer.UNKNOWN if is_no_answer else Answer.ALLOWED
    return Answer.ALLOWED


def read_dryrun(reply: Any) -> tuple[Answer, str]:
    """The answer of ACL DRYRUN and its text."""
    if isinstance(reply, Refusal):
        is_absent = "not found" in reply.lower() and "command" in reply.lower()
        return (Answer.ABSENT if is_absent else Answer.UNKNOWN), ""
    if reply == b"OK":
        return Answer.ALLOWED, ""
    return Answer.DENIED, reply.decode("utf-8", "replace") if isinstance(reply, bytes) else ""


def denial(probe: Probe, text: str) -> Denial:
    """Say what lacks: the command, or keys or channels that it may not touch."""
    rule = probe.rule
    lowered = text.lower()
    if "access" in lowered:
        rule = "&*" if "channel" in lowered else "~*"
    return Denial(rule=rule, command=probe.name, is_required=probe.is_required, means=probe.means)


def denials(
    answers: Mapping[Probe, tuple[Answer, str]],
) -> tuple[Denial, ...]:
    """Everything that lacks, in the table's order."""
    return tuple(
        denial(probe, text) for probe, (answer, text) in answers.items() if answer is Answer.DENIED
    )
