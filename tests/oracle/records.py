"""What the plain reader finds in an RDB file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """One key. [start, end) is the value in the file, without its type byte and its key."""

    db: int
    key: bytes
    value_type: int
    start: int
    end: int
    value: bytes
    expire_ms: int | None
    idle_seconds: int | None
    freq: int | None
    key_meta: bytes  # the whole opcode 243 records before the type byte, opcode included


@dataclass(slots=True)
class Snapshot:
    """All the rest of a file; filled while the records are read."""

    magic: str = ""
    version: int = 0
    aux: list[tuple[bytes, bytes]] = field(default_factory=list)
    functions: list[bytes] = field(default_factory=list)
    pre_release_functions: list[dict[str, Any]] = field(default_factory=list)
    module_aux: list[bytes] = field(default_factory=list)  # from the module id to the end mark
    size_hints: dict[int, tuple[int, int]] = field(default_factory=dict)
    slot_info: list[tuple[int, int, int]] = field(default_factory=list)
    slot_imports: list[tuple[bytes, list[tuple[int, int]]]] = field(default_factory=list)
    opcodes: Counter[int] = field(default_factory=Counter)
    value_types: Counter[int] = field(default_factory=Counter)
    string_encodings: Counter[str] = field(default_factory=Counter)
    eof_opcode_end: int = -1  # index behind the 0xFF
    end: int = -1  # index behind the checksum, where there is one
    crc: bytes | None = None  # None: this version has none

    @property
    def is_valkey(self) -> bool:
        return self.magic == "VALKEY"
