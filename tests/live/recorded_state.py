"""What a server holds, read by redis-py, in the form of the descriptions of tests/corpus/streams."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence, Set
from typing import Any

import redis

KEYS_AT_ONCE = 500
OURS = b"redis-ferry:"
HLL_HEADER_BYTES = 16
VALUE_COMMANDS: dict[bytes, tuple[tuple[bytes, ...], tuple[bytes, ...]]] = {
    b"string": ((b"GET",), ()),
    b"list": ((b"LRANGE",), (b"0", b"-1")),
    b"set": ((b"SMEMBERS",), ()),
    b"zset": ((b"ZRANGE",), (b"0", b"-1", b"WITHSCORES")),
    b"hash": ((b"HGETALL",), ()),
    b"stream": ((b"XRANGE",), (b"-", b"+")),
}

State = dict[tuple[int, str], dict[str, Any]]


def text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def described(dbs: dict[str, list[dict[str, Any]]]) -> State:
    """The `dbs` of a description by database and key."""
    found: State = {}
    for db, keys in dbs.items():
        for key in keys:
            value = key["value"]
            if key["type"] == "string":
                value = _string_form(base64.b64decode(value))
            found[int(db), key["key"]] = {**key, "value": value}
    return found


def read_state(
    client_of: Callable[[int], redis.Redis], *, field_ttls: bool, moments: bool = True
) -> State:
    """Everything in a server but the engine's own keys. client_of: a client for a database.

    moments: the server has PEXPIRETIME (7.0); without it the keys are read with their TTLs.
    """
    found: State = {}
    with client_of(0) as client:
        dbs = [int(name[2:]) for name in client.info("keyspace")]
    for db in dbs:
        with client_of(db) as client:
            client.response_callbacks.clear()  # answers as the server gave them
            keys = sorted(_keys(client))
            for at in range(0, len(keys), KEYS_AT_ONCE):
                for entry in _read(client, keys[at : at + KEYS_AT_ONCE], field_ttls, moments):
                    found[db, entry["key"]] = entry
    return found


def _keys(client: redis.Redis) -> list[bytes]:
    return [key for key in client.execute_command("KEYS", "*") if not key.startswith(OURS)]


def _ask(client: redis.Redis, commands: Sequence[Sequence[bytes | int]]) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    return pipe.execute()


def _read(
    client: redis.Redis, keys: list[bytes], field_ttls: bool, moments: bool
) -> list[dict[str, Any]]:
    types = _ask(client, [(b"TYPE", key) for key in keys])
    expiries = _ask(client, [(b"PEXPIRETIME" if moments else b"PTTL", key) for key in keys])
    commands = []
    for key, kind in zip(keys, types, strict=True):
        before, after = VALUE_COMMANDS[kind]
        commands.append((*before, key, *after))
    values = _ask(client, commands)
    entries = []
    for key, kind, expiry, value in zip(keys, types, expiries, values, strict=True):
        if kind == b"hash":
            shown: Any = _hash(client, key, value, field_ttls)
        elif kind == b"stream":
            shown = _stream(client, key, value)
        else:
            shown = FORMS[kind](value)
        expire_at_ms = None if expiry < 0 else expiry
        entries.append(
            {"key": text(key), "type": kind.decode(), "value": shown, "expire_at_ms": expire_at_ms}
        )
    return entries


def _string_form(raw: bytes) -> str | dict[int, int]:
    """A HyperLogLog as its registers: versions pack them differently, and the cached count is not replicated."""
    if not raw.startswith(b"HYLL") or len(raw) < HLL_HEADER_BYTES or raw[4] > 1:
        return text(raw)
    body = raw[HLL_HEADER_BYTES:]
    return _sparse_registers(body) if raw[4] else _dense_registers(body)


def _dense_registers(body: bytes) -> dict[int, int]:
    bits = int.from_bytes(body, "little")
    return {i: value for i in range(16384) if (value := bits >> (6 * i) & 63)}


def _sparse_registers(body: bytes) -> dict[int, int]:
    found: dict[int, int] = {}
    at = register = 0
    while at < len(body):
        first = body[at]
        if first >= 0x80:  # 1vvvvvll
            for _ in range((first & 3) + 1):
                found[register] = (first >> 2 & 31) + 1
                register += 1
        elif first >= 0x40:  # 01xxxxxx yyyyyyyy
            at += 1
            register += ((first & 63) << 8 | body[at]) + 1
        else:  # 00xxxxxx
            register += first + 1
        at += 1
    assert register == 16384, register
    return found


def _zset(flat: list[bytes]) -> list[list[str]]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return [[text(member), repr(float(score))] for member, score in sorted(pairs)]


FORMS: dict[bytes, Callable[[Any], Any]] = {
    b"string": _string_form,
    b"list": lambda value: [text(it) for it in value],
    b"set": lambda value: [text(it) for it in sorted(value)],
    b"zset": _zset,
}


def _hash(
    client: redis.Redis, key: bytes, flat: list[bytes], field_ttls: bool
) -> list[list[str | int | None]]:
    pairs = sorted(zip(flat[::2], flat[1::2], strict=True))
    fields = [field for field, _ in pairs]
    times = [-1] * len(fields)
    if field_ttls:
        times = client.execute_command("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
    return [
        [text(field), text(value), None if at < 0 else at]
        for (field, value), at in zip(pairs, times, strict=True)
    ]


def _stream(client: redis.Redis, key: bytes, entries: list[Any]) -> dict[str, Any]:
    facts = _pairs(client.execute_command("XINFO", "STREAM", key))
    groups = []
    for flat in client.execute_command("XINFO", "GROUPS", key):
        group = _pairs(flat)
        # id, consumer, idle time, deliveries. Consumers with nothing pending do not replicate.
        pending = client.execute_command("XPENDING", key, group[b"name"], "-", "+", 100_000)
        groups.append(
            {
                "name": text(group[b"name"]),
                "last_id": group[b"last-delivered-id"].decode(),
                "pending": [[id_.decode(), text(name), count] for id_, name, _, count in pending],
                "consumers": sorted({text(name) for _, name, _, _ in pending}),
            }
        )
    return {
        "entries": [[id_.decode(), [text(it) for it in fields]] for id_, fields in entries],
        "last_id": facts[b"last-generated-id"].decode(),
        "groups": sorted(groups, key=lambda it: base64.b64decode(it["name"])),
    }


def _pairs(flat: list[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def differences(expected: State, found: State, *, but: Set[bytes] = frozenset()) -> list[str]:
    """Where the two differ, expiries apart; one line a key. but: keys that are known to, and must."""
    lines = []
    differing = set()
    for place in sorted(expected.keys() | found.keys()):
        one, other = expected.get(place), found.get(place)
        key = base64.b64decode(place[1])
        if one is None or other is None or one["value"] != other["value"]:
            differing.add(key)
        if key in but:
            continue
        name = f"db{place[0]} {key!r:.80}"
        if one is None or other is None:
            lines.append(f"{name}: {'missing' if other is None else 'extra'}")
        elif (one["type"], one["value"]) != (other["type"], other["value"]):
            lines.append(f"{name}: {one['type']} {one['value']!r:.200} is {other['value']!r:.200}")
    lines += [f"{key!r} does not differ" for key in sorted(but - differing)]
    return lines
