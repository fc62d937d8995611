"""Faults of the network on either side, as a table: what breaks where, and the way that follows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from engine.supervision.states import TaskState
from tests.fix_servers import StartServer
from tests.live.proxied_world import SHORT_TIMEOUTS, ProxiedWorld, proxied_world, under_load
from tests.live.running_task import Run
from tests.live.sides import offset_of
from tests.live.workload import Writing
from tests.live.world import SIDES, Ways, ways_of
from tests.servers.cut_points import MakeCutPoint, after_lines, behind, in_rdb
from tests.servers.fault_proxy import End, FaultProxy, Way

pytestmark = pytest.mark.live

# What the connection that carries data begins with; the control connections begin otherwise.
DATA = b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n"
# Sent when the reply before has come. The control connections say none of it.
AFTER_PING = behind(b"$14\r\nlistening-")
AFTER_LISTENING_PORT = behind(b"$10\r\nip-")
AFTER_IP_ADDRESS = behind(b"$4\r\ncapa\r\n$3")
AFTER_CAPA = behind(b"$7\r\nvers")
AFTER_VERSION = behind(b"$5\r\nPSY")
FIRST = Ways(full=1, partial=0, reconnects=1)  # cut before the source had decided
AGAIN = Ways(full=2, partial=0, reconnects=1)
PARTLY = Ways(full=1, partial=1, reconnects=1)
TWICE = Ways(full=1, partial=1, reconnects=1)  # two failures, one that succeeded


@dataclass(frozen=True)
class Cut:
    """A cut of the replication connection, and the ways that a task takes through it."""

    name: str
    point: MakeCutPoint
    ways: Ways
    way: Way = Way.TO_CLIENT
    end: End = End.RESET


SOURCE_CUTS = [
    Cut("after-ping", AFTER_PING, FIRST, way=Way.TO_SERVER),
    Cut("after-listening-port", AFTER_LISTENING_PORT, FIRST, way=Way.TO_SERVER),
    Cut("after-ip-address", AFTER_IP_ADDRESS, FIRST, way=Way.TO_SERVER, end=End.CLOSE),
    Cut("after-capa", AFTER_CAPA, FIRST, way=Way.TO_SERVER),
    Cut("after-version", AFTER_VERSION, FIRST, way=Way.TO_SERVER),
    Cut("inside-psync", behind(b"PSYNC\r\n$1\r\n?\r\n$2\r\n-1\r"), FIRST, way=Way.TO_SERVER),
    Cut("inside-the-verdict", behind(b"+FULLRESYNC ", plus=7), FIRST),
    Cut("after-the-verdict", behind(b"+FULLRESYNC ", plus=50), AGAIN),
    Cut("in-the-rdbs-header", in_rdb(0.0, plus=4), AGAIN),
    Cut("in-the-middle-of-the-rdb", in_rdb(0.5), AGAIN),
    Cut("in-the-middle-of-the-rdb-by-fin", in_rdb(0.5), AGAIN, end=End.CLOSE),
    Cut("before-the-rdbs-last-byte", in_rdb(1.0, plus=-1), AGAIN),
    Cut("after-the-rdbs-last-byte", in_rdb(1.0), PARTLY),
    Cut("inside-a-command", behind(b"\r\nAPPEND\r\n", nth=20, plus=6), PARTLY),
    Cut("inside-a-command-by-fin", behind(b"\r\nRPUSH\r\n", nth=20, plus=6), PARTLY, end=End.CLOSE),
    Cut("inside-a-transaction", behind(b"\r\nMULTI\r\n", nth=3, plus=40), PARTLY),
    Cut("inside-exec", behind(b"\r\n$4\r\nEX", nth=3), PARTLY),
]

TARGET_CUTS = [
    Cut("after-setname", after_lines(1), AGAIN),
    Cut("in-the-snapshot", behind(b"RESTORE", nth=40, plus=9), AGAIN, way=Way.TO_SERVER),
    Cut("in-the-snapshots-replies", behind(b"+OK\r\n", nth=60, plus=2), AGAIN),
    Cut("inside-a-transaction", behind(b"MULTI", nth=8, plus=30), PARTLY, way=Way.TO_SERVER),
    # Applied, and nobody was told: what is sent again must be skipped.
    Cut(
        "after-exec-whose-reply-is-lost",
        behind(b"EXEC\r\n", nth=8),
        PARTLY,
        way=Way.TO_SERVER,
        end=End.CLOSE,
    ),
    Cut("inside-the-reply-to-exec", behind(b"+QUEUED\r\n*", nth=8, plus=1), PARTLY),
    Cut("between-two-replies", behind(b"+QUEUED\r\n", nth=90), PARTLY),
]


async def ends_equal(it: ProxiedWorld, run: Run, load: Writing) -> None:
    await load.stop()
    await it.world.is_caught_up(run)


def named(cut: Cut) -> str:
    return cut.name


@pytest.mark.parametrize("cut", SOURCE_CUTS, ids=named)
async def test_the_source_link_is_cut(cut: Cut, start_server: StartServer) -> None:
    async with proxied_world(start_server) as it:
        armed = it.source.cut_at(cut.point, way=cut.way, end=cut.end)
        async with under_load(it) as (run, load):
            await run.reaches(lambda: armed.fired, "the cut")
            await run.reaches(lambda: run.task.status().errors, "it is noticed")
            await load.has_written(100)
            await ends_equal(it, run, load)

        assert await it.world.is_equal_and_clean()
        assert ways_of(run) == cut.ways
        assert it.source.counters.cuts == 1


SECOND_CUTS = [
    Cut("after-ping", AFTER_PING, TWICE, way=Way.TO_SERVER),
    Cut("after-capa", AFTER_CAPA, TWICE, way=Way.TO_SERVER),
    Cut("inside-the-verdict", behind(b"+CONTINUE", plus=9), TWICE),
    Cut(
        "after-the-verdict", behind(b"+CONTINUE", plus=43), replace(TWICE, partial=2, reconnects=2)
    ),
]


@pytest.mark.parametrize("cut", SECOND_CUTS, ids=named)
async def test_the_handshake_of_a_reconnection_is_cut_too(
    cut: Cut, start_server: StartServer
) -> None:
    async with proxied_world(start_server) as it:
        first = it.source.cut_at(behind(b"\r\nAPPEND\r\n", nth=9))
        async with under_load(it) as (run, load):
            await run.reaches(lambda: first.fired, "the cut of the stream")
            second = it.source.cut_at(cut.point, way=cut.way)
            await run.reaches(lambda: second.fired, "the cut of the handshake")
            await load.has_written(100)
            await ends_equal(it, run, load)

        assert await it.world.is_equal_and_clean()
        assert ways_of(run) == cut.ways
        assert run.task.status().errors == 2


@pytest.mark.parametrize("cut", TARGET_CUTS, ids=named)
async def test_the_target_link_is_cut(cut: Cut, start_server: StartServer) -> None:
    async with proxied_world(start_server) as it:
        armed = it.target.cut_at(cut.point, way=cut.way, end=cut.end, opened_with=DATA)
        async with under_load(it) as (run, load):
            await run.reaches(lambda: armed.fired, "the cut")
            await run.reaches(lambda: run.task.status().errors, "it is noticed")
            await load.has_written(100)
            await ends_equal(it, run, load)

        assert await it.world.is_equal_and_clean()
        # The source's link may stay up through it, so only a second snapshot is told apart.
        assert ways_of(run).reconnects == 1
        assert ways_of(run).full <= cut.ways.full
        assert it.target.counters.cuts == 1


def reset(proxy: FaultProxy) -> None:
    proxy.cut()


def close(proxy: FaultProxy) -> None:
    proxy.cut(End.CLOSE)


def stall(proxy: FaultProxy) -> None:
    proxy.stall()


def stall_what_it_says(proxy: FaultProxy) -> None:
    proxy.stall(Way.TO_CLIENT)


def half_open(proxy: FaultProxy) -> None:
    proxy.swallow(Way.TO_CLIENT)


def deaf(proxy: FaultProxy) -> None:
    proxy.deafen()
    proxy.cut()


async def refused(proxy: FaultProxy) -> None:
    await proxy.refuse()
    proxy.cut()


FAULTS = [reset, close, stall, stall_what_it_says, half_open, deaf, refused]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_in_mid_stream_that_passes(
    fault: object, side: str, start_server: StartServer
) -> None:
    assert callable(fault)
    async with proxied_world(start_server, **SHORT_TIMEOUTS) as it:
        async with under_load(it) as (run, load):
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
            await load.has_written(200)
            doing = fault(it.proxy(side))
            if doing is not None:
                await doing
            await run.reaches(lambda: run.task.status().errors, "it is noticed")
            await load.has_written(200)
            it.proxy(side).restore()
            await load.has_written(200)
            await ends_equal(it, run, load)

        assert await it.world.is_equal_and_clean()
        ways = ways_of(run)
        assert ways.full == 1
        assert ways.partial >= (side == "source")
        assert ways.reconnects >= 1


async def test_a_source_that_hears_nothing_still_migrates(start_server: StartServer) -> None:
    # Only our acknowledgements get lost: what comes is whole, so there is nothing to repair.
    async with proxied_world(start_server, **SHORT_TIMEOUTS) as it:
        async with under_load(it) as (run, load):
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
            it.source.swallow(Way.TO_SERVER)
            await load.has_written(400)
            await load.stop()
            await run.reaches_offset(offset_of(it.world.source), is_settled=False)
            await run.reaches(lambda: it.source.counters.swallowed_bytes, "something is lost")
            assert ways_of(run) == Ways(full=1, partial=0, reconnects=0)
            it.source.restore()  # expiries that are owed wait for an answer of the source
            await it.world.is_caught_up(run)
        assert await it.world.is_equal_and_clean()


@pytest.mark.parametrize("side", SIDES)
async def test_a_slow_and_narrow_way_needs_no_reconnection(
    side: str, start_server: StartServer
) -> None:
    async with proxied_world(start_server) as it:
        it.proxy(side).delay(0.05)
        it.proxy(side).throttle(2 * 1024 * 1024)
        async with under_load(it) as (run, load):
            await run.reaches(lambda: run.task.state is TaskState.STREAM, "the stream phase")
            await load.has_written(400)
            await ends_equal(it, run, load)
        assert await it.world.is_equal_and_clean()
        assert ways_of(run) == Ways(full=1, partial=0, reconnects=0)
