"""May we in, and is it the right kind of server: reachability, role, permissions, PSYNC. Pure."""

from __future__ import annotations

from engine.errors import TargetNotReady
from engine.preflight.facts import Facts, ServerState, SourceState, TargetState
from engine.preflight.findings import Finding, Report, redis_cli
from engine.preflight.permissions import Answer, Denial
from engine.preflight.rdb_versions import rdb_version_of

# What a target says for a while and can come right without us, inside the library's words around it.
_PASSING = ("OOM ", "used memory >", "MISCONF", "NOREPLICAS", "LOADING", "BUSY ", "READONLY")


def judge_access(facts: Facts) -> list[Finding]:
    """The findings about getting in, of both sides."""
    return _source(facts.source) + _target(facts.target)


def _source(source: SourceState) -> list[Finding]:
    report = Report("source")
    if source.error is not None:
        report.refusal("source", source.error.message, source.error.hint)
        return report.findings
    rdb_version = rdb_version_of(source.product, source.version)
    text = f"{source.version_text} at {source.endpoint.address}"
    report.ok("source", text if rdb_version is None else f"{text}, RDB {rdb_version}")
    _source_role(report, source)
    _permissions(report, source, "source")
    _psync(report, source)
    return report.findings


def _source_cluster(report: Report, source: SourceState) -> None:
    if source.slots_unserved:
        report.refusal(
            "source-role",
            f"{source.slots_unserved} slots of the source cluster are served by nobody",
            redis_cli(source.endpoint, "CLUSTER", "INFO"),
        )
    elif source.slots_moving:
        report.refusal(
            "source-role",
            f"slot {min(source.slots_moving)} of the source cluster is being moved to another shard",
            redis_cli(source.endpoint, "--cluster", "fix", source.endpoint.address)
            + "   # or wait until it has arrived",
        )
    elif source.shards:
        report.ok("source-role", f"a cluster of {source.shards} shards, a line for each")
    else:
        report.refusal(
            "source-role",
            f"{source.endpoint.address} is a cluster node, and its map cannot be asked for",
            redis_cli(source.endpoint, "ACL", "SETUSER", _user(source), "+cluster|nodes"),
        )


def _source_role(report: Report, source: SourceState) -> None:
    if source.is_cluster:
        _source_cluster(report, source)
    elif source.primary is not None and not source.is_primary_link_up:
        report.warning(
            "source-role",
            f"it is a replica of {source.primary} without a link to it: it serves no snapshot until that is up",
            redis_cli(source.endpoint, "INFO", "replication"),
        )
    elif source.primary is not None:
        report.ok("source-role", f"a replica of {source.primary}: the load of the snapshot is its")
    elif source.has_info:
        report.ok("source-role", "a primary")
    else:
        report.warning(
            "source-role",
            "what the source is and has cannot be asked: INFO is not permitted",
            _grant_info(source),
        )
    if source.is_loading:
        report.warning(
            "source-role",
            "it is loading its data and serves no replica until that is done",
            redis_cli(source.endpoint, "INFO", "persistence"),
        )


def _psync(report: Report, source: SourceState) -> None:
    if source.psync is Answer.ALLOWED:
        report.ok("psync", "PSYNC is permitted")
    elif source.psync is Answer.ABSENT:
        report.refusal(
            "psync",
            "the source does not know PSYNC: it is renamed or disabled, as many managed services do",
            redis_cli(source.endpoint, "COMMAND", "INFO", "psync"),
        )
    elif source.psync is Answer.UNKNOWN:
        user = _user(source)
        report.ok(
            "psync",
            "whether PSYNC is permitted cannot be asked without starting it; to know: "
            + redis_cli(source.endpoint, "ACL", "DRYRUN", user, "PSYNC", "?", "-1"),
        )
    # Denied: among the permissions.


def _target(target: TargetState) -> list[Finding]:
    report = Report("target")
    if target.error is not None:
        report.refusal("target", target.error.message, target.error.hint)
        return report.findings
    text = f"{target.version_text} at {target.endpoint.address}"
    report.ok("target", text if target.rdb_version is None else f"{text}, RDB {target.rdb_version}")
    if target.is_cluster and target.slots_unserved:
        report.refusal(
            "target-role",
            f"{target.slots_unserved} slots of the target cluster are served by nobody",
            redis_cli(target.endpoint, "CLUSTER", "INFO"),
        )
    elif target.is_cluster:
        report.ok("target-role", f"a cluster of {target.shards} shards")
    elif target.primary is not None:
        report.refusal(
            "target-role",
            f"it is a replica of {target.primary}, which takes no writes",
            f"{redis_cli(target.endpoint, 'REPLICAOF', 'NO', 'ONE')}   # or name its primary as the target",
        )
    elif target.refusal is not None:
        if isinstance(target.refusal, TargetNotReady) or _is_passing(target.refusal.message):
            report.warning(
                "target-role",
                f"it refuses writes at the moment: {target.refusal.message}",
                redis_cli(target.endpoint, "INFO"),
            )
        else:
            report.refusal("target-role", target.refusal.message, target.refusal.hint)
    _permissions(report, target, "target")
    return report.findings


def _is_passing(message: str) -> bool:
    return any(text in message for text in _PASSING)


def _user(state: ServerState) -> str:
    return state.user or state.endpoint.username or "default"


def _permissions(report: Report, state: ServerState, side: str) -> None:
    name = f"{side}-permissions"
    required = [it for it in state.denials if it.is_required]
    others = [it for it in state.denials if not it.is_required]
    if required:
        report.refusal(
            name,
            f"the user {_user(state)} may not use what the migration needs: {_listed(required)}",
            _grant(state, required + others),
        )
    if others:
        by_consequence: dict[str, list[Denial]] = {}
        for it in others:
            by_consequence.setdefault(it.means, []).append(it)
        for means, some in by_consequence.items():
            report.warning(
                name,
                f"the user {_user(state)} may not use {_listed(some)}: {means}",
                _grant(state, some),
            )
    if not state.denials:
        report.ok(name, f"the user {_user(state)} has every permission that was looked for")


def _listed(denials: list[Denial]) -> str:
    special = {"~*": "all keys", "&*": "all channels"}
    return ", ".join(dict.fromkeys(special.get(it.rule) or it.command for it in denials))


def _grant_info(source: SourceState) -> str:
    return redis_cli(source.endpoint, "ACL", "SETUSER", _user(source), "+info")


def _grant(state: ServerState, denials: list[Denial]) -> str:
    rules = list(dict.fromkeys(it.rule for it in denials))
    return redis_cli(state.endpoint, "ACL", "SETUSER", _user(state), *rules)
