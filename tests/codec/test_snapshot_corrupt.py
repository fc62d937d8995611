"""Broken dumps end the snapshot transcoder in a clean error, soon and in little memory."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest

from engine.codec.snapshot import SnapshotTranscoder
from engine.errors import CorruptRdb, UnsupportedByTarget
from tests.codec.interpreted_form import interpreted
from tests.codec.snapshot_commands import commands, key_commands, outputs, plan_like
from tests.corpus_files import CorruptDump, corrupt_dumps

InterpretedTranscoder: Any = interpreted("snapshot").SnapshotTranscoder
FORMS = [
    pytest.param(SnapshotTranscoder, id="as-built"),
    pytest.param(InterpretedTranscoder, id="interpreted"),
]
PLAN = plan_like(check_values=True, strings_as_set=True)
KEEP_BYTES = 32 << 20
# A length no key or value may have is refused as too large for the target before it can be
# recognised as a lie: the bytes might still come.
TOO_LARGE = (CorruptRdb, UnsupportedByTarget)


def _run(form: Any, file: bytes, chunk_bytes: int) -> tuple[list[Any], Exception | None]:
    """The blocks before the end or the error, and the error."""
    chunks = [file[at : at + chunk_bytes] for at in range(0, len(file), chunk_bytes)]
    blocks: list[Any] = []
    try:
        blocks.extend(outputs(form(PLAN), chunks, flush=True))
    except TOO_LARGE as error:
        return blocks, error
    return blocks, None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in corrupt_dumps()])
def test_corrupt_set_ends_as_expected(dump: CorruptDump, form: Any) -> None:
    file = dump.rdb

    blocks, error = _run(form, file, max(len(file), 1))

    if dump.expect == "error":
        assert error is not None
    elif dump.expect == "ok":
        assert error is None
        _check_what_must_come_out(dump, blocks)
    if isinstance(error, CorruptRdb):
        assert 0 <= error.offset <= len(file)


def _check_what_must_come_out(dump: CorruptDump, blocks: list[Any]) -> None:
    found = {command[1].decode(): command for _, command in key_commands(commands(blocks))}
    for key, value in dump.facts.get("keys", {}).items():
        assert key in found
        if found[key][0] == b"SET":
            assert value == found[key][2].decode()
    for key, expire in dump.facts.get("expire", {}).items():
        command = found[key]
        ttl = command[command.index(b"PXAT") + 1] if b"PXAT" in command else command[2]
        assert max(expire, 1) == int(ttl)


@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in corrupt_dumps()])
def test_corrupt_set_gives_the_same_in_small_chunks(dump: CorruptDump) -> None:
    file = dump.rdb

    whole_blocks, whole_error = _run(SnapshotTranscoder, file, max(len(file), 1))
    cut_blocks, cut_error = _run(SnapshotTranscoder, file, 1 if len(file) < 2000 else 61)

    assert type(whole_error) is type(cut_error)
    assert str(whole_error) == str(cut_error)
    if whole_error is None:
        assert commands(whole_blocks) == commands(cut_blocks)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dump", [pytest.param(d, id=d.id) for d in corrupt_dumps()])
def test_corrupt_set_stays_within_time_and_memory(dump: CorruptDump, form: Any) -> None:
    file = dump.rdb
    tracemalloc.start()
    began = time.process_time()

    _run(form, file, 64 * 1024)

    seconds = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 2
    assert peak < KEEP_BYTES + 90 * len(file)
