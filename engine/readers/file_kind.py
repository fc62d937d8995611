"""Whether a file is a snapshot or an append-only file: by its first bytes and its name."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from engine.errors import SourceUnreachable
from engine.readers.aof_manifest import SUFFIX

HEAD_BYTES = 1024
MAGICS = (b"REDIS0", b"VALKEY")
_PREAMBLE = b"aof-preamble\xc0\x01"  # an RDB's own field, where commands follow (4.0 to 6.2)


class FileKind(StrEnum):
    """What a source file is."""

    RDB = "rdb"
    AOF = "aof"
    PARTS = "parts"  # a folder or a manifest


def kind_of(path: Path) -> FileKind:
    """Look at it.

    Raises:
        SourceUnreachable: it cannot be read, or is neither.
    """
    if path.is_dir() or path.suffix == SUFFIX:
        return FileKind.PARTS
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise SourceUnreachable(
            f"the backup file {path.name} cannot be read: {error.strerror}"
        ) from None
    if head.startswith(MAGICS):
        is_aof = path.suffix == ".aof" or _PREAMBLE in head
        return FileKind.AOF if is_aof else FileKind.RDB
    if head[:1] in {b"*", b"#"} or (not head and path.suffix == ".aof"):
        return FileKind.AOF
    raise SourceUnreachable(
        f"the backup file {path.name} is no RDB file and no append-only file",
        hint="give an .rdb file as BGSAVE writes it, an .aof file, or the folder of a multi-part one (appendonlydir)",
    )
