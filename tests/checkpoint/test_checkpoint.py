"""The checkpoint's form: what is written is read back, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checkpoint.checkpoint import (
    Checkpoint,
    checkpoint_key,
    decode,
    snapshot_fields,
    stream_fields,
)
from engine.errors import TargetRefused
from engine.position import Position
from tests.codec.stream_blocks import CHECKPOINT, REPLID, apply, make_plan, transcode, wire

KEY = checkpoint_key("t", "0")
GOOD = stream_fields(Position(REPLID, 5), 3, 2)


def as_read(fields: dict[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in fields.items()}


def test_the_key_keeps_a_tasks_lines_in_one_slot() -> None:
    assert KEY == CHECKPOINT == b"redis-ferry:checkpoint:{t}:0"
    assert checkpoint_key("é", "1") == "redis-ferry:checkpoint:{é}:1".encode()


@given(offset=st.integers(0, 1 << 62), db=st.integers(0, 1 << 20), epoch=st.integers(1, 1 << 40))
def test_what_is_written_is_read_back(offset: int, db: int, epoch: int) -> None:
    position = Position(REPLID, offset)

    assert decode(as_read(stream_fields(position, db, epoch)), KEY) == Checkpoint(
        position=position, db=db, epoch=epoch
    )


def test_the_blocks_of_the_stream_write_the_same_fields() -> None:
    _, (block,) = transcode([wire(("SELECT", 3), ("INCR", "a"))], make_plan(epoch=2))

    written = apply(block).checkpoint

    assert written == as_read(stream_fields(Position(REPLID, block.offset), 3, 2))


@pytest.mark.parametrize(
    "fields",
    [
        snapshot_fields(REPLID, 2),
        GOOD | {"phase": "snapshot"},
        GOOD | {"offset": "-1"},
        stream_fields(Position("", 5), 3, 2),
    ],
    ids=["in-the-snapshot", "phase-snapshot", "no-offset", "source-without-psync"],
)
def test_there_is_nothing_to_resume_but_the_epoch_goes_on(fields: dict[str, str]) -> None:
    found = decode(as_read(fields), KEY)

    assert found is not None
    assert found.position is None
    assert found.epoch == 2


def test_no_fields_are_no_checkpoint() -> None:
    assert decode({}, KEY) is None


def test_fields_of_a_later_version_with_this_format_are_passed_over() -> None:
    assert decode(as_read(GOOD | {"more": "x"}), KEY) == decode(as_read(GOOD), KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "2"},
        {"format": ""},
        {"offset": "many"},
        {"db": "x"},
        {"epoch": ""},
        {"replid": "\u00e9"},
    ],
    ids=lambda it: "-".join(*it.items()),
)
def test_what_cannot_be_read_is_refused_with_the_key_named(change: dict[str, str]) -> None:
    with pytest.raises(TargetRefused, match=r"redis-ferry:checkpoint:\{t\}:0"):
        decode(as_read(GOOD | change), KEY)


@pytest.mark.parametrize("missing", list(GOOD))
def test_a_field_missing_is_refused(missing: str) -> None:
    fields = {name: value for name, value in GOOD.items() if name != missing}

    with pytest.raises(TargetRefused, match=missing):
        decode(as_read(fields), KEY)
