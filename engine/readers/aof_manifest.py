"""The manifest of a multi-part append-only file (Redis 7; aof.c, aofLoadManifestFromFile). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.errors import CorruptAof

SUFFIX = ".manifest"
LONGEST_LINE_BYTES = 1024
MOST_LINES = 1_000_000
_WORD = re.compile(
    rb'"((?:[^"\\]|\\.)*)"(?=\s|$)|\'((?:[^\'\\]|\\\')*)\'(?=\s|$)|([^\s"\']+)(?=\s|$)'
)
_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


@dataclass(frozen=True, slots=True)
class Manifest:
    """File names of one append-only file: base, then what was written since, in order. base: None if there is none."""

    base: str | None
    increments: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """All that are loaded, in order."""
        return (self.base, *self.increments) if self.base is not None else self.increments


def read_manifest(text: bytes, *, name: str) -> Manifest:
    """Read it. name: of the manifest, for errors. Files of type h (history) are left out, as the server does.

    Raises:
        CorruptAof: it is none, or not whole; names the line.
    """
    base: str | None = None
    increments: list[str] = []
    newest = 0
    lines = text.split(b"\n")
    if not text or lines.pop():
        raise _damaged(name, len(lines) + 1, "it is empty or its last line is not whole")
    for number, line in enumerate(lines[:MOST_LINES], start=1):
        if line.startswith(b"#"):
            continue
        file, sequence, kind = _entry(line.strip(), name, number)
        if kind == b"b":
            if base is not None:
                raise _damaged(name, number, "a second base file")
            base = file
        elif kind == b"i":
            if sequence <= newest:
                raise _damaged(name, number, "increments that are not in order")
            newest = sequence
            increments.append(file)
        elif kind != b"h":
            raise _damaged(name, number, "a file of unknown type")
    if base is None and not increments:
        raise _damaged(name, len(lines), "it names no file")
    return Manifest(base, tuple(increments))


def _entry(line: bytes, name: str, number: int) -> tuple[str, int, bytes]:
    words = _words(line) if 0 < len(line) <= LONGEST_LINE_BYTES else None
    if words is None or len(words) < 6 or len(words) % 2:
        raise _damaged(name, number, "no `file NAME seq NUMBER type LETTER`")
    found = {key.lower(): value for key, value in zip(words[::2], words[1::2], strict=True)}
    file, sequence, kind = (found.get(key, b"") for key in (b"file", b"seq", b"type"))
    if not file or not sequence.isdigit() or len(sequence) > 18 or not kind:
        raise _damaged(name, number, "no `file NAME seq NUMBER type LETTER`")
    if b"/" in file or b"\\" in file or b"\0" in file or file in {b".", b".."}:
        raise _damaged(name, number, "a file name with a path in it")
    return file.decode("utf-8", "surrogateescape"), int(sequence), kind[:1]


def _words(line: bytes) -> list[bytes] | None:
    """As sds.c, sdssplitargs; None if a quote is not closed."""
    words, at = [], 0
    while at < len(line):
        if line[at : at + 1].isspace():
            at += 1
            continue
        match = _WORD.match(line, at)
        if match is None:
            return None
        double, single, plain = match.groups()
        if double is not None:
            words.append(_ESCAPE.sub(_unescaped, double))
        elif single is not None:
            words.append(single.replace(b"\\'", b"'"))
        else:
            words.append(plain)
        at = match.end()
    return words


def _unescaped(match: re.Match[bytes]) -> bytes:
    what = match[1]
    return bytes([int(what[1:], 16)]) if len(what) == 3 else _PLAIN.get(what, what)


def _damaged(name: str, number: int, why: str) -> CorruptAof:
    return CorruptAof(
        f"the manifest {name} cannot be used: line {number}: {why}",
        file=name,
        hint="give another copy of the folder; redis-check-aof looks at a manifest too",
    )
