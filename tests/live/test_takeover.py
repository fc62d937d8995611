"""A second process for the same task: the older one must not write any more."""

from __future__ import annotations

import pytest

from engine.checkpoint.checkpoint import checkpoint_key
from engine.checkpoint.claim import LineClaim
from engine.errors import TargetRefused
from engine.supervision.states import TaskState
from tests.fix_servers import StartServer
from tests.live.running_task import Run, make_settings, running
from tests.live.sides import compared, filled, keys_of_ours, offset_of
from tests.live.workload import writing
from tests.live.world import links_of

pytestmark = pytest.mark.live


async def test_the_older_worker_of_a_task_ends_when_a_second_one_takes_over(
    start_server: StartServer,
) -> None:
    source, target = start_server("redis-8.2"), start_server("redis-8.2")
    await filled(source, 1000, seed=11)
    settings = make_settings(source.endpoint, target.endpoint)

    async with writing(source.endpoint, rate=500, seed=12) as writer:
        first = Run(settings)
        await first.reaches(lambda: first.task.state is TaskState.STREAM, "the first follows")
        await writer.has_written(200)
        async with running(settings) as second:
            await second.reaches(
                lambda: second.task.state is TaskState.STREAM, "the second follows"
            )
            with pytest.raises(TargetRefused, match="taken over"):
                await first.future
            await writer.stop()
            await second.reaches_offset(offset_of(source))
            found = await compared(source, target)
            assert len(links_of(target)) == 1

    assert found.is_equal, found
    assert first.task.state is TaskState.FAILED
    assert second.task.status().full_resyncs == 0
    assert len(keys_of_ours(target)) == 1
    assert links_of(target) == []


async def test_a_worker_that_lost_the_answer_to_its_own_claim_is_not_taken_over(
    start_server: StartServer,
) -> None:
    target = start_server("redis-8.2")
    settings = make_settings(target.endpoint, target.endpoint)

    def claim() -> LineClaim:
        return LineClaim(
            target.endpoint,
            settings.target_link,
            checkpoint_key("t1", "0"),
            connection_prefix="redis-ferry:t1:0:",
        )

    ours, theirs = claim(), claim()
    known = (await ours.take(0)).epoch
    await ours.take(known)  # it was made, but the connection broke before we heard of it
    again = await ours.take(known)
    assert again.epoch == known + 2

    await theirs.take(0)
    with pytest.raises(TargetRefused, match="taken over"):
        await ours.take(again.epoch)
