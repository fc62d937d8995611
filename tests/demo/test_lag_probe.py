"""The probe measures the way through the replication stream, and says what ended it."""

from __future__ import annotations

import pytest

from engine.demo.lag_probe import LagProbe
from tests.conditions import until
from tests.fix_servers import SERVER_NAMES, StartServer

pytestmark = pytest.mark.skipif(not SERVER_NAMES, reason="no server binary on this machine")
ANY = SERVER_NAMES[-1] if SERVER_NAMES else ""


async def test_messages_are_timed_from_source_to_target(start_server: StartServer) -> None:
    server = start_server(ANY)
    probe = LagProbe(server.endpoint, server.endpoint)

    probe.start()
    await until(lambda: len(probe.seconds) >= 5, "five messages")
    probe.stop()

    p50, p99 = probe.quantile(0.5), probe.quantile(0.99)
    assert p50 is not None
    assert p99 is not None
    assert 0 < p50 <= p99 == max(probe.seconds)
    assert probe.failure is None


async def test_a_server_that_goes_away_ends_it(start_server: StartServer) -> None:
    server = start_server(ANY)
    probe = LagProbe(server.endpoint, server.endpoint)
    probe.start()
    await until(lambda: probe.seconds, "the first message")

    server.kill()
    await until(lambda: probe.failure, "the failure")

    probe.stop()


def test_a_probe_that_has_not_begun_has_nothing_to_say(start_server: StartServer) -> None:
    server = start_server(ANY)
    probe = LagProbe(server.endpoint, server.endpoint)

    probe.stop()

    assert probe.quantile(0.5) is None
