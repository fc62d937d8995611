"""`redis-ferry tasks`: list, show, forget, set, stop."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.control import help_texts, parameters
from engine.control.choices import OutputFormat
from engine.control.exit_status import DONE, INTERRUPTED, exit_status
from engine.control.failure import print_failure, write_stderr
from engine.errors import ConfigError, EngineError, TaskNotReached

if TYPE_CHECKING:
    from engine.control.task_traces import TaskTrace
    from engine.endpoint import Endpoint

tasks = typer.Typer(
    name="tasks",
    help=help_texts.TASKS,
    epilog=help_texts.TASKS_EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The task's name (--task-id of sync).")]
Target = Annotated[
    str | None,
    typer.Option("--target", metavar="URL", help="A target, to look for checkpoints there."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to look: the folder of the tasks' folders, and maybe a target."""

    spool_dir: Path
    target: Endpoint | None


def _run(flags: dict[str, Any], do: Callable[[Place], Coroutine[Any, Any, int]]) -> int:
    """Read the options, run `do`, print what went wrong. Returns the exit status."""
    import asyncio

    from engine.control.options import read_values
    from engine.control.process_title import hide_passwords_in_environment
    from engine.control.side_options import endpoint_of
    from engine.control.state_folder import default_spool_dir
    from engine.observability.logs import configure_logs

    configure_logs(level="error", json_lines=False)
    try:
        values = read_values(
            {name: value for name, value in flags.items() if value is not None}, os.environ
        )
        target = None
        if values.target is not None:
            target, warnings = endpoint_of(values, "target")
            for warning in warnings:
                write_stderr(f"warning: {warning}")
        hide_passwords_in_environment()
        spool_dir = (values.spool_dir or default_spool_dir(os.environ)).absolute()
        return asyncio.run(do(Place(spool_dir=spool_dir, target=target)))
    except EngineError as error:
        print_failure(error, json_lines=False)
        return exit_status(error)
    except OSError as error:
        failure = EngineError(f"cannot remove {error.filename}: {error.strerror}")
        print_failure(failure, json_lines=False)
        return exit_status(failure)


def _check_name(name: str) -> None:
    import re

    from engine.control.options import TASK_ID

    if not re.fullmatch(TASK_ID, name):
        raise ConfigError(
            f"{name[:80]!r} is not the name of a task",
            hint="1 to 64 letters, digits, dots, underscores or hyphens; see redis-ferry tasks list",
        )


def _folder_of_running(place: Place, name: str, request: dict[str, Any]) -> dict[str, Any]:
    """Ask a running task, and make what it refuses an error."""
    from engine.control.running_task import ask_task
    from engine.control.state_folder import task_folder

    _check_name(name)
    reply = ask_task(task_folder(place.spool_dir, name), request)
    if reply is None:
        raise TaskNotReached(
            f"no task {name} runs on this machine with its folder in {place.spool_dir}",
            hint="redis-ferry tasks list shows what runs; --spool-dir names another folder",
        )
    if reply.get("ok") is not True:
        raise TaskNotReached(f"the task {name} refuses: {reply.get('error')}")
    return reply


@tasks.command("list", help="Show every task on this machine and, with --target, on the target.")
def list_tasks(  # noqa: PLR0913, PLR0917 - one parameter an option
    target: Target = None,
    config: parameters.Config = None,
    spool_dir: parameters.SpoolDir = None,
    target_password_file: parameters.TargetPasswordFile = None,
    target_tls_ca: parameters.TargetTlsCa = None,
    target_tls_cert: parameters.TargetTlsCert = None,
    target_tls_key: parameters.TargetTlsKey = None,
    target_tls_insecure: parameters.TargetTlsInsecure = None,
    output: parameters.Format = OutputFormat.TEXT,
) -> int:
    """Print a line for each, newest figures first where it runs."""
    flags = dict(locals())
    del flags["output"]

    async def do(place: Place) -> int:
        from engine.control.task_traces import find_traces
        from engine.control.task_wording import list_text, trace_object

        traces = await find_traces(place.spool_dir, place.target)
        if output is OutputFormat.JSON:
            typer.echo(_json([trace_object(it) for it in traces]))
        else:
            typer.echo(list_text(traces, spool_dir=place.spool_dir, target=place.target))
        return DONE

    return _run(flags, do)


@tasks.command(help="Show all there is of one task.")
def show(  # noqa: PLR0913, PLR0917 - one parameter an option
    name: Name,
    target: Target = None,
    config: parameters.Config = None,
    spool_dir: parameters.SpoolDir = None,
    target_password_file: parameters.TargetPasswordFile = None,
    target_tls_ca: parameters.TargetTlsCa = None,
    target_tls_cert: parameters.TargetTlsCert = None,
    target_tls_key: parameters.TargetTlsKey = None,
    target_tls_insecure: parameters.TargetTlsInsecure = None,
    output: parameters.Format = OutputFormat.TEXT,
) -> int:
    """Print its folder, its checkpoints, its status if it runs."""
    flags = dict(locals())
    del flags["output"], flags["name"]

    async def do(place: Place) -> int:
        from engine.control.task_traces import find_trace
        from engine.control.task_wording import show_text, trace_object

        _check_name(name)
        trace = await find_trace(name, place.spool_dir, place.target)
        text = (
            _json(trace_object(trace, in_full=True))
            if output is OutputFormat.JSON
            else show_text(trace)
        )
        typer.echo(text)
        return DONE

    return _run(flags, do)


@tasks.command(
    help="Remove a task's folder and, with --target, its checkpoints. Not while it runs."
)
def forget(  # noqa: PLR0913, PLR0917 - one parameter an option
    name: Name,
    target: Target = None,
    config: parameters.Config = None,
    spool_dir: parameters.SpoolDir = None,
    target_password_file: parameters.TargetPasswordFile = None,
    target_tls_ca: parameters.TargetTlsCa = None,
    target_tls_cert: parameters.TargetTlsCert = None,
    target_tls_key: parameters.TargetTlsKey = None,
    target_tls_insecure: parameters.TargetTlsInsecure = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: parameters.Format = OutputFormat.TEXT,
) -> int:
    """Show what would go, ask, remove."""
    flags = dict(locals())
    del flags["output"], flags["name"], flags["yes"]

    async def do(place: Place) -> int:
        from engine.control.task_traces import find_trace, refuse_if_it_runs
        from engine.control.task_traces import forget as remove
        from engine.control.task_wording import show_text

        _check_name(name)
        trace = await find_trace(name, place.spool_dir, place.target)
        await refuse_if_it_runs(trace, place.target)
        if not yes and not _is_confirmed(trace, show_text):
            return INTERRUPTED
        removed = await remove(trace, place.target)
        if output is OutputFormat.JSON:
            typer.echo(_json({"task_id": name, "removed": removed}))
        else:
            typer.echo("\n".join(f"removed {it}" for it in removed))
        return DONE

    return _run(flags, do)


def _is_confirmed(trace: TaskTrace, show_text: Callable[[TaskTrace], str]) -> bool:
    write_stderr(show_text(trace))
    write_stderr("A new run of this task takes a new snapshot.")
    try:
        return typer.confirm("Remove all of this?", err=True)
    except typer.Abort as error:
        if sys.stdin.isatty():
            return False  # Ctrl-C
        raise ConfigError(
            "nobody answered whether to remove it", hint="in a script, say --yes"
        ) from error


@tasks.command("set", help="Change a running task on this machine.")
def set_limit(
    name: Name,
    bandwidth_limit_mb: Annotated[
        str,
        typer.Option(
            metavar="1..10240|none",
            help="Most megabytes (of 1,048,576 bytes) a second written to the target; none lifts the limit.",
        ),
    ],
    config: parameters.Config = None,
    spool_dir: parameters.SpoolDir = None,
    output: parameters.Format = OutputFormat.TEXT,
) -> int:
    """Send it over the control socket."""

    async def do(place: Place) -> int:
        from engine.control.control_socket import HIGHEST_LIMIT_MB

        wanted = None
        if bandwidth_limit_mb != "none":
            is_number = bandwidth_limit_mb.isascii() and bandwidth_limit_mb.isdigit()
            wanted = int(bandwidth_limit_mb) if is_number else 0
            if not 1 <= wanted <= HIGHEST_LIMIT_MB:
                raise ConfigError(
                    f"--bandwidth-limit-mb cannot be {bandwidth_limit_mb[:60]!r}",
                    hint=f"it must be an integer from 1 to {HIGHEST_LIMIT_MB}, or none",
                )
        request = {"do": "set", "bandwidth_limit_mb": wanted}
        reply = _folder_of_running(place, name, request)
        if output is OutputFormat.JSON:
            typer.echo(_json({"task_id": name, "bandwidth_limit_mb": reply["bandwidth_limit_mb"]}))
        else:
            limit = "no limit" if wanted is None else f"at most {wanted} MB/s"
            typer.echo(f"{name}: {limit} from now on")
        return DONE

    return _run({"config": config, "spool_dir": spool_dir}, do)


@tasks.command(help="Stop a running task on this machine gracefully, as Ctrl-C does.")
def stop(
    name: Name,
    config: parameters.Config = None,
    spool_dir: parameters.SpoolDir = None,
) -> int:
    """Send it over the control socket; does not wait for the end."""

    async def do(place: Place) -> int:
        _folder_of_running(place, name, {"do": "stop"})
        typer.echo(f"{name}: stops, and keeps its checkpoint")
        return DONE

    return _run({"config": config, "spool_dir": spool_dir}, do)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
