"""What `sync` and `check` take as their source: a server, or what stands for a file or for a server without PSYNC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from engine.control.choices import AofTail
from engine.control.options import SyncOptions
from engine.settings import SourceReader
from engine.stats import ReaderStats


@asynccontextmanager
async def served_source(options: SyncOptions) -> AsyncIterator[SyncOptions]:
    """The options with an address that the engine can replicate from.

    Raises:
        SourceError: a file cannot be read or is damaged; a server cannot be read in the way that was asked for.
    """
    if options.source_file is not None:
        async with _served_file(options, options.source_file) as served:
            yield served
        return
    if options.task.source_reader is SourceReader.PSYNC:
        yield options
        return
    from engine.service.reader_choice import choose_reader, make_scan_source, scanned

    task = await choose_reader(options.task)
    if task.source_reader is not SourceReader.SCAN:
        yield replace(options, task=task)
        return
    reader = make_scan_source(task)
    try:
        await reader.start()
        yield replace(options, task=scanned(task, reader), reader=reader.stats)
    finally:
        await reader.close()


@asynccontextmanager
async def looked_at_source(options: SyncOptions) -> AsyncIterator[SyncOptions]:
    """As `served_source`, for one who only looks: a server is not read. Raises as it does."""
    if options.source_file is not None:
        async with _served_file(options, options.source_file) as served:
            yield served
        return
    if options.task.source_reader is SourceReader.PSYNC:
        yield options
        return
    from engine.service.reader_choice import choose_reader

    yield replace(options, task=await choose_reader(options.task))


@asynccontextmanager
async def _served_file(options: SyncOptions, path: Path) -> AsyncIterator[SyncOptions]:
    from engine.readers.file_source import FileSource
    from engine.service.reader_choice import replayed

    file = FileSource(path, takes_cut=options.aof_truncated is AofTail.LOAD)
    try:
        await file.start()
        task = replace(
            options.task, source=replace(file.endpoint, shown=options.task.source.address)
        )
        if file.has_stream:
            task = replayed(task)
        yield replace(options, task=task, reader=ReaderStats(name="file"))
    finally:
        await file.close()
