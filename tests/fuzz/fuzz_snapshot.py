"""Fuzz target: any bytes, in any chunks, end the snapshot transcoder in one of its own errors.

    python -m tests.fuzz.fuzz_snapshot FOLDER [atheris/libFuzzer options] [corpus folders]

FOLDER takes the seeds and what the fuzzer finds interesting; it is the caller's, because the fuzzer ends the
process without a chance to remove anything.
Needs atheris. The corpus' tiny and odd files are the seeds. The first byte of an input says how the rest
is cut and whether values are checked, so that the fuzzer finds both by itself.
"""

from __future__ import annotations

from typing import Any

from engine.codec.snapshot import SnapshotTranscoder
from engine.errors import CorruptRdb, UnsupportedByTarget
from tests.codec.snapshot_commands import plan_like, words
from tests.corpus_files import corrupt_dumps, open_dumps
from tests.fuzz.fuzzing import fuzz

PLANS = [
    plan_like(check_values=check_values, strings_as_set=strings_as_set, block_bytes=256)
    for check_values in (False, True)
    for strings_as_set in (False, True)
]
SEED_LIMIT_BYTES = 2000


def run(data: bytes, transcoder_class: Any = SnapshotTranscoder) -> None:
    """One input. Whatever is raised here but an assertion's or a codec's bug is swallowed."""
    if not data:
        return
    mode, file = data[0], data[1:]
    chunk_bytes = 1 + (mode >> 2) * 5
    transcoder = transcoder_class(PLANS[mode & 3])
    try:
        for at in range(0, len(file), chunk_bytes):
            transcoder.feed(file[at : at + chunk_bytes])
            while (block := transcoder.next_block(False)) is not None:
                _check_block(block)
        while (block := transcoder.next_block(True)) is not None:
            _check_block(block)
        transcoder.finish()
    except CorruptRdb as error:
        offset = error.offset
    except UnsupportedByTarget:
        return
    else:
        return
    assert 0 <= offset <= len(file), offset


def _check_block(block: Any) -> None:
    assert block.replies == sum(1 for _ in words(block.data))


def seeds() -> list[bytes]:
    """Inputs to begin with: sound files of every server, and the odd ones of the corrupt set."""
    files = [dump.rdb for dump in open_dumps("tiny", "testmod")]
    files += [dump.rdb for dump in corrupt_dumps()]
    modes = (0x07, 0xFF, 0x02, 0x01)
    return [
        bytes([modes[number % len(modes)]]) + file
        for number, file in enumerate(files)
        if len(file) <= SEED_LIMIT_BYTES
    ]


def main() -> None:
    fuzz(lambda data, modules: run(data, modules[0].SnapshotTranscoder), seeds(), ("snapshot",))


if __name__ == "__main__":
    main()
