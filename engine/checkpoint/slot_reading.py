"""Reads the checkpoints of all slots: one connection to each primary, all questions at once, all primaries side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from engine.checkpoint.slot_checkpoints import questions
from engine.cluster.topology import ClusterMap, place_in_redirection
from engine.codec.command_text import encode
from engine.codec.slot_states import SlotStateReader, SlotStates
from engine.endpoint import Endpoint
from engine.errors import EngineError, TargetLinkLost, TargetNotReady, TargetUnreachable
from engine.settings import TargetSettings
from engine.target.replies import ReplyPolicy, not_ready
from engine.target.slot_link import PartBlock, SlotLink

CONNECTION_NAME = "redis-ferry:checkpoints"
_ASKING = encode("ASKING")


class _StateLink(SlotLink):
    """A SlotLink whose replies are checkpoints."""

    async def read(
        self, slots: Sequence[int], suffix: bytes, found: SlotStates, *, is_asking: bool
    ) -> list[str]:
        """Note those of `slots` in `found`; the error reply to each of them, empty where there is none."""
        # The same interface.
        self._skimmer = SlotStateReader(slots, found, self._reply_base)  # type: ignore[assignment]
        before = _ASKING if is_asking else b""
        part = PartBlock(
            data=before + questions(slots, suffix), replies=is_asking + len(slots), offset=-1
        )
        await self.deliver(part)
        refusals = [""] * len(slots)
        for reply, _, text in part.errors:
            refusals[max(reply - is_asking, 0)] = text
        return refusals


async def read_slots(
    found_map: ClusterMap,
    endpoints: Sequence[Endpoint],
    settings: TargetSettings,
    suffix: bytes,
    endpoint_at: Callable[[str, int], Endpoint],
) -> SlotStates:
    """What all slots' checkpoints say. endpoints: the primaries, in the order of the map's shards.

    Raises:
        TargetUnreachable, TargetAuthError. TargetNotReady: a primary is not ready, or a slot moves in this moment.
    """
    found = SlotStates()

    async def read(endpoint: Endpoint, slots: Sequence[int]) -> None:
        refusals = await _ask(endpoint, settings, slots, suffix, found, is_asking=False)
        for slot, text in zip(slots, refusals, strict=True):
            at, why = endpoint, text
            if text.startswith("ASK "):  # the slot moves, its checkpoint has already
                at = endpoint_at(*place_in_redirection(text, endpoint.host))
                (why,) = await _ask(at, settings, [slot], suffix, found, is_asking=True)
            if why:
                raise _error(at, slot, why)

    await asyncio.gather(
        *(
            read(endpoint, sorted(shard.slots))
            for endpoint, shard in zip(endpoints, found_map.shards, strict=True)
        )
    )
    return found


async def _ask(
    endpoint: Endpoint,
    settings: TargetSettings,
    slots: Sequence[int],
    suffix: bytes,
    found: SlotStates,
    *,
    is_asking: bool,
) -> list[str]:
    link = await _StateLink.open(
        endpoint,
        settings,
        client_name=CONNECTION_NAME,
        policy=ReplyPolicy(),
        on_confirmed=lambda _: None,
        on_failed=lambda _: None,
    )
    try:
        async with asyncio.timeout(settings.reply_timeout_seconds):
            return await link.read(slots, suffix, found, is_asking=is_asking)
    except (TargetLinkLost, TimeoutError) as error:
        raise TargetUnreachable(
            f"the checkpoints cannot be read from the target {endpoint.address}: {error or 'no answer'}"
        ) from error
    finally:
        link.close()


def _error(endpoint: Endpoint, slot: int, text: str) -> EngineError:
    if text.startswith(("MOVED ", "ASK ", "TRYAGAIN")):
        return TargetNotReady(
            f"slot {slot} of the target moves in this moment: {text}", code="TRYAGAIN"
        )
    return not_ready(endpoint, text) or TargetUnreachable(
        f"the checkpoints cannot be read from the target {endpoint.address}: {text}"
    )
