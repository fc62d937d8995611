"""rediss:// on both sides, through the command line: what is verified, and what a refusal says."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest

from engine.control.exit_status import REFUSED, exit_status
from engine.demo.compare import compare
from engine.demo.dataset import fill
from engine.demo.servers import RunningServer
from engine.endpoint import TlsSettings
from engine.errors import EngineError
from engine.settings import SourceSettings, TargetSettings
from tests.control.command_line import COMMAND, environment
from tests.fix_servers import StartServer
from tests.live.running_task import make_settings, migrate
from tests.servers.tls_proxy import Authority, tls_proxy

pytestmark = pytest.mark.live

HOST = "127.0.0.1"
KEYS = 1000
Side = Literal["source", "target"]
SIDES: tuple[Side, ...] = ("source", "target")
each_side = pytest.mark.parametrize("side", SIDES)


@dataclass(frozen=True)
class Ended:
    status: int
    stderr: str
    seconds: float

    def is_refusal_by(self, side: Side, *texts: str) -> bool:
        """Whether it ended with 3, blaming `side` in one line, with `texts`, with a remedy and no traceback."""
        assert self.status == 3, self.stderr
        assert "Traceback" not in self.stderr
        assert "internal error" not in self.stderr
        error = re.search(r"^error: (.*)$", self.stderr, re.MULTILINE)
        hint = re.search(r"^hint: (.*)$", self.stderr, re.MULTILINE)
        assert error is not None, self.stderr
        assert hint is not None, self.stderr
        assert f"the {side} {HOST}:" in error[1]
        for text in texts:
            assert text in f"{error[1]}\n{hint[1]}"
        return True


async def sync(source: str, target: str, *options: str | Path) -> Ended:
    """`redis-ferry sync` to its end, with the proxies running in this loop meanwhile."""
    arguments = [*COMMAND, "sync", source, target, *map(str, options)]
    began = time.monotonic()
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        "--exit-when-synced",
        "--progress=none",
        env=environment(),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(40):
            _, stderr = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.communicate()
    assert child.returncode is not None
    return Ended(child.returncode, stderr.decode(), time.monotonic() - began)


@dataclass(frozen=True)
class Servers:
    """Two servers behind TLS. urls: of the proxies."""

    source: RunningServer
    target: RunningServer
    urls: dict[Side, str]

    async def filled(self) -> None:
        await asyncio.to_thread(fill, self.source.endpoint, KEYS, 1)

    async def are_equal(self) -> bool:
        found = await asyncio.to_thread(compare, self.source.endpoint, self.target.endpoint)
        assert found.is_equal, str(found)
        return found.keys_target == KEYS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def behind_tls(
    start_server: StartServer,
    authority: Authority,
    *,
    host: str = HOST,
    verifies_clients: bool = False,
) -> AsyncIterator[Servers]:
    source = start_server("redis-8.2", config={"repl-diskless-sync-delay": 0})
    target = start_server("redis-8.2")
    context = authority.server_context(host, verifies_clients=verifies_clients)
    async with tls_proxy(source.port, context) as one, tls_proxy(target.port, context) as other:
        urls: dict[Side, str] = {
            "source": f"rediss://{HOST}:{one}",
            "target": f"rediss://{HOST}:{other}",
        }
        yield Servers(source, target, urls)


def trusting(authority: Authority, *, without: Side | None = None) -> list[str | Path]:
    """The options that make both sides verified, or all but one."""
    options: list[str | Path] = []
    for side in SIDES:
        if side != without:
            options += [f"--{side}-tls-ca", authority.ca_file]
    return options


async def test_both_sides_verified(start_server: StartServer, authority: Authority) -> None:
    async with behind_tls(start_server, authority) as servers:
        await servers.filled()
        ended = await sync(*servers.urls.values(), *trusting(authority))

        assert ended.status == 0, ended.stderr
        assert await servers.are_equal()
    assert "not verified" not in ended.stderr


@each_side
async def test_an_unknown_authority_is_refused(
    side: Side, start_server: StartServer, authority: Authority
) -> None:
    async with behind_tls(start_server, authority) as servers:
        ended = await sync(*servers.urls.values(), *trusting(authority, without=side))

        assert servers.target.client().dbsize() == 0
    assert ended.is_refusal_by(side, "CERTIFICATE_VERIFY_FAILED", f"--{side}-tls-ca")


@each_side
async def test_a_certificate_for_another_host_is_refused(
    side: Side, start_server: StartServer, authority: Authority
) -> None:
    other: Side = "target" if side == "source" else "source"
    async with behind_tls(start_server, authority, host="other.example") as servers:
        ended = await sync(
            *servers.urls.values(),
            *(f"--{side}-tls-ca", authority.ca_file, f"--{other}-tls-insecure"),
        )

    assert ended.is_refusal_by(side, "not valid for '127.0.0.1'", "name")


async def test_insecure_takes_any_certificate_and_says_so(
    start_server: StartServer, authority: Authority
) -> None:
    async with behind_tls(start_server, authority, host="other.example") as servers:
        await servers.filled()
        ended = await sync(*servers.urls.values(), "--source-tls-insecure", "--target-tls-insecure")

        assert ended.status == 0, ended.stderr
        assert await servers.are_equal()
    for side in SIDES:
        assert f"the certificate of the {side} is not verified" in ended.stderr


async def test_a_client_certificate_opens_a_server_that_asks_for_one(
    start_server: StartServer, authority: Authority
) -> None:
    cert, key = authority.client_files()
    files = [it for side in SIDES for it in (f"--{side}-tls-cert", cert, f"--{side}-tls-key", key)]
    async with behind_tls(start_server, authority, verifies_clients=True) as servers:
        await servers.filled()
        ended = await sync(*servers.urls.values(), *trusting(authority), *files)

        assert ended.status == 0, ended.stderr
        assert await servers.are_equal()


@each_side
async def test_without_the_client_certificate_it_is_refused(
    side: Side, start_server: StartServer, authority: Authority
) -> None:
    other: Side = "target" if side == "source" else "source"
    cert, key = authority.client_files()
    async with behind_tls(start_server, authority, verifies_clients=True) as servers:
        ended = await sync(
            *servers.urls.values(),
            *trusting(authority),
            *(f"--{other}-tls-cert", cert, f"--{other}-tls-key", key),
        )

    assert ended.is_refusal_by(side, f"--{side}-tls-cert")


@each_side
async def test_tls_to_a_plain_port_is_refused_after_half_of_the_connect_timeout(
    side: Side, start_server: StartServer
) -> None:
    # The server waits for a line's end and never answers. In this process, for a shorter timeout.
    endpoints = {it: start_server("redis-8.2").endpoint for it in SIDES}
    endpoints[side] = replace(endpoints[side], tls=TlsSettings())
    settings = make_settings(
        **endpoints,
        source_link=SourceSettings(connect_timeout_seconds=4),
        target_link=TargetSettings(connect_timeout_seconds=4),
    )

    began = time.monotonic()
    with pytest.raises(
        EngineError,
        match=f"the {side} {HOST}:.*does this port speak TLS.*without TLS wants redis://",
    ) as caught:
        await migrate(settings)

    assert 1.9 < time.monotonic() - began < 3.5
    assert exit_status(caught.value) == REFUSED


@each_side
async def test_plain_to_a_tls_port_is_refused_at_once(
    side: Side, start_server: StartServer, authority: Authority
) -> None:
    other: Side = "target" if side == "source" else "source"
    async with behind_tls(start_server, authority) as servers:
        urls = servers.urls | {side: servers.urls[side].replace("rediss:", "redis:")}
        ended = await sync(*urls.values(), f"--{other}-tls-insecure")

    assert ended.is_refusal_by(side, "rediss://")
    assert ended.seconds < 8
