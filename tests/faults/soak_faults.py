"""What the soak does to a running migration: each breaks something, waits a while and repairs it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from tests.faults.arena import MIB, Arena
from tests.servers.fault_proxy import End, FaultProxy, ProxyThread, Way

Fault = Callable[[Arena, random.Random], None]

SLOW_BYTES_PER_SECOND = (200 * 1024, 2 * MIB)


def _lasts(rng: random.Random, shortest_seconds: float, longest_seconds: float) -> None:
    """A fault has a duration; nothing is waited for."""
    time.sleep(rng.uniform(shortest_seconds, longest_seconds))


def _proxy(it: Arena, rng: random.Random) -> ProxyThread:
    return rng.choice((it.source_proxy, it.target_proxy))


def _ways(rng: random.Random) -> tuple[Way, ...]:
    return rng.choice(((), (Way.TO_CLIENT,), (Way.TO_SERVER,)))


def cut(it: Arena, rng: random.Random) -> None:
    """End all connections to one side."""
    end = rng.choice(tuple(End))
    _proxy(it, rng).do(lambda proxy: proxy.cut(end))


def stall(it: Arena, rng: random.Random) -> None:
    """Nothing passes for a while, in one direction or both."""
    chosen, ways = _proxy(it, rng), _ways(rng)
    chosen.do(lambda proxy: proxy.stall(*ways))
    _lasts(rng, 0.2, 3.0)
    chosen.do(FaultProxy.restore)


def half_open(it: Arena, rng: random.Random) -> None:
    """What is sent gets lost for a while; then the connection is reset."""
    chosen, ways = _proxy(it, rng), _ways(rng)
    chosen.do(lambda proxy: proxy.swallow(*ways))
    _lasts(rng, 0.2, 2.0)
    chosen.do(FaultProxy.restore)


def throttle(it: Arena, rng: random.Random) -> None:
    """A narrow way to the target."""
    rate = rng.randrange(*SLOW_BYTES_PER_SECOND)
    it.target_proxy.do(lambda proxy: proxy.throttle(rate, Way.TO_SERVER))
    _lasts(rng, 1.0, 5.0)
    it.target_proxy.do(FaultProxy.restore)


def refuse(it: Arena, rng: random.Random) -> None:
    """One side is away: open connections end, new ones are refused."""
    chosen = _proxy(it, rng)

    async def close(proxy: FaultProxy) -> None:
        await proxy.refuse()
        proxy.cut()

    chosen.do(close)
    _lasts(rng, 0.2, 2.0)
    chosen.do(FaultProxy.restore)


def deaf(it: Arena, rng: random.Random) -> None:
    """One side takes connections and says nothing."""
    chosen = _proxy(it, rng)

    def deafen(proxy: FaultProxy) -> None:
        proxy.deafen()
        proxy.cut()

    chosen.do(deafen)
    _lasts(rng, 0.2, 2.0)
    chosen.do(FaultProxy.restore)


def pause_worker(it: Arena, rng: random.Random) -> None:
    """SIGSTOP, and SIGCONT after a while."""
    it.worker.pause()
    _lasts(rng, 0.2, 3.0)
    it.worker.resume()


def kill_worker(it: Arena, rng: random.Random) -> None:
    """kill -9, and the same command again."""
    it.worker.kill()
    _lasts(rng, 0.0, 1.0)
    it.worker.start()


def kill_target(it: Arena, rng: random.Random) -> None:
    """kill -9 of a target that keeps an append-only file."""
    it.target.kill()
    _lasts(rng, 0.0, 1.0)
    it.target.start()


def kill_source(it: Arena, rng: random.Random) -> None:
    """kill -9 of a source that keeps an append-only file: it comes back with another replication id."""
    it.source.kill()
    _lasts(rng, 0.0, 1.0)
    it.source.start()


# How often each comes. The worker's own kills stand apart: a run must live long to show that nothing grows.
WEIGHTS: dict[Fault, int] = {
    cut: 6,
    stall: 4,
    half_open: 3,
    throttle: 4,
    refuse: 3,
    deaf: 2,
    pause_worker: 2,
    kill_target: 2,
    kill_source: 1,
}
KILLS: dict[Fault, int] = {kill_worker: 6}
EVERY_KIND: tuple[Fault, ...] = (*WEIGHTS, *KILLS)
