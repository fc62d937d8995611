"""What a target understands, put together for the codec from what it was found to be. Pure."""

from __future__ import annotations

from engine.codec.bridge import ValueBridge
from engine.codec.command_support import CommandSupport
from engine.codec.plan import SnapshotPlan
from engine.codec.slots import slot_tags
from engine.settings import FieldTtlPolicy, SourceKind, TaskSettings, UnsupportedPolicy
from engine.target.capabilities import Capabilities

STREAM_COUNTERS_SINCE = (7, 0)  # XSETID … ENTRIESADDED
CREATECONSUMER_SINCE = (6, 2)
COMMAND_BYTES = 64 * 1024  # for what a command has beside its value
CONDITIONS_SINCE = {"redis": (8, 4, 0), "valkey": (8, 1, 0)}  # SET … IFEQ


def value_bridge(capabilities: Capabilities, settings: TaskSettings) -> ValueBridge:
    """How values get into a form that the target loads."""
    return ValueBridge(
        capabilities.redis_types,
        capabilities.valkey_types,
        settings.field_ttls is FieldTtlPolicy.DROP,
    )


def snapshot_plan(
    capabilities: Capabilities,
    settings: TaskSettings,
    *,
    margin_ms: int,
    part_suffix: bytes,
    is_cluster: bool,
) -> SnapshotPlan:
    """How the snapshot's values become commands for this target. part_suffix: see codec/part_names.py."""
    # Twice the value fits into what one command may have, with the words around it.
    one_command = min(capabilities.bulk_limit_bytes, capabilities.query_limit_bytes // 2)
    return SnapshotPlan(
        target_rdb_version=capabilities.rdb_version,
        redis_types=capabilities.redis_types,
        valkey_types=capabilities.valkey_types,
        on_conflict=settings.on_conflict,
        strings_as_set=capabilities.absolute_set,
        functions=capabilities.functions,
        key_metadata=capabilities.key_metadata,
        margin_ms=margin_ms,
        block_bytes=settings.target_link.block_bytes,
        selection=settings.selection,
        value_limit_bytes=max(one_command - COMMAND_BYTES, COMMAND_BYTES),
        string_limit_bytes=capabilities.bulk_limit_bytes,
        big_value_bytes=settings.big_value_bytes,
        part_suffix=part_suffix,
        part_tags=slot_tags() if is_cluster else None,
        stream_counters=capabilities.level >= STREAM_COUNTERS_SINCE,
        creates_consumers=capabilities.level >= CREATECONSUMER_SINCE,
        is_live=settings.source_kind is SourceKind.SERVER,
        drops_field_ttls=settings.field_ttls is FieldTtlPolicy.DROP,
        skips_refused=settings.on_unsupported is UnsupportedPolicy.SKIP,
    )


def command_support(
    capabilities: Capabilities, settings: TaskSettings, *, source_version: str
) -> CommandSupport | None:
    """What the stream must be measured against; None when source and target are the same, or it cannot be known."""
    own_version = ".".join(map(str, capabilities.version))
    if not capabilities.commands or source_version == own_version:
        return None
    return CommandSupport(
        commands=capabilities.commands,
        level=capabilities.level,
        values=value_bridge(capabilities, settings),
        rdb_version=capabilities.rdb_version,
        takes_key_metadata=capabilities.key_metadata,
        takes_conditions=capabilities.version
        >= CONDITIONS_SINCE.get(capabilities.server, (999, 0, 0)),
        version=capabilities.version,
        source_version=_numbers(source_version),
        drops_field_ttls=settings.field_ttls is FieldTtlPolicy.DROP,
    )


def _numbers(version: str) -> tuple[int, int, int]:
    numbers = [int(it) for it in version.split(".") if it.isdigit()] + [0, 0, 0]
    return numbers[0], numbers[1], numbers[2]
