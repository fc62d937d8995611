"""A selected snapshot is the whole one's commands, chosen and renamed: on every dump there is, compiled and interpreted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.codec.selected_snapshot import SelectedSnapshotTranscoder
from engine.codec.snapshot import SnapshotTranscoder
from engine.selection import Selection
from tests.codec.interpreted_form import interpreted
from tests.codec.snapshot_commands import PLAN, commands, outputs
from tests.corpus_files import OpenDump, open_dumps

Interpreted: Any = interpreted("selected_snapshot").SelectedSnapshotTranscoder
SMALL_BYTES = 20_000
KEYED = {b"RESTORE", b"SET", b"HPEXPIREAT"}
SELECTION = Selection(
    include_keys=(b"*[aeiou]*",),
    exclude_keys=(b"*x*",),
    db_map=((0, 7), (7, 0)),
    prefix_add=b"new:{1}:",
    exclude_commands=frozenset({"FUNCTION", "SCRIPT"}),
)


def taken(key: bytes) -> bool:
    return any(it in b"aeiou" for it in key) and b"x" not in key


@pytest.mark.parametrize("margin_ms", [0, 1 << 40])
@pytest.mark.parametrize("dump", open_dumps(), ids=lambda it: it.id)
def test_it_is_chosen_from_the_whole(dump: OpenDump, margin_ms: int) -> None:
    plan = replace(PLAN, strings_as_set=True, margin_ms=margin_ms, skips_refused=True)
    whole = SnapshotTranscoder(plan)
    whole.horizon_ms = 1 << 50
    chunks = [dump.rdb[at : at + 4096] for at in range(0, len(dump.rdb), 4096)]
    expected, left_out = [], 0
    for db, (name, *words) in commands(outputs(whole, chunks)):
        if name not in KEYED:
            continue  # FUNCTION, SCRIPT
        if not taken(words[0]):
            left_out += name != b"HPEXPIREAT"
            continue
        target_db = {0: 7, 7: 0}.get(db, db)
        expected.append((target_db, (name, b"new:{1}:" + words[0], *words[1:])))
    forms = [SelectedSnapshotTranscoder]
    forms += [Interpreted] if len(dump.rdb) < SMALL_BYTES else []
    for form in forms:
        selected = form(replace(plan, selection=SELECTION))
        selected.horizon_ms = 1 << 50
        assert commands(outputs(selected, chunks)) == expected
        assert selected.keys_filtered >= left_out  # those that could not be written among them
        assert selected.keys_read == whole.keys_read
        wanted = {(db, key) for db, key in whole.late_hashes if taken(key)}
        assert selected.late_hashes == {({0: 7, 7: 0}.get(db, db), b"new:{1}:" + key) for db, key in wanted}  # fmt: skip


@pytest.mark.parametrize("dump", open_dumps()[:20], ids=lambda it: it.id)
def test_databases_are_left_out(dump: OpenDump) -> None:
    whole = commands(outputs(SnapshotTranscoder(PLAN), [dump.rdb]))
    plan = replace(PLAN, selection=Selection(databases=frozenset({1, 3})))
    selected = SelectedSnapshotTranscoder(plan)
    found = [it for it in commands(outputs(selected, [dump.rdb])) if it[1][0] in KEYED]
    assert found == [it for it in whole if it[0] in {1, 3} and it[1][0] in KEYED]
