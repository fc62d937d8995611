"""RESP commands as lists, for our own few commands and for error reports."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.command_text import command_at, encode

arguments = st.lists(st.binary(max_size=30), min_size=1, max_size=6)


@given(arguments)
def test_commands_are_written_as_hiredis_writes_them(command: list[bytes]) -> None:
    assert encode(*command) == hiredis.pack_command(tuple(command))


def test_text_is_utf_8_and_numbers_are_decimal() -> None:
    assert (
        encode("SET", "ключ", -1)
        == b"*3\r\n$3\r\nSET\r\n$8\r\n" + "ключ".encode() + b"\r\n$2\r\n-1\r\n"
    )


@given(st.lists(arguments, max_size=6))
def test_the_command_at_each_place_is_found(commands: list[list[bytes]]) -> None:
    block = b"".join(encode(*command) for command in commands)

    found = [command_at(block, index) for index in range(len(commands) + 2)]

    assert found == [*commands, [], []]


@pytest.mark.parametrize("index", [0, 1])
def test_an_empty_block_has_no_command(index: int) -> None:
    assert command_at(b"", index) == []
