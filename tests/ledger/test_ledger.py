"""The ledger in a real directory: what is left over, what survives kill -9, and when it is not believed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import LedgerError
from engine.ledger.ledger import Ledger
from engine.ledger.register import FALL_BACK_BYTES, Kind
from engine.ledger.register_file import REGISTER_NAME
from tests.ledger.noting import note


def set_files(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*.set")}


def test_after_a_second_snapshot_what_only_the_first_had_is_left_over(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.begin_snapshot(is_first=True)
    note(ledger, b"a", b"b")
    note(ledger, b"a", db=3)
    ledger.end_snapshot(1000)
    note(ledger, b"streamed")
    ledger.begin_snapshot(is_first=False)
    note(ledger, b"a", b"new")

    assert ledger.leftovers(0, [b"a", b"b", b"new", b"streamed", b"foreign"]) == [b"b", b"streamed"]
    assert ledger.leftovers(3, [b"a", b"b"]) == [b"a"]
    assert ledger.is_leftover(0, b"b")
    assert not ledger.is_leftover(1, b"b")
    ledger.end_snapshot(1000)

    assert ledger.brought(0, [b"a", b"b", b"new", b"streamed"]) == [b"a", b"new"]
    assert ledger.dbs == [0]
    assert ledger.count(Kind.BROUGHT) == 2
    ledger.note_applied(2 * FALL_BACK_BYTES)
    assert len(set_files(tmp_path)) == 1
    ledger.close()


def test_a_target_that_falls_back_behind_a_snapshot_has_its_old_leftovers_again(
    tmp_path: Path,
) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.begin_snapshot(is_first=True)
    note(ledger, b"a", b"old")
    ledger.end_snapshot(1000)
    ledger.begin_snapshot(is_first=False)
    note(ledger, b"a")
    ledger.end_snapshot(5000)
    ledger.note_applied(6000)
    ledger.resume_at(6000)
    assert ledger.brought(0, [b"a", b"old"]) == [b"a"]

    ledger.resume_at(None)
    ledger.begin_snapshot(is_first=False)
    note(ledger, b"a")

    assert ledger.leftovers(0, [b"a", b"old"]) == [b"old"]
    ledger.close()


def test_a_first_snapshot_is_recorded_once_and_leaves_nothing_over(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.begin_snapshot(is_first=True)
    note(ledger, b"a")

    assert ledger.leftovers(0, [b"a", b"foreign"]) == []
    assert ledger.count(Kind.CURRENT) == 0
    ledger.end_snapshot(1000)
    assert ledger.leftovers(0, [b"a"]) == []
    assert ledger.brought(0, [b"a"]) == [b"a"]
    ledger.close()


def test_keys_of_a_cut_first_snapshot_are_left_over_if_the_next_lacks_them(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.begin_snapshot(is_first=True)
    note(ledger, b"zombie", b"a")
    ledger.begin_snapshot(is_first=True)
    note(ledger, b"a")

    assert ledger.leftovers(0, [b"zombie", b"a", b"foreign"]) == [b"zombie"]
    ledger.close()


def test_keys_that_the_target_had_are_never_left_over(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.keep(0, [b"theirs"])
    ledger.begin_snapshot(is_first=True)
    note(ledger, b"theirs", b"ours")
    ledger.end_snapshot(1000)
    ledger.begin_snapshot(is_first=False)

    assert ledger.leftovers(0, [b"theirs", b"ours"]) == [b"ours"]
    assert ledger.brought(0, [b"theirs", b"ours"]) == [b"ours"]
    ledger.close()


def test_swapdb_and_flushes_move_and_drop_names(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    assert ledger.recorder is not None
    note(ledger, b"a")
    note(ledger, b"b", db=1)
    ledger.recorder.note_swap(0, 1, 100)
    note(ledger, b"after", db=1)
    assert ledger.brought(0, [b"a", b"b"]) == [b"b"]
    assert ledger.brought(1, [b"a", b"b", b"after"]) == [b"a", b"after"]

    ledger.recorder.note_flush(1, 200)
    assert ledger.brought(1, [b"a", b"after"]) == []
    assert ledger.brought(0, [b"b"]) == [b"b"]
    ledger.recorder.note_flush(None, 300)

    assert ledger.dbs == []
    ledger.close()


def test_what_the_target_turns_out_not_to_have_is_taken_back(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    assert ledger.recorder is not None
    note(ledger, b"a")
    ledger.recorder.note_swap(0, 1, 100)
    ledger.recorder.note_flush(None, 200)
    note(ledger, b"later", db=1)
    ledger.close()

    ledger = Ledger.open(tmp_path)
    ledger.resume_at(150)

    assert ledger.brought(1, [b"a", b"later"]) == [b"a", b"later"]
    ledger.resume_at(50)
    assert ledger.brought(0, [b"a", b"later"]) == [b"a", b"later"]
    ledger.close()


def test_files_that_flushes_put_away_go_when_they_are_applied(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    assert ledger.recorder is not None
    for offset in range(100, 1100, 100):
        note(ledger, b"a")
        ledger.recorder.note_flush(0, offset)
        ledger.note_applied(offset - 150)

    assert len(set_files(tmp_path)) <= 3
    ledger.close()


def test_without_a_directory_nothing_is_recorded_or_believed() -> None:
    ledger = Ledger.open(None)

    assert ledger.recorder is None
    assert not ledger.is_trusted
    ledger.begin_snapshot(is_first=False)
    ledger.keep(0, [b"a"])
    ledger.resume_at(5)
    ledger.note_applied(9)
    ledger.end_snapshot(1000)
    ledger.renew()
    assert ledger.leftovers(0, [b"a"]) == []
    assert ledger.brought(0, [b"a"]) == []
    ledger.close()


def test_a_closed_ledger_is_found_again_as_it_was(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    note(ledger, b"a", b"\x00\xff\r\n")
    ledger_id = ledger.id
    ledger.close()

    again = Ledger.open(tmp_path)

    assert again.id == ledger_id
    assert again.is_trusted
    assert again.brought(0, [b"a", b"\x00\xff\r\n", b"b"]) == [b"a", b"\x00\xff\r\n"]
    again.close()


def test_renewed_it_knows_nothing_under_another_id(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    note(ledger, b"a")
    before = ledger.id

    ledger.renew()

    assert ledger.id != before
    assert len(ledger.id) == 16
    assert ledger.brought(0, [b"a"]) == []
    assert set_files(tmp_path) == set()
    note(ledger, b"b")
    assert ledger.brought(0, [b"a", b"b"]) == [b"b"]
    ledger.close()


def change_register(directory: Path, **changes: object) -> None:
    path = directory / REGISTER_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_after_a_crash_of_the_machine_it_is_not_believed_until_the_next_snapshot(
    tmp_path: Path,
) -> None:
    ledger = Ledger.open(tmp_path)
    note(ledger, b"a")
    ledger.close()
    change_register(tmp_path, boot_id="another", is_closed=False)

    again = Ledger.open(tmp_path)

    assert again.id == ledger.id
    assert not again.is_trusted
    again.begin_snapshot(is_first=True)
    note(again, b"b")
    assert again.unknown(0, [b"a", b"b"]) == [b"a"]
    assert again.leftovers(0, [b"a"]) == []
    again.end_snapshot(1000)
    assert again.is_trusted
    again.close()


def test_a_restart_of_the_machine_after_closing_does_no_harm(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    note(ledger, b"a")
    ledger.close()
    change_register(tmp_path, boot_id="another")

    again = Ledger.open(tmp_path)

    assert again.is_trusted
    assert again.brought(0, [b"a"]) == [b"a"]
    again.close()


def test_while_it_is_open_the_disk_says_so(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.close()
    assert json.loads((tmp_path / REGISTER_NAME).read_text())["is_closed"] is True

    again = Ledger.open(tmp_path)

    assert json.loads((tmp_path / REGISTER_NAME).read_text())["is_closed"] is False
    again.close()


def test_a_missing_file_or_a_damaged_register_ends_the_trust(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    note(ledger, b"a")
    ledger.close()
    for path in tmp_path.glob("*.set"):
        path.unlink()
    again = Ledger.open(tmp_path)
    assert not again.is_trusted
    again.close()
    (tmp_path / REGISTER_NAME).write_text("{")

    last = Ledger.open(tmp_path)

    assert not last.is_trusted
    assert last.id != ledger.id
    last.close()


def test_a_damaged_set_is_an_error_that_names_it(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    note(ledger, b"a")
    ledger.close()
    (path,) = tmp_path.glob("*.set")
    path.write_bytes(b"\xff" * path.stat().st_size)

    again = Ledger.open(tmp_path)
    with pytest.raises(LedgerError, match=str(path)):
        again.brought(0, [b"a"])
    again.close()


def test_files_of_nobody_are_removed(tmp_path: Path) -> None:
    Ledger.open(tmp_path).close()
    (tmp_path / "brought-0-99.set").write_bytes(b"x")
    (tmp_path / "other.set").write_bytes(b"x")

    Ledger.open(tmp_path).close()

    assert set_files(tmp_path) == {"other.set"}


def test_a_directory_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(LedgerError, match="file/ledger"):
        Ledger.open(tmp_path / "file" / "ledger")


ADDER = """
import sys
from pathlib import Path
from engine.ledger.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    db = number // 100 % 3
    ledger.recorder.select(db)
    for _ in range(100):
        ledger.recorder.note_bytes(b"key:%d" % number)
        number += 1
    ledger.recorder.drain()
    if number % 3000 == 0:
        ledger.recorder.note_swap(0, 1, number)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_kill_9_loses_no_name_that_was_recorded(tmp_path: Path) -> None:
    number = 0
    for milliseconds in (150, 300, 80, 200, 120):
        with subprocess.Popen(
            [sys.executable, "-c", ADDER, str(tmp_path), str(number)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            first = int(child.stdout.readline())
            deadline = time.monotonic() + milliseconds / 1000
            last = first
            while time.monotonic() < deadline:
                last = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            for line in child.stdout.read().split(b"\n")[:-1]:
                last = int(line)
        number = last // 3000 * 3000  # where the child's own swaps are even with ours

        ledger = Ledger.open(tmp_path)
        assert ledger.is_trusted
        for db in range(3):
            names = [b"key:%d" % it for it in range(last) if it // 100 % 3 == db]
            found = set().union(*(ledger.brought(it, names) for it in range(3)))
            assert len(found) == len(names)
        assert ledger.brought(2, [b"key:%d" % it for it in range(200, 300)]) != []
        assert ledger.brought(0, [b"key:200", b"key:%d" % (last + 10_000)]) == []
        ledger.close()
