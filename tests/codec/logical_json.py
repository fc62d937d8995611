"""Our decoder's values in the form of the corpus' descriptions (tests/corpus/PROVENANCE.md)."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Any

from engine.codec.decode import decode_value
from engine.codec.logical import (
    CronDetails,
    KeyRecord,
    LogicalValue,
    ModuleDetails,
    Producers,
    StreamDetails,
    StreamId,
)
from tests.corpus_files import text_or_digest

MOST_ITEMS = 500


def described_record(record: KeyRecord) -> dict[str, Any]:
    value = decode_value(record.value_type, record.is_valkey, record.value)
    return {
        "key": text_or_digest(record.key),
        "type": "keydb-cron" if value.kind == "cron" else value.kind,
        "expire_at_ms": None if record.expire_at_ms < 0 else record.expire_at_ms,
        "idle_s": None if record.idle_seconds < 0 else record.idle_seconds,
        "freq": None if record.frequency < 0 else record.frequency,
        "value": described_value(value),
    }


def described_value(value: LogicalValue) -> Any:
    items: list[Any] = value.items
    match value.kind:
        case "string":
            return text_or_digest(items[0])
        case "list":
            return _listed(items, text_or_digest, lambda item: [item])
        case "set":
            return _listed(sorted(items), text_or_digest, lambda item: [item])
        case "zset":
            return _listed(
                sorted(items),
                lambda item: [text_or_digest(item[0]), repr(item[1])],
                lambda item: [item[0], struct.pack("<d", item[1])],
            )
        case "hash":
            return _hash(sorted(items))
        case "stream":
            assert isinstance(value.details, StreamDetails)
            return _stream(items, value.details)
        case "module":
            assert isinstance(value.details, ModuleDetails)
            return _module(value.details)
        case "cron":
            assert isinstance(value.details, CronDetails)
            cron = value.details
            return {
                "script": text_or_digest(cron.script),
                "start_ms": cron.start_ms,
                "interval_ms": cron.interval_ms,
                "keys": [text_or_digest(key) for key in cron.keys],
                "args": [text_or_digest(argument) for argument in cron.arguments],
            }
    raise AssertionError(value.kind)


def _digest(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(struct.pack("<Q", len(piece)) + piece)
    return digest.hexdigest()


def _listed(items: list[Any], short: Any, pieces: Any) -> Any:
    if len(items) <= MOST_ITEMS:
        return [short(item) for item in items]
    return {
        "count": len(items),
        "sha256": _digest(piece for item in items for piece in pieces(item)),
    }


def _hash(items: list[Any]) -> Any:
    described = _listed(
        items,
        lambda item: [
            text_or_digest(item[0]),
            text_or_digest(item[1]),
            None if item[2] < 0 else item[2],
        ],
        lambda item: [item[0], item[1]],
    )
    if isinstance(described, dict):
        described["expires"] = [
            [text_or_digest(item[0]), item[2]] for item in items if item[2] >= 0
        ]
    return described


def _id(place: StreamId | None) -> str | None:
    return None if place is None else f"{place[0]}-{place[1]}"


def _pairs(pieces: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    return list(zip(pieces[::2], pieces[1::2], strict=True))


def _stream(items: list[Any], details: StreamDetails) -> dict[str, Any]:
    described: dict[str, Any] = {
        "length": details.length,
        "entries": _listed(
            items,
            lambda item: [
                _id((item[0], item[1])),
                [[text_or_digest(name), text_or_digest(value)] for name, value in _pairs(item[2])],
            ],
            lambda item: [
                str(_id((item[0], item[1]))).encode(),
                struct.pack("<Q", len(item[2]) // 2),
                *item[2],
            ],
        ),
        "last_id": _id(details.last_id),
        "first_id": _id(details.first_id),
        "max_deleted_id": _id(details.max_deleted_id),
        "entries_added": details.entries_added,
        "groups": [
            {
                "name": text_or_digest(group.name),
                "last_id": _id(group.last_id),
                "entries_read": group.entries_read,
                "pel": [
                    [
                        _id(it.id),
                        text_or_digest(it.consumer or b""),
                        it.delivered_at_ms,
                        it.deliveries,
                    ]
                    for it in group.pending
                ],
                "consumers": [
                    {
                        "name": text_or_digest(consumer.name),
                        "seen_time_ms": consumer.seen_at_ms,
                        "active_time_ms": consumer.active_at_ms,
                        "pending": [_id(place) for place in sorted(consumer.pending)],
                    }
                    for consumer in sorted(group.consumers, key=lambda it: it.name)
                ],
            }
            for group in sorted(details.groups, key=lambda it: it.name)
        ],
    }
    if details.producers is not None:
        described["idmp"] = _producers(details.producers)
    return described


def _producers(producers: Producers) -> dict[str, Any]:
    return {
        "duration": producers.duration_seconds,
        "max_entries": producers.max_entries,
        "producers": [
            [
                text_or_digest(name),
                [[text_or_digest(message), _id(entry)] for message, entry in ids],
            ]
            for name, ids in producers.producers
        ],
        "iids_added": producers.ids_added,
        "iids_duplicates": producers.ids_duplicate,
    }


def _module(module: ModuleDetails) -> dict[str, Any]:
    return {
        "module": module.name,
        "encver": module.encoding_version,
        "raw": text_or_digest(module.raw),
    }
