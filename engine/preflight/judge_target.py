"""Can the target take the writes: memory, eviction, persistence, replicas, timeouts. Pure."""

from __future__ import annotations

from engine.preflight.facts import Facts, TargetState
from engine.preflight.findings import Finding, Report, redis_cli
from engine.quantities import byte_count, duration
from engine.settings import MIB

# Memory is planned with this much more than the data: overhead, buffers, growth while it is copied.
_MEMORY_FACTOR = 1.25
_SHORT_TIMEOUT_SECONDS = 60
_EFFECTS_SINCE = (5, 0, 0)  # before, a source replicates scripts as EVAL


def judge_target(facts: Facts) -> list[Finding]:
    """The findings about how the target is set up."""
    report = Report("target")
    _memory(report, facts)
    _eviction(report, facts.target)
    _persistence(report, facts.target)
    _replicas(report, facts.target)
    _timeouts(report, facts)
    return report.findings


def _memory(report: Report, facts: Facts) -> None:
    target, dataset = facts.target, facts.source.dataset_bytes
    if target.maxmemory_bytes is None or target.used_memory_bytes is None:
        return
    if target.maxmemory_bytes == 0:
        needs = "" if dataset is None else f"; the source's data take {byte_count(dataset)}"
        report.ok("memory", f"the target has no maxmemory{needs}")
        return
    free = max(0, target.maxmemory_bytes - target.used_memory_bytes)
    text = f"{byte_count(free)} of the target's maxmemory of {byte_count(target.maxmemory_bytes)} are free"
    if dataset is None:
        report.ok("memory", text)
    elif target.checkpoint is not None and target.checkpoint.is_resumable:
        report.ok("memory", f"{text}; the snapshot is there already")
    elif dataset > free:
        wanted = _rounded_up(target.used_memory_bytes + dataset * _MEMORY_FACTOR)
        report.warning(
            "memory",
            f"{text}, the source's data take {byte_count(dataset)}: writes will fail with OOM, or evict",
            redis_cli(target.endpoint, "CONFIG", "SET", "maxmemory", f"{wanted // MIB}mb"),
        )
    else:
        report.ok("memory", f"{text}, the source's data take {byte_count(dataset)}")


def _rounded_up(count: float) -> int:
    return (int(count) // (64 * MIB) + 1) * 64 * MIB


def _eviction(report: Report, target: TargetState) -> None:
    policy = target.maxmemory_policy
    if policy is None or policy == "noeviction":
        return
    if target.maxmemory_bytes == 0:
        report.ok("eviction", f"policy {policy}; without a maxmemory it evicts nothing")
        return
    what = "keys with a TTL" if policy.startswith("volatile") else "any key"
    report.warning(
        "eviction",
        f"policy {policy}: a target short of memory drops {what} without a word, and the copy differs",
        redis_cli(target.endpoint, "CONFIG", "SET", "maxmemory-policy", "noeviction"),
    )


def _persistence(report: Report, target: TargetState) -> None:
    if target.is_last_save_good is False and target.stops_writes_on_save_error is not False:
        report.warning(
            "persistence",
            "the target's last save failed: it refuses writes (MISCONF) where save points are set",
            redis_cli(target.endpoint, "CONFIG", "SET", "stop-writes-on-bgsave-error", "no"),
        )
    if target.is_last_aof_write_good is False:
        report.warning(
            "persistence",
            "the target cannot write its append-only file: it refuses writes (MISCONF)",
            redis_cli(target.endpoint, "INFO", "persistence"),
        )
    elif target.appendfsync is not None:
        slow = "; every block waits for the disk" if target.appendfsync == "always" else ""
        report.ok("persistence", f"append-only file, appendfsync {target.appendfsync}{slow}")
    elif target.has_info:
        report.ok(
            "persistence",
            "no append-only file: after a crash the target goes back to its last dump, its checkpoint with it",
        )


def _replicas(report: Report, target: TargetState) -> None:
    needed, good = target.replicas_needed, target.replicas_good
    if not needed:
        return
    if good is not None and good < needed:
        report.warning(
            "min-replicas",
            f"the target wants {needed} replicas and has {good}: it refuses writes (NOREPLICAS) until then",
            redis_cli(target.endpoint, "CONFIG", "SET", "min-replicas-to-write", "0"),
        )
    else:
        report.ok("min-replicas", f"the target wants {needed} replicas and has them")


def _timeouts(report: Report, facts: Facts) -> None:
    target, source = facts.target, facts.source
    seconds = target.client_timeout_seconds
    if seconds and seconds < _SHORT_TIMEOUT_SECONDS:
        report.warning(
            "client-timeout",
            f"the target closes connections that are idle for {duration(seconds)}: a quiet source costs reconnects",
            redis_cli(target.endpoint, "CONFIG", "SET", "timeout", "0"),
        )
    is_old = source.product == "redis" and source.version < _EFFECTS_SINCE
    if is_old and target.script_limit_ms:
        limit = duration(target.script_limit_ms / 1000)
        report.ok(
            "scripts",
            f"{source.version_text} replicates scripts as EVAL; the target calls them slow after {limit}",
        )
