"""Commands that are not of one slot by the table: split, sent to all, or a reason to stop."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

import structlog

from engine.checkpoint.cluster_claim import ClusterClaim
from engine.codec.command_keys import keys_of
from engine.codec.command_text import encode
from engine.codec.slot_router import SlotRouter
from engine.codec.slots import key_slot
from engine.control_client import LOST, control_client, raise_if_cancelled
from engine.errors import TargetNotReady, TargetRejected
from engine.settings import TargetSettings
from engine.stats import LineStats

log = structlog.get_logger("engine.replay")

# Each key by itself means the same.
_BY_KEY = frozenset({b"DEL", b"UNLINK", b"TOUCH"})
_BY_PAIR = frozenset({b"MSET", b"MSETNX"})  # MSETNX is replicated only where it has set all
_TO_ALL = frozenset({b"FUNCTION", b"SCRIPT"})
_TO_ONE = frozenset({b"PUBLISH"})  # the cluster's bus carries it on


class Broadcast(Protocol):
    """Sends a command without a key behind everything before it."""

    def __call__(self, command: bytes, *, to_all: bool) -> Awaitable[None]:
        """To every primary, or to one."""


class ClusterRouting:
    """What to do with the router's events. split: commands that were split by slot."""

    def __init__(
        self, router: SlotRouter, claim: ClusterClaim, settings: TargetSettings, stats: LineStats
    ) -> None:
        self._router = router
        self._claim = claim
        self._settings = settings
        self._stats = stats
        self._told: dict[bytes, tuple[int, int, int]] = {}
        self.split = 0

    async def take_event(self, offset: int, broadcast: Broadcast) -> None:
        """Put the commands of the router's event where they belong.

        Raises:
            TargetRejected: it cannot be applied to a cluster.
        """
        arguments = self._router.event
        assert arguments is not None
        name = arguments[0].upper()
        if name in _TO_ALL or name in _TO_ONE:
            await broadcast(encode(*arguments), to_all=name in _TO_ALL)
            return
        places = await self._places(arguments)
        slots = {key_slot(arguments[at]) for at in places}
        if len(slots) == 1:
            self._put(slots.pop(), encode(*arguments), offset)
        elif places and name in _BY_KEY:
            self._split(name, [[key] for key in arguments[1:]], offset)
        elif places and name in _BY_PAIR:
            pairs = list(zip(arguments[1::2], arguments[2::2], strict=True))
            self._split(b"MSET", [list(it) for it in pairs], offset)
        else:
            raise _refusal(arguments, offset, bool(places))

    def _split(self, name: bytes, pieces: Sequence[list[bytes]], offset: int) -> None:
        by_slot: dict[int, list[bytes]] = {}
        for piece in pieces:
            by_slot.setdefault(key_slot(piece[0]), []).extend(piece)
        for slot, some in by_slot.items():
            self._put(slot, encode(name, *some), offset)
        self.split += 1
        self._stats.cross_slot[name.decode("ascii", "replace")] += 1

    def _put(self, slot: int, command: bytes, offset: int) -> None:
        skip = self._router.skip
        if skip is None or offset < 0 or offset > skip[slot]:
            self._router.put(slot, command)
        else:
            self._router.skipped += 1

    async def _places(self, arguments: list[bytes]) -> list[int]:
        found = keys_of(arguments)
        if found is not None:
            return [it.index for it in found]
        name = arguments[0].upper()
        if name not in self._told:
            self._told[name] = await self._ask(name)
        first, last, step = self._told[name]
        if not first:
            return []
        last = last + len(arguments) if last < 0 else last
        return list(range(first, min(last, len(arguments) - 1) + 1, max(step, 1)))

    async def _ask(self, name: bytes) -> tuple[int, int, int]:
        """A module's command: the target itself knows where its keys stand. Asked once."""
        endpoint = self._claim.endpoints[0]
        client = control_client(endpoint, timeout_seconds=self._settings.connect_timeout_seconds)
        try:
            client.response_callbacks.clear()
            reply: Any = await client.execute_command("COMMAND", "INFO", name)  # type: ignore[no-untyped-call]
            raise_if_cancelled()
        except LOST as error:
            raise_if_cancelled()
            raise TargetNotReady(
                f"the target {endpoint.address} cannot be asked about {name!r}: {error}",
                code="TRYAGAIN",
            ) from error
        finally:
            await client.aclose()
        if not reply or not reply[0] or b"movablekeys" in set(map(_flag, reply[0][2])):
            return 0, 0, 0
        return int(reply[0][3]), int(reply[0][4]), int(reply[0][5])


def _flag(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _refusal(arguments: Sequence[bytes], offset: int, has_keys: bool) -> TargetRejected:
    name = arguments[0].decode("ascii", "replace").upper()
    key = arguments[1] if len(arguments) > 1 else b""
    if name == "SELECT":
        what, hint = (
            "has several databases",
            "a cluster has database 0 only: migrate to a standalone server",
        )
    elif has_keys:
        what = "names keys of several slots, and cannot be split"
        hint = "give such keys a common hash tag at the source, or migrate to a standalone server"
    else:
        what, hint = "has no key that tells its slot", "migrate to a standalone server"
    return TargetRejected(
        f"{name} on key {key[:80]!r} at offset {offset} of the source {what}: a cluster can't take it",
        command=name,
        key=key,
        reply="CROSSSLOT",
        offset=offset,
        hint=hint,
    )
