"""A file as the source of `sync` and `check`: served to the engine as if a server sent it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from engine.control.choices import AofTail
from engine.control.options import SyncOptions
from engine.readers.file_source import FileSource
from engine.settings import Method, SourceKind


@asynccontextmanager
async def served_file(options: SyncOptions) -> AsyncIterator[SyncOptions]:
    """The options with an address that answers for the file; as they are where the source is a server.

    Raises:
        SourceUnreachable: a file cannot be read, or is of no kind that is known. CorruptAof, CorruptRdb: a damaged
        append-only file.
    """
    if options.source_file is None:
        yield options
        return
    file = FileSource(options.source_file, takes_cut=options.aof_truncated is AofTail.LOAD)
    try:
        await file.start()
        task = replace(
            options.task, source=replace(file.endpoint, shown=options.task.source.address)
        )
        if file.has_stream:
            task = replace(
                task,
                source_kind=SourceKind.FILE,
                method=Method.INCREMENTAL,
                exit_when_synced=True,
            )
        yield replace(options, task=task)
    finally:
        await file.close()
