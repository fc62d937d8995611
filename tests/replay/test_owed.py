"""What is owed outlives the process, also one that died while it wrote it down."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from engine.replay.owed import FILE_NAME, OwedExpiries, OwedFile
from tests.live.world import events

NOTED = [(False, 0, b"a"), (True, 3, b"\x00\xff\n"), (False, 15, b'"quoted"'), (False, 0, b"")]


def test_what_is_added_is_loaded_by_the_next_run(tmp_path: Path) -> None:
    file = OwedFile(tmp_path / "made-when-needed")
    for noted in NOTED:
        file.add([noted])

    owed = OwedFile(tmp_path / "made-when-needed").load()

    assert owed.keys == {(0, b"a"), (15, b'"quoted"'), (0, b"")}
    assert owed.wholes == {(3, b"\x00\xff\n")}
    assert owed


@given(cut=st.integers(0, 200))
def test_a_torn_file_loses_only_what_was_torn(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("owed")
    OwedFile(folder).add(NOTED)
    path = folder / FILE_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])

    owed = OwedFile(folder).load()

    complete = max(0, whole[:cut].count(b"\n") - 1)  # each note begins on a line of its own
    for is_whole, db, key in NOTED[:complete]:
        assert (db, key) in (owed.wholes if is_whole else owed.keys)
    # The last line counts as soon as all but its end is there.
    assert complete <= len(owed.keys) + len(owed.wholes) <= complete + 1


def test_a_new_run_writes_behind_a_torn_line_and_both_are_read(tmp_path: Path) -> None:
    OwedFile(tmp_path).add(NOTED[:2])
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-5])

    again = OwedFile(tmp_path)
    again.load()
    again.add(NOTED[2:3])

    owed = OwedFile(tmp_path).load()
    assert owed.keys == {(0, b"a"), (15, b'"quoted"')}


def test_cleared_nothing_is_left_and_nothing_is_owed(tmp_path: Path) -> None:
    file = OwedFile(tmp_path)
    file.add(NOTED)
    file.clear()
    file.clear()
    assert list(tmp_path.iterdir()) == []
    assert not file.load()


def test_without_a_folder_nothing_is_kept() -> None:
    file = OwedFile(None)
    file.add(NOTED)
    assert not file.load()
    file.clear()


def test_a_folder_that_cannot_be_used_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = OwedFile(tmp_path / "file")
    with capture_logs() as logs:
        file.add(NOTED)
        file.add(NOTED)
    assert len(events(list(logs), "expiry.not_noted")) == 1


@pytest.mark.parametrize(
    ("owed", "expected"),
    [
        (OwedExpiries(), False),
        (OwedExpiries(keys={(0, b"a")}), True),
        (OwedExpiries(wholes={(0, b"a")}), True),
        (OwedExpiries(scans_keys=True), True),
        (OwedExpiries(scans_hashes=True), True),
        (OwedExpiries(is_exact=False), False),
    ],
)
def test_what_counts_as_owing(owed: OwedExpiries, expected: bool) -> None:
    assert bool(owed) is expected
