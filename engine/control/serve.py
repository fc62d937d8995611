"""The worker as a service: store, tasks and HTTP server in one event loop, from start to graceful end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterator
from functools import partial

import structlog
import uvicorn

from engine.background import end_tasks
from engine.control.api.app import make_app
from engine.control.api.auth.authenticator import Authenticator
from engine.control.api.connection import LimitedConnection
from engine.control.api.gate import RequestLimits
from engine.control.api.parameters import Api
from engine.control.choices import LogFormat
from engine.control.exit_status import DONE, INTERRUPTED
from engine.control.orphans import collect_orphans
from engine.control.serve_options import ServeOptions
from engine.control.versions import warn_if_interpreted
from engine.errors import ConfigError
from engine.observability.logs import configure_logs
from engine.observability.loop_delay import watch_loop_delay
from engine.observability.metrics import Metrics
from engine.service.database import open_database
from engine.service.readings import readings_of
from engine.service.service import MigrationService
from engine.service.sides import Sides
from engine.service.store import Store
from engine.service.workers import WorkSettings
from engine.stats import LatencyHistogram

log = structlog.get_logger("engine.control.serve")

DRAIN_SECONDS = 5  # for requests under way when the service ends
KEEP_ALIVE_SECONDS = 65
BACKLOG = 1024
CONNECTIONS = 2048  # more are answered with 503


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the service stops it after its streams have ended."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


async def run_serve(options: ServeOptions) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit status.

    Raises:
        ConfigError: the address or the store cannot be used.
    """
    listener = _bind(options.host, options.port)
    with contextlib.closing(listener):
        database = await open_database(options.database_url, state_dir=options.state_dir)
        service = MigrationService(
            Store(database),
            sides=Sides(options.instances, options.seal, address_map=options.address_map),
            settings=WorkSettings(
                state_dir=options.state_dir,
                backup_dir=options.backup_dir,
                spool=options.spool,
                on_unsupported=options.on_unsupported,
                field_ttls=options.field_ttls,
                on_cross_slot=options.on_cross_slot,
                big_value_bytes=options.big_value_bytes,
                source_reader=options.source_reader,
                scan_changes=options.scan_changes,
                cluster=options.cluster,
            ),
            hook=options.hook,
        )
        configure_logs(
            level=options.log_level,
            json_lines=options.log_format is LogFormat.JSON,
            tap=service.journal.take,
        )
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        _warn(options)
        authenticator = Authenticator(options.auth)
        try:
            await service.open()
            await _serve(options, listener, service, authenticator)
        finally:
            await authenticator.close()
            await service.close()
            log.info("serve.ended")
    return DONE


def _warn(options: ServeOptions) -> None:
    for warning in options.warnings:
        log.warning("option", message=warning)
    warn_if_interpreted()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{host}:{port} cannot be listened on: {error.strerror}",
            hint="choose another address with --listen",
        ) from None
    return listener


async def _serve(
    options: ServeOptions,
    listener: socket.socket,
    service: MigrationService,
    authenticator: Authenticator,
) -> None:
    loop_delay = LatencyHistogram()
    app = make_app(
        Api(service, options.worker_ip, Metrics(partial(readings_of, service), loop_delay)),
        authenticator=authenticator,
        limits=RequestLimits(body_seconds=options.request_timeout_seconds),
    )
    LimitedConnection.head_seconds = options.request_timeout_seconds
    server = _Server(
        uvicorn.Config(
            app,
            http=LimitedConnection,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            ssl_certfile=None if options.tls_cert is None else str(options.tls_cert),
            ssl_keyfile=None if options.tls_key is None else str(options.tls_key),
        )
    )
    is_stopping = False

    def on_signal(number: signal.Signals) -> None:
        nonlocal is_stopping
        if is_stopping:
            log.warning("stop.at_once", signal=number.name)
            os._exit(INTERRUPTED)  # what a crash leaves is what the next start goes on from
        is_stopping = True
        log.info("stop.requested", signal=number.name)
        service.journal.close_listeners()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    # What stands at the start stays: a full collection would look at all of it for some 100 ms.
    gc.collect()
    gc.freeze()
    listener.listen(BACKLOG)  # whoever reads the next line may connect
    host, port = listener.getsockname()[:2]
    log.info(
        "serve.listening",
        address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        tls=options.tls_cert is not None,
        tasks=sum(1 for _ in service.catalog),
    )
    beside = [asyncio.create_task(watch_loop_delay(loop_delay), name="loop delay")]
    if os.getpid() == 1:
        beside.append(asyncio.create_task(collect_orphans(), name="orphans"))
    try:
        await server.serve(sockets=[listener])
    finally:
        await end_tasks(*beside)
