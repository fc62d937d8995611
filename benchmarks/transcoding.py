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
from engine.codec.selected_snapshot import SelectedSnapshotTranscoder
from engine.codec.snapshot import SnapshotTranscoder
from engine.codec.stream import StreamTranscoder
from engine.codec.stream_selector import StreamSelector
from engine.selection import EVERYTHING, Selection

CHUNK_BYTES = 64 * 1024  # about what one read of a socket brings
# Whatever the source has, the target takes: the plan must not be what stops the walk.
EVERY_TYPE = frozenset(range(30))

Counts = dict[str, int]


def snapshot(content: bytes, rdb_version: int, selection: Selection = EVERYTHING) -> Counts:
    """RDB in, commands out."""
    plan = SnapshotPlan(
        target_rdb_version=rdb_version,
        redis_types=EVERY_TYPE,
        valkey_types=EVERY_TYPE,
        selection=selection,
    )
    make = SnapshotTranscoder if selection.is_everything else SelectedSnapshotTranscoder
    transcoder = make(plan)
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


def stream(content: bytes, selection: Selection = EVERYTHING) -> Counts:
    """Replication stream in, transactions with checkpoints out. units: the source's commands."""
    plan = StreamPlan(
        checkpoint_key=b"redis-ferry:checkpoint:{benchmark}:0",
        replid="0" * 40,
        offset=0,
        takes_marks=not selection.is_everything,
    )
    transcoder = StreamTranscoder(plan)
    selector = None if selection.is_everything else StreamSelector(selection, 0, 0, False)
    out = blocks = commands = 0
    for at in range(0, len(content), CHUNK_BYTES):
        chunk = content[at : at + CHUNK_BYTES]
        transcoder.feed(chunk if selector is None else selector.select(chunk), 0, False)
        while (block := transcoder.next_block(False)) is not None:
            out += len(block.data)
            blocks += 1
            commands += block.commands
    while (block := transcoder.next_block(True)) is not None:
        out += len(block.data)
        blocks += 1
        commands += block.commands
    commands += 0 if selector is None else selector.left_out
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
    parser.add_argument("--include-key", action="append", default=[])
    parser.add_argument("--key-prefix-add", default="")
    given = parser.parse_args()
    selection = Selection(
        include_keys=tuple(it.encode() for it in given.include_key),
        prefix_add=given.key_prefix_add.encode(),
    )
    if given.what == "snapshot":
        content = given.rdb.read_bytes()
        figures = timed(lambda: snapshot(content, given.rdb_version, selection), len(content))
    elif given.what == "stream":
        content = b"".join(mixed_writes(given.count))
        figures = timed(lambda: stream(content, selection), len(content))
    else:
        content = synthetic_replies(given.count)
        figures = timed(lambda: replies(content), len(content))
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    os._exit(0)  # hundreds of megabytes need no tidying


if __name__ == "__main__":
    main()
