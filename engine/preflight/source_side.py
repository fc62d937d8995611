"""Asks the source. Every question may be refused; only a source that cannot be asked at all is an error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError

from engine.connect import connect_hint
from engine.control_client import raise_if_cancelled
from engine.endpoint import Endpoint
from engine.errors import EngineError, SourceAuthError, SourceNotReady, SourceUnreachable
from engine.preflight.asking import (
    Conversation,
    Refusal,
    clock_offset_ms,
    config_of,
    info_of,
    keyspace_of,
    modules_of,
    number,
    version_of,
)
from engine.preflight.facts import OutputBufferLimit, SourceState, WriteRate
from engine.preflight.permissions import (
    SCAN_PROBES,
    SOURCE_PROBES,
    Answer,
    Probe,
    denials,
    read_answer,
    read_dryrun,
)
from engine.settings import SourceReader

_DIRECTIVES = (
    "repl-backlog-size", "client-output-buffer-limit", "repl-timeout", "repl-diskless-sync",
    "repl-diskless-sync-delay",
)  # fmt: skip
_PSYNC_CANNOT_BE_QUEUED = (7, 0, 0)
_BYTES_PER_KIB = 1024


async def ask_source(
    endpoint: Endpoint,
    *,
    timeout_seconds: float,
    sample_seconds: float,
    reader: SourceReader = SourceReader.PSYNC,
) -> SourceState:
    """Everything about the source; its write rate over `sample_seconds`, or its own figure for 0. Never raises.

    reader: how it will be read, which decides what must be permitted.
    """
    try:
        async with Conversation(endpoint, timeout_seconds=timeout_seconds) as talk:
            found = await _ask(talk, endpoint, sample_seconds, is_scan=reader is SourceReader.SCAN)
        if reader is not SourceReader.SCAN or not found.has_info:
            return found
        async with Conversation(endpoint, timeout_seconds=timeout_seconds) as talk:
            answers, _ = await _ask_permissions(talk, SCAN_PROBES)
        return replace(found, denials=denials(answers))
    except (RedisError, OSError) as error:
        raise_if_cancelled()
        return SourceState(endpoint=endpoint, error=_unreachable(endpoint, error), has_info=False)


def _unreachable(endpoint: Endpoint, error: Exception) -> EngineError:
    if isinstance(error, AuthenticationError):
        return SourceAuthError(
            f"the source {endpoint.address} refuses the login: {error}",
            hint="check user and password: --source-password-file, or user:password@ in the URL",
        )
    if isinstance(error, BusyLoadingError):
        return SourceNotReady(
            f"the source {endpoint.address} is loading its data",
            hint="wait until redis-cli INFO persistence says loading:0",
        )
    return SourceUnreachable(
        f"cannot connect to the source {endpoint.address}: {error}",
        hint=connect_hint(endpoint, "source", str(error)),
    )


async def _ask(
    talk: Conversation, endpoint: Endpoint, sample_seconds: float, *, is_scan: bool
) -> SourceState:
    answers, user = await _ask_permissions(talk)
    info_reply, modules, commands, *configs = await talk.ask(
        ("INFO",),
        ("MODULE", "LIST"),
        ("COMMAND", "INFO", "get", "psync"),
        *(("CONFIG", "GET", name) for name in _DIRECTIVES),
    )
    asked_at = time.monotonic()
    info, config = info_of(info_reply), config_of(configs)
    product, version = version_of(info)
    clock = await clock_offset_ms(talk)
    rate = await _measure(talk, info, asked_at, sample_seconds)
    # Last, for the connection may end up in a transaction.
    psync = Answer.UNKNOWN
    if not is_scan:
        may_queue = (0, 0, 0) < version < _PSYNC_CANNOT_BE_QUEUED
        psync = await _ask_psync(talk, answers, user, commands, may_queue=may_queue)
    is_replica = info.get("role") == "slave"
    diskless = config.get("repl-diskless-sync") == "yes"
    return SourceState(
        endpoint=endpoint,
        product=product,
        version=version,
        user=user,
        denials=denials(answers),
        has_info=bool(info),
        is_cluster=info.get("cluster_enabled") == "1",
        primary=f"{info.get('master_host')}:{info.get('master_port')}" if is_replica else None,
        is_primary_link_up=info.get("master_link_status", "up") == "up",
        is_loading=info.get("loading") == "1",
        keys=keyspace_of(info),
        modules=modules_of(modules),
        used_memory_bytes=number(info, "used_memory"),
        dataset_bytes=number(info, "used_memory_dataset"),
        is_last_save_good=_is_good(info.get("rdb_last_bgsave_status")),
        clock_offset_ms=clock,
        psync=psync,
        # INFO says it also where CONFIG is closed.
        backlog_bytes=number(config, "repl-backlog-size") or number(info, "repl_backlog_size"),
        write_rate=rate,
        output_buffer=output_buffer_limit(config.get("client-output-buffer-limit", "")),
        repl_timeout_seconds=number(config, "repl-timeout"),
        diskless_delay_seconds=(number(config, "repl-diskless-sync-delay") if diskless else 0)
        if config
        else None,
    )


def _is_good(status: str | None) -> bool | None:
    return None if status is None else status == "ok"


Answers = dict[Probe, tuple[Answer, str]]
_MULTI, _PSYNC = (
    next(it for it in SOURCE_PROBES if it.name == name) for name in ("MULTI", "PSYNC")
)


async def _ask_permissions(
    talk: Conversation, all_probes: Sequence[Probe] = SOURCE_PROBES
) -> tuple[Answers, str | None]:
    """All but MULTI and PSYNC; and the user's name, if it may be known."""
    probes = [it for it in all_probes if it not in {_MULTI, _PSYNC}]
    whoami, *replies = await talk.ask(("ACL", "WHOAMI"), *(probe.command for probe in probes))
    answers = {
        probe: (read_answer(reply), str(reply) if isinstance(reply, Refusal) else "")
        for probe, reply in zip(probes, replies, strict=True)
    }
    return answers, whoami.decode() if isinstance(whoami, bytes) else None


async def _ask_psync(
    talk: Conversation, answers: Answers, user: str | None, commands: Any, *, may_queue: bool
) -> Answer:
    """Whether PSYNC is permitted, without starting a synchronisation; and MULTI. Both go into `answers`."""
    psync = Answer.UNKNOWN
    if isinstance(commands, list) and len(commands) == 2 and commands[0] and not commands[1]:
        psync = Answer.ABSENT  # renamed or disabled: GET is known, PSYNC is not
    elif user is not None:
        psync, _ = read_dryrun(await talk.ask_one("ACL", "DRYRUN", user, *_PSYNC.command))
    multi = await talk.ask_one(*_MULTI.command)
    answers[_MULTI] = (read_answer(multi), str(multi) if isinstance(multi, Refusal) else "")
    # Up to 6.2 it can be queued. Never without a transaction around it: it would begin to synchronise.
    if psync is Answer.UNKNOWN and may_queue and multi == b"OK":
        reply = await talk.ask_one(*_PSYNC.command)
        psync = read_answer(reply) if isinstance(reply, Refusal) or reply == b"QUEUED" else psync
    answers[_PSYNC] = (psync, "")
    return psync


async def _measure(
    talk: Conversation, first: dict[str, str], asked_at: float, sample_seconds: float
) -> WriteRate | None:
    if not first:
        return None
    if sample_seconds <= 0:
        kib = first.get("instantaneous_input_kbps")
        if kib is None:
            return None
        return WriteRate(
            bytes_per_second=float(kib) * _BYTES_PER_KIB, is_upper_bound=True, seconds=0.0
        )
    await asyncio.sleep(max(0.0, sample_seconds - (time.monotonic() - asked_at)))
    later = info_of(await talk.ask_one("INFO"))
    return write_rate(first, later, time.monotonic() - asked_at)


def write_rate(first: dict[str, str], later: dict[str, str], seconds: float) -> WriteRate | None:
    """The growth between two looks at INFO."""
    # Without a replica and a backlog the offset of a primary stands still, however much is written.
    has_stream = later.get("repl_backlog_active") == "1" == first.get("repl_backlog_active")
    name = "master_repl_offset" if has_stream else "total_net_input_bytes"
    then, now = number(first, name), number(later, name)
    if then is None or now is None or seconds <= 0:
        return None
    return WriteRate(
        bytes_per_second=max(0, now - then) / seconds,
        is_upper_bound=not has_stream,
        seconds=seconds,
    )


def output_buffer_limit(text: str) -> OutputBufferLimit | None:
    """Read the replicas' part of CONFIG GET client-output-buffer-limit."""
    words = text.split()
    for name, hard, soft, seconds in zip(*(words[at::4] for at in range(4)), strict=False):
        if name in {"slave", "replica"}:
            return OutputBufferLimit(
                hard_bytes=int(hard), soft_bytes=int(soft), soft_seconds=int(seconds)
            )
    return None
