"""A stream whose every byte is known from its offset, and what a test does with a spool."""

from __future__ import annotations

import random
import time
from pathlib import Path

from engine.position import Position
from engine.settings import GIB, SpoolSettings
from engine.spool.chunk import Chunk, Section
from engine.spool.spool import Spool

REPLID = "a" * 40
OTHER_REPLID = "b" * 40
THIRD_REPLID = "c" * 40

_PATTERN = random.Random(7).randbytes(65537)  # longer than any cycle of a file's or a block's size


def content(offset: int, size: int) -> bytes:
    """The stream's bytes behind `offset`."""
    start = offset % len(_PATTERN)
    repeats = (start + size) // len(_PATTERN) + 1
    return (_PATTERN * repeats)[start : start + size]


def small(directory: Path | None, **changes: int) -> SpoolSettings:
    """Settings under which a few kilobytes do what gigabytes do otherwise."""
    sizes = {"memory_bytes": 1000, "tail_bytes": 300, "disk_bytes": GIB, "segment_bytes": 2000}
    return SpoolSettings(directory=directory, **(sizes | changes))


def put_stream(spool: Spool, size: int, *, is_late: bool = False, ms: int | None = None) -> None:
    """Put the stream's next `size` bytes."""
    put(spool, Section.STREAM, content(spool.end_offset, size), is_late=is_late, ms=ms)


def put(
    spool: Spool, section: Section, data: bytes, *, is_late: bool = False, ms: int | None = None
) -> None:
    """Put `data`, received now or at the wall clock time `ms`."""
    received_ms = int(time.time() * 1000) if ms is None else ms
    spool.put(
        section,
        data,
        received_seconds=time.monotonic(),
        received_ms=received_ms,
        is_late=is_late,
    )


async def next_chunk(spool: Spool) -> Chunk:
    """The next chunk; waits while the disk is read."""
    while (chunk := spool.get_now()) is None:
        assert await spool.wait(), "the spool has ended"
    return chunk


async def read_stream(spool: Spool, size: int) -> bytes:
    """`size` bytes of the stream or a few more, checked for their offsets."""
    parts = b""
    offset = spool.read_offset
    while len(parts) < size:
        chunk = await next_chunk(spool)
        assert chunk.section is Section.STREAM
        assert chunk.offset == offset + len(parts)
        parts += chunk.data
    return parts


async def settle(spool: Spool) -> None:
    """Let the disk finish what is under way."""
    if spool._spill is not None:
        await spool._spill.disk.idle()


def files_of(directory: Path) -> list[Path]:
    """Every file under `directory`."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


class Link:
    """The link's side: whether it is told to read."""

    def __init__(self, spool: Spool) -> None:
        self.is_on = True
        spool.attach(self.pause, self.resume)

    def pause(self) -> None:
        assert self.is_on
        self.is_on = False

    def resume(self) -> None:
        assert not self.is_on
        self.is_on = True


def begun(settings: SpoolSettings) -> tuple[Spool, Link]:
    spool = Spool(settings, line="0", run_name="run")
    spool.begin_stream(Position(REPLID, 0))
    return spool, Link(spool)


async def fill(spool: Spool, total: int, size: int = 100) -> None:
    """Receive `total` bytes in chunks of `size`, each after the disk has taken the one before."""
    for _ in range(total // size):
        put_stream(spool, size)
        await settle(spool)


async def fill_while_on(spool: Spool, link: Link, size: int = 100) -> None:
    """Receive until the link is paused."""
    while link.is_on:
        put_stream(spool, size)
        await settle(spool)
