"""`redis-ferry task …`: tasks of a running service, from the command line."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from engine.control import help_texts
from engine.control.choices import OutputFormat
from engine.control.exit_status import DONE, FAILED, INTERRUPTED, REFUSED, exit_status
from engine.control.failure import print_failure, write_stderr
from engine.control.task_output import event_line, print_fields, print_json, print_table
from engine.errors import ConfigError, EngineError, install_hint

app = typer.Typer(
    name="task",
    help=help_texts.TASK,
    epilog=help_texts.TASK_EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_SERVICE = "The service"


def _option(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, rich_help_panel=_SERVICE, help=text)


# Options of every command; a variable REDIS_FERRY_API_… stands in for each.
_SHARED: dict[str, tuple[Any, Any]] = {
    "endpoint": (
        Annotated[str | None, _option("URL", "Default: http://127.0.0.1:8000.")],
        None,
    ),
    "project": (Annotated[str | None, _option("ID", "Default: local.")], None),
    "token_file": (
        Annotated[str | None, _option("FILE", "Token to log in with; or REDIS_FERRY_API_TOKEN.")],
        None,
    ),
    "tls_ca": (
        Annotated[str | None, _option("FILE", "CA certificates to verify the service with.")],
        None,
    ),
    "output": (
        Annotated[OutputFormat, typer.Option(help="For people or for scripts; on stdout.")],
        OutputFormat.TEXT,
    ),
}

TaskId = Annotated[str, typer.Argument(metavar="TASK", help="The task's id.")]
TaskIds = Annotated[list[str], typer.Argument(metavar="TASK…", help="Ids of tasks.")]


def _command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a command of `function(client, is_json, …)`: it gets the shared options and our error handling."""

    @functools.wraps(function)
    def run(**arguments: Any) -> int:
        flags = {name: arguments.pop(name) for name in _SHARED}
        is_json = flags.pop("output") is OutputFormat.JSON
        try:
            from engine.control.api_client import ApiClient, read_login
            from engine.control.process_title import hide_passwords_in_environment

            login = read_login(flags, os.environ)
            environment = dict(os.environ)
            hide_passwords_in_environment()
            client = ApiClient(login)
            try:
                return (
                    function(client, is_json, **arguments, **_passwords(function, environment))
                    or DONE
                )
            finally:
                client.close()
        except ModuleNotFoundError as error:
            write_stderr(f"error: task needs the package {error.name}")
            write_stderr(f"hint: {install_hint('service')}")
            return exit_status(ConfigError(""))
        except EngineError as error:
            print_failure(error, json_lines=False)
            return _status_of(error)
        except KeyboardInterrupt:
            return INTERRUPTED

    hints = get_type_hints(function, include_extras=True)
    own = [
        it.replace(annotation=hints[it.name])
        for it in list(inspect.signature(function).parameters.values())[2:]
        if it.name != "environment"
    ]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _SHARED.items()
    ]
    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {it.name: it.annotation for it in [*own, *shared]}
    name = function.__name__.removesuffix("_tasks")
    return app.command(name, help=function.__doc__)(run)


def _passwords(function: Callable[..., Any], environment: dict[str, str]) -> dict[str, Any]:
    wants = "environment" in inspect.signature(function).parameters
    return {"environment": environment} if wants else {}


def _status_of(error: EngineError) -> int:
    from engine.control.api_client import ServiceRefused, ServiceUnreachable

    return REFUSED if isinstance(error, ServiceRefused | ServiceUnreachable) else exit_status(error)


@_command
def create(
    client: Any,
    is_json: bool,
    name: Annotated[str, typer.Argument(metavar="NAME", help="4 to 64 letters, digits, - or _.")],
    description: Annotated[str, typer.Option(help="Free text.")] = "",
) -> None:
    """Create a task and print its id; configure it next."""
    body = {"name": name, "description": description}
    # The three are of a cloud's network, which there is none of here; the API wants them all the same.
    network = dict.fromkeys(("vpc_id", "subnet_id", "security_group_id"), "none")
    answer = client.call("POST", "/migration/instance", body | network)
    if is_json:
        print_json(answer)
    else:
        typer.echo(answer["instance_id"])


@_command
def configure(  # noqa: PLR0913, PLR0917 - one parameter an option
    client: Any,
    is_json: bool,
    task: TaskId,
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="host:port, redis://:password@host:port or id:ID."),
    ],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The same.")],
    method: Annotated[
        str, typer.Option(metavar="full|incremental", help="As of sync. Default: incremental.")
    ] = "incremental",
    resume_mode: Annotated[
        str, typer.Option(metavar="auto|manual", help="As of sync. Default: auto.")
    ] = "auto",
    bandwidth_limit_mb: Annotated[
        int | None, typer.Option(metavar="1..10240", help="As of sync.")
    ] = None,
    source_password_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Or REDIS_FERRY_SOURCE_PASSWORD.")
    ] = None,
    target_password_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Or REDIS_FERRY_TARGET_PASSWORD.")
    ] = None,
    environment: dict[str, str] | None = None,
) -> None:
    """Say what a task is to do, and start it."""
    from engine.control.task_sides import side_body

    known = environment or {}
    body = {
        "migration_method": f"{'full_amount' if method == 'full' else method}_migration",
        "resume_mode": resume_mode,
        "bandwidth_limit_mb": bandwidth_limit_mb,
        "source_instance": side_body("source", source, source_password_file, known),
        "target_instance": side_body("target", target, target_password_file, known),
    }
    answer = client.call("POST", f"/migration/{task}/task", body)
    if is_json:
        print_json(answer)
    else:
        typer.echo(answer["status"])


@_command
def list_tasks(
    client: Any,
    is_json: bool,
    name: Annotated[str | None, typer.Option(help="Only tasks of this name.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    offset: Annotated[int, typer.Option(min=0, help="How many to leave out.")] = 0,
) -> None:
    """List tasks, newest first."""
    query = {"name": name, "limit": limit, "offset": offset}
    answer = client.call("GET", "/migration-tasks", query=query)
    if is_json:
        print_json(answer)
        return
    print_table(
        ("ID", "NAME", "STATUS", "SOURCE", "TARGET", "CREATED"),
        (
            [it[key] for key in ("task_id", "task_name", "status", "data_source", "target_instance_addrs", "created_at")]
            for it in answer["migration_tasks"]
        ),
    )  # fmt: skip


@_command
def show(client: Any, is_json: bool, task: TaskId) -> None:
    """Show everything about a task."""
    answer = client.call("GET", f"/migration-task/{task}")
    print_json(answer) if is_json else print_fields(answer)


@_command
def stats(client: Any, is_json: bool, task: TaskId) -> None:
    """Show progress, lag and pace of a task."""
    answer = client.call("GET", f"/migration-task/{task}/stats")
    print_json(answer) if is_json else print_fields(answer)


@_command
def logs(
    client: Any,
    is_json: bool,
    task: TaskId,
    level: Annotated[str | None, typer.Option(metavar="INFO|WARN|ERROR", help="This only.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="How many at most.")] = 100,
    offset: Annotated[int, typer.Option(min=0, help="How many to leave out.")] = 0,
) -> None:
    """Show what happened to a task, newest first."""
    query = {"log_level": level, "limit": limit, "offset": offset}
    answer = client.call("GET", f"/migration-task/{task}/logs", query=query)
    if is_json:
        print_json(answer)
        return
    for it in answer["migration_logs"]:
        typer.echo(f"{it['created_at']} {it['log_level']:<5} {it['message']}")


@_command
def stop(
    client: Any,
    is_json: bool,
    tasks: TaskIds,
    wait: Annotated[bool, typer.Option("--wait", help="Until they have stopped.")] = False,
) -> int:
    """Stop tasks; their checkpoints are kept."""
    if not wait:
        return _batch(client, is_json, "/migration-task/batch-stop", tasks)
    for task in tasks:
        client.call("POST", f"/migration-task/{task}/sync-stop")
    return DONE


@_command
def restart(client: Any, is_json: bool, tasks: TaskIds) -> int:
    """Start ended tasks again; incremental ones go on from their checkpoints."""
    return _batch(client, is_json, "/migration-tasks/batch-restart", tasks)


@_command
def delete(client: Any, is_json: bool, tasks: TaskIds) -> None:
    """Delete tasks that are not at work."""
    body = {"task_id_list": tasks}
    answer = client.call("DELETE", "/migration-tasks/delete", body)
    if is_json:
        print_json(answer)


@_command
def limit(
    client: Any,
    is_json: bool,
    task: TaskId,
    bandwidth_limit_mb: Annotated[
        str, typer.Argument(metavar="1..10240|none", help="Megabytes a second.")
    ],
) -> None:
    """Change a running task's bandwidth limit."""
    body = {"bandwidth_limit_mb": None if bandwidth_limit_mb == "none" else bandwidth_limit_mb}
    answer = client.call("PUT", f"/migration-task/{task}/bandwidth-limit", body)
    if is_json:
        print_json(answer)


@_command
def watch(client: Any, is_json: bool, task: TaskId) -> int:
    """Follow a task until it ends: 0 for SUCCESS or TERMINATED, 4 for a failure."""
    for kind, facts in client.events(f"/migration-task/{task}/events"):
        if is_json:
            print_json({"event": kind, **facts})
        elif line := event_line(kind, facts):
            typer.echo(line)
        if kind == "status" and facts["status"] in {"SUCCESS", "TERMINATED"}:
            return DONE
        if kind == "status" and facts["status"] in {"MIGRATION_FAILED", "FAILED"}:
            reason = client.call("GET", f"/migration-task/{task}")["error_message"]
            write_stderr(f"error: {reason}")
            return FAILED
    return FAILED


def _batch(client: Any, is_json: bool, path: str, tasks: list[str]) -> int:
    answer = client.call("POST", path, {"migration_tasks": tasks})
    failed = [it for it in answer["migration_tasks"] if it["result"] != "success"]
    if is_json:
        print_json(answer)
    for it in failed:
        write_stderr(f"error: {it['task_id']}: {it['error_msg']} ({it['error_code']})")
    return REFUSED if failed else DONE
