"""The dumps and recorded streams under tests/corpus, as objects to parametrize with.

Everything is read when it is asked for: collecting the tests opens no file but the corrupt set's
manifest. What the files are and where they come from is in tests/corpus/PROVENANCE.md.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "corpus"


def _unpack(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


@dataclass(frozen=True, slots=True)
class ServerDump:
    """What DUMP answered for one key. `rdb_version` is the version in the payload's footer."""

    db: int
    key: Any  # base64 text, or {"len", "sha256"} of a key longer than 256 bytes
    payload: bytes
    rdb_version: int
    rdb_type: int


@dataclass(frozen=True, slots=True)
class OpenDump:
    """A dump that a server wrote, with what must be read from it."""

    server: str
    profile: str

    @property
    def id(self) -> str:
        return f"{self.server}/{self.profile}"

    def _path(self, ending: str) -> Path:
        return CORPUS / "open" / self.server / f"{self.profile}.{ending}.gz"

    @property
    def rdb(self) -> bytes:
        return _unpack(self._path("rdb"))

    @property
    def expected(self) -> dict[str, Any]:
        """The description of the content; its fields are named in PROVENANCE.md."""
        description: dict[str, Any] = json.loads(_unpack(self._path("json")))
        return description

    @property
    def wire(self) -> bytes | None:
        """Every byte of the full sync, from the PSYNC reply on: profiles sync, syncdl, syncold."""
        path = self._path("sync.bin")
        return _unpack(path) if path.exists() else None

    @property
    def has_server_dumps(self) -> bool:
        return self._path("dumps.json").exists()

    @property
    def server_dumps(self) -> list[ServerDump]:
        """The server's own DUMP of the keys, small ones only; see `has_server_dumps`."""
        return [
            ServerDump(
                db=entry["db"],
                key=entry["key"],
                payload=base64.b64decode(entry["payload"]),
                rdb_version=entry["rdb_version"],
                rdb_type=entry["rdb_type"],
            )
            for entry in json.loads(_unpack(self._path("dumps.json")))
        ]


@dataclass(frozen=True, slots=True)
class CorruptDump:
    """A broken or odd dump. expect: error, ok, or error-or-other-data."""

    file: str
    expect: str
    why: str
    facts: dict[str, Any]  # the whole manifest entry: what must come out of an `ok` file is in it

    @property
    def id(self) -> str:
        return self.file.removesuffix(".rdb")

    @property
    def rdb(self) -> bytes:
        return (CORPUS / "corrupt" / self.file).read_bytes()


@dataclass(frozen=True, slots=True)
class CorruptPayload:
    """A broken or odd DUMP payload. expect: as CorruptDump."""

    number: int
    payload: bytes
    expect: str
    why: str

    @property
    def id(self) -> str:
        return f"payload-{self.number}"


@dataclass(frozen=True, slots=True)
class RecordedStream:
    """Every byte a source sent to a replica, and what the source held in the end."""

    server: str

    @property
    def id(self) -> str:
        return self.server

    @property
    def wire(self) -> bytes:
        return _unpack(CORPUS / "streams" / f"{self.server}.bin.gz")

    @property
    def expected(self) -> dict[str, Any]:
        description: dict[str, Any] = json.loads(
            _unpack(CORPUS / "streams" / f"{self.server}.json.gz")
        )
        return description


@cache
def all_open_dumps() -> tuple[OpenDump, ...]:
    """Every dump of open/, also the one that no reader can read (`has_pre_release_module`)."""
    return tuple(
        OpenDump(path.parent.name, path.name.removesuffix(".rdb.gz"))
        for path in sorted((CORPUS / "open").glob("*/*.rdb.gz"))
    )


def has_pre_release_module(dump: OpenDump) -> bool:
    """A value of type 6 (4.0 release candidates) has no end a reader could find."""
    return dump.profile == "module-prega"


def open_dumps(*profiles: str, server: str = "") -> list[OpenDump]:
    """The readable dumps, of these profiles and of servers that begin so; all without arguments."""
    return [
        dump
        for dump in all_open_dumps()
        if not has_pre_release_module(dump)
        and (not profiles or dump.profile in profiles)
        and dump.server.startswith(server)
    ]


@cache
def _manifest() -> tuple[CorruptDump, ...]:
    entries = json.loads(_unpack(CORPUS / "corrupt" / "manifest.json.gz"))
    return tuple(
        CorruptDump(entry["file"], entry["expect"], entry["why"], entry) for entry in entries
    )


def corrupt_dumps(*expect: str) -> list[CorruptDump]:
    """The corrupt set: all of it, or the entries with one of these expectations."""
    return [dump for dump in _manifest() if not expect or dump.expect in expect]


def corrupt_payloads(*expect: str) -> list[CorruptPayload]:
    """Broken DUMP payloads: all, or those with one of these expectations."""
    entries = json.loads(_unpack(CORPUS / "corrupt" / "dump-payloads.json.gz"))
    return [
        CorruptPayload(number, base64.b64decode(entry["payload"]), entry["expect"], entry["why"])
        for number, entry in enumerate(entries)
        if not expect or entry["expect"] in expect
    ]


def streams(server: str = "") -> list[RecordedStream]:
    """The recorded replication streams of servers whose name begins so; all without an argument."""
    return [
        RecordedStream(path.name.removesuffix(".bin.gz"))
        for path in sorted((CORPUS / "streams").glob("*.bin.gz"))
        if path.name.startswith(server)
    ]


def text_or_digest(raw: bytes) -> Any:
    """A byte string as the descriptions hold it: base64, or length and SHA-256 beyond 256 bytes."""

    if len(raw) > 256:
        return {"len": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    return base64.b64encode(raw).decode()
