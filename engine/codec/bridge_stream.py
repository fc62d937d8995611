"""A stream value in the form of an older server: its nodes as they are, its numbers without the newer ones.

The layouts stand in stream_check. What each older type lacks:

    21   idempotent producers (26), the zone of released entries (27)
    19   and the moment when a consumer was last active
    15   and the stream's first id, largest deleted id and count of entries ever added, the groups' entries read
"""

from __future__ import annotations

from engine.codec.value_check import STREAMS
from engine.codec.value_items import ValueItems
from engine.errors import CorruptRdb

ID_BYTES = 16
PRODUCERS = "idempotent producers of streams"
MODULE = 7  # a value type whose reader reads nothing by itself


def stream_as(value_type: int, older_type: int, value: bytes) -> tuple[bytes | None, str]:
    """(value of `older_type`, what fell away or ""); (None, why not) if it can't be written so.

    What no server of the older type holds is no loss: it is left out without a word.
    Raises:
        CorruptRdb: the value is not sound; the offset counts in it.
    """
    return _Rewriter(value, STREAMS[value_type], STREAMS[older_type]).run()


class _Rewriter:
    """Copies the value piece by piece, passing over pieces that the older generation lacks."""

    def __init__(self, value: bytes, generation: int, older: int) -> None:
        self._value = value
        self._reader = ValueItems(MODULE, False, value)
        self._generation = generation
        self._older = older
        self._pieces: list[bytes] = []
        self._kept = 0  # up to here the value is copied

    def run(self) -> tuple[bytes | None, str]:
        reader = self._reader
        reader.skip_strings(2 * reader.count(ID_BYTES + 2))
        self._numbers(3)
        if self._generation >= 2:
            self._numbers(5, since=2)
        for _ in range(reader.count(5)):
            if not self._group():
                return None, "released pending entries of a group belong to no consumer"
        lost = ""
        if self._generation >= 4:
            self._keep()
            lost = self._producers()
            if self._older < 4:
                self._kept = reader.at
        self._keep()
        if reader.at != len(self._value):
            raise CorruptRdb(
                f"{len(self._value) - reader.at} bytes behind the value", offset=reader.at
            )
        return b"".join(self._pieces), lost

    def _keep(self) -> None:
        self._pieces.append(self._value[self._kept : self._reader.at])
        self._kept = self._reader.at

    def _leave_out(self, since: int) -> None:
        """What was read since the last `_keep` goes if the older generation does not have it."""
        if self._older < since:
            self._kept = self._reader.at

    def _numbers(self, count: int, since: int = 1) -> None:
        self._keep()
        for _ in range(count):
            self._reader.length()
        self._leave_out(since)

    def _group(self) -> bool:
        reader = self._reader
        reader.skip_string()
        reader.length()
        reader.length()
        if self._generation >= 2:
            self._numbers(1, since=2)
        for _ in range(reader.count(ID_BYTES + 9)):
            reader.skip(ID_BYTES + 8)
            reader.length()
        for _ in range(reader.count(10)):
            reader.skip_string()
            reader.skip(8)
            if self._generation >= 3:
                self._keep()
                reader.skip(8)
                self._leave_out(3)
            reader.skip(ID_BYTES * reader.count(ID_BYTES))
        if self._generation >= 5:
            self._keep()
            if reader.count(ID_BYTES):
                return False
            self._leave_out(5)
        return True

    def _producers(self) -> str:
        reader = self._reader
        reader.length()
        reader.length()
        producers = reader.count(2)
        for _ in range(producers):
            reader.skip_string()
            for _ in range(reader.count(3)):
                reader.skip_string()
                reader.length()
                reader.length()
        reader.length()
        reader.length()
        return PRODUCERS if producers and self._older < 4 else ""
