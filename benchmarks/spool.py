"""The spool by itself: `python -m benchmarks.spool [folder]`. Prints, for reads of the usual size and for small ones.

put + get in memory; to disk and back; recovery of what was written.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from engine.position import Position
from engine.settings import MIB, SpoolSettings
from engine.spool.chunk import Section
from engine.spool.spool import Spool

REPLID = "a" * 40
MEMORY_CHUNKS = 400_000
RELEASED_AT_ONCE = 100
SIZES = ((64 * 1024, 1024 * MIB), (64 * 1024, 100 * MIB), (100, 100 * MIB))


def put_and_get_ns(size: int, directory: Path) -> float:
    """Nanoseconds for one chunk through memory."""
    spool = Spool(SpoolSettings(directory=directory), line="0", run_name="memory")
    spool.begin_stream(Position(REPLID, 0))
    data = bytes(size)
    began = time.perf_counter()
    for _ in range(MEMORY_CHUNKS // RELEASED_AT_ONCE):
        for _ in range(RELEASED_AT_ONCE):
            spool.put(Section.STREAM, data, received_seconds=1.0, received_ms=1000)
        for _ in range(RELEASED_AT_ONCE):
            spool.get_now()
        spool.release(spool.end_offset)
    return (time.perf_counter() - began) / MEMORY_CHUNKS * 1e9


async def fill(spool: Spool, size: int, total: int) -> None:
    """Receive `total` bytes as fast as the spool lets a link read."""
    may_read = asyncio.Event()
    may_read.set()
    spool.attach(may_read.clear, may_read.set)
    spool.begin_stream(Position(REPLID, 0))
    data = bytes(size)
    while spool.end_offset < total:
        await may_read.wait()
        spool.put(
            Section.STREAM,
            data,
            received_seconds=time.monotonic(),
            received_ms=int(time.time() * 1000),
        )
        if spool.end_offset % (8 * size) == 0:
            await asyncio.sleep(0)
    spool.end()


async def drain(spool: Spool) -> None:
    """Read and release all."""
    while True:
        chunk = spool.get_now()
        if chunk is not None:
            spool.release(chunk.end_offset - MIB)
        elif not await spool.wait():
            return


async def through_disk(size: int, total: int, directory: Path) -> None:
    """Print the rates of one stream of `total` bytes in chunks of `size`."""
    settings = SpoolSettings(directory=directory)
    spool = Spool(settings, line="0", run_name="first")
    began = time.perf_counter()
    await fill(spool, size, total)
    await spool.persist()
    seconds = time.perf_counter() - began
    print(
        f"  {size:6} B  to disk   {spool.spilled_bytes / MIB / seconds:6.0f} MiB/s, "
        f"{spool.peak_memory_bytes / MIB:.0f} MiB in memory, paused {spool.pauses} times"
    )
    await spool.close()
    began = time.perf_counter()
    later = Spool.recover(settings, "0", "second")
    seconds = time.perf_counter() - began
    print(f"            recovered {later.recovered_bytes / MIB:6.0f} MiB in {seconds:.3f} s")
    later.end()
    began = time.perf_counter()
    await drain(later)
    seconds = time.perf_counter() - began
    print(f"            from disk {later.recovered_bytes / MIB / seconds:6.0f} MiB/s")
    later.delete()
    await later.close()


def main() -> None:
    """Measure in a new folder under the one given, by default the system's."""
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    directory = Path(tempfile.mkdtemp(prefix="spool-", dir=parent))
    try:
        for size in (64 * 1024, 100):
            print(f"  {size:6} B  put + get {put_and_get_ns(size, directory):6.0f} ns in memory")
        for size, total in SIZES:
            asyncio.run(through_disk(size, total, directory / "task"))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
