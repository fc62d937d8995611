"""Does what the source holds fit what the target is and has: types, databases, modules, keys, clocks. Pure."""

from __future__ import annotations

from engine.preflight.facts import Facts, FoundCheckpoint
from engine.preflight.findings import Finding, Report, redis_cli
from engine.preflight.rdb_versions import may_have_field_ttls, rdb_version_of
from engine.quantities import duration
from engine.settings import ConflictPolicy, FieldTtlPolicy, Method

CLOCK_DIFFERENCE_MS = 1000
# Servers list these among their modules, but they are part of them and bring no types.
_BUILT_IN = frozenset({"lua"})
_SHOWN_TASKS = 5


def judge_content(facts: Facts) -> list[Finding]:
    """The findings about the data on both sides."""
    report = Report("target")
    _types(report, facts)
    _databases(report, facts)
    _modules(report, facts)
    _checkpoint(report, facts)
    _keys(report, facts)
    _other_tasks(report, facts)
    _clocks(report, facts)
    return report.findings


def _types(report: Report, facts: Facts) -> None:
    source, target = facts.source, facts.target
    sends = rdb_version_of(source.product, source.version)
    if sends is None or target.rdb_version is None:
        return
    lacks = may_have_field_ttls(source.product, source.version) and not (
        target.redis_types & {24, 25} or 22 in target.valkey_types
    )
    if not lacks:
        report.ok(
            "value-types", "the target has every core type of the source, in this or another form"
        )
    elif facts.plan.field_ttls is FieldTtlPolicy.DROP:
        report.warning(
            "value-types",
            f"{target.version_text} has no TTLs of hash fields: where {source.version_text} has such, they are dropped",
            "use a newer target if they matter",
        )
    else:
        report.warning(
            "value-types",
            f"{target.version_text} has no TTLs of hash fields: the first hash of {source.version_text} that has "
            "such stops the migration",
            "use a newer target, or go on without these TTLs: --field-ttls drop",
        )


def _databases(report: Report, facts: Facts) -> None:
    used, target = sorted(facts.source.keys), facts.target
    if target.missing_db is not None and target.is_cluster:
        report.refusal(
            "databases",
            f"the source uses database {target.missing_db}, and a cluster has database 0 only",
            "migrate to a standalone server, or empty the other databases first",
        )
    elif target.missing_db is not None:
        has = f" ({target.databases})" if target.databases is not None else ""
        report.refusal(
            "databases",
            f"the source uses database {target.missing_db}, more than the target has{has}",
            f"set in the target's configuration file, then restart it: databases {used[-1] + 1}",
        )
    elif used:
        report.ok(
            "databases", f"in use at the source: {', '.join(map(str, used))}; the target has them"
        )


def _modules(report: Report, facts: Facts) -> None:
    source, target = facts.source.modules, facts.target.modules
    if not source:
        return
    names = source - _BUILT_IN
    if target is None:
        if names:
            report.ok(
                "modules",
                f"the source has {_listed(names)}; what the target has may not be asked (MODULE LIST)",
            )
        return
    missing = names - target
    if missing:
        report.warning(
            "modules",
            f"the source has modules that the target lacks: {_listed(missing)}; a value of theirs stops the migration",
            redis_cli(facts.target.endpoint, "MODULE", "LOAD", f"/path/to/{min(missing)}.so"),
        )
    elif names:
        report.ok("modules", f"the target has the source's modules: {_listed(names)}")


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _checkpoint(report: Report, facts: Facts) -> None:
    target, found = facts.target, facts.target.checkpoint
    if target.checkpoint_error is not None:
        report.refusal("checkpoint", target.checkpoint_error.message, target.checkpoint_error.hint)
    elif found is not None and facts.plan.method is Method.FULL:
        report.ok("checkpoint", f"{_where(found)}; --method full starts anew and removes it")
    elif found is not None and found.is_resumable:
        report.ok(
            "checkpoint", f"{_where(found)}; it goes on there if the source's history reaches back"
        )
    elif found is not None:
        report.ok("checkpoint", f"{_where(found)}: a new snapshot is taken")
    if target.workers:
        report.warning(
            "checkpoint",
            f"another redis-ferry runs the task {facts.plan.task_id} now ({len(target.workers)} connections): "
            "this one would take over",
            "redis-ferry tasks list",
        )


def _where(found: FoundCheckpoint) -> str:
    age = "" if found.age_seconds is None else f", last used {duration(found.age_seconds)} ago"
    if found.is_resumable:
        return f"run {found.epoch} of this task stands at {found.replid}:{found.offset}{age}"
    return f"run {found.epoch} of this task left nothing to go on from{age}"


def _keys(report: Report, facts: Facts) -> None:
    keys, found = facts.target.keys, facts.target.checkpoint
    ours = 0 if found is None else 1
    counts = {db: count - (ours if db == 0 else 0) for db, count in sorted(keys.items())}
    counts = {db: count for db, count in counts.items() if count > 0}
    if not counts:
        report.ok("target-keys", "the target is empty")
        return
    listed = ", ".join(f"db{db} {count:,}" for db, count in counts.items())
    total = sum(counts.values())
    text = f"the target has {total:,} key{'' if total == 1 else 's'} ({listed})"
    if found is not None:
        report.ok("target-keys", f"{text}, this task's own among them")
        return
    meaning = {
        ConflictPolicy.REPLACE: "those with a name that the source has, too, are overwritten; "
        "FLUSHALL at the source would delete all",
        ConflictPolicy.SKIP: "those with a name that the source has, too, are kept until the source writes them",
        ConflictPolicy.FAIL: "the first with a name that the source has, too, stops the migration",
    }[facts.plan.on_conflict]
    remedy = "add to the command: --on-conflict replace|skip|fail, whichever is meant"
    if facts.plan.on_conflict is ConflictPolicy.SKIP:
        report.ok("target-keys", f"{text}: {meaning}")
    else:
        report.warning("target-keys", f"{text}: {meaning}", remedy)


def _other_tasks(report: Report, facts: Facts) -> None:
    others = facts.target.other_tasks
    if others:
        shown = ", ".join(others[:_SHOWN_TASKS])
        more = f" and {len(others) - _SHOWN_TASKS} more" if len(others) > _SHOWN_TASKS else ""
        report.ok(
            "other-tasks",
            f"the target has checkpoints of other tasks: {shown}{more}; to see them: redis-ferry tasks list",
        )


def _clocks(report: Report, facts: Facts) -> None:
    source, target = facts.source.clock_offset_ms, facts.target.clock_offset_ms
    if source is None or target is None:
        return
    difference = target - source
    if abs(difference) <= CLOCK_DIFFERENCE_MS:
        report.ok("clocks", f"source and target differ by {abs(difference)} ms")
        return
    early = "earlier" if difference > 0 else "later"
    report.warning(
        "clocks",
        f"the target's clock is {duration(abs(difference) / 1000)} {'ahead' if difference > 0 else 'behind'}: "
        f"keys expire that much {early} there",
        "timedatectl set-ntp true   # on both servers",
    )
