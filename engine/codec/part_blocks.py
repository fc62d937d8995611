"""The first and the last step of a value that is built under another name. Pure.

Both go alone: nothing else is on its way with them (Block.is_alone), so that after a lost connection it is certain what
was done before. Errors that tell something are expected; `is_expected` knows them.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.codec.command_text import encode
from engine.codec.crc64 import crc64
from engine.codec.part_names import PART_PREFIX

NO_PAYLOAD = b"?"
# A string "?" as every server from 2.6 on loads it (RDB 6).
_TINY = b"\x00\x01?" + (6).to_bytes(2, "little")
_TINY_PAYLOAD = _TINY + crc64(_TINY).to_bytes(8, "little")


_TEXTS = ("DUMP payload", "no such key", "equal or smaller than the target stream", "BUSYGROUP")


def may_be_of_part(text: str) -> bool:
    """Whether `is_expected` could be true for this error, so that it is worth finding its command."""
    return any(it in text for it in _TEXTS)


def check_commands(key: bytes) -> list[bytes]:
    """BUSYKEY if the target has the key, else an error about the payload; nothing is changed (cluster.c, restoreCommand)."""
    return [encode("RESTORE", key, 0, NO_PAYLOAD)]


def finish_commands(name: bytes, key: bytes, *, expire_at_ms: int, is_replace: bool) -> list[bytes]:
    """Give the value built under `name` its own name. expire_at_ms: -1: none.

    Without `is_replace` a key that is there stays, and the answer has a BUSYKEY: RENAMENX does not say so by an error, so the
    name it left is tried.
    """
    if is_replace:
        commands = [encode("RENAME", name, key)]
        if expire_at_ms >= 0:
            commands.append(encode("PEXPIREAT", key, max(expire_at_ms, 1)))
        return commands
    commands = [encode("PEXPIREAT", name, max(expire_at_ms, 1))] if expire_at_ms >= 0 else []
    return [
        *commands,
        encode("RENAMENX", name, key),
        encode("RESTORE", name, 0, _TINY_PAYLOAD),
        encode("DEL", name),
    ]


def is_expected(
    command: Sequence[bytes], text: str, *, is_repeated: bool, may_be_gone: bool
) -> bool:
    """Whether an error reply to a command for a big value is none.

    is_repeated: what was on its way when a connection was lost is sent again. may_be_gone: the value may have expired.
    """
    name = command[0] if command else b""
    if name == b"RESTORE" and len(command) == 4 and command[3] == NO_PAYLOAD:
        return "DUMP payload" in text
    at = 2 if name == b"XGROUP" else 1
    if len(command) <= at or not command[at].startswith(PART_PREFIX):
        return False
    if name in {b"RENAME", b"RENAMENX"}:
        return (is_repeated or may_be_gone) and "no such key" in text
    if name == b"XADD":
        return is_repeated and "equal or smaller than the target stream top item" in text
    return name == b"XGROUP" and is_repeated and text.startswith("BUSYGROUP")
