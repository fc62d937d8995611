"""Names of a snapshot: listed while it is taken, sorted into sets before they are asked for."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from engine.ledger.ledger import Ledger
from engine.ledger.register import Kind
from engine.ledger.register_file import REGISTER_NAME
from tests.ledger.noting import note


def files_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} - {REGISTER_NAME}


def sort_all(ledger: Ledger) -> int:
    steps = 0
    while ledger.sort_some():
        steps += 1
    return steps


def test_names_of_a_snapshot_are_only_listed_until_they_are_wanted(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.begin_snapshot(is_first=True)
    note(ledger, b"a", b"b")
    note(ledger, b"c", db=2)
    ledger.end_snapshot(1000)
    assert files_in(tmp_path) == {"brought-0-1.log", "brought-2-2.log"}
    note(ledger, b"streamed", db=2)
    assert ledger.recorder is not None
    ledger.recorder.drain()
    assert files_in(tmp_path) == {"brought-0-1.log", "brought-2-2.log", "brought-2-3.set"}

    assert sort_all(ledger) == 2

    assert files_in(tmp_path) == {"brought-0-4.set", "brought-2-3.set"}
    assert ledger.brought(0, [b"a", b"b", b"c"]) == [b"a", b"b"]
    assert ledger.brought(2, [b"a", b"c", b"streamed"]) == [b"c", b"streamed"]
    ledger.close()


def test_who_asks_in_the_middle_of_a_snapshot_gets_all_and_the_rest_is_kept_too(
    tmp_path: Path,
) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.begin_snapshot(is_first=True)
    note(ledger, b"a")
    assert ledger.brought(0, [b"a", b"b"]) == [b"a"]
    note(ledger, b"b")
    assert ledger.brought(0, [b"a", b"b"]) == [b"a", b"b"]
    note(ledger, b"c")
    ledger.end_snapshot(1000)

    assert ledger.brought(0, [b"a", b"b", b"c"]) == [b"a", b"b", b"c"]
    assert files_in(tmp_path) == {"brought-0-2.set"}
    ledger.close()


def test_lists_go_with_flushes_and_swaps_and_come_back(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    assert ledger.recorder is not None
    ledger.begin_snapshot(is_first=True)
    note(ledger, b"a")
    note(ledger, b"b", db=1)
    ledger.end_snapshot(10)
    ledger.recorder.note_swap(0, 1, 100)
    ledger.recorder.note_flush(1, 200)
    note(ledger, b"later", db=1)
    ledger.close()

    ledger = Ledger.open(tmp_path)
    assert (ledger.brought(0, [b"a", b"b"]), ledger.brought(1, [b"a", b"b"])) == ([b"b"], [])
    ledger.resume_at(150)
    assert ledger.brought(1, [b"a", b"later"]) == [b"a", b"later"]
    ledger.resume_at(50)
    assert ledger.brought(0, [b"a", b"later"]) == [b"a", b"later"]
    assert ledger.brought(1, [b"b"]) == [b"b"]
    ledger.close()


def test_names_that_every_attempt_brings_again_take_room_once(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    names = [b"key:%d" % it for it in range(1000)]
    for _ in range(5):
        sort_all(ledger)
        ledger.begin_snapshot(is_first=True)
        note(ledger, *names)
    sort_all(ledger)

    assert ledger.count(Kind.BROUGHT) == ledger.count(Kind.CURRENT) == 1000
    assert len(files_in(tmp_path)) == 2
    ledger.close()


def test_a_missing_list_ends_the_trust(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path)
    ledger.begin_snapshot(is_first=True)
    note(ledger, b"a")
    ledger.end_snapshot(10)
    ledger.close()
    (tmp_path / "brought-0-1.log").unlink()

    ledger = Ledger.open(tmp_path)

    assert not ledger.is_trusted
    ledger.close()


SORTER = """
import sys
from pathlib import Path
from engine.ledger.ledger import Ledger
ledger = Ledger.open(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    ledger.begin_snapshot(is_first=False)
    for _ in range(120_000):
        ledger.recorder.note_bytes(b"key:%d" % number)
        number += 1
        if number % 20_000 == 0:
            ledger.recorder.drain()
            sys.stdout.write(f"{number}\\n")
            sys.stdout.flush()
    while ledger.sort_some():
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
"""


def test_kill_9_while_names_are_listed_or_sorted_loses_none(tmp_path: Path) -> None:
    last = 0
    for lines in (1, 3, 7, 9, 12, 19):
        with subprocess.Popen(
            [sys.executable, "-c", SORTER, str(tmp_path), str(last)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            for _ in range(lines):
                last = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            for line in child.stdout.read().split(b"\n")[:-1]:
                last = int(line)

        ledger = Ledger.open(tmp_path)
        assert ledger.is_trusted
        names = [b"key:%d" % it for it in range(last)]
        assert len(ledger.brought(0, names)) == last
        assert ledger.brought(0, [b"key:%d" % (last + 1_000_000)]) == []
        ledger.close()
