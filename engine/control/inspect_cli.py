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
from engine.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from engine.endpoint import Endpoint

PREFIX_LIMIT = 100_000
OUR_FORMATS = frozenset({InspectFormat.TABLE, InspectFormat.STATS})


def inspect(  # noqa: PLR0913, PLR0917 - one parameter an option
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|URL",
            help="An RDB file, the snapshot of an append-only file (or its folder), or the URL of a server or a cluster.",
        ),
    ],
    output: Annotated[
        InspectFormat,
        typer.Option(
            "--format",
            help="table and stats (JSON): our own report. json, memory, protocol, diff: rdbtools' "
            "formats (in the project's folder: pip install '.[inspect]').",
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
    read_from: parameters.ReadFrom = None,
    address_map: parameters.AddressMap = None,
) -> int:
    """Read the dump and print what is in it."""
    import asyncio

    from engine.control.options import read_values
    from engine.control.process_title import hide_passwords_in_environment
    from engine.control.side_options import endpoint_of
    from engine.inspection.dump_bytes import file_chunks
    from engine.observability.logs import configure_logs
    from engine.readers.aof_layout import snapshot_of
    from engine.readers.file_kind import FileKind, kind_of
    from engine.settings import ReadFrom

    configure_logs(level="error", json_lines=False)
    flags = {
        "source_password_file": source_password_file,
        "source_tls_ca": source_tls_ca,
        "source_tls_cert": source_tls_cert,
        "source_tls_key": source_tls_key,
        "source_tls_insecure": source_tls_insecure,
        "read_from": read_from,
        "address_map": address_map,
    }
    size = 0
    try:
        if "://" in source:
            values = read_values({**flags, "source": source}, os.environ)
            endpoint, _ = endpoint_of(values, "source")
            hide_passwords_in_environment()
            name = endpoint.address
            dumps = _server_dumps(
                endpoint, output, reads_from_replica=values.read_from is ReadFrom.REPLICA
            )
        else:
            path = Path(source.removeprefix("file:"))
            name = str(path)
            kind = kind_of(path) if path.exists() else FileKind.RDB
            if kind is not FileKind.RDB:
                path, size = snapshot_of(path, kind)
            dumps = _one(file_chunks(path))
        asyncio.run(_print(dumps, name, output, top, prefix_delimiter.encode()[:1], size))
    except EngineError as error:
        print_failure(error, json_lines=False)
        return exit_status(error)
    return DONE


async def _one(chunks: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    yield chunks


async def _server_dumps(
    endpoint: Endpoint, output: InspectFormat, *, reads_from_replica: bool
) -> AsyncIterator[AsyncIterator[bytes]]:
    """That of a server, or of each shard of a cluster."""
    from engine.inspection.dump_bytes import server_chunks, shards_of

    shards = await shards_of(endpoint, reads_from_replica=reads_from_replica)
    is_cluster = shards != [endpoint]
    if len(shards) > 1 and output not in OUR_FORMATS:
        raise ConfigError(
            f"{endpoint.address} is of a cluster, and rdbtools' formats are of one dump",
            hint="--format table or stats reports all shards together",
        )
    for shard in shards:
        yield server_chunks(shard, is_shard=is_cluster)


async def _print(
    dumps: AsyncIterator[AsyncIterator[bytes]],
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
    from engine.inspection.totals import ScanTotals

    scans: list[DumpScan] = []
    async for chunks in dumps:
        generator: AsyncGenerator[bytes, None] = chunks  # type: ignore[assignment]
        async with aclosing(generator):
            if output not in OUR_FORMATS:
                await drive(chunks, make_callback(output.value, sys.stdout.buffer))
                sys.stdout.buffer.flush()
                continue
            scan = DumpScan(int(time.time() * 1000), top, delimiter, PREFIX_LIMIT)
            async for chunk in chunks:
                scan.feed(chunk)
                if scan.scan():
                    break
        scan.finish()
        scans.append(scan)
    if not scans:
        return
    found = figures(
        scans[0] if len(scans) == 1 else ScanTotals(scans, top=top), name=name, prefixes_shown=top
    )
    if size:
        found["bytes_after_end"] = size - scans[0].bytes_read
    if output is InspectFormat.STATS:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(lines(found)))
