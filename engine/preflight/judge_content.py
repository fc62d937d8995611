"""Does what the source holds fit what the target is and has: types, databases, modules, keys, clocks. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from engine.preflight.facts import Facts, FoundCheckpoint
from engine.preflight.findings import Finding, Report, redis_cli
from engine.preflight.rdb_versions import may_have_field_ttls, rdb_version_of
from engine.quantities import duration
from engine.settings import ConflictPolicy, FieldTtlPolicy, Method

CLOCK_DIFFERENCE_MS = 1000
# Servers list these among their modules, but they are part of them and bring no types.
_BUILT_IN = frozenset({"lua"})
_SHOWN_TASKS = 5
SCRIPTS_AS_EFFECTS_SINCE = (5, 0, 0)


def judge_content(facts: Facts) -> list[Finding]:
    """The findings about the data on both sides."""
    report = Report("target")
    _types(report, facts)
    _databases(report, facts)
    _selection(report, facts)
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
    selection, target = facts.plan.selection, facts.target
    used = sorted(facts.source.keys)
    taken = [db for db in used if selection.target_db(db) is not None]
    if used and not taken:
        report.warning(
            "databases",
            f"none of the databases that the source uses ({_numbers(used)}) is taken along",
            "name one of them: --databases",
        )
        return
    missing = target.missing_db
    if missing is not None:
        named = _numbers(db for db in taken if selection.target_db(db) == missing)
        uses = f"the source uses database {named}"
        if selection.target_db(missing) != missing or named != str(missing):
            uses += f", which goes to {missing}"
        if target.is_cluster:
            fold = ",".join(f"{db}:0" for db in taken if db != 0)
            report.refusal(
                "databases",
                f"{uses}, and a cluster has database 0 only",
                f"take one of them: --databases 0; or all into one, if no name is in two of them: --db-map {fold}; "
                "or migrate to a standalone server",
            )
        else:
            has = f" ({target.databases})" if target.databases is not None else ""
            highest = max(selection.mapped(facts.source.keys))
            report.refusal(
                "databases",
                f"{uses}, more than the target has{has}",
                f"set in the target's configuration file, then restart it: databases {highest + 1}",
            )
    elif taken:
        mapped = (
            ""
            if not selection.db_map
            else ", which become " + _numbers(sorted(selection.mapped(facts.source.keys)))
        )
        report.ok(
            "databases", f"in use at the source: {_numbers(taken)}{mapped}; the target has them"
        )


def _numbers(dbs: Iterable[int]) -> str:
    return ", ".join(map(str, dbs))


def _selection(report: Report, facts: Facts) -> None:
    """What the task is not to take along, or to rename."""
    selection = facts.plan.selection
    if selection.is_everything:
        return
    report.ok("selection", f"only what these choose goes: {selection.text}")
    for target_db, dbs in selection.fold_of(facts.source.keys).items():
        report.warning(
            "selection",
            f"databases {_numbers(dbs)} of the source share database {target_db} of the target: a name that is in two "
            "of them stops the migration when it is met",
            "see that no name is in two of them, leave one out with --databases, or leave such keys out and have them "
            "listed with --on-unsupported skip",
        )
    if (
        selection.is_about_keys
        and facts.source.product == "redis"
        and facts.source.version < SCRIPTS_AS_EFFECTS_SINCE
    ):
        report.warning(
            "selection",
            f"{facts.source.version_text} replicates scripts as they are, and what keys they write is not known: the "
            "first one stops the migration",
            "use no scripts meanwhile, or leave them out and have them listed with --on-unsupported skip",
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
    elif found is not None and found.selection != facts.plan.selection.text:
        report.refusal(
            "checkpoint",
            f"this task began with another choice of keys, databases or commands: {found.selection or 'everything'}",
            "give the options it began with; or start anew: another --task-id, or redis-ferry tasks forget, and a target "
            "without its keys",
        )
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
    ours = facts.target.own_keys
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
        ConflictPolicy.REPLACE: "those with a name that the source has, too, are overwritten"
        + (
            ""
            if facts.plan.selection.is_about_data
            else "; FLUSHALL at the source would delete all"
        ),
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
