"""Times the codec alone, in a process of its own: `python -m benchmarks.transcoding snapshot|stream|replies`.

Prints one JSON object. No sockets: what comes in is in memory, what comes out is counted and dropped. Run
in a tree without compiled files it times the interpreted form.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.writes import mixed_writes
from engine import codec
from engine.codec.plan import SnapshotPlan, StreamPlan
from engine.codec.replies import ReplySkimmer
from engine.codec.snapshot import SnapshotTranscoder
from engine.codec.stream import StreamTranscoder

CHUNK_BYTES = 64 * 1024  # about what one read of a socket brings
# Whatever the source has, the target takes: the plan must not be what stops the walk.
EVERY_TYPE = frozenset(range(30))

Counts = dict[str, int]


def snapshot(content: bytes, rdb_version: int) -> Counts:
    """RDB in, commands out."""
    plan = SnapshotPlan(
        target_rdb_version=rdb_version, redis_types=EVERY_TYPE, valkey_types=EVERY_TYPE
    )
    transcoder = SnapshotTranscoder(plan)
    out = blocks = 0
    for at in range(0, len(content), CHUNK_BYTES):
        transcoder.feed(content[at : at + CHUNK_BYTES])
        while (block := transcoder.next_block(False)) is not None:
            out += len(block.data)
            blocks += 1
    while (block := transcoder.next_block(True)) is not None:
        out += len(block.data)
        blocks += 1
    transcoder.finish()
    return {"units": transcoder.keys_read, "bytes_out": out, "blocks": blocks}


def stream(content: bytes) -> Counts:
    """Replication stream in, transactions with checkpoints out."""
    plan = StreamPlan(
        checkpoint_key=b"redis-ferry:checkpoint:{benchmark}:0", replid="0" * 40, offset=0
    )
    transcoder = StreamTranscoder(plan)
    out = blocks = commands = 0
    for at in range(0, len(content), CHUNK_BYTES):
        transcoder.feed(content[at : at + CHUNK_BYTES], 0, False)
        while (block := transcoder.next_block(False)) is not None:
            out += len(block.data)
            blocks += 1
            commands += block.commands
    while (block := transcoder.next_block(True)) is not None:
        out += len(block.data)
        blocks += 1
        commands += block.commands
    return {"units": commands, "bytes_out": out, "blocks": blocks}


def replies(content: bytes) -> Counts:
    """Replies counted; an error among them would be seen."""
    skimmer = ReplySkimmer()
    count = 0
    for at in range(0, len(content), CHUNK_BYTES):
        count += skimmer.feed(content[at : at + CHUNK_BYTES])
    if skimmer.take_errors():
        raise RuntimeError("an error reply where there is none")
    return {"units": count, "bytes_out": 0, "blocks": 0}


def synthetic_replies(count: int) -> bytes:
    """What a target says to transactions: QUEUED a hundred times, then the array of EXEC."""
    inside = 100
    one = b"+OK\r\n" + b"+QUEUED\r\n" * inside
    one += b"*%d\r\n" % inside + b":1\r\n" * (inside // 2) + b"+OK\r\n" * (inside // 2)
    return one * max(1, count // (inside + 2))


def timed(work: Callable[[], Counts], bytes_in: int) -> dict[str, float | bool]:
    """Run `work` once; seconds are CPU time of this process."""
    started = time.process_time()
    counts = work()
    seconds = time.process_time() - started
    return {
        **counts,
        "bytes_in": bytes_in,
        "seconds": seconds,
        "units_per_second": counts["units"] / seconds,
        "bytes_per_second": bytes_in / seconds,
        "is_compiled": codec.COMPILED,
    }


def main() -> None:
    """Time one transcoder and print its figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["snapshot", "stream", "replies"])
    parser.add_argument("--rdb", type=Path)
    parser.add_argument("--rdb-version", type=int, default=12)
    parser.add_argument("--count", type=int, default=1_000_000, help="stream, replies: how many")
    given = parser.parse_args()
    if given.what == "snapshot":
        content = given.rdb.read_bytes()
        figures = timed(lambda: snapshot(content, given.rdb_version), len(content))
    elif given.what == "stream":
        content = b"".join(mixed_writes(given.count))
        figures = timed(lambda: stream(content), len(content))
    else:
        content = synthetic_replies(given.count)
        figures = timed(lambda: replies(content), len(content))
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    os._exit(0)  # hundreds of megabytes need no tidying


if __name__ == "__main__":
    main()
