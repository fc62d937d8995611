"""TLS in front of a real server: no server of the wheels has it. The certificates live as long as a test."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trustme

PIECE_BYTES = 64 * 1024


class Authority:
    """A certificate authority and what it has issued, as PEM files in `folder`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._ca = trustme.CA(organization_name=name)
        self._folder = folder
        self.ca_file = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_file))

    def server_context(self, host: str, *, verifies_clients: bool = False) -> ssl.SSLContext:
        """For a server that is called `host`; with verifies_clients it asks for certificates of ours."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(host).configure_cert(context)
        if verifies_clients:
            context.verify_mode = ssl.CERT_REQUIRED
            self._ca.configure_trust(context)
        return context

    def client_files(self, name: str = "client") -> tuple[Path, Path]:
        """A client's certificate and its key."""
        issued = self._ca.issue_cert(f"{name}.example")
        cert, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        return cert, key


@asynccontextmanager
async def tls_proxy(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Accept TLS on a free port of 127.0.0.1, pass everything on to `port`; yield the free port."""
    open_now: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        open_now[handler] = writer
        try:
            await _pass_on(reader, writer, port)
        finally:
            del open_now[handler]
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in open_now.values():
            writer.transport.abort()
        await asyncio.gather(*open_now)
        await server.wait_closed()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Both directions, until one of them ends."""
    behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
    ways = {
        asyncio.create_task(_copy(reader, behind_writer)),
        asyncio.create_task(_copy(behind_reader, writer)),
    }
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)
        behind_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.CancelledError):  # one side went away
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
