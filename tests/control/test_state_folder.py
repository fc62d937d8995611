"""What a task keeps in its folder is known as its own, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.control.control_socket import socket_path
from engine.control.state_folder import foreign_entries
from engine.ledger.register_file import REGISTER_NAME
from engine.spool.recovery import line_folder


def test_what_the_stages_write_is_ours(tmp_path: Path) -> None:
    line_folder(tmp_path, "0", "1-2").mkdir()
    for name in (
        socket_path(tmp_path).name,
        "c4711",
        REGISTER_NAME,
        "brought-0-1.set",
        "kept-15-22.set",
        "refused-keys.jsonl",
        "cross-slot.jsonl",
        "cross-slot.1.jsonl",
        "owners-0",
        "scan",
    ):
        (tmp_path / name).touch()

    assert foreign_entries(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["thesis.txt", "control.sock.bak", "xline-0", "c", ".bashrc", "brought.set"]
)
def test_what_is_not_ours_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()

    assert foreign_entries(tmp_path) == [name]
