"""Key sets in files: growth, a full disk, and what the file takes on the disk."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from engine.codec.key_set import hash_name
from engine.errors import LedgerError
from engine.ledger.set_file import SetFile

COUNT = 300_000
HASHES = [hash_name(b"key:%d" % number, 1) for number in range(COUNT)]


def test_a_large_set_is_found_again_and_grows_on(tmp_path: Path) -> None:
    path = tmp_path / "set"
    for part in range(3):
        file = SetFile(path)
        assert file.keys.count == part * COUNT // 3
        for value in HASHES[part * COUNT // 3 : (part + 1) * COUNT // 3]:
            assert file.keys.add(value) == 1
        file.close()

    file = SetFile(path)

    assert all(map(file.keys.contains, HASHES))
    assert not any(file.keys.contains(value ^ 1 << 30) for value in HASHES)
    file.close()


def test_it_takes_no_more_disk_than_it_says(tmp_path: Path) -> None:
    file = SetFile(tmp_path / "set")
    small = file.path.stat().st_blocks * 512
    for value in HASHES:
        file.keys.add(value)

    assert small <= 256 * 1024
    assert file.path.stat().st_blocks * 512 <= COUNT * 45 + 4 * 1024 * 1024
    file.remove()
    assert not file.path.exists()


def test_every_page_that_is_written_to_has_its_block_before(tmp_path: Path) -> None:
    """Otherwise a full disk would end the process instead of raising."""
    file = SetFile(tmp_path / "set")
    for value in HASHES[:100_000]:
        file.keys.add(value)
    file.close()
    file = SetFile(tmp_path / "set")
    for value in HASHES[100_000:]:
        file.keys.add(value)
    end = int.from_bytes(file.view()[8:16], "little") * 8

    descriptor = os.open(file.path, os.O_RDONLY)
    try:
        hole = os.lseek(descriptor, 0, os.SEEK_HOLE)
    finally:
        os.close(descriptor)
    assert hole >= end
    file.close()


FILLER = """
import sys
from pathlib import Path
from engine.codec.key_set import hash_name
from engine.errors import LedgerError
from engine.ledger.set_file import SetFile
file = SetFile(Path(sys.argv[1]))
number = 0
try:
    while True:
        file.keys.add(hash_name(b"%d" % number, 1))
        number += 1
except LedgerError as error:
    assert file.keys.count == number, (file.keys.count, number)
    assert all(file.keys.contains(hash_name(b"%d" % it, 1)) for it in range(number))
    print(number, error)
"""


def test_where_the_file_may_not_grow_the_error_names_it_and_nothing_is_lost(tmp_path: Path) -> None:
    """The limit of a file's size stands in for a full disk."""
    limit = 3 * 1024 * 1024
    done = subprocess.run(
        [sys.executable, "-c", FILLER, str(tmp_path / "set")],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )

    assert done.returncode == 0, done.stderr
    number, _, message = done.stdout.partition(" ")
    assert int(number) > 10_000
    assert os.strerror(errno.EFBIG) in message
    assert str(tmp_path / "set") in message


def test_a_file_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=str(tmp_path)):
        SetFile(tmp_path)
