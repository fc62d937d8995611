"""Can the source bear it, and can we keep up: backlog, buffers, spool, limit against the write rate. Pure.

The predictions are rough on purpose: they have to be right about what is ten times too small.
"""

from __future__ import annotations

from engine.preflight.facts import Facts, OutputBufferLimit, SourceState, WriteRate
from engine.preflight.findings import Finding, Report, redis_cli
from engine.quantities import byte_count, duration
from engine.settings import GIB, MIB

# What a server writes or sends of a snapshot, and what a target takes of it, in bytes a second: measured on two
# cores (README), where both are at the low end of what servers do.
SNAPSHOT_SENT_BYTES_PER_SECOND = 150 * MIB
SNAPSHOT_APPLIED_BYTES_PER_SECOND = 60 * MIB

BACKLOG_SECONDS = 60.0  # a restart of the worker, of a switch, of a firewall
GLIMPSE_FACTOR = 10  # a server's own figure of a moment's whole traffic may be so much too high
SHORT_REPL_TIMEOUT_SECONDS = 10
LONG_DISKLESS_DELAY_SECONDS = 30
_IDLE_BYTES_PER_SECOND = 1.0
_SLAVE_ONLY_BEFORE = (5, 0, 0)


def judge_load(facts: Facts) -> list[Finding]:
    """The findings about amounts and times on the source and here."""
    report = Report("source")
    source = facts.source
    _backlog(report, source)
    _output_buffer(report, source)
    _snapshot_making(report, source)
    here = Report("here")
    _spool(here, facts)
    _limit(here, facts)
    _disk(here, facts)
    return report.findings + here.findings


def _rate_text(rate: WriteRate) -> str:
    shown = f"{byte_count(rate.bytes_per_second)}/s"
    if rate.seconds == 0:
        return f"{shown} of traffic just now (check measures it)"
    return f"{shown} of writes{' at most' if rate.is_upper_bound else ''}"


def _certain(rate: WriteRate) -> float:
    """What may be counted on, in bytes a second: a warning must not come from a burst of reads."""
    return rate.bytes_per_second if rate.seconds else rate.bytes_per_second / GLIMPSE_FACTOR


def _mb(count: float) -> str:
    """A size for CONFIG SET: the next power of two megabytes."""
    megabytes = 1
    while megabytes * MIB < count:
        megabytes *= 2
    return f"{megabytes}mb"


def _backlog(report: Report, source: SourceState) -> None:
    size, rate = source.backlog_bytes, source.write_rate
    if size is None:
        return
    if rate is None:
        report.ok("backlog", f"a backlog of {byte_count(size)}; the write rate is not known")
        return
    if rate.bytes_per_second < _IDLE_BYTES_PER_SECOND:
        report.ok("backlog", f"no writes at the moment; the backlog has {byte_count(size)}")
        return
    seconds = size / rate.bytes_per_second
    text = f"at {_rate_text(rate)} the backlog of {byte_count(size)} covers {duration(seconds)}"
    if size >= BACKLOG_SECONDS * _certain(rate):
        report.ok("backlog", text)
        return
    wanted = _mb(2 * BACKLOG_SECONDS * rate.bytes_per_second)
    report.warning(
        "backlog",
        f"{text}: a longer interruption needs a new snapshot, unless the spool has the rest",
        redis_cli(source.endpoint, "CONFIG", "SET", "repl-backlog-size", wanted),
    )


def _limit_text(limit: OutputBufferLimit) -> str:
    parts = [byte_count(limit.hard_bytes)] if limit.hard_bytes else []
    if limit.soft_bytes:
        parts.append(f"{byte_count(limit.soft_bytes)} for {limit.soft_seconds} s")
    return " / ".join(parts)


def breaks_limit(
    limit: OutputBufferLimit, *, backlog_bytes: int, bytes_per_second: float, seconds: float
) -> bool:
    """Whether a replica that takes nothing of the stream for `seconds` is dropped by the source."""
    waiting = bytes_per_second * seconds
    # Servers do not let a replica's limit be under the backlog, whose memory it shares.
    hard, soft = (
        max(it, backlog_bytes) if it else 0 for it in (limit.hard_bytes, limit.soft_bytes)
    )
    if hard and waiting > hard:
        return True
    if not soft or waiting <= soft:
        return False
    return seconds - soft / bytes_per_second > limit.soft_seconds


def _output_buffer(report: Report, source: SourceState) -> None:
    """The source keeps what is written while it makes and sends the snapshot; no spool of ours helps there."""
    limit, rate, dataset = source.output_buffer, source.write_rate, source.dataset_bytes
    if limit is None:
        return
    if not limit.hard_bytes and not limit.soft_bytes:
        report.ok("output-buffer", "the source's buffer for replicas has no limit")
        return
    shown = f"the replica buffer limit is {_limit_text(limit)}"
    if rate is None or dataset is None:
        report.ok("output-buffer", shown)
        return
    seconds = dataset / SNAPSHOT_SENT_BYTES_PER_SECOND
    text = (
        f"making and sending a snapshot of up to {byte_count(dataset)} takes about {duration(seconds)}; "
        f"{byte_count(_certain(rate) * seconds)} of writes wait at the source meanwhile, {shown}"
    )
    if not breaks_limit(
        limit,
        backlog_bytes=source.backlog_bytes or 0,
        bytes_per_second=_certain(rate),
        seconds=seconds,
    ):
        report.ok("output-buffer", text)
        return
    is_old = source.product == "redis" and source.version < _SLAVE_ONLY_BEFORE
    value = f"{'slave' if is_old else 'replica'} 0 0 0"
    report.warning(
        "output-buffer",
        f"{text}: the source would drop the link, again and again",
        redis_cli(source.endpoint, "CONFIG", "SET", "client-output-buffer-limit", value),
    )


def _snapshot_making(report: Report, source: SourceState) -> None:
    if source.is_last_save_good is False:
        report.warning(
            "bgsave",
            "the source's last save failed (disk full, or no memory to fork): its snapshot may fail as well",
            redis_cli(source.endpoint, "BGSAVE"),
        )
    timeout = source.repl_timeout_seconds
    if timeout is not None and timeout < SHORT_REPL_TIMEOUT_SECONDS:
        report.warning(
            "repl-timeout",
            f"the source drops a replica that is silent for {timeout} s",
            redis_cli(source.endpoint, "CONFIG", "SET", "repl-timeout", "60"),
        )
    elif timeout is not None:
        report.ok("repl-timeout", f"the source drops a replica that is silent for {timeout} s")
    delay = source.diskless_delay_seconds
    if delay is not None and delay > LONG_DISKLESS_DELAY_SECONDS:
        report.warning(
            "diskless-delay",
            f"the source waits {delay} s for more replicas before it makes a snapshot",
            redis_cli(source.endpoint, "CONFIG", "SET", "repl-diskless-sync-delay", "0"),
        )
    elif delay:
        report.ok(
            "diskless-delay", f"the source waits {delay} s for more replicas before its snapshot"
        )


def _spool(report: Report, facts: Facts) -> None:
    rate, dataset, disk = facts.source.write_rate, facts.source.dataset_bytes, facts.disk
    found = facts.target.checkpoint
    if rate is None or dataset is None or (found is not None and found.is_resumable):
        return
    speed = SNAPSHOT_APPLIED_BYTES_PER_SECOND
    how = f"some {byte_count(speed)}/s"
    limit = facts.plan.limit_bytes_per_second
    if limit is not None and limit < speed:
        speed, how = limit, f"the limit of {byte_count(limit)}/s"
    seconds = dataset / speed
    snapshot_rest = max(0.0, dataset * (1 - speed / SNAPSHOT_SENT_BYTES_PER_SECOND))
    waiting = snapshot_rest + _certain(rate) * seconds
    memory = facts.plan.spool_memory_bytes
    on_disk = 0 if disk is None else min(disk.budget_bytes, disk.free_bytes or 0)
    text = (
        f"the snapshot of up to {byte_count(dataset)} takes about {duration(seconds)} at {how}; until then up to "
        f"{byte_count(waiting)} wait here"
    )
    holds = f"{byte_count(memory)} in memory and {byte_count(on_disk)} on disk"
    if waiting <= memory:
        report.ok("spool", f"{text}: the spool's {byte_count(memory)} of memory take them")
    elif waiting <= memory + on_disk:
        report.ok("spool", f"{text}: the spool takes them ({holds})")
    else:
        wanted = int(waiting * 1.5 // GIB) + 1
        report.warning(
            "spool",
            f"{text}, the spool holds {holds}: then the source has to wait",
            f"add to the command: --spool-disk-gb {wanted} (and --spool-dir FOLDER where there is room)",
        )


def _limit(report: Report, facts: Facts) -> None:
    rate, limit = facts.source.write_rate, facts.plan.limit_bytes_per_second
    if limit is None or rate is None or _certain(rate) < limit:
        return
    report.warning(
        "bandwidth-limit",
        f"the limit of {byte_count(limit)}/s is under {_rate_text(rate)}: the target never catches up",
        f"redis-ferry tasks set {facts.plan.task_id} --bandwidth-limit-mb none   # while it runs",
    )


def _disk(report: Report, facts: Facts) -> None:
    disk = facts.disk
    if disk is None:
        return
    if disk.free_bytes is None:
        report.warning(
            "spool-disk",
            f"the spool's folder {disk.folder} cannot be used: {disk.error}",
            "add to the command: --spool-dir FOLDER, one that this user may write to",
        )
    elif disk.free_bytes < disk.budget_bytes:
        fits = max(0, disk.free_bytes * 9 // 10 // GIB)
        report.warning(
            "spool-disk",
            f"{byte_count(disk.free_bytes)} are free at {disk.folder}, less than the spool's budget of "
            f"{byte_count(disk.budget_bytes)}",
            f"add to the command: --spool-disk-gb {fits}, or --spool-dir FOLDER where there is more",
        )
    else:
        report.ok("spool-disk", f"{byte_count(disk.free_bytes)} are free at {disk.folder}")
