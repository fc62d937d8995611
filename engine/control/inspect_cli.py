"""`redis-ferry inspect`: what is in a dump or in a server."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.control import parameters
from engine.control.choices import InspectFormat
from engine.control.exit_status import DONE, exit_status
from engine.control.failure import print_failure
from engine.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

PREFIX_LIMIT = 100_000


def inspect(  # noqa: PLR0913, PLR0917 - one parameter an option
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|URL",
            help="An RDB file, the snapshot of an append-only file (or its folder), or the URL of a server.",
        ),
    ],
    output: Annotated[
        InspectFormat,
        typer.Option(
            "--format",
            help="table and stats (JSON): our own report. json, memory, protocol, diff: rdbtools' "
            "formats (pip install 'redis-ferry[inspect]').",
        ),
    ] = InspectFormat.TABLE,
    top: Annotated[
        int,
        typer.Option(metavar="N", min=0, max=100_000, help="So many biggest keys, and prefixes."),
    ] = 10,
    prefix_delimiter: Annotated[
        str,
        typer.Option(metavar="CHARACTER", help="Where a key's prefix ends; '' for no prefixes."),
    ] = ":",
    source_password_file: parameters.SourcePasswordFile = None,
    source_tls_ca: parameters.SourceTlsCa = None,
    source_tls_cert: parameters.SourceTlsCert = None,
    source_tls_key: parameters.SourceTlsKey = None,
    source_tls_insecure: parameters.SourceTlsInsecure = None,
) -> int:
    """Read the dump and print what is in it."""
    import asyncio

    from engine.control.options import read_values
    from engine.control.process_title import hide_passwords_in_environment
    from engine.control.side_options import endpoint_of
    from engine.inspection.dump_bytes import file_chunks, server_chunks
    from engine.observability.logs import configure_logs
    from engine.readers.aof_layout import snapshot_of
    from engine.readers.file_kind import FileKind, kind_of

    configure_logs(level="error", json_lines=False)
    flags = {
        "source_password_file": source_password_file,
        "source_tls_ca": source_tls_ca,
        "source_tls_cert": source_tls_cert,
        "source_tls_key": source_tls_key,
        "source_tls_insecure": source_tls_insecure,
    }
    size = 0
    try:
        if "://" in source:
            values = read_values({**flags, "source": source}, os.environ)
            endpoint, _ = endpoint_of(values, "source")
            hide_passwords_in_environment()
            chunks, name = server_chunks(endpoint), endpoint.address
        else:
            path = Path(source.removeprefix("file:"))
            name = str(path)
            kind = kind_of(path) if path.exists() else FileKind.RDB
            if kind is not FileKind.RDB:
                path, size = snapshot_of(path, kind)
            chunks = file_chunks(path)
        asyncio.run(_print(chunks, name, output, top, prefix_delimiter.encode()[:1], size))
    except EngineError as error:
        print_failure(error, json_lines=False)
        return exit_status(error)
    return DONE


async def _print(
    chunks: AsyncIterator[bytes],
    name: str,
    output: InspectFormat,
    top: int,
    delimiter: bytes,
    size: int,
) -> None:
    """size: of an append-only file with all its parts; 0: it is none."""
    from engine.codec.dump_scan import DumpScan
    from engine.inspection.figures import figures, lines
    from engine.inspection.rdbtools_bridge import drive, make_callback

    generator: AsyncGenerator[bytes, None] = chunks  # type: ignore[assignment]
    async with aclosing(generator):
        if output not in {InspectFormat.TABLE, InspectFormat.STATS}:
            await drive(chunks, make_callback(output.value, sys.stdout.buffer))
            sys.stdout.buffer.flush()
            return
        scan = DumpScan(int(time.time() * 1000), top, delimiter, PREFIX_LIMIT)
        async for chunk in chunks:
            scan.feed(chunk)
            if scan.scan():
                break
    scan.finish()
    found = figures(scan, name=name, prefixes_shown=top)
    if size:
        found["bytes_after_end"] = size - scan.bytes_read
    if output is InspectFormat.STATS:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(lines(found)))
