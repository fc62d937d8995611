"""Lists of names in files: brought into sets step by step, found again, cut names, a full disk."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from engine.codec.key_set import hash_name
from engine.errors import LedgerError
from engine.ledger.log_file import LogFile
from engine.ledger.set_file import SetFile

COUNT = 200_000  # several steps, more than one block would be a million
HASHES = [hash_name(b"key:%d" % number, 1) for number in range(COUNT)]


def append(log: LogFile, hashes: list[int]) -> None:
    log._append(b"".join(it.to_bytes(8, sys.byteorder) for it in hashes))


def test_what_was_listed_is_in_the_set_after_some_steps(tmp_path: Path) -> None:
    log, file = LogFile(tmp_path / "log"), SetFile(tmp_path / "set")
    append(log, HASHES[:1000])
    append(log, HASHES)
    steps = 1
    while log.move_some(file.keys):
        steps += 1

    assert log.count == COUNT + 1000
    assert file.keys.count == COUNT
    assert all(map(file.keys.contains, HASHES))
    assert steps == 4  # of 64 Ki names
    assert not log.move_some(file.keys)
    log.close()
    file.close()


def test_what_comes_while_it_is_moved_is_moved_too(tmp_path: Path) -> None:
    log, file = LogFile(tmp_path / "log"), SetFile(tmp_path / "set")
    append(log, HASHES[:-1])
    assert log.move_some(file.keys)
    append(log, HASHES[-1:])
    while log.move_some(file.keys):
        pass

    assert all(map(file.keys.contains, HASHES))
    log.close()
    file.close()


@pytest.mark.parametrize("torn_bytes", [0, 1, 7])
def test_it_is_found_again_without_a_name_that_was_cut_short(
    tmp_path: Path, torn_bytes: int
) -> None:
    path = tmp_path / "log"
    log = LogFile(path)
    append(log, HASHES[:100])
    log.close()
    with path.open("ab") as raw:
        raw.write(b"\xff" * torn_bytes)

    log, file = LogFile(path), SetFile(tmp_path / "set")
    append(log, HASHES[100:200])

    assert not log.move_some(file.keys)
    assert file.keys.count == 200
    assert all(map(file.keys.contains, HASHES[:200]))
    log.close()
    file.close()


def test_a_file_that_got_no_mark_before_the_process_died_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"FR")
    log = LogFile(tmp_path / "log")

    assert log.count == 0
    append(log, HASHES[:3])
    log.close()
    assert LogFile(tmp_path / "log").count == 3


def test_a_closed_list_takes_nothing(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    log.close()

    with pytest.raises(ValueError, match="closed"):
        append(log, HASHES[:1])


def test_a_file_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=str(tmp_path)):
        LogFile(tmp_path)
    (tmp_path / "log").write_bytes(b"something else")
    with pytest.raises(LedgerError, match=str(tmp_path / "log")):
        LogFile(tmp_path / "log")


def test_a_file_that_was_cut_under_us_is_an_error_that_names_it(tmp_path: Path) -> None:
    log, file = LogFile(tmp_path / "log"), SetFile(tmp_path / "set")
    append(log, HASHES[:100])
    os.truncate(log.path, 80)

    with pytest.raises(LedgerError, match="log is damaged"):
        log.move_some(file.keys)
    log.close()
    file.close()


FILLER = """
import resource, sys
from pathlib import Path
from engine.errors import LedgerError
from engine.ledger.ledger import Ledger
limit = 3 * 1024 * 1024 + 100
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
ledger = Ledger.open(Path(sys.argv[1]))
ledger.begin_snapshot(is_first=True)
number, message = 0, ""
while not message:
    try:
        ledger.recorder.note_bytes(b"%d" % number)
        number += 1
    except LedgerError as error:
        message = str(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for it in range(number, number + 1000):
    ledger.recorder.note_bytes(b"%d" % it)
ledger.end_snapshot(1)
names = [b"%d" % it for it in range(number + 1000)]
assert ledger.brought(0, names) == names
print(number, message)
"""


def test_where_the_file_may_not_grow_the_error_names_it_and_the_next_try_keeps_all(
    tmp_path: Path,
) -> None:
    """The limit of a file's size stands in for a full disk."""
    done = subprocess.run(
        [sys.executable, "-c", FILLER, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    number, _, message = done.stdout.partition(" ")
    assert int(number) > 300_000
    assert ".log" in message


def test_moving_many_names_keeps_few_pages_resident(tmp_path: Path) -> None:
    log, file = LogFile(tmp_path / "log"), SetFile(tmp_path / "set")
    rng = random.Random(3)
    for _ in range(40):
        log._append(rng.randbytes(8 * 50_000))
    largest = 0
    has_more = True
    while has_more:
        has_more = log.move_some(file.keys)
        largest = max(largest, resident_kib(file.path))
        file.let_go()

    size_kib = file.path.stat().st_blocks // 2
    assert size_kib > 30_000
    assert largest < size_kib // 2
    assert resident_kib(file.path) == 0
    assert file.keys.count == 2_000_000
    log.close()
    file.close()


def resident_kib(path: Path) -> int:
    """What of a mapped file counts as this process's memory."""
    is_it = False
    total = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            is_it = line.endswith(str(path))
        elif is_it and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total
