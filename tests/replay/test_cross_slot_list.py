"""The list of commands over several slots: what it says, that it has a bound, and that a full disk costs only the list."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog.testing

from engine.control.state_folder import foreign_entries
from engine.replay import cross_slot_list
from engine.replay.cross_slot_list import (
    LIST_NAME,
    RESOLVED,
    SHOWN_KEY_BYTES,
    SHOWN_KEYS,
    SPLIT,
    CrossSlotList,
    read_cross_slot,
)
from engine.replay.listing import older_part
from engine.stats import CROSS_SLOT_SHOWN, LineStats
from engine.supervision.totals import total


def rows(folder: Path) -> list[dict[str, object]]:
    return read_cross_slot(folder, offset=0, limit=10**6)[1]


def test_an_event_is_told_with_its_keys_its_place_and_what_became_of_it(tmp_path: Path) -> None:
    stats = LineStats()
    listed = CrossSlotList(tmp_path, stats)

    listed.note("MSET", [b"a", b"\xff\n"], 300, SPLIT)
    listed.note("RENAME", [b"x" * 1000, *(b"%d" % it for it in range(20))], 300, RESOLVED)
    listed.note("MULTI", (), 300, SPLIT, count=7)
    assert (rows(tmp_path), stats.cross_slot_split) == ([], 0)
    listed.end_block(300)
    listed.note("DEL", [b"a", b"b"], 400, SPLIT)
    listed.stop("RENAME", [b"c", b"d"], 400)

    first, second, third, fourth, fifth = rows(tmp_path)
    assert first | {"ts": 0} == {
        "ts": 0, "command": "MSET", "keys": ["a", "\\xff\n"], "key_count": 2, "offset": 300, "handled": "split", "count": 1,
    }  # fmt: skip
    assert (second["handled"], second["key_count"]) == ("resolved", 21)
    assert second["keys"] == ["x" * SHOWN_KEY_BYTES, *map(str, range(SHOWN_KEYS - 1))]
    assert (third["command"], third["keys"], third["count"]) == ("MULTI", [], 7)
    assert (fourth["command"], fourth["handled"]) == ("DEL", "split")
    assert (fifth["command"], fifth["handled"], fifth["offset"]) == ("RENAME", "stopped", 400)
    assert [it.as_dict() for it in stats.cross_slot_latest] == rows(tmp_path)
    assert stats.cross_slot == {"MSET": 1, "RENAME": 1, "DEL": 1}
    assert (stats.cross_slot_split, stats.cross_slot_resolved) == (9, 1)
    assert foreign_entries(tmp_path) == []


def test_what_is_read_again_is_neither_counted_nor_listed_but_after_a_snapshot(
    tmp_path: Path,
) -> None:
    stats = LineStats()
    for number in range(3):
        listed = CrossSlotList(tmp_path, stats)  # one for each stay
        for offset in (100, 200):
            listed.note("DEL", [b"a", b"b"], offset, SPLIT)
            listed.end_block(offset)
        assert stats.cross_slot_split == len(rows(tmp_path)) == (2 if number < 2 else 4)
        if number == 1:
            stats.begin_snapshot(10)


def test_pages_go_over_both_parts_and_the_oldest_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_slot_list, "MOST_BYTES", 10_000)
    stats = LineStats()
    listed = CrossSlotList(tmp_path, stats)
    for number in range(1000):
        listed.note("DEL", [b"a", b"b"], number, SPLIT)
        listed.end_block(number)

    files = {LIST_NAME, older_part(Path(LIST_NAME)).name}
    assert {it.name for it in tmp_path.iterdir()} == files
    assert all(it.stat().st_size < 10_300 for it in tmp_path.iterdir())
    assert foreign_entries(tmp_path) == []
    kept, page = read_cross_slot(tmp_path, offset=0, limit=10**6)
    assert 60 < kept == len(page) < 300
    assert [it["offset"] for it in page] == [*range(1000 - kept, 1000)]
    assert read_cross_slot(tmp_path, offset=kept - 5, limit=3) == (kept, page[-5:-2])
    assert [it.offset for it in stats.cross_slot_latest] == [*range(1000 - CROSS_SLOT_SHOWN, 1000)]
    assert stats.cross_slot_split == 1000


def test_of_an_endless_block_only_numbers_are_told_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_slot_list, "MOST_OF_A_BLOCK", 5)
    stats = LineStats()
    listed = CrossSlotList(tmp_path, stats)
    for number in range(100):
        listed.note("DEL" if number % 2 else "MSET", [b"a", b"b"], 7, SPLIT)
    listed.end_block(7)

    assert [it["count"] for it in rows(tmp_path)] == [1] * 5 + [48, 47]
    assert stats.cross_slot == {"DEL": 50, "MSET": 50}
    assert stats.cross_slot_split == 100


def test_a_list_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / LIST_NAME).mkdir()
    stats = LineStats()
    listed = CrossSlotList(tmp_path, stats)

    with structlog.testing.capture_logs() as logs:
        listed.note("DEL", [b"a", b"b"], 1, SPLIT)
        listed.end_block(1)

    assert [it["event"] for it in logs] == ["stream.cross_slot", "cross_slot.not_written"]
    assert len(stats.cross_slot_latest) == stats.cross_slot_split == 1


def test_without_a_folder_the_status_has_the_latest() -> None:
    several = [LineStats(), LineStats()]
    for stats in several:
        listed = CrossSlotList(None, stats)
        for number in range(8):
            listed.note("DEL", [b"a", b"b"], number, SPLIT)
            listed.end_block(number)

    both = total(several).cross_slot_latest
    assert len(both) == CROSS_SLOT_SHOWN
    assert [it.ts for it in both] == sorted(it.ts for it in both)
