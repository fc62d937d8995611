"""The checkpoint's form: what is written is read back, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.checkpoint.checkpoint import (
    GUARD_REPLIES,
    WRITE_REPLIES,
    Checkpoint,
    checkpoint_key,
    decode,
    guarded_write,
    snapshot_fields,
    stream_fields,
    token,
)
from engine.errors import TargetRefused
from engine.position import Position
from tests.codec.stream_blocks import CHECKPOINT, REPLID, apply, make_plan, transcode, wire

KEY = checkpoint_key("t", "0")
LEDGER = "00ff" * 4


def written(position: Position, db: int, epoch: int) -> dict[str, str]:
    return stream_fields(position, db, epoch, ledger=LEDGER, margin_since_ms=7)


GOOD = written(Position(REPLID, 5), 3, 2)
OPTIONAL = {"ledger", "margin_since"}  # not in the first checkpoints


def as_read(fields: dict[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in fields.items()}


def test_the_key_keeps_a_tasks_lines_in_one_slot() -> None:
    assert KEY == CHECKPOINT == b"redis-ferry:checkpoint:{t}:0"
    assert checkpoint_key("é", "1") == "redis-ferry:checkpoint:{é}:1".encode()


@given(offset=st.integers(0, 1 << 62), db=st.integers(0, 1 << 20), epoch=st.integers(1, 1 << 40))
def test_what_is_written_is_read_back(offset: int, db: int, epoch: int) -> None:
    position = Position(REPLID, offset)

    assert decode(as_read(written(position, db, epoch)), KEY) == Checkpoint(
        position=position, db=db, epoch=epoch, ledger=LEDGER, margin_since_ms=7
    )


def test_the_blocks_of_the_stream_write_the_same_fields() -> None:
    plan = make_plan(serial=41, ledger=LEDGER, margin_since_ms=7)
    _, (block,) = transcode([wire(("SELECT", 3), ("INCR", "a"))], plan)

    fields = apply(block).checkpoint

    moved = {token(3, 42).decode(): "1"}
    assert fields == as_read(written(Position(REPLID, block.offset), 3, 3) | moved)


def test_a_guarded_write_is_a_block_without_commands() -> None:
    plan = make_plan(serial=41, ledger=LEDGER, margin_since_ms=7, db=3)
    transcoder, _ = transcode([], plan)
    block = transcoder.checkpoint_block()

    fields = written(Position(REPLID, block.offset), 3, 3)
    ours = guarded_write(KEY, before=token(3, 41), after=token(3, 42), fields=fields)

    # The block selects its database and goes back.
    assert apply(block).commands == []
    assert ours == block.data.replace(wire(("SELECT", 3)), b"").replace(wire(("SELECT", 0)), b"")
    assert (block.guard_replies, block.replies - 2) == (GUARD_REPLIES, WRITE_REPLIES)


def test_one_token_is_a_chain_and_two_are_a_hole() -> None:
    turned_away = {token(2, 9).decode(): "0"}
    whole = decode(as_read(GOOD | {token(2, 8).decode(): "1"} | turned_away), KEY)
    broken = decode(as_read(GOOD | {token(2, 6).decode(): "1", token(2, 8).decode(): "1"}), KEY)

    assert whole is not None
    assert not whole.has_hole
    assert set(whole.tokens) == {token(2, 8), token(2, 9)}
    assert broken is not None
    assert broken.has_hole


def test_what_a_turned_away_write_leaves_alone_is_no_checkpoint() -> None:
    assert decode({token(2, 9): b"0"}, KEY) is None


@pytest.mark.parametrize(
    "fields",
    [
        snapshot_fields(REPLID, 2, ledger=LEDGER),
        GOOD | {"phase": "snapshot"},
        GOOD | {"offset": "-1"},
        written(Position("", 5), 3, 2),
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


@pytest.mark.parametrize("missing", sorted(GOOD.keys() - OPTIONAL))
def test_a_field_missing_is_refused(missing: str) -> None:
    fields = {name: value for name, value in GOOD.items() if name != missing}

    with pytest.raises(TargetRefused, match=missing):
        decode(as_read(fields), KEY)
