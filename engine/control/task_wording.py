"""The traces of tasks in words and as objects. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.checkpoint.catalog import StoredCheckpoint
from engine.control.task_traces import LocalTrace, TaskTrace
from engine.endpoint import Endpoint
from engine.quantities import byte_count, duration

_SHOWN_STATUS = (
    "state", "phase", "full_migration_progress", "applied_offset", "lag_bytes", "lag_seconds", "spool_bytes",
    "bytes_per_second", "error",
)  # fmt: skip


def list_text(traces: list[TaskTrace], *, spool_dir: Path, target: Endpoint | None) -> str:
    """A table: name, what it does, folder, checkpoint."""
    where = str(spool_dir) if target is None else f"{spool_dir} and {target.address}"
    if not traces:
        return f"no tasks in {where}"
    rows = [("NAME", "STATE", "FOLDER", "CHECKPOINT")]
    rows += [
        (it.name, _state(it.local), _folder(it.local), _checkpoints(it, target)) for it in traces
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    lines = [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def _state(local: LocalTrace | None) -> str:
    if local is None:
        return "not here"
    if local.running is not None:
        return f"runs: {local.running.get('status', {}).get('state', '?')}"
    return "does not answer" if local.trouble else "does not run"


def _folder(local: LocalTrace | None) -> str:
    if local is None:
        return "-"
    return f"{byte_count(local.size_bytes)}, {duration(local.age_seconds)} old"


def _checkpoints(trace: TaskTrace, target: Endpoint | None) -> str:
    if target is None:
        return "? (needs --target)"
    return "; ".join(checkpoint_text(it) for it in trace.checkpoints) or "-"


def checkpoint_text(stored: StoredCheckpoint) -> str:
    """One line's checkpoint in one line."""
    if stored.checkpoint is None:
        return f"line {stored.line}: cannot be read"
    position = stored.checkpoint.position
    where = "" if position is None else f" {position.replid}:{position.offset}"
    age = "" if stored.age_seconds is None else f", used {duration(stored.age_seconds)} ago"
    return f"{stored.phase}{where}, run {stored.checkpoint.epoch}{age}"


def show_text(trace: TaskTrace) -> str:
    """Everything, a fact a line."""
    lines = [trace.name]
    local = trace.local
    if local is not None:
        lines.append(f"  folder      {local.folder}")
        lines.append(
            f"              {byte_count(local.size_bytes)} in {local.files} files, changed {duration(local.age_seconds)} ago"
        )
        lines.append(f"  state       {_state(local)}")
        if local.running is not None:
            lines.append(f"  process     {local.running.get('pid')}")
            limit = local.running.get("bandwidth_limit_mb")
            lines.append(f"  limit       {'none' if limit is None else f'{limit} MB/s'}")
            status = local.running.get("status", {})
            lines += [f"  {name:<27} {status.get(name)}" for name in _SHOWN_STATUS]
        if local.trouble:
            lines.append(f"  trouble     {local.trouble}")
    for stored in trace.checkpoints:
        lines.append(f"  checkpoint  {stored.key.decode('utf-8', 'replace')}")
        lines.append(f"              {stored.error or checkpoint_text(stored)}")
        lines += [f"    {name:<12} {value}" for name, value in sorted(stored.fields.items())]
    return "\n".join(lines)


def trace_object(trace: TaskTrace, *, in_full: bool = False) -> dict[str, Any]:
    """The object of `--format json`. in_full: with the whole status and all fields of the checkpoints."""
    local = trace.local
    found: dict[str, Any] = {
        "task_id": trace.name,
        "is_running": local is not None and local.running is not None,
        "folder": None,
        "checkpoints": [_checkpoint_object(it, in_full=in_full) for it in trace.checkpoints],
    }
    if local is not None:
        found["folder"] = {
            "path": str(local.folder),
            "size_bytes": local.size_bytes,
            "files": local.files,
            "age_seconds": round(local.age_seconds, 1),
        }
        if local.trouble:
            found["trouble"] = local.trouble
        if local.running is not None:
            found["state"] = local.running.get("status", {}).get("state")
            found["pid"] = local.running.get("pid")
            found["bandwidth_limit_mb"] = local.running.get("bandwidth_limit_mb")
            if in_full:
                found["status"] = local.running.get("status")
    return found


def _checkpoint_object(stored: StoredCheckpoint, *, in_full: bool) -> dict[str, Any]:
    checkpoint = stored.checkpoint
    position = None if checkpoint is None else checkpoint.position
    found: dict[str, Any] = {
        "key": stored.key.decode("utf-8", "replace"),
        "line": stored.line,
        "phase": stored.phase or None,
        "replid": None if position is None else position.replid,
        "offset": None if position is None else position.offset,
        "epoch": None if checkpoint is None else checkpoint.epoch,
        "age_seconds": stored.age_seconds,
    }
    if stored.error:
        found["error"] = stored.error
    if in_full:
        found["fields"] = stored.fields
    return found
