"""Opening a connection: what a TLS handshake that is not answered costs."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from engine.connect import open_connection
from engine.endpoint import TlsSettings
from tests.fix_servers import SERVER_NAMES, StartServer

pytestmark = pytest.mark.skipif(not SERVER_NAMES, reason="no server binary on this machine")


async def test_a_port_that_does_not_speak_tls_costs_half_of_the_timeout(
    start_server: StartServer,
) -> None:
    plain = start_server(SERVER_NAMES[-1]).endpoint
    endpoint = replace(plain, tls=TlsSettings(verify=False))

    began = time.monotonic()
    with pytest.raises(OSError, match="SSL handshake is taking longer"):
        await open_connection(endpoint, asyncio.Protocol, timeout_seconds=3)

    assert 1.4 < time.monotonic() - began < 2.7
