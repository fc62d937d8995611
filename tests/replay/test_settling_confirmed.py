"""A correction that is on its way is owed until the target has it; the stream does not wait for that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from engine.codec.block import Block
from engine.codec.stream import StreamTranscoder
from engine.endpoint import Endpoint
from engine.ledger.ledger import Ledger
from engine.replay.brought import Brought
from engine.replay.margin import Margin
from engine.replay.owed import Key, OwedExpiries, OwedFile
from engine.replay.settlement import Correction
from engine.replay.settling import Batch, Settling
from engine.settings import TaskSettings
from engine.stats import LineStats
from tests.codec.stream_blocks import START, make_plan
from tests.live.running_task import make_settings

KEYS: set[Key] = {(0, b"timed"), (2, b"timed")}
WHOLES: set[Key] = {(0, b"renewed"), (0, b"hash")}
AHEAD = START + 100


class Source:
    """Answers every question with the same offset."""

    refused = ""

    def __init__(self) -> None:
        self.asked: list[Batch] = []

    async def ask(
        self,
        keys: Sequence[Key],
        wholes: Sequence[Key],
        *,
        removes_missing: bool = True,
    ) -> Correction | None:
        del removes_missing
        self.asked.append((sorted(keys), sorted(wholes)))
        return Correction(AHEAD, [b"..."])

    async def close(self) -> None:
        pass


class NoSearch:
    seen = 0

    async def batches(self) -> AsyncIterator[Batch]:
        raise AssertionError("nothing is to be looked for")
        yield

    async def close(self) -> None:
        pass


class OnTheirWay:
    """What a delivery tells of blocks."""

    def __init__(self, *unconfirmed: Block, is_holding: bool = False) -> None:
        self.unconfirmed = list(unconfirmed)
        self.is_holding = is_holding


class Stay:
    def __init__(self) -> None:
        settings: TaskSettings = make_settings(
            Endpoint(host="127.0.0.1", port=1), Endpoint(host="127.0.0.1", port=2)
        )
        self.transcoder = StreamTranscoder(make_plan(is_transactional=False))
        self.source = Source()
        self.owed = OwedExpiries(keys=set(KEYS), wholes=set(WHOLES))
        self.stats = LineStats()
        self.settling = Settling(
            self.transcoder,
            self.source,
            self.owed,
            OwedFile(None),
            search=lambda *_: NoSearch(),
            brought=Brought(Ledger.open(None), settings, self.stats),
            stats=self.stats,
            margin=Margin(),
            wake=lambda: None,
        )

    async def send(self) -> Block:
        assert await self.settling.ask()
        assert self.transcoder.pause_at == AHEAD
        block = Block(data=b"...", replies=1)
        self.settling.sent(block)
        return block

    @property
    def is_saved(self) -> bool:
        self.settling.save()
        return (self.owed.keys, self.owed.wholes) == (KEYS, WHOLES)


@pytest.fixture
def stay() -> Stay:
    return Stay()


async def test_the_stream_goes_on_at_once_and_it_is_owed_until_it_is_confirmed(stay: Stay) -> None:
    block = await stay.send()

    assert stay.transcoder.pause_at == -1
    assert stay.settling.is_owing
    assert stay.settling.has_unconfirmed

    stay.settling.confirm(OnTheirWay(Block(data=b"", replies=0), block))

    assert stay.settling.is_owing
    assert stay.is_saved
    assert stay.stats.keys_fetched_again == 0
    assert not await stay.settling.ask(), "it is not asked for a second time"

    stay.settling.confirm(OnTheirWay())

    assert not stay.settling.is_owing
    assert not stay.settling.has_unconfirmed
    assert stay.stats.keys_fetched_again == len(WHOLES)
    assert len(stay.source.asked) == 1


async def test_it_is_asked_for_again_where_a_slot_waits(stay: Stay) -> None:
    """The part of that slot waits with it, in a place that ends with the stay."""
    await stay.send()

    stay.settling.confirm(OnTheirWay(is_holding=True))

    assert stay.stats.keys_fetched_again == 0
    assert stay.is_saved
    await stay.send()
    assert stay.source.asked[0] == stay.source.asked[1]

    stay.settling.confirm(OnTheirWay())

    assert not stay.settling.is_owing


async def test_confirmed_are_those_before_the_first_that_is_not(stay: Stay) -> None:
    await stay.send()
    stay.transcoder.add_late_keys(set(), {(0, b"later")})
    second = await stay.send()

    stay.settling.confirm(OnTheirWay(second))

    assert stay.stats.keys_fetched_again == len(WHOLES)
    stay.settling.save()
    assert (stay.owed.keys, stay.owed.wholes) == (set(), {(0, b"later")})
