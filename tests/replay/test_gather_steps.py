"""The clock of all lanes: one timer, and what its steps tell of the load."""

from __future__ import annotations

import asyncio

from engine.replay.gather_steps import LOAD_BYTES, GatherSteps


class Counted:
    """What has come in, and so much more with each look."""

    def __init__(self, each: int) -> None:
        self.total = 0
        self.each = each
        self.looks = 0

    def __call__(self) -> int:
        self.looks += 1
        self.total += self.each
        return self.total


async def test_those_who_wait_share_a_step() -> None:
    added = Counted(LOAD_BYTES)
    steps = GatherSteps(added)
    assert await asyncio.gather(*(steps.pass_one() for _ in range(6))) == [True] * 6
    assert added.looks == 2  # at its beginning and its end


async def test_load_goes_on_until_a_step_has_brought_little() -> None:
    added = Counted(LOAD_BYTES)
    steps = GatherSteps(added)
    for _ in range(3):
        assert await steps.pass_one()
    added.each = LOAD_BYTES - 1
    async with asyncio.timeout(20):
        while await steps.pass_one():  # a step that a busy machine made long tells nothing
            pass
    added.each = LOAD_BYTES
    async with asyncio.timeout(20):
        while not await steps.pass_one():
            pass


async def test_who_gives_up_stops_nobody_else() -> None:
    steps = GatherSteps(Counted(LOAD_BYTES))
    leaving, staying = (asyncio.create_task(steps.pass_one()) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    async with asyncio.timeout(20):
        assert await staying
    assert leaving.cancelled()
    waiting = asyncio.create_task(steps.pass_one())
    await asyncio.sleep(0)
    steps.close()
    waiting.cancel()
