"""What an error reply of the target means. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from engine.codec.block import Block
from engine.codec.command_text import command_at, commands_in
from engine.codec.part_blocks import may_be_of_part
from engine.endpoint import NO_PASSWORD_SET, Endpoint
from engine.errors import EngineError, TargetAuthError, TargetNotReady, TargetRejected

_HINTS = {
    "BUSYKEY": "the target has this key: choose --on-conflict replace or skip, or an empty target",
    "NOPERM": "grant the target's user this command and all keys",
    "NOAUTH": "the target asks for a password",
    "MOVED": "the target is a cluster node",
    "CROSSSLOT": "the target is a cluster node",
    "WRONGTYPE": "the target's key is of another type than the source's: it was there before (--on-conflict skip "
    "keeps it) or another client wrote it. Remove it there, then migrate anew under another --task-id",
    "ERR": "",
}

# A write refused for the moment: nothing of its transaction was applied, and it is tried again.
_NOT_READY_HINTS = {
    "OOM": "give the target more memory: CONFIG SET maxmemory …",
    "READONLY": "the target is a replica: wait for the failover, or use its primary's address",
    "LOADING": "the target is loading its data: wait",
    "MISCONF": "the target cannot save its data: repair its disk, or CONFIG SET stop-writes-on-bgsave-error no",
    "NOREPLICAS": "the target wants replicas: connect them, or CONFIG SET min-replicas-to-write 0",
    "MASTERDOWN": "the target is a replica without its primary: repair that",
    "BUSY": "a script holds the target: SCRIPT KILL",
    "CLUSTERDOWN": "the target's cluster is down: repair it",
    "TRYAGAIN": "the target's slots are being moved: wait",
}

# At the start, or inside redis-py's words about a command of a pipeline.
_NOT_READY = re.compile(rf"(?:^|['\"])({'|'.join(_NOT_READY_HINTS)})\b")


def not_ready(endpoint: Endpoint, text: str) -> TargetNotReady | None:
    """The error for a reply that means "not now"; None for any other."""
    found = _NOT_READY.search(text)
    if found is None:
        return None
    code = found[1]
    return TargetNotReady(
        f"the target {endpoint.address} takes no writes now: {text}",
        code=code,
        hint=_NOT_READY_HINTS[code],
    )


def raise_if_not_ready(endpoint: Endpoint, block: Block, reply: int, text: str) -> None:
    """Raise TargetNotReady, naming the command, if this reply to a command of `block` means "not now"."""
    busy = not_ready(endpoint, text)
    if busy is not None:
        command, key = _command_and_key(block, reply)
        what = f"{command} on key {_shown(key)}" if key else command
        raise TargetNotReady(f"{busy.message} ({what})", code=busy.code, hint=busy.hint)


# Errors by which a script fails here although it did not at the source.
_OF_THE_TARGET = frozenset(
    {"OOM", "READONLY", "NOPERM", "MISCONF", "NOREPLICAS", "LOADING", "NOSCRIPT"}
)
# A script on a cluster's node touches keys that it does not name (script.c, scriptVerifyClusterState).
_FOREIGN_KEYS = ("non local key", "do not hash to the same slot")


@dataclass(frozen=True, slots=True)
class ReplyPolicy:
    """Which errors are no errors. skip_existing: BUSYKEY and existing functions under `skip`."""

    skip_existing: bool = False


def is_failure_of_the_source(block: Block, reply: int, element: int, text: str) -> bool:
    """Whether a script of the stream ended with an error of its own.

    Sources before 5.0 replicate scripts as they are, also one that failed after its first write: it fails
    here at the same place and leaves the same. Newer sources send what a script did (scripting.c, evalGenericCommand).
    """
    if block.offset < 0 or "user_script" not in text:
        return False
    arguments = command_at(block.data, block.command_index(reply, element))
    if not arguments or arguments[0].upper() not in {b"EVAL", b"EVALSHA"}:
        return False
    if any(it in text for it in _FOREIGN_KEYS):
        return False
    words = set(text.replace(":", " ").replace("-", " ").split())
    return not words & _OF_THE_TARGET and "nknown Redis command" not in text


def is_about_missing_key(block: Block, text: str) -> bool:
    """Whether a command of the stream failed because its key is not there (RENAME, LSET, XCLAIM, XGROUP …)."""
    return block.offset >= 0 and ("o such key" in text or "requires the key to exist" in text)


def is_done_already(block: Block, text: str) -> bool:
    """Whether FUNCTION DELETE of the stream found nothing to do: it was sent before, and the answer got lost."""
    return block.offset >= 0 and text.startswith("ERR Library not found")


def is_unloadable(block: Block, text: str) -> bool:
    """Whether a value of the snapshot is one that the target cannot load: of a module, for example."""
    return block.offset < 0 and "Bad data format" in text


def is_settled_part(
    block: Block,
    reply: int,
    element: int,
    text: str,
    is_expected: Callable[[list[bytes], str], bool] | None,
) -> bool:
    """Whether an error of the snapshot is one that a big value may meet; `is_expected` looks at the command."""
    if is_expected is None or block.offset >= 0 or not may_be_of_part(text):
        return False
    return is_expected(command_at(block.data, block.command_index(reply, element)), text)


def place_of(block: Block, reply: int, element: int) -> tuple[int, list[bytes]]:
    """The database that a command of `block` ran in, and its arguments."""
    db = 0
    command: list[bytes] = []
    for command in islice(commands_in(block.data), block.command_index(reply, element) + 1):
        if command[0] == b"SELECT":
            db = int(command[1])
    return db, command


def rejected(
    block: Block, reply: int, element: int, text: str, policy: ReplyPolicy
) -> TargetRejected | None:
    """The error for reply number `reply` of `block`, or None if the policy lets it pass.

    element: the place in an EXEC's array, -1 for a reply of its own. EXECABORT names the first command that
    could not be queued; that one's own reply comes before it and is the one reported.
    """
    code = text.split(" ", 1)[0]
    if policy.skip_existing and (code == "BUSYKEY" or "already exists" in text):
        return None
    command, key = _command_and_key(block, block.command_index(reply, element))
    where = "in the snapshot" if block.offset < 0 else f"in the block up to offset {block.offset}"
    if block.is_transaction and element < 0:
        outcome = "; nothing of this block was applied"
    elif block.is_transaction:
        outcome = "; the rest of its block was applied and a restart goes on behind it"
    else:
        outcome = ""
    return TargetRejected(
        f"the target refused {command} on key {_shown(key)} {where}: {text}{outcome}",
        command=command,
        key=key,
        reply=text,
        offset=block.offset,
        hint=_hint(code, text),
    )


def _command_and_key(block: Block, index: int) -> tuple[str, bytes]:
    arguments = command_at(block.data, index)
    command = arguments[0].decode("ascii", "replace").upper() if arguments else "?"
    return command, arguments[1] if len(arguments) > 1 else b""


def _hint(code: str, text: str) -> str:
    if "Bad data format" in text:
        return "the target cannot load this value: does it lack a module or is it older than the source?"
    if any(it in text for it in _FOREIGN_KEYS):
        return "a script of the source touches keys that it does not name, which a cluster refuses: name them, or let the source replicate what scripts do (lua-replicate-commands yes)"
    return _HINTS.get(code) or _NOT_READY_HINTS.get(code, "")


def _shown(key: bytes) -> str:
    return repr(key[:80]) + ("…" if len(key) > 80 else "")


def auth_error(endpoint: Endpoint, text: str) -> EngineError:
    """The error for a log-in that the target refused."""
    who = f"user {endpoint.username!r}" if endpoint.username else "the default user"
    if "NOAUTH" in text:
        return TargetAuthError(
            f"the target {endpoint.address} asks for a password and none was given",
            hint="put it in the URL, in REDIS_FERRY_TARGET_PASSWORD or in --target-password-file",
        )
    if any(words in text for words in NO_PASSWORD_SET):
        return TargetAuthError(
            f"the target {endpoint.address} has no password, and one was given for {who}: {text}",
            hint="leave the password out, or give the user that it belongs to (redis://user@…)",
        )
    return TargetAuthError(
        f"the target {endpoint.address} refused {who}: {text}",
        hint="check user and password; try them with redis-cli",
    )
