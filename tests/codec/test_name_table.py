"""The table of command names, through the transcoder that uses it: the compiled look-up has no Python face."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.codec.command_table import COMMANDS
from engine.codec.foreign_stream import ForeignStreamTranscoder
from engine.codec.name_table import NameTable
from tests.codec.interpreted_form import interpreted
from tests.codec.stream_blocks import make_plan
from tests.codec.test_command_bridge import support_of

NAMES = sorted({name.split("|")[0].encode() for name in COMMANDS} | {b"ZZ.TOP-2", b"N" * 64})
KNOWN = frozenset(NAMES)
BRIDGED = frozenset(
    {b"DELEX", b"MSETEX"}
)  # newer than the table; the bridge says what stands for them
SUPPORT = support_of((8, 6), commands=KNOWN, takes_conditions=True)
FORMS = [
    pytest.param(ForeignStreamTranscoder, id="as-built"),
    pytest.param(interpreted("foreign_stream").ForeignStreamTranscoder, id="interpreted"),
]


def _is_known(form: Any, name: bytes) -> bool:
    transcoder = form(make_plan(support=SUPPORT, is_transactional=False, skips_refused=True))
    transcoder.feed(b"*2\r\n$%d\r\n%b\r\n$1\r\nk\r\n" % (len(name), name), 0, False)
    block = transcoder.next_block(True)
    assert (block is None) == bool(transcoder.refused)
    return block is not None


@pytest.mark.parametrize("form", FORMS)
def test_every_name_is_found_in_any_case(form: Any) -> None:
    for name in NAMES:
        if name not in {b"MULTI", b"EXEC", b"PING", b"SELECT", b"REPLCONF", b"RESTORE"}:
            assert _is_known(form, name), name
            assert _is_known(form, name.lower()), name


@settings(max_examples=300)
@given(
    name=st.sampled_from(NAMES),
    at=st.integers(0, 63),
    byte=st.integers(33, 255),
    how=st.sampled_from(["change", "add", "remove"]),
)
def test_a_name_that_is_nearly_one_is_not(name: bytes, at: int, byte: int, how: str) -> None:
    at %= len(name)
    middle = {"change": bytes([byte]), "add": name[at : at + 1] + bytes([byte]), "remove": b""}[how]
    other = name[:at] + middle + name[at + 1 :]
    if other and other.upper() not in KNOWN | BRIDGED:
        for form in FORMS:
            assert not _is_known(form.values[0], other), other


def test_more_names_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 2048 command names"):
        NameTable((b"C%d" % i, 0) for i in range(2049))
