"""Values in parts: the same commands in any chunking and in both forms of the codec; broken ones end with a place."""

from __future__ import annotations

from typing import Any

import pytest

from engine.codec.command_text import commands_in
from engine.codec.part_blocks import NO_PAYLOAD, check_commands, finish_commands, is_expected
from engine.codec.part_names import PART_PREFIX
from engine.codec.snapshot import SnapshotTranscoder
from engine.errors import CorruptRdb, UnsupportedByTarget
from engine.settings import ConflictPolicy
from tests.codec.interpreted_form import interpreted
from tests.codec.snapshot_commands import outputs, plan_like, words
from tests.corpus_files import CorruptDump, OpenDump, corrupt_dumps, open_dumps

InterpretedTranscoder: Any = interpreted("snapshot").SnapshotTranscoder
TINY = [pytest.param(it, id=it.id) for it in open_dumps("tiny")]
RICH = [pytest.param(it, id=it.id) for it in open_dumps("bigenc", "keydb")]


def parted(form: Any, rdb: bytes, chunk_bytes: int, **changes: Any) -> tuple[Any, list[Any]]:
    plan = plan_like(big_value_bytes=1, part_suffix=b"t:0", skips_refused=True, **changes)
    transcoder = form(plan)
    chunks = [rdb[at : at + chunk_bytes] for at in range(0, len(rdb), chunk_bytes)]
    found = []
    for block in outputs(transcoder, chunks, flush=chunk_bytes > 64):
        its = list(words(block.data))
        assert len(its) == block.replies
        assert its[0][0] == b"SELECT"
        if block.is_alone:
            assert its[1][0] in {b"RENAME", b"RESTORE", b"PEXPIREAT", b"RENAMENX"}
        found += [it for it in its if it[0] != b"SELECT"]
    return transcoder, found


@pytest.mark.parametrize("dump", TINY + RICH)
def test_the_commands_do_not_depend_on_the_chunks(dump: OpenDump) -> None:
    rdb = dump.rdb
    one, whole = parted(SnapshotTranscoder, rdb, len(rdb))
    for chunk_bytes in (61, 4096):
        other, found = parted(SnapshotTranscoder, rdb, chunk_bytes)
        assert found == whole
        assert other.not_carried == one.not_carried
        assert other.big_values == one.big_values > 0


@pytest.mark.parametrize("dump", TINY)
def test_the_interpreted_form_writes_the_same(dump: OpenDump) -> None:
    rdb = dump.rdb
    for chunk_bytes in (1, len(rdb)):
        assert (
            parted(SnapshotTranscoder, rdb, chunk_bytes)[1]
            == parted(InterpretedTranscoder, rdb, chunk_bytes)[1]
        )


def test_a_key_that_the_target_has_is_passed_over() -> None:
    dump = open_dumps("tiny", server="redis-8.2")[0]
    plan = plan_like(
        big_value_bytes=1, part_suffix=b"t:0", on_conflict=ConflictPolicy.SKIP, key_metadata=False
    )
    transcoder = SnapshotTranscoder(plan)
    transcoder.feed(dump.rdb)
    asked = []
    while (block := transcoder.next_block(True)) is not None:
        its = list(commands_in(block.data))
        if block.is_alone:
            assert its[1][0] == b"RESTORE"
            assert its[1][3] == NO_PAYLOAD
            asked.append(its[1][1])
            transcoder.leave_value_out()
    transcoder.finish()

    assert len(asked) > 5
    assert transcoder.big_values == 0


@pytest.mark.parametrize(
    "dump", [pytest.param(it, id=it.id) for it in corrupt_dumps() if len(it.rdb) < 200_000]
)
def test_broken_values_in_parts_end_with_a_place_or_not_at_all(dump: CorruptDump) -> None:
    try:
        parted(SnapshotTranscoder, dump.rdb, 4096)
    except (CorruptRdb, UnsupportedByTarget) as error:
        assert error.message  # noqa: PT017


def test_what_is_no_error() -> None:
    name = PART_PREFIX + b"t:0"
    (check,) = (next(commands_in(it)) for it in check_commands(b"key"))
    bad = "ERR DUMP payload version or checksum are wrong"
    assert is_expected(check, bad, is_repeated=False, may_be_gone=False)
    assert not is_expected(check, "BUSYKEY there", is_repeated=True, may_be_gone=True)
    (rename,) = (
        next(commands_in(it))
        for it in finish_commands(name, b"key", expire_at_ms=-1, is_replace=True)
    )
    gone = "ERR no such key"
    assert not is_expected(rename, gone, is_repeated=False, may_be_gone=False)
    assert is_expected(rename, gone, is_repeated=True, may_be_gone=False)
    assert is_expected(rename, gone, is_repeated=False, may_be_gone=True)
    assert not is_expected([b"RENAME", b"a", b"b"], gone, is_repeated=True, may_be_gone=True)
    late = "ERR The ID specified in XADD is equal or smaller than the target stream top item"
    assert is_expected([b"XADD", name, b"1-1"], late, is_repeated=True, may_be_gone=False)
    assert not is_expected([b"XADD", name, b"1-1"], late, is_repeated=False, may_be_gone=False)
