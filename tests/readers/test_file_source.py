"""What a file source sends: the same bytes from any offset, whatever the file holds at its borders."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.codec.aof_scan import AofScan
from engine.codec.command_text import encode
from engine.errors import CorruptAof, SourceUnreachable
from engine.readers import aof_layout, file_source
from engine.readers.aof_layout import BETWEEN_FILES, lay_out
from engine.readers.aof_manifest import read_manifest
from engine.readers.file_kind import FileKind
from engine.readers.file_source import EMPTY_RDB, FileSource
from tests.codec.interpreted_form import interpreted

Interpreted: Any = interpreted("aof_scan").AofScan
NOTE = b"#TS:1700000000\r\n"
PIECES = [
    NOTE, encode("SELECT", 1), encode("SET", "k", b"#TS:1\r\n*1\r\n" * 9), NOTE, encode("MULTI"), NOTE,
    encode("INCR", "n"), encode("EXEC"), encode("MULTIX"), encode("EXE", ""), NOTE,
]  # fmt: skip
FILE = b"".join(PIECES)
SENT = FILE.replace(NOTE, b"\n" * len(NOTE))


@pytest.mark.parametrize("is_compiled", [True, False], ids=["as-it-is", "interpreted"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_any_chunking_finds_the_same(size: int, is_compiled: bool) -> None:
    scan = (AofScan if is_compiled else Interpreted)("x", 5)
    for at in range(0, len(FILE), size):
        scan.feed(FILE[at : at + size])

    assert (scan.commands, scan.valid_end, scan.is_whole) == (7, 5 + len(FILE), True)
    starts = [start - 5 for start, _ in scan.annotations]
    assert [FILE[at : at + len(NOTE)] for at in starts] == [NOTE] * 4


def test_a_file_may_end_anywhere() -> None:
    """What is whole ends where the last piece does that fits, and not within the transaction."""
    ends = [sum(map(len, PIECES[: number + 1])) for number in range(len(PIECES))]
    outside = [end for number, end in enumerate(ends) if number not in {4, 5, 6}]

    for cut in range(len(FILE)):
        scan = AofScan("x", 0)
        scan.feed(FILE[:cut])

        assert scan.valid_end == max((it for it in outside if it <= cut), default=0)
        assert scan.is_whole is (cut in {0, *outside})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two parts, read in small pieces."""
    monkeypatch.setattr(file_source, "PIECE_BYTES", 17)
    monkeypatch.setattr(aof_layout, "PIECE_BYTES", 13)
    monkeypatch.setattr(aof_layout, "LANDMARK_BYTES", 20)
    (tmp_path / "one.aof").write_bytes(FILE)
    (tmp_path / "two.aof").write_bytes(FILE)
    (tmp_path / "a.manifest").write_text(
        "file one.aof seq 1 type i\nfile two.aof seq 2 type i\n", encoding="utf-8"
    )
    return tmp_path


async def read_from(source: FileSource, asked: str) -> tuple[bytes, bytes]:
    """The answer to PSYNC and all that follows it."""
    path = source.endpoint.unix_path
    assert path is not None
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(b"INFO\r\n")
        size = int((await reader.readline())[1:])
        info = await reader.readexactly(size + 2)
        end = int(info.split(b"master_repl_offset:")[1].split()[0])
        writer.write(f"PSYNC {asked}\r\n".encode())
        answer = await reader.readline()
        left = end if answer.startswith(b"+FULL") else end - int(asked.split()[1]) + 1
        rdb = b""
        if answer.startswith(b"+FULL"):
            rdb = await reader.readexactly(int((await reader.readline())[1:]))
        return answer, rdb + await reader.readexactly(left)
    finally:
        writer.close()


async def test_every_offset_is_gone_on_from(folder: Path) -> None:
    source = FileSource(folder)
    await source.start()
    try:
        answer, all_of_it = await read_from(source, "? -1")
        _, replid, offset = answer.split()
        stream = SENT + BETWEEN_FILES + SENT
        assert (offset, all_of_it) == (b"0", EMPTY_RDB + stream)
        for at in range(len(stream) + 1):
            answer, rest = await read_from(source, f"{replid.decode()} {at + 1}")
            assert answer == b"+CONTINUE " + replid + b"\r\n"
            assert rest == stream[at:]
        for strange in (f"{replid.decode()} {len(stream) + 2}", f"{'0' * 40} 1"):
            answer, _ = await read_from(source, strange)
            assert answer.startswith(b"+FULLRESYNC")
    finally:
        await source.close()


def test_other_files_are_another_history(folder: Path) -> None:
    first = lay_out(folder, FileKind.PARTS).replid
    assert lay_out(folder / "a.manifest", FileKind.PARTS).replid == first

    (folder / "two.aof").write_bytes(FILE + encode("INCR", "n"))

    assert lay_out(folder, FileKind.PARTS).replid != first


async def test_a_file_that_shrinks_meanwhile_is_told_at_the_next_try(folder: Path) -> None:
    source = FileSource(folder)
    await source.start()
    try:
        (folder / "two.aof").write_bytes(FILE[:30])
        with pytest.raises(asyncio.IncompleteReadError):
            await read_from(source, "? -1")
        assert (
            await answer_of(source) == b"-READER two.aof has become shorter while it was read\r\n"
        )
    finally:
        await source.close()


async def answer_of(source: FileSource) -> bytes:
    path = source.endpoint.unix_path
    assert path is not None
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"PSYNC ? -1\r\n")
    line = await reader.readline()
    writer.close()
    return line


@pytest.mark.parametrize(
    "text",
    [
        b"", b"file a seq 1 type b", b"\n", b"file a seq 1\n", b"file a seq x type b\n", b"file a seq 1 type z\n",
        b"file a seq 1 type b\nfile b seq 2 type b\n", b"file a seq 2 type i\nfile b seq 1 type i\n",
        b'file "a seq 1 type b\n', b"file a/b seq 1 type b\n", b"file .. seq 1 type b\n", b"x" * 2000 + b"\n",
        b"file a seq 1 type h\n", b"file a seq 1 type b more\n",
    ],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(CorruptAof, match=r"the manifest m cannot be used: line \d"):
        read_manifest(text, name="m")


def test_a_manifest_gives_base_and_increments() -> None:
    text = b'# comment\ntype b  file "a\\x20\\"b" seq 1 new 5\r\nfile h seq 9 type h\nfile \'c d\' seq 1 type i\n'

    found = read_manifest(text, name="m")

    assert found.files == ('a "b', "c d")


def test_a_missing_part_is_named(folder: Path) -> None:
    (folder / "two.aof").unlink()

    with pytest.raises(SourceUnreachable, match=r"two\.aof is missing: the manifest a\.manifest"):
        lay_out(folder, FileKind.PARTS)
