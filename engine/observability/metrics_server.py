"""Metrics over HTTP for a process that serves nothing else (`sync --metrics-listen`)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import structlog

from engine.background import end_tasks
from engine.errors import ConfigError
from engine.observability.exposition import CONTENT_TYPE
from engine.observability.loop_delay import watch_loop_delay
from engine.observability.metrics import Metrics, Readings
from engine.stats import LatencyHistogram

log = structlog.get_logger("engine.metrics")

READ_TIMEOUT_SECONDS = 5.0  # an event loop that is held up longer fails the scrape
REQUEST_TIMEOUT_SECONDS = 10.0


class MetricsServer:
    """Serves `/metrics` while its block lasts, in a thread of its own; counters are read in the event loop.

    readings: called in the event loop at each scrape. port: the one listened on, once it is.
    """

    def __init__(self, host: str, port: int, readings: Readings) -> None:
        self._host = host
        self.port = port
        self._readings = readings
        self._delay = LatencyHistogram()
        self._server: ThreadingHTTPServer | None = None
        self._probe: asyncio.Task[None] | None = None
        self._serving: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ConfigError: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()

        metrics = Metrics(self._readings, self._delay)

        async def text() -> bytes:
            return metrics.text()

        def text_from_thread() -> bytes:
            return asyncio.run_coroutine_threadsafe(text(), loop).result(READ_TIMEOUT_SECONDS)

        try:
            self._server = _listen(self._host, self.port, text_from_thread)
        except OSError as error:
            raise ConfigError(
                f"{self._host}:{self.port} cannot be listened on: {error.strerror}",
                hint="choose another address with --metrics-listen",
            ) from None
        self.port = self._server.server_port
        self._serving = loop.run_in_executor(None, self._server.serve_forever, 0.1)
        self._probe = asyncio.create_task(watch_loop_delay(self._delay), name="loop delay")
        log.info("metrics.listening", address=f"{self._host}:{self.port}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await end_tasks(self._probe)
        if self._server is not None and self._serving is not None:
            # Not awaited in the loop's own thread: a scrape under way waits for the loop.
            await asyncio.to_thread(self._server.shutdown)
            await self._serving
            self._server.server_close()


def _listen(host: str, port: int, text: Callable[[], bytes]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_SECONDS
        server_version = "redis-ferry"
        sys_version = ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404, "only /metrics is here")
                return
            try:
                body = text()
            except TimeoutError:
                self.send_error(503, "the event loop is held up")
                return
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name for it
            """Say nothing: a scrape a second is not news."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        block_on_close = False  # a reader that hangs does not hold the end of a migration

    return Server((host, port), Handler)
