"""A dump file as the source of `sync` and `check`: served to the engine as if a server sent it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from engine.control.options import SyncOptions
from engine.service.backup_source import BackupSource


@asynccontextmanager
async def served_file(options: SyncOptions) -> AsyncIterator[SyncOptions]:
    """The options with an address that answers for the file; as they are where the source is a server.

    Raises:
        SourceUnreachable: the file cannot be read, or is no RDB.
    """
    if options.source_file is None:
        yield options
        return
    backup = BackupSource(options.source_file)
    try:
        await backup.start()
        source = replace(backup.endpoint, shown=options.task.source.address)
        yield replace(options, task=replace(options.task, source=source))
    finally:
        await backup.close()
