"""Places in a stream of bytes at which the fault proxy cuts. Pure: bytes in, an index out.

Each is made anew for every connection and fed what passes in one direction, in pieces of any size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

LONGEST_HEADER = 64  # of `$<length>\r\n` before an RDB


class CutPoint(Protocol):
    """Watches one direction of one connection."""

    def find(self, piece: bytes | memoryview) -> int | None:
        """How many bytes of `piece` still pass; None if all do and the place lies further on."""


MakeCutPoint = Callable[[], CutPoint]


class AfterBytes:
    """Behind so many bytes."""

    def __init__(self, count: int) -> None:
        self._left = count

    def find(self, piece: bytes | memoryview) -> int | None:
        if len(piece) >= self._left:
            return self._left
        self._left -= len(piece)
        return None


class Behind:
    """So many bytes behind the end of the nth occurrence of a pattern."""

    def __init__(self, pattern: bytes, *, nth: int = 1, plus: int = 0) -> None:
        self._pattern = pattern
        self._left = nth
        self._plus = plus
        self._tail = b""
        self._then: AfterBytes | None = None

    def find(self, piece: bytes | memoryview) -> int | None:
        if self._then is not None:
            return self._then.find(piece)
        text = self._tail + bytes(piece)
        at = 0
        while (at := text.find(self._pattern, at)) >= 0:
            at += len(self._pattern)
            self._left -= 1
            if self._left == 0:
                start = at - len(
                    self._tail
                )  # the pattern ends in this piece, so it is not negative
                self._then = AfterBytes(self._plus)
                more = self._then.find(piece[start:])
                return None if more is None else start + more
        # One byte less than the pattern: what is found is never found again.
        self._tail = text[max(0, len(text) - len(self._pattern) + 1) :]
        return None


class InRdb:
    """At a share of an RDB that is sent with its length (`repl-diskless-sync no`).

    plus: bytes added to the place; `InRdb(1.0, plus=-1)` is before the last byte.
    """

    def __init__(self, share: float, *, plus: int = 0) -> None:
        self._share = share
        self._plus = plus
        self._verdict: Behind | None = Behind(b"+FULLRESYNC ")
        self._header = b""
        self._then: AfterBytes | None = None

    def find(self, piece: bytes | memoryview) -> int | None:
        if self._then is not None:
            return self._then.find(piece)
        start = 0
        if self._verdict is not None:
            found = self._verdict.find(piece)
            if found is None:
                return None
            self._verdict = None
            start = found
        had = len(self._header)
        self._header += bytes(piece[start : start + LONGEST_HEADER * 4])
        dollar = self._header.find(b"\n$")
        end = self._header.find(b"\r\n", dollar + 2)
        if dollar < 0 or end < 0:
            return None
        length = int(self._header[dollar + 2 : end])
        begins = start + end + 2 - had
        self._then = AfterBytes(int(length * self._share) + self._plus)
        more = self._then.find(piece[begins:])
        return None if more is None else begins + more


def after_lines(count: int) -> MakeCutPoint:
    """Behind so many reply lines."""
    return lambda: Behind(b"\n", nth=count)


def after_bytes(count: int) -> MakeCutPoint:
    """Behind so many bytes."""
    return lambda: AfterBytes(count)


def behind(pattern: bytes, *, nth: int = 1, plus: int = 0) -> MakeCutPoint:
    """`plus` bytes behind the nth occurrence of `pattern`."""
    return lambda: Behind(pattern, nth=nth, plus=plus)


def in_rdb(share: float, *, plus: int = 0) -> MakeCutPoint:
    """At a share of the RDB, 0.0 to 1.0, and `plus` bytes."""
    return lambda: InRdb(share, plus=plus)
